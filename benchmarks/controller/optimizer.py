"""NAGD with a rule that changes its learning rate: a prototype for TensorFlow."""

import math
from typing import Any

import tensorflow as tf

from benchmarks.controller.rule import TINY, Rule, Slopes
from benchmarks.race.contestants import WARM
from nagd_keras import NAGD, directions


class Controller:
    """The learning rate: a warm-up, a rule's factor, and a cosine to 0 after a part of the run."""

    def __init__(self, rule: Rule | None, rate: float, updates: int, until: float) -> None:
        """Takes the rule, what it begins with, and the part of the run in which it acts."""
        self._rule, self._rate, self._updates, self._until = rule, rate, float(updates), until
        self._step, self._log_factor, self._p = (tf.Variable(0.0) for _ in range(3))
        self._seen = {name: tf.Variable(0.0) for name in ("overshoot", "agreement")}

    @property
    def factor(self) -> float:
        """The rule's factor."""
        return math.exp(float(self._log_factor.numpy()))

    @property
    def seen(self) -> dict[str, float]:
        """The means of q / (|p| + |q|), and of the agreement."""
        count = max(1.0, float(self._step.numpy()) - 1)
        return {name: float(total.numpy()) / count for name, total in self._seen.items()}

    def rate(self) -> tf.Tensor:
        """Returns the learning rate of the next update."""
        part = self._step / self._updates
        rate = self._rate * tf.exp(self._log_factor) * tf.minimum(1.0, part / WARM)
        if self._until == 1:
            return rate
        after = tf.clip_by_value((part - self._until) / (1 - self._until), 0.0, 1.0)
        return rate * (1 + tf.cos(math.pi * after)) / 2

    def see(self, q: tf.Tensor, lengths: tf.Tensor, agreement: tf.Tensor) -> None:
        """Takes what is known after a displacement, before the next update."""
        slopes = Slopes(self._p.read_value(), q, lengths, agreement)
        self._seen["overshoot"].assign_add(q / (abs(slopes.p) + abs(q) + TINY))
        self._seen["agreement"].assign_add(agreement)
        if self._rule is not None:
            acts = tf.cast(self._step < self._until * self._updates, tf.float32)
            self._log_factor.assign_sub(acts * self._rule.gain * self._rule.signal(slopes))

    def go_on(self, p: tf.Tensor) -> None:
        """Takes the slope at the beginning of the new displacement, after an update."""
        self._p.assign(p)
        self._step.assign_add(1.0)


class FromRun(NAGD):
    """NAGD along its orthogonal direction, whose learning rate is a controller's."""

    def __init__(self, controller: Controller) -> None:
        """Takes the controller."""
        super().__init__(controller.rate, direction=directions.Orthogonal())
        self.controller = controller

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Makes an update, between two looks at the displacement."""
        gradients = [tf.convert_to_tensor(g) for g in grads]
        if self.built:
            displacements = [s.value for s in self.displacements]
            averages = self._state.slots["gradient_average"]
            pairs = [
                (g, a.value) for g, a in zip(gradients, averages, strict=True) if a is not None
            ]
            matrices, means = zip(*pairs, strict=True) if pairs else ((), ())
            q, lengths = _product(gradients, displacements)
            agreement, sizes = _product(matrices, means)
            self.controller.see(q, lengths, agreement / (sizes + TINY))
        super().apply(grads, trainable_variables)
        self.controller.go_on(_product(gradients, [s.value for s in self.displacements])[0])


def _product(left: Any, right: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the inner product of two lists of tensors, and that of their lengths."""
    if not left:
        return tf.constant(0.0), tf.constant(0.0)
    product = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(left, right, strict=True)])
    return product, tf.linalg.global_norm(list(left)) * tf.linalg.global_norm(list(right))
