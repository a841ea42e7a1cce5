"""What a displacement of 16 bits does to training: python -m benchmarks.slots.

The network of examples/digits.py, with displacements in each dtype, at momenta below and above that
at which they stop to shrink. Prints the training losses as a table for benchmarks/README.md.
"""

import statistics

import keras

from examples import digits
from nagd_keras import NAGD

MOMENTA = {0.9: 0.01, 0.98: 0.01, 0.995: 0.002, 0.999: 0.0005}  # with learning rates
DTYPES = (None, "bfloat16", "float16")
SEEDS = range(3)
EPOCHS = 10


def loss(momentum: float, dtype: str | None, seed: int) -> float:
    """Returns the training loss in the end."""
    (x, y), _ = digits.load_data("digits", seed)
    keras.utils.set_random_seed(seed)
    model = digits.make_model(x.shape[1])
    optimizer = NAGD(MOMENTA[momentum], momentum, slot_dtype=dtype)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    history = model.fit(x, y, batch_size=32, epochs=EPOCHS, verbose=0)
    return history.history["loss"][-1]


def main() -> None:
    """Prints the table."""
    print("| momentum | " + " | ".join(dtype or "float32" for dtype in DTYPES) + " |")
    print("|---|" + "---|" * len(DTYPES))
    for momentum in MOMENTA:
        cells = []
        for dtype in DTYPES:
            losses = sorted(loss(momentum, dtype, seed) for seed in SEEDS)
            cells.append(f"{statistics.median(losses):.4f} ({losses[0]:.4f} to {losses[-1]:.4f})")
        print(f"| {momentum} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
