"""How gradients become an update: what is common to all variables, then a step for each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import keras

from nagd_keras.backends import several_replicas, stateless, summed_over_replicas
from nagd_keras.clipping import Clipping, clipped
from nagd_keras.decisions import Decisions
from nagd_keras.gradients import Rows, check_gradients
from nagd_keras.kernels import backend as kernels
from nagd_keras.multipliers import check_found
from nagd_keras.step import Kind, Step, Update
from nagd_keras.tensors import dense, tensor
from nagd_keras.update_rule import TO_LOOK_AHEAD, Coefficients, Scalars, coefficients


class Updates(Decisions):
    """What NAGD does in Keras' place where gradients are applied.

    Keras accumulates gradients, averages variables and constrains them. Between, clipping, weight
    decay and the step itself are one pass over each variable.
    """

    _displacements: list[Any]
    # In the order of the variables: the factor of the learning rate, and the dtype to compute in.
    _factors: list[float]
    _dtypes: list[str]
    _lazy: bool
    _rows: Rows
    _tracks_gradient_norm: bool
    _from_config: bool
    _factors_loaded: bool
    _waiting: Any

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None) -> None:
        """Makes one update, or accumulates, from one gradient (or None) for each variable.

        If the variables hold the iterate (see `swap_to_iterate`), the update brings them to the
        look-ahead point and leaves the gradient out, which was taken at the wrong point and must be
        finite all the same.

        Args:
            grads: the gradients at the model's variables, of the variables' shapes.
            trainable_variables: the variables; those of `build` if None.

        Raises:
            ValueError: if a gradient's shape is not its variable's, if all gradients are None, or
                if the optimizer was not built for a variable. Nothing is updated.
        """
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = variables = list(trainable_variables)
        else:
            variables = self._trainable_variables
        if self._from_config:
            # Seen now if no state came that says which variables the multipliers are for.
            if self.built and not self._factors_loaded:
                check_found(self._multipliers, self._trainable_variables)
            self._from_config = self._waiting is not None
        if grads and (self.built or trainable_variables is not None):
            check_gradients(grads, variables)
            grads = self._summed(grads, variables)
            grads = [self._received(g, v) for g, v in zip(grads, variables, strict=True)]
        if self.skip_nonfinite and trainable_variables and not self.built:
            with keras.name_scope(self.name):  # as the base class does
                self.build(trainable_variables)
        changed = self._changed_around_the_update(variables) if grads else []
        skipped = keras.ops.copy(tensor(self.skipped_updates)) if changed else None
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rows.forget()
        if changed:
            made = keras.ops.equal(tensor(self.skipped_updates), skipped)
            for variable, value in changed:
                variable.assign(keras.ops.where(made, tensor(variable), value))

    def _summed(self, gradients: list[Any], variables: Sequence[Any]) -> list[Any]:
        """Returns gradients, or, if replicas have a share each, their sums over all replicas."""
        if not several_replicas():
            return gradients
        # What Keras takes for a new value of a variable, a "gradient" by name only, is no share.
        shares = [
            None if getattr(v, "overwrite_with_gradient", False) else g
            for g, v in zip(gradients, variables, strict=True)
        ]
        sums = summed_over_replicas(shares)
        return [g if s is None else s for g, s in zip(gradients, sums, strict=True)]

    def _received(self, gradient: Any, variable: Any) -> Any:
        """Returns a gradient as a tensor, or the values of its rows if the update can use these."""
        if kernels.is_dense(gradient):
            return gradient
        keeps_rows = not (
            self.gradient_accumulation_steps or getattr(variable, "overwrite_with_gradient", False)
        )
        if keeps_rows and kernels.is_rows(gradient, variable.shape, self._lazy):
            return self._rows.values(gradient, variable)
        return dense(gradient, tuple(variable.shape))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its displacement.

        Args:
            gradient: the gradient at the variable.
            variable: one of the variables that the optimizer was built for.
            learning_rate: the `Update` that this is part of, or a learning rate alone, which goes
                with the present momentum and weight decay. Alone, nothing is decided about all
                variables: no restart, no skip, and no clipping by a norm.

        Raises:
            ValueError: in one of several replicas, where the gradient is not summed yet.
        """
        if several_replicas():
            raise ValueError(
                "One of several replicas was to update a variable with its share of the gradient, "
                "which is not summed yet. Call optimizer.apply with the gradients of all variables."
            )
        kinds = self._kinds([variable])
        update = learning_rate
        if not isinstance(update, Update):
            update = self._update(self._scalars(learning_rate).map(tensor), kinds)
            if kernels.is_rows(gradient, variable.shape, lazy=True):
                gradient = kernels.summed_rows(gradient, variable.shape[0])
        make = kernels.update_stateless if stateless() else kernels.update
        make([*self._steps([gradient], [variable], kinds, update)], self._lazy)

    def _kinds(self, variables: Iterable[Any]) -> list[tuple[int, Kind]]:
        """Returns the place and the kind of each variable."""
        decays = self._weight_decay is not None
        places = map(self._get_variable_index, variables)
        return [
            (i, Kind(self._dtypes[i], self._factors[i], decays and self._use_weight_decay(v)))
            for i, v in ((i, self._trainable_variables[i]) for i in places)
        ]

    def _update(
        self, scalars: Scalars, kinds: Iterable[tuple[int, Kind]], scale: Any = None, **rest: Any
    ) -> Update:
        bound = rest.pop("bound", None)
        different = dict.fromkeys(kind for _, kind in kinds)
        update = {kind: self._coefficients(scalars, scale, bound, kind) for kind in different}
        return Update(update, **rest)

    def _coefficients(self, scalars: Scalars, scale: Any, bound: Any, kind: Kind) -> Coefficients:
        scalars = scalars.map(lambda x: _cast(x, kind.dtype))
        if kind.factor != 1:
            scalars = scalars._replace(learning_rate=scalars.learning_rate * kind.factor)
        if not kind.decays:
            scalars = scalars._replace(weight_decay=None)
        c = coefficients(scalars, bound and _cast(tensor(bound), kind.dtype))
        return c if scale is None else c.scaled(_cast(scale, kind.dtype))

    def _steps(
        self,
        gradients: Iterable[Any],
        variables: Iterable[Any],
        kinds: Iterable[tuple[int, Kind]],
        update: Update,
    ) -> Iterator[Step]:
        """Yields the step of each variable, without those that are frozen."""
        for gradient, variable, (i, kind) in zip(gradients, variables, kinds, strict=True):
            if kind.factor == 0:  # Whatever the gradient; the displacement never leaves zero.
                continue
            c, scale = update.coefficients[kind], None
            if update.scales is not None:
                scale = _cast(update.scales[i], kind.dtype)
                c = c.scaled(scale)
            yield Step(variable, self._displacements[i], gradient, c, update.at_iterate, scale)

    def _make_stateless(self, grads: Any, variables: Any, update: Update) -> None:
        """Makes an update of all variables, none of them in place."""
        steps = [*self._steps(grads, variables, self._kinds(variables), update)]
        restart = None
        if self.restart is not None:
            products = kernels.restart_products(self.restart, steps)
            restart = self._restarts_now(products, update.momentum, update.at_iterate)
            for s in self._without_update(variables):
                s.assign(keras.ops.where(restart, keras.ops.zeros_like(tensor(s)), tensor(s)))
            steps = [
                step._replace(coefficients=step.coefficients.restarted(restart)) for step in steps
            ]
        kernels.update_stateless(steps)
        self._count(update.at_iterate, restart, update.norm)

    def _make_in_place(self, grads: Any, variables: Any, update: Update) -> None:
        """Makes an update of all variables at once."""
        steps = [*self._steps(grads, variables, self._kinds(variables), update)]
        products = kernels.update(steps, self._lazy, self.restart)
        self._settle(products, update, variables, lambda: kernels.restart(steps, self._lazy))

    def _make_one(self, variable: Any, gradient: Any, update: Update) -> Any:
        """Makes the update of one variable in place; returns what may decide about a restart."""
        steps = [*self._steps([gradient], [variable], self._kinds([variable]), update)]
        products = kernels.update(steps, self._lazy, self.restart)
        if self.restart is None:
            return None
        return products or keras.ops.zeros((), "float32")  # The latter if it is frozen.

    def _restart_one(self, variable: Any, gradient: Any, update: Update) -> None:
        """Restarts one variable, behind its update."""
        steps = self._steps([gradient], [variable], self._kinds([variable]), update)
        kernels.restart([*steps], self._lazy)

    def _settle(
        self, products: Sequence[Any], update: Update, variables: Any, undo: Callable[[], Any]
    ) -> None:
        """Restarts behind an update of variables in place, if it is to be, and counts it."""

        def begin_anew() -> None:
            undo()
            for s in self._without_update(variables):
                self.assign(s, keras.ops.zeros(s.shape, s.dtype))

        restart = None
        if self.restart is not None:
            # A pass of its own to find out before would cost more than to look at what is in the
            # cache, and to undo, once in a long while, what was added.
            restart = self._restarts_now(products, update.momentum, update.at_iterate)
            keras.ops.cond(restart, begin_anew, lambda: None)
        self._count(update.at_iterate, restart, update.norm)

    def _clipped(self, grads: Any) -> Clipping:
        return clipped(
            grads,
            clipnorm=self.clipnorm,
            global_clipnorm=self.global_clipnorm,
            clipvalue=self.clipvalue,
            needs_norm=self._tracks_gradient_norm,
            needs_finite=self.skip_nonfinite,
        )

    # Keras' private surface. `tests/docs/test_layout.py` lists it and holds it to the
    # supported versions.

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        # The one place that Keras comes through once per update, after accumulation, on every
        # backend: here the scalars are read and the age advances, not per variable.
        kinds = self._kinds(trainable_variables)
        clipping = self._clipped(grads)
        grads = self._rows.at_their_places(clipping.gradients, trainable_variables)
        # Where the variables hold the iterate, by mistake, the gradient is of no use.
        in_place = kernels.IN_PLACE and not stateless()
        read = (kernels.read if in_place else None) or tensor
        at_iterate = _cast(read(self._points.flag), "bool")
        scalars, scales = self._scalars(learning_rate).map(read), clipping.scales
        update = self._update(
            scalars.where(at_iterate, TO_LOOK_AHEAD),
            kinds,
            scale=clipping.scale,
            bound=clipping.bound,
            scales=scales and {i: x for (i, _), x in zip(kinds, scales, strict=True)},
            at_iterate=at_iterate,
            momentum=scalars.momentum,
            norm=clipping.norm if self._tracks_gradient_norm else None,
            finite=clipping.finite,
        )
        if kernels.ONE_BY_ONE and in_place:
            # The base class carries its third argument to `_distributed_tf_update_step` as it is,
            # through the replicas of a distribution strategy too; so all that is common travels
            # there.
            super()._backend_update_step(grads, trainable_variables, update)
            return

        if not in_place:
            make = partial(self._make_stateless, grads, trainable_variables, update)
        else:
            make = partial(self._make_in_place, grads, trainable_variables, update)
        if not self.skip_nonfinite:
            make()
        elif in_place:
            keras.ops.cond(update.finite, make, self._count_skipped)
        else:
            self._unless_skipped(update.finite, make, trainable_variables)

    def _clip_gradients(self, grads: Any) -> Any:
        # Done within the update, too, where the clipped gradients are no tensors of their own.
        return grads

    def _apply_weight_decay(self, variables: Any) -> None:
        # Done within the update rule instead, where it costs no pass and no rounding of its own.
        pass


def _cast(x: Any, dtype: str) -> Any:
    # A number, known where nothing is compiled, is taken for one of whatever dtype.
    return x if isinstance(x, (int, float)) else keras.ops.cast(x, dtype)
