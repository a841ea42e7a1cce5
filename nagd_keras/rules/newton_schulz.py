r"""Newton-Schulz's iteration: a matrix with its singular values brought to 1.

With $X_0 = U / \|U\|_F$ and coefficients $(a, b, c)$,

    A = X X^T,    X <- a X + (b A + c A A) X

applies the polynomial $a x + b x^3 + c x^5$ to each singular value and leaves the singular vectors.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

# Of singular values in [.01, 1] these five make .98 to 1.03 (the "quintic" coefficients of Optax).
QUINTIC = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
# Muon's own: five equal ones, which make .68 to 1.13 (Jordan et al. 2024).
JORDAN = ((3.4445, -4.7750, 2.0315),) * 5
TINY = 1e-30


def orthogonalized(u: Any, coefficients: Sequence[tuple[float, float, float]] = QUINTIC) -> Any:
    """Returns matrices with their singular values brought to 1, and zeros for zeros.

    Args:
        u: of the shape (..., rows, columns).
        coefficients: (a, b, c) of each step.
    """
    tall = u.shape[-2] > u.shape[-1]
    x = ops.swapaxes(u, -2, -1) if tall else u
    # First by the largest element: the square of a tiny number is zero, of a huge one infinite.
    x = x / ops.maximum(ops.max(ops.abs(x), axis=(-2, -1), keepdims=True), TINY)
    norm = ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True))
    x = x / ops.maximum(norm, TINY)
    for a, b, c in coefficients:
        gram = ops.matmul(x, ops.swapaxes(x, -2, -1))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return ops.swapaxes(x, -2, -1) if tall else x
