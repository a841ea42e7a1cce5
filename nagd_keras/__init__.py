"""Nesterov accelerated gradient descent (NAGD) for Keras 3."""

from nagd_keras import _backend as _backend  # first: says which extra brings a missing backend
from nagd_keras import callbacks, convert, saving, schedules
from nagd_keras.nagd import NAGD

__all__ = ["NAGD", "callbacks", "convert", "saving", "schedules"]
__version__ = "0.1.0"
