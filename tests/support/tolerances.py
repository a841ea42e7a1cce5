"""How closely two runs of the same method must agree: one table, in units of rounding."""

import numpy as np

# The unit roundoff of each dtype: the largest relative error of one rounding.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}

# Every update rounds a variable and its slot once. The methods contract errors, so over hundreds
# of updates they add up to some tens of roundings, not hundreds. The 32 is no derived bound: the
# worst seen over 300 updates is 20 (float16), and 6 for whole training runs, by any way of Keras.
TRAJECTORY = {dtype: 32 * unit for dtype, unit in UNIT.items()}

# Of the orthogonal direction: it multiplies small singular values, and their rounding, by up to
# 204. Steps of a hundredth of a weight bring that down to less than 16 times the above.
ORTHOGONAL = 16 * TRAJECTORY["float32"]


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest element that is wanted."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    scale = np.max(np.abs(wanted), initial=0.0)
    error = np.max(np.abs(found - wanted), initial=0.0)
    return float(error / scale) if scale else float(error)


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float, what: str = "") -> None:
    error = relative_error(found, wanted)
    assert error <= tolerance, f"{what}: relative error {error:.2e} > {tolerance:.2e}"
