"""A whole run of any member of the family, slow and obvious: float64 NumPy, one step a call."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.family import Member
from tests.reference.settings import clipped

EARLIEST = 10  # the speed scheme's k_min


class Reference:
    """What NAGD's documentation says, in the order of Keras' `apply`."""

    def __init__(self, member: Member, start: Sequence[np.ndarray], rate: float, mu: float) -> None:
        self.member, self.rate, self.mu = member, rate, mu
        self.ws = [np.asarray(w, np.float64) for w in start]
        self.ss = [np.zeros_like(w) for w in self.ws]
        self.sums = [np.zeros_like(w) for w in self.ws]
        self.averages = [np.zeros_like(w) for w in self.ws]
        self.slots: list[dict[str, Any]] = [{} for _ in self.ws]
        self.batches = self.age = self.updates = self.restarts = self.skipped_updates = 0
        self.speed = np.nan
        self.largest = [np.max(np.abs(w)) for w in self.ws]  # so far

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Takes the gradients of one batch, as the loss scale leaves them."""
        settings = self.member.settings
        gs = [np.asarray(g, np.float64) / settings.get("loss_scale_factor", 1.0) for g in gradients]
        steps, skipped = settings.get("gradient_accumulation_steps", 1), self.skipped_updates
        self.sums = [s + g for s, g in zip(self.sums, gs, strict=True)]
        finished = self.batches // steps
        if (self.batches + 1) % steps == 0:
            means = [s / steps for s in self.sums]
            self.sums = [np.zeros_like(s) for s in self.sums]
            self._update(means)
        if settings.get("use_ema"):
            self._average(finished, self.skipped_updates == skipped)
        self.batches += 1
        pairs = zip(self.largest, self.ws, strict=True)
        self.largest = [max(largest, np.max(np.abs(w))) for largest, w in pairs]

    def _update(self, gs: list[np.ndarray]) -> None:
        settings = self.member.settings
        if settings.get("skip_nonfinite") and not all(np.isfinite(g).all() for g in gs):
            self.skipped_updates += 1
            return
        limits = {
            k: settings[k] for k in ("clipnorm", "global_clipnorm", "clipvalue") if k in settings
        }
        gs = clipped(gs, **limits)
        eps = self._now("learning_rate", self.rate, self.batches)
        mu = self._now("momentum", self.mu, self.age + 1)
        decay = settings.get("weight_decay", 0.0)
        self.updates += 1
        length = eps if self.member.rule is None else eps * (1 - mu)
        factors = settings.get("learning_rate_multipliers", {})
        velocities = []
        for i, g in enumerate(gs):
            d = g
            if self.member.rule is not None:
                d, self.slots[i] = self.member.rule(g, self.slots[i], self.updates)
            factor = factors.get(f"x{i}", 1.0)
            velocities.append(self.ss[i] - factor * length * d)
            self.ws[i] = self.ws[i] - factor * (eps * decay * self.ws[i] + length * d)
        self.ss = [mu * v for v in velocities]
        restart = self._restarts(gs, velocities, mu)
        if restart:
            self.ss = [np.zeros_like(s) for s in self.ss]
        self.ws = [w + s for w, s in zip(self.ws, self.ss, strict=True)]
        self.age = 0 if restart else self.age + 1
        self.restarts += restart

    def _now(self, name: str, number: float, step: int) -> float:
        given = self.member.settings.get(name, number)
        return float(given(step)) if callable(given) else given

    def _restarts(self, gs: list[np.ndarray], velocities: list[np.ndarray], mu: float) -> bool:
        scheme = self.member.settings.get("restart")
        if scheme == "gradient":
            return sum(np.vdot(g, mu * v) for g, v in zip(gs, velocities, strict=True)) > 0
        before = self.speed
        speed = np.sqrt(sum(np.vdot(v, v) for v in velocities))
        self.speed = speed if mu else np.nan
        return scheme == "speed" and bool(speed < before) and self.age + 1 >= EARLIEST

    def _average(self, finished: int, made: bool) -> None:
        settings = self.member.settings
        m = settings["ema_momentum"] if finished else 0.0
        if made:
            pairs = zip(self.averages, self.ws, strict=True)
            self.averages = [m * a + (1 - m) * w for a, w in pairs]
            frequency = settings.get("ema_overwrite_frequency")
            if frequency and (finished + 1) % frequency == 0:
                self.ws = [a.copy() for a in self.averages]
        elif self.batches == 0:  # An average begins with its variable.
            self.averages = [w.copy() for w in self.ws]
