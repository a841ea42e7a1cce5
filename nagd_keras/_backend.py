"""Imports Keras, and explains a backend that is missing or unknown, as Keras itself does not."""

import os

_EXTRAS = ("tensorflow", "jax", "torch")
_NAMED = f"KERAS_BACKEND={os.environ['KERAS_BACKEND']!r}" if os.environ.get("KERAS_BACKEND") else ""
_CHOICE = (
    'Set the environment variable KERAS_BACKEND, or "backend" in the keras.json of Keras\' folder, '
    f"to one of {', '.join(_EXTRAS)}, before Keras is imported."
)

try:
    import keras as keras
except ModuleNotFoundError as error:
    if error.name not in _EXTRAS:
        raise
    raise ImportError(
        f"nagd_keras trains through Keras 3, and Keras is set to its {error.name} backend "
        f"({_NAMED or 'KERAS_BACKEND is not set'}), which is not installed. Install it with: "
        f"python -m pip install 'nagd-keras[{error.name}]'. {_CHOICE}"
    ) from error
except ValueError as error:
    if "backend" not in str(error):
        raise
    raise ImportError(
        f"Keras knows no such backend. Received: {_NAMED or error}. {_CHOICE}"
    ) from error

if keras.backend.backend() not in _EXTRAS:
    raise ImportError(
        f"nagd_keras trains with Keras' backends {', '.join(_EXTRAS)}. Received: "
        f"{_NAMED or keras.backend.backend()}. {_CHOICE}"
    )
