"""Keeps a user's own folder or table as a task, however large it is.

Invariant: no more than one block of images is in memory, unless all may be;
an image that changed since it was examined stops the preparation.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_munet import errors
from keras_munet.core import names
from keras_munet.data import image_storage
from keras_munet.data.own import images
from keras_munet.data.own import reading
from keras_munet.data.own import scan
from keras_munet.data.own import sources
from keras_munet.data.own import store
from keras_munet.data.own import tasks

_NUM_BLOCK_BYTES = 16 * 2**20


def prepare_task(
    source: str,
    data_dir: str,
    *,
    name: str = "",
    side: int = 0,
    image_size: int = image_storage.IMAGE_SIZE,
    replace: bool = False,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> tasks.Built:
    """Returns a task after it was kept in a folder of prepared data.

    Images that do not fit in memory are decoded twice: once to find those of
    no use, and once to be written.

    Args:
      source: `folder:PATH` or `table:PATH`.
      data_dir: one folder of prepared data.
      name: of the task; empty for `tasks.name_of(source)`.
      side: as of `scan.examine`.
      image_size: as of `scan.examine`.
      replace: whether it takes the place of a task of that name.
      progress: as of `scan.examine`.

    Raises:
      UsageError: there is no such source, or the name cannot be a task's.
      ExistsError: there is a task of that name, from another request.
      DataError: it has no usable examples for three splits, or cannot be
        written.
    """
    name = name or tasks.name_of(source)
    names.bare_name(name)
    examined = scan.examine(
        source, side=side, image_size=image_size, progress=progress
    )
    origin = store.Origin(
        examined.skipped, examined.request, _originals(examined.examples)
    )
    try:
        if examined.pixels is not None:
            data = tasks.data_of(name, examined)
            store.save(data, data_dir, origin=origin, replace=replace)
            return tasks.Built(data, examined.skipped)
        _save_blocks(name, data_dir, examined, origin, replace, progress)
    except store.ExistsError as e:
        # Another process may have prepared the same data meanwhile.
        problem = store.request_difference(
            name, data_dir, source, side=side, image_size=image_size
        )
        if problem != "":
            text = f"{problem}: " if problem else ""
            raise store.ExistsError(f"{text}{e}") from None
    return tasks.Built(store.load_task(name, [data_dir]), examined.skipped)


def _originals(examples: Sequence[sources.Example]) -> list[bytes]:
    """Returns some of the picture files, evenly spread, none a large one."""
    step = max(1, len(examples) // reading.NUM_ORIGINALS)
    contents = (example.read() for example in examples[::step])
    small = [c for c in contents if len(c) <= reading.ORIGINAL_BYTES_MAX]
    return small[: reading.NUM_ORIGINALS]


def _save_blocks(
    name: str,
    data_dir: str,
    examined: scan.Examined,
    origin: store.Origin,
    replace: bool,
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> None:
    """Keeps images that do not fit in memory."""
    rows = tasks.split_rows(name, examined.labels, examined.given_splits)
    store.save_blocks(
        name,
        data_dir,
        class_names=examined.class_names,
        shape=examined.stored.shape,
        labels={split: examined.labels[r] for split, r in rows.items()},
        blocks={
            split: _blocks(
                [examined.examples[i] for i in r],
                examined.stored.shape,
                progress,
            )
            for split, r in rows.items()
        },
        files_digests={s: examined.files_digest(r) for s, r in rows.items()},
        notices=examined.all_notices(rows),
        origin=origin,
        replace=replace,
    )


def _blocks(
    examples: Sequence[sources.Example],
    shape: tuple[int, int, int],
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> Iterator[np.ndarray]:
    """Yields `[any, *shape] uint8`, all examples in order.

    Raises:
      DataError: an image that was of use is so no longer.
    """
    num_rows = max(1, _NUM_BLOCK_BYTES // int(np.prod(shape)))
    rows: list[np.ndarray] = []
    for example in progress(examples):
        try:
            image = images.decoded(example.read())
        except (images.UnusableImageError, OSError) as e:
            raise errors.DataError(
                f"{example.where} was changed meanwhile: {e}; run the same "
                "command again"
            ) from e
        image = images.resized(image, *shape[:2])
        rows.append(np.broadcast_to(image, shape))
        if len(rows) == num_rows:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)
