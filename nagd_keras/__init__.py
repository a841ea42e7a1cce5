"""Nesterov accelerated gradient descent (NAGD) for Keras 3."""

from nagd_keras import _backend as _backend  # first: says which extra brings a missing backend
from nagd_keras import callbacks, convert, directions, saving, schedules
from nagd_keras.nagd import NAGD

__all__ = ["NAGD", "callbacks", "convert", "directions", "saving", "schedules"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    """Returns the public names, without the modules that Python adds when they are imported."""
    return [*__all__, "__version__"]
