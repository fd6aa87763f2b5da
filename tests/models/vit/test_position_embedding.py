"""Position embeddings of another grid."""

from __future__ import annotations

import numpy as np
import pytest

from keras_munet import errors
from keras_munet.core import specs
from keras_munet.models.vit import architecture as vit_architecture
from keras_munet.models.vit import position_embedding


def _values(grid: int, width: int = 3) -> np.ndarray:
    rng = np.random.default_rng(grid)
    return rng.normal(size=(1, 1 + grid**2, width)).astype(np.float32)


@pytest.mark.parametrize("old", [1, 2, 3, 5, 7, 14])
@pytest.mark.parametrize("new", [1, 2, 3, 4, 7, 14, 24])
def test_grids_are_zoomed_as_scipy_zooms_them(old, new):
    ndimage = pytest.importorskip("scipy.ndimage")
    values = _values(old)
    grid = values[0, 1:].reshape(old, old, -1)
    zoomed = ndimage.zoom(
        grid, (new / old, new / old, 1), order=1, mode="nearest"
    )
    seen = position_embedding.resample_positions(values, 1 + new**2)
    np.testing.assert_array_equal(seen[:, 0], values[:, 0])
    np.testing.assert_allclose(
        seen[0, 1:].reshape(new, new, -1), zoomed, atol=1e-6
    )


def test_the_same_grid_is_kept_to_the_bit():
    values = _values(7)
    np.testing.assert_array_equal(
        position_embedding.resample_positions(values, 50), values
    )


def test_corners_stay_where_they_were():
    values = _values(4)
    old = values[0, 1:].reshape(4, 4, -1)
    new = position_embedding.resample_positions(values, 82)[0, 1:].reshape(
        9, 9, -1
    )
    for row in (0, -1):
        for column in (0, -1):
            np.testing.assert_array_equal(new[row, column], old[row, column])


@pytest.mark.parametrize("num_tokens", [0, 1, 3, 6])
def test_a_grid_that_is_no_square_is_refused(num_tokens):
    with pytest.raises(errors.UsageError, match="square"):
        position_embedding.resample_positions(_values(2), num_tokens)


def test_only_position_embeddings_of_one_width_are_resampled():
    def positions(width: int, image_size: int) -> specs.ComponentSpec:
        family = vit_architecture.VitFamily(width, 2, 8, 8, 0)
        hparams = {"num_layers": 0, "ds_image_size": image_size}
        return family.layout(hparams, 2)[2]

    old, new = positions(4, 16), positions(4, 32)
    component = specs.Component(old, {"pos_embedding": _values(2, 4)})
    assert position_embedding.resample_component(component, new).spec == new
    with pytest.raises(errors.UsageError, match="cannot resample"):
        position_embedding.resample_component(component, positions(6, 32))
