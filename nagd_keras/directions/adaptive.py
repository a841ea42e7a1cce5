"""The gradient, each element by the size that it had before."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import positive, value
from nagd_keras.directions.direction import Direction


@keras.saving.register_keras_serializable(package="nagd_keras")
class Adaptive(Direction):
    r"""The gradient divided by the root mean square of the earlier ones, element by element.

    With $v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2$ and its debiased root
    $r_{t-1} = \sqrt{v_{t-1} / (1 - \beta_2^{t-1})}$,

    $$d_t = \mathrm{clip}\left(\frac{g_t}{\max(r_{t-1}, \epsilon)}, \pm t^{1/4}\right), \qquad
      e_t = \varepsilon_t (1 - \mu_{t+1}),$$

    and $d_1 = 0$. Thus `learning_rate` is what it is for Adam, the length of a step per element in
    the long run, whatever the momentum is.

    Args:
        beta_2: $\beta_2$, in [0, 1): the share of the old mean of squares that is kept.
        epsilon: $\epsilon$, above 0: the least size that a gradient is divided by.

    Raises:
        TypeError, ValueError: for anything else.

    Example:
        >>> from nagd_keras import NAGD, directions
        >>> optimizer = NAGD(direction=directions.Adaptive(beta_2=0.999))
        >>> optimizer.direction.beta_2
        0.999

    References:
        Taniguchi et al. (2024), ADOPT: Modified Adam can converge with any beta_2 with the optimal
        rate, algorithm 2.
    """

    slots = ("mean_square",)
    learning_rate, momentum = 0.003, 0.9

    def __init__(self, beta_2: float = 0.99, epsilon: float = 1e-6) -> None:
        self.beta_2 = value("beta_2", beta_2, 1.0)
        self.epsilon = positive("epsilon", epsilon)

    def direct(
        self, gradient: Any, slots: Mapping[str, Any], t: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        """Returns $d_t$ and the new mean of squares."""
        mean, first = slots["mean_square"], ops.cast(t <= 1, t.dtype)
        # In the dtype of t, which a number without one would narrow.
        earlier = t - 1 + first
        unbiased = 1 - self.beta_2**earlier
        size = ops.sqrt(mean / unbiased)
        limit = (1 - first) * ops.power(t, 0.25)
        least = ops.full_like(t, self.epsilon)
        direction = ops.clip(gradient / ops.maximum(size, least), -limit, limit)
        return direction, {"mean_square": averaged(mean, squared(gradient), self.beta_2)}

    def step_length(self, learning_rate: Any, momentum: Any) -> Any:
        r"""Returns $\varepsilon_t (1 - \mu_{t+1})$."""
        return learning_rate * (1 - momentum)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this direction again."""
        return {"beta_2": self.beta_2, "epsilon": self.epsilon}


def averaged(mean: Any, x: Any, beta: float) -> Any:
    """Returns an exponential moving average after its next value."""
    return beta * mean + (1 - beta) * x


def squared(x: Any) -> Any:
    """Returns the square, or the largest number where that is infinite."""
    return ops.minimum(ops.square(x), LARGEST)


LARGEST = 1e38
