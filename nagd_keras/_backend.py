"""Imports Keras, and explains a missing backend: Keras itself only says "No module named ..."."""

_EXTRAS = ("tensorflow", "jax", "torch")

try:
    import keras as keras
except ModuleNotFoundError as error:
    if error.name not in _EXTRAS:
        raise
    raise ImportError(
        f"nagd_keras trains through Keras 3, and Keras is set to its {error.name} backend, which "
        f"is not installed. Install it with: python -m pip install 'nagd-keras[{error.name}]'. "
        f"The extras are {', '.join(_EXTRAS)}; the environment variable KERAS_BACKEND chooses "
        "the one that Keras uses."
    ) from error
