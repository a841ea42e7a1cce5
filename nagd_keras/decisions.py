"""What is decided once in an update, for all variables: to skip it, or to restart behind it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from nagd_keras.live import LiveHyperparameters
from nagd_keras.points import Points
from nagd_keras.restart import GRADIENT, SPEED, leads_uphill, slows_down, speed
from nagd_keras.tensors import tensor, widest_dtype


class Decisions(LiveHyperparameters):
    """The two decisions of NAGD, and the counters that go with them."""

    _restarts: Any
    _points: Points
    _gradient_norm: Any
    _displacements: list[Any]

    _scheme: str | None = None  # of restart
    _skipped: Any = None  # the counter, if steps with gradients that are not finite are skipped
    _velocity_norm: Any = None  # ||v_t||, if the scheme needs it

    def _track_decisions(self, scheme: str | None, skip_nonfinite: bool) -> None:
        """Makes the variables that are needed, none if nothing is to be decided."""
        self._scheme = scheme
        if skip_nonfinite:
            self._skipped = self._scalar("skipped_updates", "int")
        if scheme == SPEED:
            # Velocities may differ little; where there is float64, what is noted keeps all digits.
            dtype = keras.backend.standardize_dtype(tensor(0.0).dtype)
            self._velocity_norm = self._scalar("velocity_norm", dtype, float("nan"))

    @property
    def restart(self) -> str | None:
        """The scheme of adaptive restart, or None."""
        return self._scheme

    @property
    def restarts(self) -> Any:
        """How often the momentum was reset."""
        return self._restarts

    @property
    def skip_nonfinite(self) -> bool:
        """Whether updates are skipped whose gradients hold a NaN or an infinity."""
        return self._skipped is not None

    @property
    def skipped_updates(self) -> Any:
        """How many updates were skipped; 0 if `skip_nonfinite` is off."""
        return 0 if self._skipped is None else self._skipped

    def _restarts_now(self, products: Sequence[Any], momentum: Any, at_iterate: Any) -> Any:
        """Returns whether this update is to restart, and notes its velocity if that is needed.

        Args:
            products: numbers that add up to the scheme's inner product over all variables.
            momentum: mu_{t+1}.
            at_iterate: whether the update does nothing but to bring the variables back.
        """
        dtype = widest_dtype(products)
        total = sum(keras.ops.cast(x, dtype) for x in products)
        moves = keras.ops.logical_not(at_iterate)
        if self._scheme == GRADIENT:
            return keras.ops.logical_and(leads_uphill(total), moves)
        now = speed(total, keras.ops.cast(tensor(momentum), dtype))
        before = keras.ops.cast(tensor(self._velocity_norm), dtype)
        restart = keras.ops.logical_and(slows_down(now, before, tensor(self._age)), moves)
        noted = keras.ops.where(moves, now, before)
        self.assign(self._velocity_norm, keras.ops.cast(noted, self._velocity_norm.dtype))
        return restart

    def _count(self, at_iterate: Any, restart: Any, norm: Any) -> None:
        """Counts an update that was made."""
        moved = 1 - self._as_count(at_iterate)
        if restart is None:
            self.assign_add(self._age, moved)
        else:
            again = self._as_count(restart)
            self.assign(self._age, (tensor(self._age) + moved) * (1 - again))
            self.assign_add(self._restarts, again)
        if not isinstance(at_iterate, int) or at_iterate:
            self.assign(self._points.flag, 0)
        if norm is not None:
            self.assign(self._gradient_norm, keras.ops.cast(norm, "float32"))

    def _as_count(self, condition: Any) -> Any:
        if isinstance(condition, int):
            return int(condition)
        return keras.ops.cast(condition, self._age.dtype)

    def _count_skipped(self) -> None:
        self.assign_add(self._skipped, 1)

    def _unless_skipped(self, finite: Any, make: Callable[[], Any], variables: Any) -> None:
        """Makes an update if all gradients are finite, where variables are not written in place.

        There a condition has values as its result. To make the update and to select would be
        simpler, and cost XLA on a CPU copies of all that is selected.
        """
        counters = [self._age, self._restarts, self._points.flag, self._gradient_norm]
        if self._velocity_norm is not None:
            counters.append(self._velocity_norm)
        slots = (s for s in self._displacements if s is not None)
        held = [*variables, *slots, *counters]
        before = [tensor(v) for v in held]

        def made() -> list[Any]:
            with keras.StatelessScope(state_mapping=[*zip(held, before, strict=True)]) as scope:
                make()
            return [scope.get_current_value(v) for v in held]

        after = keras.ops.cond(finite, made, lambda: before)
        for variable, value in zip(held, after, strict=True):
            variable.assign(value)
        self.assign_add(self._skipped, 1 - self._as_count(finite))

    def _without_update(self, variables: Iterable[Any]) -> list[Any]:
        """Returns the displacements of those variables that are not among these."""
        places = {self._get_variable_index(v) for v in variables}
        slots = enumerate(self._displacements)
        return [s for i, s in slots if i not in places and s is not None]

    def _changed_around_the_update(self, variables: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Returns the variables that Keras changes around an update, and what they hold.

        It averages and constrains variables, and overwrites some by their "gradients", whatever
        becomes of the update: this is what a skip must undo.
        """
        if self._skipped is None or not self.built:
            return []
        changed = [
            v
            for v in variables
            if v.constraint is not None or getattr(v, "overwrite_with_gradient", False)
        ]
        averaged = []
        if self.use_ema:
            pairs = zip(
                self._model_variables_moving_average, self._trainable_variables, strict=True
            )
            averaged = [(average, v) for average, v in pairs if average is not None]
            if self.ema_overwrite_frequency:
                changed += self._trainable_variables
        # Copies: a tensor of a variable that is written in place changes with it.
        held = [(v, keras.ops.copy(tensor(v))) for v in {id(v): v for v in changed}.values()]
        # Keras takes the first value of an average from the first step, whichever that is.
        is_first = keras.ops.equal(tensor(self._iterations), 0)
        for average, v in averaged:
            held.append((average, keras.ops.where(is_first, tensor(v), tensor(average))))
        return held
