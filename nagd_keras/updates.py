"""How gradients become an update: what is common to all variables, then a step for each."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from nagd_keras.backends import several_replicas, stateless
from nagd_keras.clipping import Clipping, clipped
from nagd_keras.gradients import Rows, check_gradients
from nagd_keras.kernels import backend as kernels
from nagd_keras.live import LiveHyperparameters
from nagd_keras.multipliers import check_found
from nagd_keras.points import Points
from nagd_keras.step import Kind, Step, Update
from nagd_keras.tensors import dense, tensor
from nagd_keras.update_rule import TO_LOOK_AHEAD, Coefficients, Scalars, coefficients


class Updates(LiveHyperparameters):
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
    _points: Points
    _gradient_norm: Any
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
            grads = [self._received(g, v) for g, v in zip(grads, variables, strict=True)]
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._rows.forget()

    def _received(self, gradient: Any, variable: Any) -> Any:
        """Returns a gradient as a tensor, or the values of its rows if the update can use these."""
        if kernels.is_dense(gradient):
            return gradient
        keeps_rows = not (
            self.gradient_accumulation_steps
            or getattr(variable, "overwrite_with_gradient", False)
            or (several_replicas() and not self._lazy)
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
                with the present momentum and weight decay.
        """
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
            c = update.coefficients[kind]
            if update.scales is not None:
                c = c.scaled(_cast(update.scales[i], kind.dtype))
            yield Step(variable, self._displacements[i], gradient, c, update.at_iterate)

    # Keras' private surface. `tests/test_layout.py` lists it and holds it to the
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
        in_place = not stateless()
        read = (kernels.read if in_place else None) or tensor
        flag = read(self._points.flag)
        at_iterate = _cast(flag, "bool")
        scales = clipping.scales
        update = self._update(
            self._scalars(learning_rate).map(read).where(at_iterate, TO_LOOK_AHEAD),
            kinds,
            scale=clipping.scale,
            bound=clipping.bound,
            scales=scales and {i: x for (i, _), x in zip(kinds, scales, strict=True)},
            at_iterate=at_iterate,
        )
        if kernels.ONE_BY_ONE:
            # The base class carries its third argument to `update_step` as it is, through the
            # replicas of a distribution strategy too; so all that is common travels there.
            super()._backend_update_step(grads, trainable_variables, update)
        else:
            make = kernels.update if in_place else kernels.update_stateless
            make([*self._steps(grads, trainable_variables, kinds, update)], self._lazy)
        self.assign_add(self._age, 1 - flag)
        if not isinstance(flag, int) or flag:
            self.assign(self._points.flag, 0)

    def _clipped(self, grads: Any) -> Clipping:
        clipping = clipped(
            grads,
            clipnorm=self.clipnorm,
            global_clipnorm=self.global_clipnorm,
            clipvalue=self.clipvalue,
            # Replicas clip before they add up their gradients, as in Keras.
            at_once=several_replicas(),
            needs_norm=self._tracks_gradient_norm,
        )
        if self._tracks_gradient_norm:
            self._gradient_norm.assign(keras.ops.cast(clipping.norm, "float32"))
        return clipping

    def _clip_gradients(self, grads: Any) -> Any:
        # Done within the update, too, where the clipped gradients are no tensors of their own.
        return grads

    def _apply_weight_decay(self, variables: Any) -> None:
        # Done within the update rule instead, where it costs no pass and no rounding of its own.
        pass


def _cast(x: Any, dtype: str) -> Any:
    # A number, known where nothing is compiled, is taken for one of whatever dtype.
    return x if isinstance(x, (int, float)) else keras.ops.cast(x, dtype)
