"""A kernel's matrices and factors."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_munet import errors
from keras_munet.overparam import factorization

_few = hypothesis.settings(max_examples=50, deadline=None, derandomize=True)


def test_rows_are_input_and_height_and_columns_are_output_and_width():
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    (matrix,) = factorization.Arrangement(kernel.shape).matrices(kernel)
    assert matrix.shape == (4 * 2, 5 * 3)
    for h, w, i, o in np.ndindex(*kernel.shape):
        assert matrix[i * 2 + h, o * 3 + w] == kernel[h, w, i, o]


def test_each_group_has_a_matrix_of_its_own():
    kernel = np.arange(3 * 3 * 2 * 6, dtype=np.float32).reshape(3, 3, 2, 6)
    matrices = factorization.Arrangement(kernel.shape, 3).matrices(kernel)
    assert matrices.shape == (3, 2 * 3, 2 * 3)
    # Keras lists the outputs group by group.
    for group in range(3):
        own = kernel[..., 2 * group : 2 * group + 2]
        (alone,) = factorization.Arrangement(own.shape).matrices(own)
        np.testing.assert_array_equal(matrices[group], alone)


@_few
@hypothesis.given(
    st.tuples(*[st.integers(1, 4)] * 4),
    st.integers(1, 2),
    st.integers(1, 4),
    st.sampled_from([0.0, 1e-30, 1.0, 1e6]),
)
def test_the_product_of_the_first_factors_is_the_kernel(
    shape, groups, num_squares, scale
):
    shape = (*shape[:3], shape[3] * groups)
    arrangement = factorization.Arrangement(shape, groups)
    kernel = scale * np.random.default_rng(0).standard_normal(shape)
    found = factorization.factorize(kernel, arrangement, num_squares)
    squares = found.middle.astype(np.float64) ** num_squares
    product = (found.u * squares[:, None, :]) @ found.v
    np.testing.assert_array_equal(
        arrangement.kernel(arrangement.matrices(kernel)), kernel
    )
    np.testing.assert_allclose(
        arrangement.kernel(product), kernel, atol=1e-5 * scale
    )


def test_singular_values_are_divided_evenly():
    kernel = np.diag([16.0, 1.0, 0.0])
    found = factorization.factorize(
        kernel, factorization.Arrangement(kernel.shape), 2
    )
    np.testing.assert_allclose(found.middle, [[2.0, 1.0, 1.0]])
    for factor in (found.u[0], found.v[0].T):
        np.testing.assert_allclose(
            np.linalg.norm(factor, axis=0)[:2], [2.0, 1.0], rtol=1e-6
        )
    # Where there is nothing the zero stands in V alone.
    assert np.linalg.norm(found.u[0], axis=0)[2] == pytest.approx(1.0)
    assert not found.v[0, 2].any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_kernel_without_finite_values_has_no_factors(bad):
    kernel = np.ones((3, 3, 2, 2))
    kernel[0, 0] = bad
    with pytest.raises(errors.UsageError, match="4 values that are not finite"):
        factorization.factorize(
            kernel, factorization.Arrangement(kernel.shape), 1
        )
