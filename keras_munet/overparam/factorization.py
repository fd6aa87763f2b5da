"""A kernel as a product of matrices, and back (section 5 of the method).

Invariant: the product of the first factors is the kernel they were made of,
to float32 rounding; nothing here knows of Keras or TensorFlow.

A convolution's kernel is seen as a matrix by the spatial arrangement
(Jaderberg et al. 2014): a row per (input channel, vertical place), a column
per (output channel, horizontal place), so that its rank is that of a vertical
filter bank followed by a horizontal one. Each group of a grouped convolution
has a matrix of its own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_munet import errors

TASK_FACTORS = ("full", "diagonal")
# Of the library and of the experiments alike.
DEPTH = 1
TASK_FACTOR = "full"


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """The arrangement of a kernel's values in matrices.

    Attributes:
      kernel_shape: `[in, out]`, or `[height, width, in / groups, out]` as
        Keras has it; of a transposed convolution `[height, width, out, in]`,
        whose matrix has a row per (output channel, vertical place).
      groups: of a convolution; 1 for a dense kernel.
    """

    kernel_shape: tuple[int, ...]
    groups: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(groups, rows, columns) of the matrices."""
        if len(self.kernel_shape) == 2:
            return (1, *self.kernel_shape)
        height, width, num_in, num_out = self.kernel_shape
        return self.groups, num_in * height, num_out // self.groups * width

    @property
    def rank(self) -> int:
        """The side of the square factors: a factor less would lose values."""
        return min(self.shape[1:])

    @property
    def split_shape(self) -> tuple[int, ...]:
        """The matrices' shape with every axis of the kernel for itself."""
        if len(self.kernel_shape) == 2:
            return (1, *self.kernel_shape)
        height, width, num_in, num_out = self.kernel_shape
        return self.groups, num_in, height, num_out // self.groups, width

    @property
    def to_kernel(self) -> tuple[int, ...]:
        """The order in which the axes of `split_shape` make the kernel."""
        return (0, 1, 2) if len(self.kernel_shape) == 2 else (2, 4, 1, 0, 3)

    def matrices(self, kernel: np.ndarray) -> np.ndarray:
        """Returns `[groups, rows, columns]` of a kernel."""
        order = self.to_kernel
        split = tuple(self.split_shape[axis] for axis in order)
        back = tuple(int(axis) for axis in np.argsort(order))
        return kernel.reshape(split).transpose(back).reshape(self.shape)

    def kernel(self, matrices: np.ndarray) -> np.ndarray:
        """Returns the kernel of `[groups, rows, columns]`."""
        split = matrices.reshape(self.split_shape)
        return split.transpose(self.to_kernel).reshape(self.kernel_shape)


@dataclasses.dataclass(frozen=True)
class Factors:
    """The first values of a kernel's factors, float32.

    Attributes:
      u: `[groups, rows, rank]`.
      v: `[groups, rank, columns]`.
      middle: `[groups, rank]`, the diagonal of each square factor.
    """

    u: np.ndarray
    v: np.ndarray
    middle: np.ndarray


def factorize(
    kernel: np.ndarray, arrangement: Arrangement, num_squares: int
) -> Factors:
    """Returns the factors that a kernel is first trained as.

    With Q S R the singular value decomposition, S is divided evenly: U is
    Q S^(1/n), each square factor S^(1/n) and V is S^(1/n) R, with n factors
    in all. So every factor moves the product by about as much as any other,
    and none of them starts as an identity, from which deep chains collapsed
    in one of three seeds. An even split is what gradient descent on a linear
    chain conserves (Arora et al. 2018, arXiv 1802.06509).

    Args:
      kernel: of the arrangement's kernel shape.
      arrangement: of the kernel.
      num_squares: factors between U and V, at least 1.

    Raises:
      UsageError: the kernel has values that are not finite.
    """
    values = arrangement.matrices(np.asarray(kernel, np.float64))
    if not np.isfinite(values).all():
        num_bad = int((~np.isfinite(values)).sum())
        raise errors.UsageError(
            f"a kernel of shape {list(arrangement.kernel_shape)} has {num_bad} "
            "values that are not finite and has no factors; give the layer "
            "finite weights"
        )
    q, s, r = np.linalg.svd(values, full_matrices=False)
    # A product of several zeros has no gradient. Where there is nothing the
    # zero stands in V alone, and the factors can grow.
    eps = np.finfo(np.float32).eps * max(arrangement.shape[1:])
    is_zero = s <= eps * s.max(axis=-1, keepdims=True)
    middle = np.where(is_zero, 1.0, s ** (1.0 / (num_squares + 2)))
    u = q * middle[:, None, :]
    v = r * np.where(is_zero, 0.0, middle)[..., None]
    return Factors(
        *(np.ascontiguousarray(part, np.float32) for part in (u, v, middle))
    )
