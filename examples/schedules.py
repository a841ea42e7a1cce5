"""Draws every schedule of the package into one figure: python examples/schedules.py --help."""

import argparse

import keras
from digits import REPOSITORY, folder

from nagd_keras import schedules

import matplotlib.pyplot as plt  # isort: skip  (digits.py has chosen the backend)

DRAWN = [
    schedules.NesterovMomentum(),
    schedules.SutskeverMomentum(max_momentum=0.99, period=250),
    schedules.StronglyConvexMomentum(condition_number=100),
    schedules.OneCycle(0.04, 1.0, 4e-6, total_steps=1000),
    schedules.LinearWarmup(keras.optimizers.schedules.CosineDecay(0.1, 900), steps=100),
    schedules.Piecewise([300, 800], [schedules.SutskeverMomentum(period=50), 0.99, 0.9]),
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

    figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for schedule, each in zip(DRAWN, axes.flat, strict=True):
        schedule.plot(1000, ax=each)
        each.set_ylim(bottom=0)
    path = options.output / "schedules.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"Schedules: {path}")


if __name__ == "__main__":
    main()
