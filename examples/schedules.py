"""Draws every schedule of the package into one figure: python examples/schedules.py --help."""

import argparse

import keras
from digits import REPOSITORY, folder

from nagd_keras import schedules

import matplotlib.pyplot as plt  # isort: skip  (digits.py has chosen the backend)

# With what each moves here.
DRAWN = [
    (schedules.NesterovMomentum(), "momentum"),
    (schedules.SutskeverMomentum(max_momentum=0.99, period=250), "momentum"),
    (schedules.StronglyConvexMomentum(condition_number=100), "momentum"),
    (schedules.OneCycle(0.04, 1.0, 4e-6, total_steps=1000), "learning rate"),
    (
        schedules.LinearWarmup(keras.optimizers.schedules.CosineDecay(0.1, 900), steps=100),
        "learning rate",
    ),
    (
        schedules.Piecewise([300, 800], [schedules.SutskeverMomentum(period=50), 0.99, 0.9]),
        "momentum",
    ),
]


def main(arguments: list[str] | None = None) -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--output", type=folder, default=str(REPOSITORY / "saved_models"), help="its folder"
    )
    options = parser.parse_args(arguments)

    figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), layout="constrained")
    for (schedule, moved), each in zip(DRAWN, axes.flat, strict=True):
        schedule.plot(1000, ax=each)
        each.get_legend().remove()
        each.set(title=type(schedule).__name__, ylabel=moved)
        each.set_ylim(bottom=0)
    path = options.output / "schedules.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"Schedules: {path}")


if __name__ == "__main__":
    main()
