"""From gradients to variables: one path, in the order in which things happen."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras.backends.current import current
from nagd_keras.directions.direction import Direction
from nagd_keras.directions.gradient import Gradient
from nagd_keras.engine.averages import average
from nagd_keras.engine.clipping import Clipping, clipped
from nagd_keras.engine.gradients import check_rows
from nagd_keras.engine.groups import Group, grouped
from nagd_keras.engine.kernels import formula, kernels
from nagd_keras.engine.step import Kind, Restart, Step
from nagd_keras.rules.nesterov import Coefficients, bounded, coefficients
from nagd_keras.rules.restart import GRADIENT, leads_uphill, slows_down, speed
from nagd_keras.state.scalars import COUNTERS, NUMBERS
from nagd_keras.state.slots import ACCUMULATOR, DISPLACEMENT
from nagd_keras.state.state import State
from nagd_keras.tensors import computed_in, tensor, widest_dtype


class Pipeline:
    """Makes an update of the gradients of one batch."""

    def __init__(
        self,
        optimizer: Any,
        state: State,
        direction: Direction,
        *,
        restart: str | None,
        skip: bool,
        lazy: bool,
    ) -> None:
        """Takes the optimizer, and our settings; it reads those of Keras when it needs them."""
        self._optimizer, self._state, self._direction = optimizer, state, direction
        self._directs = False  # whether some variable's direction is not the gradient
        self._restart, self._skip, self._lazy = restart, skip, lazy
        self._dtypes: list[str] = []
        # That of each variable, for steps that set variables in place, and for others.
        self._all_groups: dict[bool, list[Group]] = {}

    def settle(self, variables: Sequence[Any], directions: Sequence[Direction]) -> None:
        """Takes the variables that the optimizer is built for, and the direction of each."""
        pairs = zip(variables, self._state.slots[DISPLACEMENT], strict=True)
        self._dtypes = ["" if s is None else computed_in(w, s) for w, s in pairs]
        self._directs = not all(type(direction) is Gradient for direction in directions)
        devices = [current.device_of(variable) for variable in variables]
        for in_place, module in ((True, kernels), (False, formula)):
            self._all_groups[in_place] = grouped(
                directions, variables, self._dtypes, devices, module
            )

    def apply(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Makes an update of variables from their gradients, or accumulates these."""
        optimizer, numbers = self._optimizer, self._state.scalars
        given, variables = private.with_gradients(optimizer, gradients, variables)
        gradients, variables = private.overwritten(optimizer, given, variables)
        # A skipped update changes nothing: what Keras does around one is undone.
        around = optimizer.use_ema or any(v.constraint is not None for v in variables)
        undoes = self._skip and around
        skipped = keras.ops.copy(numbers["skipped_updates"].value) if undoes else None
        if gradients:
            gradients = self._received(gradients, variables)
            if optimizer.gradient_accumulation_steps:
                self._accumulate(gradients, variables)
            else:
                self._update(gradients, variables)
        made = None
        if skipped is not None:
            made = keras.ops.equal(numbers["skipped_updates"].value, skipped)
        with current.after(given):
            average(optimizer, self._state, made)
            for variable in variables:
                if variable.constraint is not None:
                    value = variable.constraint(tensor(variable))
                    if made is not None:
                        value = keras.ops.where(made, value, tensor(variable))
                    current.assign(variable, value)
            current.assign_add(private.batches(optimizer), 1)

    def _received(self, gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Returns the gradients of the whole batch, as tensors, or as rows if rows will do."""
        optimizer = self._optimizer
        # Before anything else: so each replica clips and decides by the gradient of the whole
        # batch, and the result does not depend on how many they are.
        gradients = current.summed_over_replicas(list(gradients))
        rows = current.in_place() and not optimizer.gradient_accumulation_steps
        rows = rows and (self._lazy or not self._directs)
        if self._lazy and self._directs:
            places = [private.place(optimizer, variable) for variable in variables]
            check_rows(gradients, variables, [self._groups[i].direction for i in places])
        received = [
            current.received(g, tuple(v.shape), rows, self._lazy)
            for g, v in zip(gradients, variables, strict=True)
        ]
        scale = optimizer.loss_scale_factor
        if scale is None:
            return received
        return [current.with_values(g, current.values(g) / scale) for g in received]

    def _accumulate(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        steps = self._optimizer.gradient_accumulation_steps
        slots = self._state.slots[ACCUMULATOR]
        sums = [slots[private.place(self._optimizer, v)] for v in variables]

        def update_with_mean() -> None:
            mean = [(g + tensor(s)) / steps for g, s in zip(gradients, sums, strict=True)]
            self._update(mean, variables)
            with current.after(mean):
                for s in slots:
                    current.assign(s, keras.ops.zeros(s.shape, s.dtype))

        def add() -> None:
            for g, s in zip(gradients, sums, strict=True):
                current.assign(s, keras.ops.cast(tensor(s) + g, s.dtype))

        due = keras.ops.equal((tensor(private.batches(self._optimizer)) + 1) % steps, 0)
        current.branch(due, update_with_mean, add, self._all_variables())

    def _update(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Makes an update, or skips it."""
        tracks = self._optimizer.tracks_gradient_norm
        clipping = clipped(gradients, self._optimizer, needs_norm=tracks, needs_finite=self._skip)
        make = partial(self._make, gradients, variables, clipping)
        if self._skip:
            count = partial(self._state.scalars.add, COUNTERS, skipped_updates=1)
            current.branch(clipping.finite, make, count, self._all_variables())
        else:
            make()

    def _make(self, gradients: Sequence[Any], variables: Sequence[Any], clipping: Clipping) -> None:
        """Makes an update: direction, step, restart, count."""
        scalars = self._state.scalars
        numbers = scalars.read(NUMBERS)
        values = self._state.hyperparameters.read(numbers)
        changes: dict[str, Any] = {}
        if self._optimizer.tracks_gradient_norm:
            changes["gradient_norm"] = clipping.norm
        steps, places = self._steps(gradients, variables, values, clipping)
        if self._restart is None:
            self._run(steps, places)
            with current.after(gradients):
                scalars.add(COUNTERS, age=1, updates=1)
        else:
            counters = scalars.read(COUNTERS)
            decide = partial(self._decides, values["momentum"], numbers, counters, changes)
            there = {id(step.displacement) for step in steps}
            slots = self._state.slots[DISPLACEMENT]
            others = [s for s in slots if s is not None and id(s) not in there]
            again = self._run(steps, places, Restart(self._restart, decide, others))
            age, updates, restarts = (tensor(counters[x]) for x in ("age", "updates", "restarts"))
            again = keras.ops.cast(again, age.dtype)
            after = {
                "age": (age + 1) * (1 - again),
                "updates": updates + 1,
                "restarts": restarts + again,
            }
            scalars.write(COUNTERS, counters, after)
        if changes:
            scalars.write(NUMBERS, numbers, changes)

    def _steps(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        values: Mapping[str, Any],
        clipping: Clipping,
    ) -> tuple[list[Step], list[int]]:
        """Returns the steps of the variables that are not frozen, and their places."""
        slots, common = self._state.slots[DISPLACEMENT], {}
        steps: list[Step] = []
        places: list[int] = []
        decays = values["weight_decay"] is not None
        for n, (gradient, variable) in enumerate(zip(gradients, variables, strict=True)):
            i = private.place(self._optimizer, variable)
            decay = decays and private.decays(self._optimizer, variable)
            kind = Kind(self._dtypes[i], self._state.factors[i], decay)
            if kind.factor == 0:  # Whatever the gradient; the displacement never leaves zero.
                continue
            if kind not in common:
                common[kind] = self._coefficients(values, kind, clipping)
            c, scale = common[kind], None
            if self._directs:
                scale = clipping.scale if clipping.scales is None else clipping.scales[n]
                gradient = self._clipped(gradient, kind, scale, clipping.bound)
                scale = None
            elif clipping.scales is not None:
                scale = _cast(clipping.scales[n], kind.dtype)
                c = c.scaled(scale)
            steps.append(Step(variable, slots[i], gradient, c, scale))
            places.append(i)
        return steps, places

    def _coefficients(
        self, values: Mapping[str, Any], kind: Kind, clipping: Clipping
    ) -> Coefficients:
        eps, m = (_cast(values[name], kind.dtype) for name in ("learning_rate", "momentum"))
        if kind.factor != 1:
            eps = eps * kind.factor
        decay = eps * _cast(values["weight_decay"], kind.dtype) if kind.decays else None
        step = self._direction.step_length(eps, m)
        if self._directs:  # Its gradients were clipped before.
            return coefficients(step, m, decay)
        bound = clipping.bound and _cast(tensor(clipping.bound), kind.dtype)
        c = coefficients(step, m, decay, bound)
        return c if clipping.scale is None else c.scaled(_cast(clipping.scale, kind.dtype))

    def _clipped(self, gradient: Any, kind: Kind, scale: Any, bound: Any) -> Any:
        """Returns a gradient as a direction takes it."""
        values = keras.ops.cast(current.values(gradient), kind.dtype)
        if scale is not None:
            values = values * _cast(scale, kind.dtype)
        return current.with_values(gradient, bounded(values, bound))

    @property
    def _groups(self) -> list[Group]:
        return self._all_groups[current.in_place()]

    def _alike(
        self, steps: Sequence[Step], places: Sequence[int]
    ) -> Iterator[tuple[Group, list[int], list[dict[str, Any]]]]:
        """Yields groups, the numbers of their steps, and the slots of each of these."""
        together: dict[Any, list[int]] = {}
        for n, (step, i) in enumerate(zip(steps, places, strict=True)):
            alone = n if current.has_rows(step.gradient) else -1
            key = id(self._groups[i]), id(step.coefficients), alone
            together.setdefault(key, []).append(n)
        for members in together.values():
            group = self._groups[places[members[0]]]
            slots = [
                {name: self._state.slots[name][places[n]] for name in group.direction.slots}
                for n in members
            ]
            yield group, members, slots

    def _run(
        self, steps: Sequence[Step], places: Sequence[int], restart: Restart | None = None
    ) -> Any:
        # The kernels decide by what the step goes along, which here is not the gradient.
        update = kernels.update if current.in_place() else formula.update
        if not self._directs:
            return update(steps, self._lazy, restart)
        t = self._state.scalars["updates"].value + 1
        if restart is None:
            for group, members, slots in self._alike(steps, places):
                group.move([steps[n] for n in members], slots, t, self._lazy)
            return None
        directed = list(steps)
        for group, members, slots in self._alike(steps, places):
            found = group.direct([steps[n].gradient for n in members], slots, t)
            for n, d in zip(members, found, strict=True):
                directed[n] = steps[n]._replace(gradient=d, slope=steps[n].gradient)
        return formula.update(directed, self._lazy, restart)

    def _decides(
        self,
        momentum: Any,
        numbers: Mapping[str, Any],
        counters: Mapping[str, Any],
        changes: dict[str, Any],
        products: Sequence[Any],
    ) -> Any:
        """Returns whether to restart; adds the speed to the changes if the scheme needs it."""
        dtype = widest_dtype(products)
        total = sum(keras.ops.cast(x, dtype) for x in products)
        if self._restart == GRADIENT:
            return leads_uphill(total)
        before = tensor(numbers["velocity_norm"])
        now = speed(total, keras.ops.cast(tensor(momentum), dtype))
        now = keras.ops.cast(now, self._state.scalars.variables[NUMBERS].dtype)
        changes["velocity_norm"] = now
        return slows_down(now, keras.ops.cast(before, now.dtype), tensor(counters["age"]))

    def update_one(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its displacement, and decides nothing about all variables."""
        rows = current.in_place() and not self._directs
        gradient = current.received(gradient, tuple(variable.shape), rows, self._lazy)
        values = self._state.hyperparameters.read(self._state.scalars.read(NUMBERS))
        values["learning_rate"] = current.scalar(learning_rate)
        self._run(*self._steps([gradient], [variable], values, Clipping()))

    def _all_variables(self) -> list[Any]:
        return [*self._state.trained, *self._state.variables()]


def _cast(x: Any, dtype: str) -> Any:
    # A number, known where nothing is compiled, is taken for one of whatever dtype.
    return x if isinstance(x, (int, float)) else keras.ops.cast(x, dtype)
