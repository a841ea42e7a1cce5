"""The gradient, each element divided by the size that it had before."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import positive, value
from nagd_keras.directions.direction import Direction


@keras.saving.register_keras_serializable(package="nagd_keras")
class Adaptive(Direction):
    r"""The gradient divided by the root mean square of the earlier ones, element by element.

    With $v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2$, which begins with the first $g_t^2$ that is
    not zero,

    $$d_t = \mathrm{clip}\left(\frac{g_t}{\max(\sqrt{v_{t-1}}, \epsilon)}, \pm t^{1/4}\right),
      \qquad e_t = \varepsilon_t (1 - \mu_{t+1}),$$

    and $d_t = 0$ where there was no gradient yet. So `learning_rate` means what it means for Adam:
    the length of a step per element in the long run, whatever the momentum is. A variable, or a row
    of a table, that joins late begins as the others did.

    Args:
        beta_2: $\beta_2$, in [0, 1): the share of the old mean of squares that is kept.
        epsilon: $\epsilon$, above 0: the least size that a gradient is divided by.

    Example:
        >>> from nagd_keras import NAGD, directions
        >>> optimizer = NAGD(direction=directions.Adaptive(beta_2=0.999))
        >>> optimizer.direction.beta_2
        0.999

    References:
        Taniguchi et al. (2024), ADOPT: Modified Adam can converge with any beta_2 with the optimal
        rate, algorithm 2, without its first moment.
    """

    slots = ("mean_square",)
    learning_rate, momentum = 0.003, 0.9

    def __init__(self, beta_2: float = 0.99, epsilon: float = 1e-12) -> None:
        self.beta_2 = value("beta_2", beta_2, 1.0)
        self.epsilon = positive("epsilon", epsilon)

    # A class derived from this one may look at more than one element, so its flag is not inherited.
    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        """Whether `direct` is the one defined here, not that of a derived class."""
        return type(self).direct is Adaptive.direct

    def direct(
        self, gradient: Any, slots: Mapping[str, Any], t: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        """Returns $d_t$ and the new mean of squares."""
        # In the dtype of t, which a number without one would narrow.
        mean, least = slots["mean_square"], ops.full_like(t, self.epsilon)
        limit, known = ops.power(t, 0.25), ops.greater(mean, 0)
        direction = ops.clip(gradient / ops.maximum(ops.sqrt(mean), least), -limit, limit)
        square = squared(gradient)
        after = ops.where(known, averaged(mean, square, self.beta_2), square)
        return ops.where(known, direction, ops.zeros_like(direction)), {"mean_square": after}

    def direct_all(
        self, gradients: Sequence[Any], slots: Sequence[Mapping[str, Any]], t: Any
    ) -> tuple[list[Any], list[Mapping[str, Any]]]:
        """Returns the same of several variables: their elements, one after the other, are one."""
        if len(gradients) == 1 or not self.elementwise:
            return super().direct_all(gradients, slots, t)
        means = [each["mean_square"] for each in slots]
        shapes = [tuple(mean.shape) for mean in means]
        joined = [ops.concatenate([_reshaped(x, (-1,)) for x in xs]) for xs in (gradients, means)]
        direction, after = self.direct(joined[0], {"mean_square": joined[1]}, t)
        ends = list(itertools.accumulate(map(math.prod, shapes)))[:-1]
        directions, means = (
            [_reshaped(x, shape) for x, shape in zip(ops.split(xs, ends), shapes, strict=True)]
            for xs in (direction, after["mean_square"])
        )
        return directions, [{"mean_square": mean} for mean in means]

    def step_length(self, learning_rate: Any, momentum: Any) -> Any:
        r"""Returns $\varepsilon_t (1 - \mu_{t+1})$."""
        return learning_rate * (1 - momentum)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this direction again."""
        return {"beta_2": self.beta_2, "epsilon": self.epsilon}


def _reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """Returns a tensor of another shape, and one as it is where vectors are to be vectors."""
    return x if len(x.shape) == len(shape) == 1 else ops.reshape(x, shape)


def averaged(mean: Any, x: Any, beta: float) -> Any:
    """Returns an exponential moving average after its next value."""
    return beta * mean + (1 - beta) * x


def squared(x: Any) -> Any:
    """Returns the square, or the largest number where that is infinite."""
    return ops.minimum(ops.square(x), LARGEST)


LARGEST = 1e38
