r"""When to restart: the tests of adaptive restart, as functions of sums over all variables.

A restart drops the displacement s_{t+1} = mu_{t+1} v_{t+1} at the end of an update: s_{t+1} <- 0,
w_{t+1} <- theta_{t+1}, and the age becomes 0. An update restarts

- by the gradient scheme where <g_t, s_{t+1}> > 0, that is, where the displacement leads uphill
  (O'Donoghue & Candes 2015, section 3.2; there <g_t, v_{t+1}>, which has the same sign);
- by the speed scheme where ||v_{t+1}|| < ||v_t||, from the tenth update since the last restart on
  (Su, Boyd & Candes 2016, section 5, with k_min = 10).
"""

from typing import Any, Literal, TypeAlias, get_args

from keras import ops

Scheme: TypeAlias = Literal["gradient", "speed"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
GRADIENT, SPEED = SCHEMES
YOUNGEST = 10  # the first update since the last restart at which the speed scheme may restart


def factors(scheme: str, g: Any, s_next: Any) -> tuple[Any, Any]:
    """Returns the two tensors whose products, over all variables, add up to what a scheme needs."""
    return ops.conj(g if scheme == GRADIENT else s_next), s_next


def weighted(scheme: str, product: Any, scale: Any) -> Any:
    """Returns the inner product of a variable whose gradient was first to be scaled."""
    return ops.real(product if scale is None or scheme == SPEED else product * scale)


def leads_uphill(product: Any) -> Any:
    """Whether the gradient scheme restarts, by its inner product."""
    return product > 0


def speed(product: Any, momentum: Any) -> Any:
    """Returns ||v_{t+1}||, by the speed scheme's inner product and mu_{t+1}.

    It is 0 where the momentum is 0: no displacement is left to tell it.
    """
    moves = momentum > 0
    return ops.where(moves, ops.sqrt(product), 0.0) / ops.where(moves, momentum, 1.0)


def slows_down(now: Any, before: Any, age: Any) -> Any:
    """Whether the speed scheme restarts, by ||v_{t+1}||, ||v_t|| and the age before the update.

    A speed of 0 stands for one that is not known.
    """
    known = ops.logical_and(now > 0, now < before)
    return ops.logical_and(known, age + 1 >= YOUNGEST)
