"""NAGD with a rule that changes its learning rate: a prototype for TensorFlow."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from benchmarks.controller.rule import TINY, Rule, Slopes
from benchmarks.controller.variants import ALL, EACH
from benchmarks.race.contestants import WARM
from nagd_keras import NAGD, directions


class Controller:
    """The learning rate: a warm-up, a rule's factors, and a cosine to 0.

    The cosine begins where the rule ends, or at once if it is not held so long. The rule has a
    factor for all variables, one for all matrices while the others keep theirs, or one for each
    variable.
    """

    def __init__(
        self,
        rule: Rule | None,
        rate: float,
        updates: int,
        until: float,
        factors: str = ALL,
        least: float = 0.0,
        most: float = math.inf,
        held: bool = True,
    ) -> None:
        """Takes the rule, what it begins with, and the part of the run in which it acts."""
        self._held = until if held else 0.0
        self._rule, self._rate, self._updates, self._until = rule, rate, float(updates), until
        self._factors, self._step = factors, tf.Variable(0.0)
        self._limits = math.log(least) if least else -math.inf, math.log(most)
        self.members: list[list[int]] = []  # of each group, the variables

    def build(self, matrices: Sequence[bool]) -> None:
        """Makes the groups of variables, of which some are matrices."""
        places = range(len(matrices))
        if self._factors == EACH:
            self.members = [[n] for n in places]
        else:
            self.members = [[n for n in places if self._factors == ALL or matrices[n]]]
        numbers = tf.zeros(len(self.members))
        self._log_factors, self._p = tf.Variable(numbers), tf.Variable(numbers)
        self._seen = {name: tf.Variable(numbers) for name in ("overshoot", "agreement")}

    @property
    def factor(self) -> float:
        """The geometric mean of the rule's factors."""
        return math.exp(self._log_factors.numpy().mean())

    @property
    def seen(self) -> dict[str, float]:
        """The means of q / (|p| + |q|), and of the agreement."""
        count = max(1.0, float(self._step.numpy()) - 1)
        return {name: float(sums.numpy().mean()) / count for name, sums in self._seen.items()}

    def rate(self) -> tf.Tensor:
        """Returns the learning rate of the next update, without factors."""
        part = self._step / self._updates
        rate = self._rate * tf.minimum(1.0, part / WARM)
        if self._held == 1:
            return rate
        after = tf.clip_by_value((part - self._held) / (1 - self._held), 0.0, 1.0)
        return rate * (1 + tf.cos(math.pi * after)) / 2

    def factors(self) -> list[tf.Tensor]:
        """Returns the factor of each group."""
        return tf.unstack(tf.exp(self._log_factors))

    def see(self, q: tf.Tensor, lengths: tf.Tensor, agreement: tf.Tensor) -> None:
        """Takes what is known of each group after a displacement, before the next update."""
        slopes = Slopes(self._p.read_value(), q, lengths, agreement)
        self._seen["overshoot"].assign_add(q / (abs(slopes.p) + abs(q) + TINY))
        self._seen["agreement"].assign_add(agreement)
        if self._rule is not None:
            acts = tf.cast(self._step < self._until * self._updates, tf.float32)
            moved = self._log_factors - acts * self._rule.gain * self._rule.signal(slopes)
            self._log_factors.assign(tf.clip_by_value(moved, *self._limits))

    def go_on(self, p: tf.Tensor) -> None:
        """Takes the slopes at the beginning of the new displacement, after an update."""
        self._p.assign(p)
        self._step.assign_add(1.0)


class Factored(directions.Direction):
    """A direction, multiplied by a variable."""

    compiled = True

    def __init__(self, inner: directions.Direction) -> None:
        self._inner, self.factor = inner, tf.Variable(1.0)
        self.slots, self.slot_shape = inner.slots, inner.slot_shape

    def direct(self, gradient: Any, slots: Any, t: Any) -> tuple[Any, Any]:
        """Returns the direction and the new slots."""
        found, after = self._inner.direct(gradient, slots, t)
        return self.factor * found, after


class Controlled(directions.Orthogonal):
    """`Orthogonal` with a factor for each variable."""

    def for_variables(self, paths: Sequence[str], shapes: Sequence[Any]) -> list[Any]:
        """Returns the direction of each."""
        self.all = [Factored(each) for each in super().for_variables(paths, shapes)]
        return self.all


class FromRun(NAGD):
    """NAGD along its orthogonal direction, whose learning rate is a controller's."""

    def __init__(self, controller: Controller, relative: bool = False, **settings: Any) -> None:
        """Takes the controller.

        Args:
            controller: of the learning rate.
            relative: whether a matrix' step is in units of the size of its elements.
            settings: those of NAGD.
        """
        super().__init__(controller.rate, direction=Controlled(), **settings)
        self.controller, self._relative = controller, relative

    def build(self, variables: Any) -> None:
        """Makes the slots, and the controller's groups."""
        super().build(variables)
        self._averages = self._state.slots["gradient_average"]
        if not self.controller.members:  # Keras may build again.
            self.controller.build([a is not None for a in self._averages])

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Makes an update, between two looks at the displacement."""
        if not self.built:
            self.build(trainable_variables)
        gradients = [tf.convert_to_tensor(g) for g in grads]
        before = [s.value + 0.0 for s in self.displacements]
        looks = [self._look(gradients, before, members) for members in self.controller.members]
        self.controller.see(*map(tf.stack, zip(*looks, strict=True)))
        for members, factor in zip(self.controller.members, self.controller.factors(), strict=True):
            for n in members:
                self.direction.all[n].factor.assign(factor * self._size(trainable_variables[n], n))
        super().apply(grads, trainable_variables)
        after = [s.value for s in self.displacements]
        slopes = [_product(gradients, after, members)[0] for members in self.controller.members]
        self.controller.go_on(tf.stack(slopes))

    def _look(self, gradients: Any, displacements: Any, members: list[int]) -> tuple[Any, ...]:
        """Returns the slope along the displacement, the product of lengths, and the agreement.

        Matrices agree with their averages, others with their displacements: those of the rows that
        have a gradient now.
        """
        q, lengths = _product(gradients, displacements, members)
        matrices = [n for n in members if self._averages[n] is not None]
        if matrices:
            memories = {n: self._averages[n].value for n in matrices}
        else:
            memories = {n: -displacements[n] * _touched(gradients[n]) for n in members}
        product, sizes = _product(gradients, memories, matrices or members)
        return q, lengths, product / (sizes + TINY)

    def _size(self, variable: Any, n: int) -> Any:
        """Returns the length of the unit in which a step is measured."""
        if not self._relative or self._averages[n] is None:
            return 1.0
        return tf.sqrt(tf.reduce_mean(tf.square(variable.value))) / self.direction.scale


def _touched(gradient: Any) -> Any:
    """Returns 1 for rows that have a gradient, else 0."""
    return tf.cast(tf.reduce_any(gradient != 0, axis=-1, keepdims=True), gradient.dtype)


def _product(left: Any, right: Any, members: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the inner product of two lists of tensors, and that of their lengths."""
    if not members:
        return tf.constant(0.0), tf.constant(0.0)
    product = tf.add_n([tf.reduce_sum(left[n] * right[n]) for n in members])
    lengths = [tf.linalg.global_norm([each[n] for n in members]) for each in (left, right)]
    return product, lengths[0] * lengths[1]
