"""What an update costs beside Keras' SGD: python -m benchmarks.update.

Each optimizer's `apply` is one graph function on TensorFlow, called in turn with the others', so
that a slow moment of the machine meets all of them. Medians, and ratios to Keras' SGD.
"""

import platform
import statistics
import time

import keras
import tensorflow as tf

from nagd_keras import NAGD

ROUNDS = 51
MODELS = {
    "one variable of 25 M": [(5000, 5000)],
    "800 small variables": [(64,)] * 800,
    "a small network's 6": [(64, 64), (64,), (64, 32), (32,), (32, 10), (10,)],
}


def tracking():
    """Returns a NAGD that keeps the norm of its gradient."""
    optimizer = NAGD()
    optimizer.tracks_gradient_norm = True
    return optimizer


OPTIMIZERS = {
    "Keras SGD": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "NAGD": NAGD,
    "NAGD, schedule": lambda: NAGD(
        momentum=keras.optimizers.schedules.PolynomialDecay(0.5, 100, 0.9)
    ),
    "NAGD, multipliers": lambda: NAGD(learning_rate_multipliers={".": 0.5}),
    "NAGD, norm": tracking,
}


def make_update(optimizer, shapes):
    """Returns a compiled function that makes one update of variables of these shapes."""
    variables = [keras.Variable(keras.ops.ones(shape)) for shape in shapes]
    gradients = [tf.fill(shape, 1e-3) for shape in shapes]
    optimizer.build(variables)
    return tf.function(lambda: optimizer.apply(gradients))


def measure(shapes):
    """Returns the median milliseconds of an update, by optimizer."""
    updates = {name: make_update(make(), shapes) for name, make in OPTIMIZERS.items()}
    seconds = {name: [] for name in updates}
    for i in range(ROUNDS + 3):
        for name, update in updates.items():
            began = time.perf_counter()
            update()
            if i >= 3:  # after the trace and the first touch of the memory
                seconds[name].append(time.perf_counter() - began)
    return {name: 1e3 * statistics.median(each) for name, each in seconds.items()}


def main():
    """Prints the table."""
    print(f"{platform.machine()}, {len(tf.config.list_logical_devices('GPU'))} GPUs, ", end="")
    print(f"TensorFlow {tf.__version__}, Keras {keras.version()}, medians of {ROUNDS}")
    for model, shapes in MODELS.items():
        milliseconds = measure(shapes)
        print(model)
        for name, value in milliseconds.items():
            ratio = value / milliseconds["Keras SGD"]
            print(f"  {name:<18}{value:8.2f} ms{ratio:8.2f}")


if __name__ == "__main__":
    main()
