"""Trains for 300 steps with the backend that KERAS_BACKEND names, and writes down every step.

A process of its own, since a process has one backend: `python -m tests.support.backend_run FILE`.
"""

import sys

import keras
import numpy as np

from nagd_keras import NAGD, schedules
from tests.support.drivers import LONG_RUNS, Run
from tests.support.problems import log_sum_exp, random_quadratic

STEPS = 300
# Each with a gradient that is computed by NumPy, so that nothing but NAGD differs.
SETTINGS = {
    "constant": {},
    "schedules": {
        "learning_rate": schedules.LinearWarmup(0.02, 100),
        "momentum": schedules.SutskeverMomentum(0.99, 50),
    },
    "decay and clipping": {"weight_decay": 0.01, "global_clipnorm": 1.0},
    "restart, gradient": {"momentum": schedules.NesterovMomentum(), "restart": "gradient"},
    "restart, speed": {"momentum": schedules.NesterovMomentum(), "restart": "speed"},
    "accumulation": {"gradient_accumulation_steps": 3},
    "average": {"use_ema": True, "ema_overwrite_frequency": 50},
}


def trajectory(dtype: str, **settings: object) -> np.ndarray:
    """The look-ahead points of all steps."""
    keras.config.set_floatx(dtype)
    problems = [random_quadratic(np.random.default_rng(0), 8), log_sum_exp(n=6, m=20, rho=2.0)]
    optimizer = NAGD(**{"learning_rate": 0.02, **settings})
    run = Run(optimizer, [problem.start for problem in problems], dtype, LONG_RUNS)
    points = []
    for _ in range(STEPS):
        run.step([p.gradient(x) for p, x in zip(problems, run.look_ahead, strict=True)])
        points.append(np.concatenate(run.look_ahead))
    return np.stack(points)


if __name__ == "__main__":
    points = {
        f"{name}, {dtype}": trajectory(dtype, **settings)
        for dtype in ("float32", "float64")
        for name, settings in SETTINGS.items()
    }
    np.savez(sys.argv[1], **points)
