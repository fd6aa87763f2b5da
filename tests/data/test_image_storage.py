"""How large images are kept, and whether in memory or in files."""

from __future__ import annotations

import pytest

from keras_munet.data import image_storage

GIB = 2**30


def _stored(num, shape, image_size, side_max=image_storage.SIDE_MAX):
    return image_storage.stored(
        num, shape, side_max=side_max, image_size=image_size
    )


@pytest.mark.parametrize(
    ("num", "shape", "image_size", "side_max", "expected"),
    [
        # One shape that fits is kept, whatever is asked.
        (1_000, (28, 28, 1), 384, 4096, ((28, 28, 1), False, True)),
        (1_000, (300, 500, 3), 32, 4096, ((300, 500, 3), False, True)),
        # Many sizes: the largest side that fits.
        (9_000, (0, 0, 3), 32, 4096, ((160, 160, 3), True, True)),
        (100_000, (0, 0, 3), 32, 4096, ((80, 80, 3), True, True)),
        # More is asked and still fits.
        (2_000, (0, 0, 3), 384, 4096, ((384, 384, 3), True, True)),
        (100_000, (0, 0, 3), 81, 4096, ((81, 81, 3), True, True)),
        # More is asked and does not fit.
        (100_000, (0, 0, 3), 224, 4096, ((224, 224, 3), True, False)),
        (1_300_000, (0, 0, 3), 32, 4096, ((32, 32, 3), True, False)),
        # The source has no more.
        (1_300_000, (0, 0, 3), 384, 72, ((72, 72, 3), True, False)),
        (40_000, (0, 0, 3), 384, 72, ((72, 72, 3), True, True)),
        (300_000, (96, 96, 3), 384, 4096, ((96, 96, 3), False, False)),
        (100_000, (360, 480, 3), 384, 4096, ((360, 480, 3), False, False)),
        (100_000, (360, 480, 3), 359, 4096, ((359, 359, 3), True, False)),
        # Smaller than the smallest side.
        (100, (0, 0, 1), 32, 9, ((32, 32, 1), True, True)),
    ],
)
def test_the_shape_follows_from_the_source_and_what_is_asked(
    num, shape, image_size, side_max, expected
):
    assert _stored(num, shape, image_size, side_max) == expected


@pytest.mark.parametrize("num", [10, 5_000, 90_000, 400_000, 5_000_000])
@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 0, 1), (200, 300, 3)])
def test_no_size_that_is_asked_for_is_missed_and_no_memory_overrun(num, shape):
    for image_size in range(16, 400, 8):
        kept = _stored(num, shape, image_size)
        height, width, channels = kept.shape
        assert min(height, width) >= min(image_size, shape[0] or image_size)
        num_bytes = num * height * width * channels
        assert kept.resident == (num_bytes <= 2 * GIB)
