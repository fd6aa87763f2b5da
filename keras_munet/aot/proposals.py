"""Proposes changes where a step does not fit in a core's memory.

Invariant: nothing is proposed from a guess. These are candidates, best first;
each is compiled before it is named.
"""

from __future__ import annotations

from collections.abc import Iterator

from keras_munet.aot import compiler

# Memory of a core grows along the list.
_KINDS = ("v2", "v3", "v5e", "v4", "v6e", "v5p")


def smaller_batches(
    batch_size: int,
    num_replicas: int,
    figures: compiler.Figures,
    variable_bytes: int,
) -> Iterator[int]:
    """Yields batch sizes that may fit, the largest first.

    A core's share is halved until, by what one example takes, it fits; then
    further, for what the estimate leaves out.

    Args:
      batch_size: the one that does not fit, over all replicas.
      num_replicas: cores that divide it.
      figures: the compiler's, of the step that does not fit.
      variable_bytes: what a core holds for any batch.
    """
    share = batch_size // num_replicas
    per_example = (figures.peak_bytes - variable_bytes) / share
    while share > 1:
        share //= 2
        if variable_bytes + per_example * share <= figures.limit_bytes:
            yield share * num_replicas


def larger_types(name: str) -> Iterator[str]:
    """Yields TPU types of the same number whose cores have more memory.

    Args:
      name: the type that is too small, e.g. `v3-8`.
    """
    chip, _, number = name.partition("-")
    for larger in _KINDS[_KINDS.index(chip) + 1 :]:
        yield f"{larger}-{number}"
