"""The backend that Keras trains with."""

from importlib import import_module

import keras

from nagd_keras.backends.backend import Backend

# Only this one is imported: the others may not be installed.
current: Backend = import_module(f"nagd_keras.backends.{keras.backend.backend()}").BACKEND
