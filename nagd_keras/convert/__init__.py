"""Going on with NAGD from the state of Keras', PyTorch's and Optax' SGD, and back to Keras'."""

from nagd_keras.convert.adopt import adopt
from nagd_keras.convert.keras_sgd import from_keras_sgd, to_keras_sgd
from nagd_keras.convert.nagd import from_nagd
from nagd_keras.convert.optax_sgd import from_optax_sgd
from nagd_keras.convert.torch_sgd import from_torch_sgd

__all__ = [
    "adopt",
    "from_keras_sgd",
    "from_nagd",
    "from_optax_sgd",
    "from_torch_sgd",
    "to_keras_sgd",
]


def __dir__() -> list[str]:
    """Returns the public names, without the modules that they come from."""
    return list(__all__)
