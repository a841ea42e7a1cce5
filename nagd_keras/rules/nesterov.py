r"""Nesterov's method in displacement form: the one place where the mathematics stands.

Nesterov's method, in the notation of Sutskever, Martens, Dahl & Hinton (2013), equations 3 and 4:

    v_{t+1}     = mu_t v_t - eps_t grad f(theta_t + mu_t v_t)
    theta_{t+1} = theta_t + v_{t+1}

Keras evaluates gradients at the model's variables, so these hold the look-ahead point
w_t = theta_t + mu_t v_t. With the displacement s_t = mu_t v_t = w_t - theta_t as the only slot
and g_t = grad f(w_t), the same two sequences are

    v_{t+1} = s_t - eps_t g_t
    s_{t+1} = mu_{t+1} v_{t+1}
    w_{t+1} = w_t - eps_t g_t + s_{t+1}

Nothing here is re-based when mu or eps changes, so the form is exact for any sequences of both.
Another direction than the gradient takes the place of g_t, and its step length that of eps_t.
"""

from typing import Any, NamedTuple

from keras import ops


class Coefficients(NamedTuple):
    """The numbers in the arithmetic of one variable's update; each a number or a scalar tensor.

    Attributes:
        momentum: mu_{t+1}, the momentum of the look-ahead that this update creates.
        step: eps_t, what the gradient is multiplied by; clipping of its norm makes it smaller.
        carried: mu_{t+1} step, the part of the gradient's step that goes on as displacement.
        decay: eps_t lambda_t, or None where weights do not decay.
        bound: the largest absolute value that an element of the gradient keeps, or None.
    """

    momentum: Any
    step: Any
    carried: Any
    decay: Any = None
    bound: Any = None

    def scaled(self, scale: Any) -> "Coefficients":
        """Returns the coefficients for a gradient that is first multiplied by a scale."""
        return self._replace(step=self.step * scale, carried=self.carried * scale)

    def restarted(self, condition: Any, dtype: str) -> "Coefficients":
        """Returns those of an update that leaves no displacement, where a condition holds."""
        keep = 1 - ops.cast(condition, dtype)
        return self._replace(momentum=self.momentum * keep, carried=self.carried * keep)


def coefficients(step: Any, momentum: Any, decay: Any = None, bound: Any = None) -> Coefficients:
    """Returns the coefficients of an update with eps_t, mu_{t+1}, eps_t lambda_t and a bound."""
    return Coefficients(momentum, step, momentum * step, decay, bound)


def nesterov_update(w: Any, s: Any, g: Any, c: Coefficients) -> tuple[Any, Any]:
    """Returns (w_{t+1}, s_{t+1}) from w_t, s_t and g_t."""
    s_next = next_displacement(s, g, c)
    return next_variable(w, s_next, g, c), s_next


def next_displacement(s: Any, g: Any, c: Coefficients) -> Any:
    """Returns s_{t+1} from s_t and g_t.

    The momentum is multiplied in twice, not factored out as m * (s - eps * g): from the factored
    form XLA on the CPU copies the slot.
    """
    return c.momentum * s - c.carried * bounded(g, c.bound)


def next_variable(w: Any, s_next: Any, g: Any, c: Coefficients) -> Any:
    """Returns w_{t+1} from w_t, s_{t+1} and g_t.

    Weight decay is decoupled (Loshchilov & Hutter, 2019): w shrinks by eps lambda w before the
    update, and the decay never enters the displacement.
    """
    shrunk = w if c.decay is None else w - c.decay * w
    return shrunk + s_next - c.step * bounded(g, c.bound)


def bounded(g: Any, bound: Any) -> Any:
    """Returns a gradient with its elements clipped to [-bound, bound]; as it is for None."""
    return g if bound is None else ops.clip(g, -bound, bound)


def iterate(w: Any, s: Any) -> Any:
    """Returns theta_t = w_t - s_t."""
    return w - s


def look_ahead(theta: Any, s: Any) -> Any:
    """Returns w_t = theta_t + s_t."""
    return theta + s
