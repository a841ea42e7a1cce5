r"""Rules that change a learning rate by what the last displacement met.

With the displacement $s_t$, along which the variables came to where the gradient $g_t$ is taken,

$$q_t = \langle g_t, s_t \rangle, \qquad p_t = \langle g_{t-1}, s_t \rangle$$

are the slopes at its end and at its beginning. The learning rate has a factor c, and
$\log c \leftarrow \log c - \kappa \cdot \text{signal}$.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

TINY = 1e-30


class Slopes(NamedTuple):
    """What is known after a displacement.

    Attributes:
        p: the slope at its beginning.
        q: the slope at its end.
        lengths: the product of the lengths of gradient and displacement.
        agreement: the cosine of the gradient and the average of those before it.
    """

    p: Any
    q: Any
    lengths: Any
    agreement: Any = 0.0


Signal = Callable[[Slopes], Any]  # in [-1, 1]; above 0 where the learning rate is to fall


class Rule(NamedTuple):
    """A rule: its signal and its gain kappa. Signals add up, so they need no average."""

    signal: Signal
    gain: float


def cosine(slopes: Slopes) -> Any:
    """Returns the cosine of the gradient and the displacement."""
    return slopes.q / (slopes.lengths + TINY)


def ratio(share: float) -> Signal:
    """Returns a signal that is zero where q is a share of |p|.

    On a quadratic of curvature h, with the learning rate l and no momentum, q / |p| is l h / 2 in
    the stationary state that noise makes, whatever the noise is. So the learning rate comes to
    2 share / h. Without noise q / |p| is l h - 1, and the signal is zero at (1 + share) / h.
    """
    return lambda slopes: (
        (slopes.q - share * abs(slopes.p)) / (abs(slopes.q) + abs(slopes.p) + TINY)
    )


def agreement(least: float) -> Signal:
    """Returns a signal that is zero where a gradient agrees so much with those before it."""
    return lambda slopes: least - slopes.agreement


class Quadratic(NamedTuple):
    """Where a rule is tried: h w^2 / 2 for each curvature h, and noise in the gradient.

    Attributes:
        curvatures: h.
        noise: its standard deviation in each coordinate.
    """

    curvatures: np.ndarray
    noise: float

    def rate(self, rule: Rule, rate: float, updates: int, seed: int = 0) -> float:
        """Returns where the rule brings a learning rate: the mean over the last half."""
        rng, w = np.random.default_rng(seed), np.ones(len(self.curvatures))
        s, p, log_factor, found = np.zeros_like(w), None, 0.0, []
        for _ in range(updates):
            g = self.curvatures * w + self.noise * rng.normal(size=len(w))
            if p is not None:
                lengths = float(np.linalg.norm(g) * np.linalg.norm(s))
                log_factor -= rule.gain * rule.signal(Slopes(p, float(g @ s), lengths))
            s = -rate * np.exp(log_factor) * g
            w, p = w + s, float(g @ s)
            found.append(log_factor)
        return float(rate * np.exp(np.mean(found[updates // 2 :])))
