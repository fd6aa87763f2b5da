"""A scorer: as many parameters as the root has are free, others cost."""

from __future__ import annotations

from keras_munet import plugins

_EXPONENT = 0.1


def root_budget(facts: plugins.ScoreInputs) -> float:
    """Returns 1.0 within the budget, less the further a path is above it."""
    if facts.accounted_params <= facts.num_root_params:
        return 1.0
    return (facts.num_root_params / facts.accounted_params) ** _EXPONENT
