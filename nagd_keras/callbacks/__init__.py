"""Callbacks for `fit`, and a learning-rate range test."""

from nagd_keras.callbacks.adaptive_restart import AdaptiveRestart
from nagd_keras.callbacks.backup import Backup
from nagd_keras.callbacks.divergence_guard import DivergenceGuard
from nagd_keras.callbacks.evaluate_at_iterate import EvaluateAtIterate, at_iterate
from nagd_keras.callbacks.find_learning_rate import find_learning_rate
from nagd_keras.callbacks.hyperparameter_monitor import HyperparameterMonitor
from nagd_keras.callbacks.learning_rate_sweep import LearningRateSweep
from nagd_keras.callbacks.momentum_scheduler import MomentumScheduler
from nagd_keras.callbacks.one_cycle import OneCycle
from nagd_keras.callbacks.stop_at_tolerance import StopAtTolerance

__all__ = [
    "AdaptiveRestart",
    "Backup",
    "DivergenceGuard",
    "EvaluateAtIterate",
    "HyperparameterMonitor",
    "LearningRateSweep",
    "MomentumScheduler",
    "OneCycle",
    "StopAtTolerance",
    "at_iterate",
    "find_learning_rate",
]


def __dir__() -> list[str]:
    """Returns the public names, without the modules that they come from."""
    return list(__all__)
