"""The optimizer class: its arguments, its wiring and its properties."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import keras
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras import keras_private as private
from nagd_keras.arguments import REAL_DTYPES, RealDtype, boolean, choice, count, optional
from nagd_keras.backends.current import current
from nagd_keras.directions.direction import Direction
from nagd_keras.directions.gradient import Gradient
from nagd_keras.directions.named import DirectionName, named_direction
from nagd_keras.engine.averages import overwrite
from nagd_keras.engine.gradients import check_complex, check_gradients, check_lazy
from nagd_keras.engine.pipeline import Pipeline
from nagd_keras.hyperparameters import Hyperparameter, declared, value_dtype
from nagd_keras.multipliers import check_found, checked_multipliers, matched
from nagd_keras.rules.restart import SCHEMES, Scheme
from nagd_keras.scalar import Scalar
from nagd_keras.state import checkpoint, loading
from nagd_keras.state.live import GivenAs, Hyperparameters
from nagd_keras.state.matching import paths_of
from nagd_keras.state.scalars import Scalars
from nagd_keras.state.slots import DISPLACEMENT
from nagd_keras.state.state import State
from nagd_keras.tensors import computed_in, is_symbolic, number

Number: TypeAlias = float | LearningRateSchedule | Callable[[], Any]
SparseUpdates: TypeAlias = Literal["dense", "lazy"]


@keras.saving.register_keras_serializable(package="nagd_keras")
class NAGD(keras.optimizers.Optimizer):
    r"""Nesterov accelerated gradient descent, exact for any learning-rate and momentum sequence.

    With iterate $\theta$, velocity $v$, `momentum` $\mu_t$ and `learning_rate` $\varepsilon_t$,

    $$v_{t+1} = \mu_t v_t - \varepsilon_t \nabla f(\theta_t + \mu_t v_t), \qquad
      \theta_{t+1} = \theta_t + v_{t+1}.$$

    The model's variables hold the look-ahead point $w_t = \theta_t + \mu_t v_t$, where Keras takes
    the gradient $g_t$. The one slot of each variable holds the displacement
    $s_t = \mu_t v_t = w_t - \theta_t$, and update $t$ is

    $$s_{t+1} = \mu_{t+1} (s_t - \varepsilon_t g_t), \qquad
      w_{t+1} = w_t - \varepsilon_t g_t + s_{t+1}.$$

    An update uses the momentum that was set before it. With constant momentum this is
    `keras.optimizers.SGD(momentum=..., nesterov=True)`; `NAGD()` equals
    `keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)`. With momentum 0 it is gradient
    descent, and you can still raise the momentum later.

    Args:
        learning_rate: $\varepsilon$, in $[0, \infty)$: a number, a
            `keras.optimizers.schedules.LearningRateSchedule`, a callable without arguments, or None
            for the direction's own. Like Keras, NAGD reads a schedule at the number of finished
            batches, and counts accumulated ones.
        momentum: $\mu$, in $[0, 1)$: a number, a schedule, a callable without arguments, or None
            for the direction's own. NAGD reads a schedule at `age + 1`, so that
            $\mu_t$ = `momentum(t)`. It calls a callable when a step is compiled. On TensorFlow the
            step follows a variable that the callable returns; it freezes a Python number, and on
            JAX it freezes anything. A compiled step does not check the range of what schedules and
            callables give.
        direction: what a step goes along: "gradient", "adaptive", "orthogonal", or an object of
            `nagd_keras.directions`.
        restart: when an update resets the momentum, over all variables together. None: never.
            "gradient": when the displacement leads uphill, $\langle g_t, s_{t+1} \rangle > 0$,
            whatever the direction. "speed": when the iterate slows down,
            $\|v_{t+1}\| < \|v_t\|$, from the tenth update since the last restart on. A restart
            makes $s_{t+1} = 0$ and the age 0, so a momentum schedule starts anew. For gradients
            without noise: with `schedules.NesterovMomentum()` it finds the rate of the best
            momentum without knowing the condition number.
        skip_nonfinite: whether to skip an update whose gradients hold a NaN or an infinity. A
            skipped update changes only the counters `iterations` and `skipped_updates`. With
            accumulation it drops the batches that it would have used. Gradients also count as
            infinite if their sum over a variable overflows, or a norm that clipping needs.
        sparse_updates: how to update a variable whose gradient names only some of its rows, as an
            embedding's does on TensorFlow. "dense": the exact method, in which every row that has a
            displacement keeps moving. "lazy": only the rows that the batch looked up move and
            decay, so a step costs what the batch costs, not what the table costs. "lazy" is another
            method. It needs TensorFlow, and excludes `gradient_accumulation_steps`,
            `restart="speed"`, and, along another direction than the gradient, any `restart`.
        slot_dtype: the dtype of the displacements, or None for that of each variable. "bfloat16"
            halves their memory. Each update is computed in float32 at least and rounded once.
            16 bits lose small changes: a displacement stops shrinking where the momentum is above
            $1 - 2^{-9}$ in bfloat16, or $1 - 2^{-12}$ in float16.
        learning_rate_multipliers: None, or {regular expression: factor}, with factors in
            $[0, \infty)$. The first expression that `re.search` finds in a variable's `path` gives
            the factor of its learning rate; without a match it is 1. A factor of 0 freezes the
            variable. Clipping comes first and sees all gradients as they are; constraints still
            apply.
        weight_decay: $\lambda$, in $[0, \infty)$: None, a number, a schedule (read as the learning
            rate's is) or a callable. It is decoupled: $w \leftarrow w - \varepsilon\lambda w$
            before the update, and never enters the displacement. Pass 0.0 to raise it later.
        clipnorm: the largest L2 norm of each variable's gradient. Keras defines and checks this
            argument and those that follow.
        clipvalue: the largest absolute value of a gradient's elements.
        global_clipnorm: the largest L2 norm of all gradients together. Set at most one of the three
            clippings.
        use_ema: whether to keep an exponential moving average of the variables. `fit` writes it
            into the model at its end.
        ema_momentum: the factor of the old average, in [0, 1].
        ema_overwrite_frequency: None, or the number of updates after which the average overwrites
            the variables.
        loss_scale_factor: None, or the factor by which `scale_loss` multiplies the loss and NAGD
            divides the gradients.
        gradient_accumulation_steps: None, or the number (at least 2) of batches whose mean
            gradient makes one update.
        name: the name of the optimizer.

    `learning_rate`, `momentum` and `weight_decay` are properties. You can set those that were given
    as numbers while training: the next update uses the new value, without a new trace. They take
    the present value of a variable or a tensor. If the learning rate follows a schedule, setting it
    to a lower value scales the schedule from now on, so that it has that value now. This is how
    `keras.callbacks.ReduceLROnPlateau` works with schedules. NAGD refuses a higher value, which
    would be meant as the number itself; use `scale_learning_rate`.

    Attributes:
        tracks_gradient_norm: whether to keep `gradient_norm`. It starts as False, since the norm
            costs a pass over the gradients. A compiled step keeps to the value that it found: set
            this before, or compile the step again with `model.make_train_function(force=True)`, as
            the callbacks that need the norm do.

    Raises:
        TypeError: for a hyperparameter of another kind.
        ValueError: for a hyperparameter out of its range, a schedule whose value is not a scalar,
            or more than one clipping.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from nagd_keras import NAGD
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(learning_rate=0.1, momentum=0.9), loss="mse")
        >>> history = model.fit(np.eye(2), np.array([[1.0], [2.0]]), epochs=2, verbose=0)
        >>> model.optimizer.momentum = 0.95
        >>> int(model.optimizer.age)
        2

    References:
        - Nesterov (1983), A method for solving the convex programming problem with convergence
          rate O(1/k^2).
        - Sutskever, Martens, Dahl & Hinton (2013), On the importance of initialization and
          momentum in deep learning, equations 3 and 4.
    """

    learning_rate = Hyperparameter(scaled=True)
    momentum = Hyperparameter(supremum=1.0, clock="age")
    weight_decay = Hyperparameter(optional=True)

    def __init__(
        self,
        learning_rate: Number | None = None,
        momentum: Number | None = None,
        *,
        direction: DirectionName | Direction = "gradient",
        restart: Scheme | None = None,
        skip_nonfinite: bool = False,
        sparse_updates: SparseUpdates = "dense",
        slot_dtype: RealDtype | None = None,
        learning_rate_multipliers: Mapping[str, float] | None = None,
        weight_decay: Number | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "nagd",
    ) -> None:
        # All checks come before the base class makes the first variable.
        direction = named_direction(direction)
        given = {
            "learning_rate": direction.learning_rate if learning_rate is None else learning_rate,
            "momentum": direction.momentum if momentum is None else momentum,
            "weight_decay": weight_decay,
        }
        kinds = declared(type(self))
        given = {name: kind.checked(given.get(name, kind.default)) for name, kind in kinds.items()}
        learning_rate_multipliers = checked_multipliers(learning_rate_multipliers)
        choice("slot_dtype", slot_dtype, (*REAL_DTYPES, None))
        choice("sparse_updates", sparse_updates, get_args(SparseUpdates))
        choice("restart", restart, (*SCHEMES, None))
        boolean("skip_nonfinite", skip_nonfinite)
        gradient_accumulation_steps = optional(
            count, "gradient_accumulation_steps", gradient_accumulation_steps, least=2
        )
        if sparse_updates == "lazy":
            check_lazy(gradient_accumulation_steps, restart, type(direction) is not Gradient)
        super().__init__(
            # A callable keeps the base class from making a variable of its own, of 16 bits perhaps.
            learning_rate=float,
            weight_decay=None,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self._direction, self._restart, self._skip = direction, restart, skip_nonfinite
        self._lazy, self._slot_dtype = sparse_updates == "lazy", slot_dtype
        self._multipliers = learning_rate_multipliers
        self.tracks_gradient_norm = False
        scalars = Scalars(value_dtype())
        for counter in ("age", "updates", "restarts", "skipped_updates"):
            scalars.count(counter)
        self._state = State(self, scalars, Hyperparameters(self, kinds, given, scalars))
        scalars.number("gradient_norm", -1.0)  # which stands for one that is not known
        scalars.number("velocity_norm", 0.0)  # likewise
        scalars.make(self.add_variable)
        self._names_in_checkpoint = current.in_checkpoints(
            partial(checkpoint.note, self._state), partial(checkpoint.read_note, self._state)
        )
        self._pipeline = Pipeline(
            self, self._state, direction, restart=restart, skip=skip_nonfinite, lazy=self._lazy
        )

    # Keras' protocol

    def build(self, variables: Iterable[Any]) -> None:
        """Creates the slots of each of the model's variables, zero at first.

        If a state was loaded before, it fills them.

        Raises:
            ValueError: if a pattern of `learning_rate_multipliers` matches no variable, if the
                loaded state belongs to other variables, if a variable has another `tf.distribute`
                strategy than the optimizer, or if one is complex and `clipvalue` or `slot_dtype` is
                set.
        """
        variables = self._state.natives.as_keras(variables)
        # Keras builds the optimizer for no variables at all where it loads its older format.
        if self.built or not variables:
            return
        current.check_scope(private.strategy(self), variables)
        other = None if type(self._direction) is Gradient else self._direction
        given = {"clipvalue": self.clipvalue, "slot_dtype": self._slot_dtype, "direction": other}
        check_complex(variables, **given)
        if not self._state.from_config:
            check_found(self._multipliers, variables)
            self._direction.check(paths_of(variables))
        self._state.factors = matched(self._multipliers, variables)
        made = private.all_variables(self)
        before = len(made)
        self.built: bool
        try:
            self._state.natives.settle(variables)
            super().build(variables)  # which makes those of averages and accumulation
            shapes = [tuple(variable.shape) for variable in variables]
            directions = self._direction.for_variables(paths_of(variables), shapes)
            for variable, direction in zip(variables, directions, strict=True):
                # Keras overwrites some variables with their "gradients"; these take no update.
                if not variable.overwrite_with_gradient:
                    self._add_slots(variable, direction)
            self._state.slots.settle(variables)
            self._pipeline.settle(variables, directions)
            loading.load_pending(self._state)
        except BaseException:
            # So that the next step says what is wrong, or mends it.
            self.built = False
            del made[before:]
            self._state.slots.clear()
            raise

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Adds a slot of a variable, as large as this; see `keras.optimizers.Optimizer`.

        It is saved, matched and loaded by its name, like NAGD's own slots. A derived class adds its
        slots before it calls `super().build`, which loads a state that waits.
        """
        return self._add_slot(reference_variable, name or "var", initializer)

    def _add_slots(self, variable: Any, direction: Direction) -> None:
        """Adds the displacement, and what a direction remembers, in 32 bits at least."""
        wide = computed_in(variable, variable)
        for kind in direction.slots:
            shape = direction.slot_shape(kind, tuple(variable.shape))
            self._add_slot(variable, kind, dtype=wide, shape=shape)
        self._add_slot(variable, DISPLACEMENT, dtype=self._slot_dtype)

    def _add_slot(
        self,
        variable: Any,
        kind: str,
        initializer: Any = "zeros",
        dtype: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Any:
        (variable,) = self._state.natives.as_keras([variable])
        same = shape in (None, tuple(variable.shape))
        path = variable.path.replace("/", "_").replace(":", "_")
        with current.beside(variable):
            slot = self.add_variable(
                shape=variable.shape if same else shape,
                initializer=initializer,
                dtype=dtype or variable.dtype,
                layout=private.layout(variable) if same else None,
                name=f"{path}_{kind}",
            )
        self._state.slots.add(kind, variable, slot, initializer)
        return slot

    @current.unconverted
    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None) -> None:
        """Makes one update, or accumulates, from one gradient (or None) for each variable.

        Variables that hold the iterate (see `swap_to_iterate`) go back to the look-ahead point
        first.

        Args:
            grads: the gradients at the model's variables, of the variables' shapes.
            trainable_variables: the variables; those of `build` if None.

        Raises:
            ValueError: if a gradient's shape is not its variable's, if all gradients are None, or
                if the optimizer was not built for a variable. Nothing is updated.
        """
        current.check_in_replica(self.built)
        gradients = list(grads)
        if not gradients:
            return
        if trainable_variables is not None:
            trainable_variables = self._state.natives.as_keras(trainable_variables)
        with keras.name_scope(self.name):
            if trainable_variables is None:
                if not self.built:
                    raise ValueError(
                        "When gradients are passed without variables, the optimizer must already "
                        "be built. Call optimizer.build(model.trainable_variables) first, or pass "
                        "them."
                    )
                trainable_variables = self._state.trained
            variables = list(trainable_variables)
            check_gradients(gradients, variables)
            self.build(variables)
            private.check_known(self, variables)
            loading.settle(self._state)
            if self._state.from_config:
                # Seen now if no state came that says which variables the multipliers are for.
                if not self._state.knows_factors:
                    check_found(self._multipliers, self._state.trained)
                self._state.from_config = False
            if self.at_iterate:
                self._go_back()
            self._pipeline.apply(gradients, variables)

    @current.unconverted
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its displacement.

        It decides nothing about all variables: it neither restarts, nor skips, nor clips.

        Args:
            gradient: the gradient at the variable.
            variable: one of the variables that the optimizer was built for.
            learning_rate: the learning rate. Momentum and weight decay are the present ones.

        Raises:
            ValueError: in one of several replicas, where the gradient is not summed yet.
        """
        if current.several_replicas():
            raise ValueError(
                "One of several replicas was to update a variable with its share of the gradient, "
                "which is not summed yet. Call optimizer.apply with the gradients of all variables."
            )
        (variable,) = self._state.natives.as_keras([variable])
        self._pipeline.update_one(gradient, variable, learning_rate)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Excludes variables, or those whose names hold a text, from weight decay.

        See `keras.optimizers.Optimizer`.
        """
        if var_list:
            var_list = self._state.natives.as_keras(var_list)
        super().exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Leaves the iterate, and writes the averages, if there are any, into the variables.

        `fit` calls this at its end.
        """
        # A fit on JAX that failed has taken the values out of the variables.
        if all(private.raw_value(variable) is not None for variable in self._state.trained):
            self.swap_to_lookahead()
        if self.use_ema:
            overwrite(self._state, self._state.natives.as_keras(var_list))

    @property
    def variables(self) -> list[keras.Variable]:
        """The optimizer's variables: numbers first, then the slots, one kind after the other.

        To begin anew, call `reset_momentum`. If you set them to zero instead, leave out the
        variable with "learning_rate" in its name, which holds all settings.
        """
        return self._state.variables()

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a store of Keras' saving."""
        loading.settle(self._state)
        self._state.saved().write(store)

    def load_own_variables(self, store: Any) -> None:
        """Reads the state that `save_own_variables` wrote; see `state/loading.py`."""
        loading.load(self._state, store)

    def set_weights(self, weights: Any) -> None:
        """Sets all variables of the optimizer, in the order of `variables`.

        Keras' older format loads this way. If the optimizer is not built yet, building it sets the
        slots.

        Raises:
            ValueError: if the number or the shapes do not fit. Nothing changes then.
        """
        loading.set_in_order(self._state, weights)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs, with live numbers as they are now.

        The factor by which a schedule was scaled belongs to the state, not to the config.

        Raises:
            ValueError: for a schedule or a callable that Keras could not load again.
        """
        # First, as it refuses what cannot be loaded again, of which Keras' own only warns.
        values = self._state.hyperparameters.config()
        values = {name: value for name, value in values.items() if value is not None}
        direction = keras.saving.serialize_keras_object(self._direction)
        return {**super().get_config(), **values, "direction": direction, **self._settings()}

    def _settings(self) -> dict[str, Any]:
        return {
            "restart": self.restart,
            "skip_nonfinite": self.skip_nonfinite,
            "sparse_updates": "lazy" if self._lazy else "dense",
            "slot_dtype": self._slot_dtype,
            "learning_rate_multipliers": self.learning_rate_multipliers,
        }

    def __repr__(self) -> str:
        """Returns the call that makes it, without the settings that are as by default."""
        shown = self._state.hyperparameters.shown()
        if type(self._direction) is not Gradient:
            shown["direction"] = repr(self._direction)
        settings = self._settings()
        for name, argument in inspect.signature(NAGD).parameters.items():
            if name not in (*self._state.hyperparameters.kinds, "direction"):
                value = settings.get(name, getattr(self, name, argument.default))
                if value != argument.default:
                    shown[name] = repr(value)
        listed = ", ".join(f"{name}={text}" for name, text in shown.items())
        return f"{type(self).__name__}({listed})"

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "NAGD":
        """Makes an optimizer, without state, from what `get_config` returned."""
        nested = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in (*declared(cls), "direction")
            if isinstance(config.get(name), dict)
        }
        optimizer = cls(**{**config, **nested})
        optimizer._state.from_config = True
        return optimizer

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), Hyperparameter):
            # Keras and TensorFlow adopt any variable that is assigned to an attribute into the
            # optimizer's saved state; `optimizer.momentum = other.momentum` means the value.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # What it is doing

    @property
    def direction(self) -> Direction:
        """The direction of its steps."""
        return self._direction

    @property
    def age(self) -> Scalar:
        """The updates finished since the momentum was last reset, or since the start."""
        return self._state.scalars["age"]

    @property
    def displacements(self) -> list[keras.Variable | None]:
        """The slots s_t = w_t - theta_t, in the order of the variables that `build` was given.

        The iterate of a variable is the variable minus its displacement. A variable that takes no
        update (`overwrite_with_gradient`) has None.
        """
        return list(self._state.slots[DISPLACEMENT])

    @property
    def restart(self) -> Scheme | None:
        """The scheme of adaptive restart, or None."""
        return self._restart

    @property
    def learning_rate_multipliers(self) -> dict[str, float] | None:
        """The factors of learning rates by regular expressions, or None."""
        return checked_multipliers(self._multipliers)

    @property
    def restarts(self) -> Scalar:
        """The number of times that the momentum was reset."""
        return self._state.scalars["restarts"]

    @property
    def skip_nonfinite(self) -> bool:
        """Whether to skip updates whose gradients hold a NaN or an infinity."""
        return self._skip

    @property
    def skipped_updates(self) -> Scalar:
        """The number of updates that were skipped."""
        return self._state.scalars["skipped_updates"]

    def reset_momentum(self) -> None:
        """Restarts the method where it stands: sets displacements and age to zero."""
        self._state.check_not_pending()
        for displacement in self.displacements:
            if displacement is not None:
                displacement.assign(keras.ops.zeros(displacement.shape, displacement.dtype))
        self.age.assign(0)
        self.restarts.assign_add(1)
        self._state.points.forget()  # Without displacements the two points are one.

    @property
    def at_iterate(self) -> bool:
        """Whether the model's variables hold the iterate, after `swap_to_iterate`."""
        return self._state.points.at_iterate

    def swap_to_iterate(self) -> None:
        """Makes the model's variables hold the iterate theta_t = w_t - s_t, for an evaluation.

        Does nothing if they already hold it. Call `swap_to_lookahead` before training goes on: a
        compiled step cannot see where the variables are. The saved optimizer knows which point the
        variables hold; Keras' own files also keep the bits of the look-ahead point.
        """
        self._state.swap(to_iterate=True)

    def swap_to_lookahead(self) -> None:
        """Makes the model's variables hold the look-ahead point w_t again, from which they train.

        Gives back the bits that `swap_to_iterate` found. Variables that changed meanwhile become
        theta_t + s_t. Does nothing if the variables already hold the look-ahead point.

        Raises:
            ValueError: if the loaded state was saved at the iterate, and the optimizer does not
                know the variables yet.
        """
        if self.at_iterate:
            self._state.swap(to_iterate=False)

    def _go_back(self) -> None:
        """Leaves the iterate where an update begins, or a step is compiled."""
        if not current.can_lift():
            raise ValueError(
                "The variables hold the iterate, which a compiled step cannot leave here. Call "
                "optimizer.swap_to_lookahead() before training, or train with the callback "
                "EvaluateAtIterate, which does."
            )
        with current.lifted():
            self.swap_to_lookahead()

    @property
    def gradient_norm(self) -> float | Any:
        """The L2 norm of the last tracked update's gradient before clipping, or NaN.

        Within a compiled step -1 stands for the NaN, at which a debugger would stop.
        """
        norm = self._state.scalars["gradient_norm"].value
        return norm if is_symbolic(norm) or number(norm) >= 0 else math.nan

    def given_as(self, name: str) -> GivenAs:
        """Returns what a hyperparameter is: "number", "schedule", "callable" or "None"."""
        return self._state.hyperparameters.given_as(name)

    @property
    def learning_rate_scale(self) -> Scalar | None:
        """What `scale_learning_rate` multiplies: the number, or the factor of a schedule.

        None if a callable gives the learning rate.
        """
        return self._state.hyperparameters.scale_of("learning_rate")

    def scale_learning_rate(self, factor: float) -> None:
        """Multiplies the learning rate; if it follows a schedule, that of all steps to come.

        This works where a schedule is 0. Setting the learning rate does not: it takes the ratio to
        what the schedule gives now.

        Raises:
            TypeError: if a callable gives the learning rate, or the factor is not a number.
            ValueError: if the result is out of range.
        """
        self._state.hyperparameters.scale("learning_rate", factor)
