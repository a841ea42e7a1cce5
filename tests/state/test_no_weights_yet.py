"""A subclassed model without a `build` of its own has no weights that could be loaded."""

import keras
import numpy as np
import pytest

from nagd_keras import NAGD

X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)


def compiled():
    model = Subclassed()
    model.compile(NAGD(), "mse")
    return model


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a step makes its variables")
@pytest.mark.filterwarnings("ignore:.*build")  # Keras', of `build`
def test_weights_that_were_loaded_before_there_were_any(tmp_path):
    trained = compiled()
    trained.fit(X, Y, verbose=0)
    trained.save_weights(tmp_path / "w.weights.h5")
    model = compiled()
    model.build((None, 2))
    model.load_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match=r"kernel has no value yet.*Call the model with a batch"):
        model.fit(X, Y, verbose=0)
    model = compiled()
    model(X)
    model.load_weights(tmp_path / "w.weights.h5")
    model.fit(X, Y, verbose=0)
