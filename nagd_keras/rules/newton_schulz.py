r"""Newton-Schulz's iteration: a matrix with its singular values brought to 1.

Each step applies a polynomial $a x + b x^3 + c x^5$ to the singular values and leaves the singular
vectors as they are:

    A = X X^T,    X <- (a + b A + c A A) X
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from keras import ops

Coefficients = tuple[float, float, float]


class Iteration(NamedTuple):
    """How singular values are brought to 1.

    Attributes:
        coefficients: (a, b, c) of each step.
        tight: whether the first X has a largest singular value near 1: U divided by the root of
            order 8 of the sum of the 8th powers of its singular values, and by a margin. Else it is
            U divided by its Frobenius norm, which for a large matrix makes all of them small.
    """

    coefficients: Sequence[Coefficients]
    tight: bool


# The best composition of four such polynomials for values in [.006, 1], which become .94 to 1.06
# (Amsel et al. 2025, algorithm 1). They are steep, and just above 1 they explode: so all but the
# last take the value by one hundredth smaller, and the first X has a margin. Then products of 16
# bits, or of the 19 of TensorFloat-32, do no harm.
_STEEP = (8.2568, -24.2653, 17.9589), (3.8550, -2.8784, 0.5544), (3.0425, -2.2795, 0.4864)
_SMALLER, MARGIN = 1.01, 1.02
POLAR_EXPRESS = Iteration(
    (
        *((a / _SMALLER, b / _SMALLER**3, c / _SMALLER**5) for a, b, c in _STEEP),
        (2.1081, -1.4900, 0.3997),
    ),
    tight=True,
)
# Optax' "quintic" coefficients: values in [.01, 1] become .98 to 1.03.
QUINTIC = Iteration(
    (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    tight=False,
)
# Muon's own (Jordan et al. 2024): values in [.01, 1] become .68 to 1.13.
MUON = Iteration(((3.4445, -4.7750, 2.0315),) * 5, tight=False)
IterationName: TypeAlias = Literal["polar_express", "quintic", "muon"]
ITERATIONS: dict[IterationName, Iteration] = {
    "polar_express": POLAR_EXPRESS,
    "quintic": QUINTIC,
    "muon": MUON,
}
TINY = 1e-30
# From this ratio of the sides on, two steps at once cost less: they multiply squares of the small
# side. More at once would lose small singular values to rounding.
LONG, AT_ONCE = 1.5, 2


def orthogonalized(u: Any, iteration: Iteration = POLAR_EXPRESS) -> Any:
    """Returns matrices with their singular values brought to 1, and zeros for zeros.

    Args:
        u: of the shape (..., rows, columns).
        iteration: how.
    """
    tall = u.shape[-2] > u.shape[-1]
    x = _transposed(u) if tall else u
    # First by the largest element: the square of a tiny number is zero, of a huge one infinite.
    x = x / ops.maximum(ops.max(ops.abs(x), axis=(-2, -1), keepdims=True), TINY)
    x = x / ops.maximum(norm(x), TINY)
    gram = _gram(x)
    square = ops.matmul(gram, gram)
    if iteration.tight:
        size = MARGIN**2 * ops.maximum(ops.sqrt(norm(square)), TINY)
        x, gram, square = x / ops.sqrt(size), gram / size, square / size / size
    at_once = AT_ONCE if x.shape[-1] > LONG * x.shape[-2] else 1
    for start in range(0, len(iteration.coefficients), at_once):
        if start:
            gram = _gram(x)
            square = ops.matmul(gram, gram)
        steps = iteration.coefficients[start : start + at_once]
        x = ops.matmul(_polynomial(gram, square, steps), x)
    return _transposed(x) if tall else x


def norm(x: Any) -> Any:
    """Returns the Frobenius norm of each matrix, as a matrix of one element."""
    return ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True))


def _polynomial(gram: Any, square: Any, steps: Sequence[Coefficients]) -> Any:
    """Returns what X is multiplied by to make some steps, from X X^T and its square."""
    eye, factor, product = ops.eye(gram.shape[-1], dtype=gram.dtype), None, None
    for a, b, c in steps:
        if factor is not None:
            gram = ops.matmul(ops.matmul(factor, gram), factor)
            square = ops.matmul(gram, gram)
        factor = a * eye + b * gram + c * square
        product = factor if product is None else ops.matmul(factor, product)
    return product


def _gram(x: Any) -> Any:
    return ops.matmul(x, _transposed(x))


def _transposed(x: Any) -> Any:
    return ops.swapaxes(x, -2, -1)
