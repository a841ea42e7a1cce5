"""The optimizer class: its state, its configuration and its properties."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Never, TypeAlias

import keras
from keras.optimizers.schedules import LearningRateSchedule

from nagd_keras.arguments import choice
from nagd_keras.arguments import slot_dtype as checked_slot_dtype
from nagd_keras.backends import check_scope, track_in_checkpoints
from nagd_keras.gradients import Rows
from nagd_keras.hyperparameters import (
    LEARNING_RATE,
    MOMENTUM,
    WEIGHT_DECAY,
    deserialized,
    value_dtype,
)
from nagd_keras.kernels import backend as kernels
from nagd_keras.live import SETTABLE, LiveHyperparameters
from nagd_keras.multipliers import check_found, checked_multipliers, matched
from nagd_keras.persistence import NamedState
from nagd_keras.points import Points
from nagd_keras.replicas import Replicas
from nagd_keras.restart import SCHEMES, SPEED
from nagd_keras.tensors import computed_in, number, tensor

CALLBACK_NUMBERS = 8  # room for what `callbacks/state.py` lists
Number: TypeAlias = float | LearningRateSchedule | Callable[[], Any]


@keras.saving.register_keras_serializable(package="nagd_keras")
class NAGD(Replicas, NamedState, LiveHyperparameters):
    r"""Nesterov accelerated gradient descent, exact for any learning-rate and momentum sequence.

    With iterate $\theta$, velocity $v$, `momentum` $\mu_t$ and `learning_rate` $\varepsilon_t$,

    $$v_{t+1} = \mu_t v_t - \varepsilon_t \nabla f(\theta_t + \mu_t v_t), \qquad
      \theta_{t+1} = \theta_t + v_{t+1}.$$

    The model's variables hold the look-ahead point $w_t = \theta_t + \mu_t v_t$, where Keras takes
    the gradient $g_t$. The one slot of each variable holds the displacement
    $s_t = \mu_t v_t = w_t - \theta_t$, and update $t$ is

    $$s_{t+1} = \mu_{t+1} (s_t - \varepsilon_t g_t), \qquad
      w_{t+1} = w_t - \varepsilon_t g_t + s_{t+1}.$$

    A momentum that is set before an update is used in that update. With constant momentum this
    is `keras.optimizers.SGD(momentum=..., nesterov=True)`; `NAGD()` equals
    `keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)`. With momentum 0 it is gradient
    descent, and the momentum can still be raised later.

    Args:
        learning_rate: $\varepsilon$, in $[0, \infty)$: a number, a
            `keras.optimizers.schedules.LearningRateSchedule` (read, as Keras reads it, at the
            number of finished batches, accumulated ones included), or a callable without
            arguments.
        momentum: $\mu$, in $[0, 1)$: a number, a schedule (read at `age + 1`, so that
            $\mu_t$ = `momentum(t)`), or a callable without arguments. A callable is called when
            a step is compiled: on TensorFlow a variable that it returns is followed, a Python
            number (and on JAX, anything) is frozen. In a compiled step what schedules and
            callables give is not checked against the range.
        weight_decay: $\lambda$, in $[0, \infty)$: None, or a number, a schedule (read as the
            learning rate's is) or a callable. Decoupled: $w \leftarrow w - \varepsilon\lambda w$
            before the update; it never enters the displacement. Pass 0.0 to raise it later.
        restart: None, or the scheme by which the momentum is reset within an update, over all
            variables together: "gradient" where the displacement leads uphill,
            $\langle g_t, s_{t+1} \rangle > 0$, or "speed" where the iterate slows down,
            $\|v_{t+1}\| < \|v_t\|$, from the tenth update since the last restart on. A restart
            makes $s_{t+1} = 0$, and the age 0, so that a momentum schedule starts anew. For
            gradients without noise: with `schedules.NesterovMomentum()` it finds the rate of the
            best momentum without knowing the condition number.
        skip_nonfinite: whether an update whose gradients hold a NaN or an infinity is skipped: it
            changes nothing but the counters `iterations` and `skipped_updates`. With accumulation
            the batches that it would have used are dropped. Gradients of which the sum over a
            variable overflows, or the norm where clipping needs it, count as infinite.
        sparse_updates: what becomes of a variable whose gradient names some of its rows only, as
            that of an embedding does on TensorFlow: "dense", the exact method, in which all rows
            that have a displacement keep moving, or "lazy", in which only the rows that a batch
            looked up take part in its update, so that a step costs what the batch costs, not what
            the table costs. Lazy rows decay, too, only when they are looked up. It is another
            method, on TensorFlow only, and not with `gradient_accumulation_steps`.
        slot_dtype: the dtype of the displacements, such as "bfloat16", which halves their memory,
            or None for that of each variable. Each update is computed in float32 at least and
            rounded once. Small changes are lost in 16 bits: a displacement stops to shrink where
            momentum is above $1 - 2^{-9}$ in bfloat16, or $1 - 2^{-12}$ in float16.
        learning_rate_multipliers: None, or {regular expression: factor}, the factors in
            $[0, \infty)$. The first expression that is found (`re.search`) in a variable's `path`
            gives the factor of its learning rate; the others have 1. With 0 a variable is frozen.
            Clipping comes first, and sees all gradients as they are; constraints still apply.
        clipnorm: the largest L2 norm of each variable's gradient. This argument and those that
            follow are Keras' own, and checked by Keras.
        clipvalue: the largest absolute value of a gradient's elements.
        global_clipnorm: the largest L2 norm of all gradients together. Only one of the three
            clippings can be set.
        use_ema: whether to keep an exponential moving average of the variables, which `fit`
            writes into the model at its end.
        ema_momentum: the factor of the old average, in [0, 1].
        ema_overwrite_frequency: None, or the number of updates after which the variables are
            overwritten by their average.
        loss_scale_factor: None, or the factor that `scale_loss` multiplies the loss by and that
            gradients are divided by.
        gradient_accumulation_steps: None, or the number (at least 2) of batches whose mean
            gradient makes one update.
        name: the name of the optimizer.

    `learning_rate`, `momentum` and `weight_decay` are properties; those given as numbers can be
    set while training, and the next update uses the new value without a new trace. Setting a
    learning rate that follows a schedule scales the schedule, from now on, so that it has that
    value now: thus `keras.callbacks.ReduceLROnPlateau` works with schedules.

    Raises:
        TypeError: for a hyperparameter that is none of the above, or an unknown argument.
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

    _adds_dtype: str | None = None  # of what is added, instead of the one that is asked for

    def __init__(
        self,
        learning_rate: Number = 0.01,
        momentum: Number = 0.9,
        *,
        restart: str | None = None,
        skip_nonfinite: bool = False,
        sparse_updates: str = "dense",
        slot_dtype: str | None = None,
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
        **unknown: Never,
    ) -> None:
        _refuse(unknown)
        # All checks come before the base class makes the first variable.
        learning_rate = LEARNING_RATE.checked(learning_rate)
        momentum = MOMENTUM.checked(momentum)
        if weight_decay is not None:
            weight_decay = WEIGHT_DECAY.checked(weight_decay)
        learning_rate_multipliers = checked_multipliers(learning_rate_multipliers)
        slot_dtype = checked_slot_dtype(slot_dtype)
        choice("sparse_updates", sparse_updates, ("dense", "lazy"))
        if restart is not None:
            choice("restart", restart, SCHEMES, " or None")
        if not isinstance(skip_nonfinite, bool):
            raise TypeError(
                f"`skip_nonfinite` must be True or False. Received: {skip_nonfinite!r}."
            )
        if sparse_updates == "lazy":
            _check_lazy(gradient_accumulation_steps, restart)
        super().__init__(
            # A callable keeps the base class from making its own variable, of 16 bits perhaps.
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
        self._track_hyperparameters(learning_rate, momentum, weight_decay)
        # Updates since the momentum was last reset; advances once per update.
        self._age = self._scalar("age", "int")
        self._restarts = self._scalar("restarts", "int")
        self._points = Points(self._scalar("holds_iterate", "int"))
        self._gradient_norm = self._scalar("gradient_norm", "float32", math.nan)
        self._callback_state = self._numbers(
            (CALLBACK_NUMBERS,), "callback_state", value_dtype(), math.nan
        )
        self._track_decisions(restart, skip_nonfinite)
        self._tracks_gradient_norm = False
        self._lazy = sparse_updates == "lazy"
        self._slot_dtype = slot_dtype
        self._rows = Rows()
        self._multipliers = learning_rate_multipliers
        self._factors: list[float] = []  # of the variables, in their order
        self._dtypes: list[str] = []
        self._displacements: list[Any] = []
        self._names_in_checkpoint = track_in_checkpoints(self)

    # State

    def build(self, variables: Iterable[Any]) -> None:
        """Creates one displacement, zero at first, for each of the model's variables.

        A state that was loaded before now comes into them.

        Raises:
            ValueError: if a pattern of `learning_rate_multipliers` fits none of the variables, if
                the state that was loaded is that of others, or if a variable is of another
                `tf.distribute` strategy than the optimizer.
        """
        variables = list(variables)
        # Keras builds the optimizer for no variables at all where it loads its older format.
        if self.built or not variables:
            return
        check_scope(self, variables)
        if not self._from_config:
            check_found(self._multipliers, variables)
        self._factors = matched(self._multipliers, variables)
        before = len(self._variables)
        self.built: bool
        try:
            super().build(variables)
            self._displacements = [
                # Keras overwrites such a variable with its "gradient"; it takes no update.
                None
                if getattr(variable, "overwrite_with_gradient", False)
                else self._add_displacement(variable)
                for variable in variables
            ]
            self._dtypes = [
                "" if s is None else computed_in(w, s)
                for w, s in zip(variables, self._displacements, strict=True)
            ]
            self._load_waiting()
        except BaseException:
            # So that the next step says what is wrong, or mends it.
            self.built = False
            del self._variables[before:]
            self._displacements = []
            raise

    def _add_displacement(self, variable: Any) -> Any:
        self._adds_dtype = self._slot_dtype
        try:
            return self.add_variable_from_reference(variable, name="displacement")
        finally:
            self._adds_dtype = None

    def add_variable(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a variable to the optimizer; see `keras.optimizers.Optimizer.add_variable`."""
        # What is added for another variable has the dtype of that one; slots may have their own.
        if self._adds_dtype is not None:
            kwargs["dtype"] = self._adds_dtype
        return super().add_variable(*args, **kwargs)

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Adds a variable as large as another; see `keras.optimizers.Optimizer`.

        On JAX it lies on the devices as the other one does.
        """
        variable = super().add_variable_from_reference(reference_variable, name, initializer)
        layout = getattr(reference_variable, "_layout", None)
        # Keras 3.8 looks in the layout map for the slot's own path, which has other separators.
        if layout is not None and getattr(variable, "_layout", layout) != layout:
            variable._layout = layout
            start = keras.initializers.get(initializer)
            variable.assign(start(variable.shape, variable.dtype))
        return variable

    @property
    def age(self) -> Any:
        """The updates finished since the momentum was last reset, or since the start."""
        return self._age

    @property
    def displacements(self) -> list[Any]:
        """The slots s_t = w_t - theta_t, in the order of the variables that `build` was given.

        The iterate of a variable is the variable minus its displacement. None stands for a
        variable that takes no update (`overwrite_with_gradient`).
        """
        return list(self._displacements)

    def reset_momentum(self) -> None:
        """Restarts the method where it stands: displacements and age become zero."""
        for displacement in self._displacements:
            if displacement is not None:
                displacement.assign(keras.ops.zeros(displacement.shape, displacement.dtype))
        self._age.assign(0)
        self._restarts.assign_add(1)
        self._points.forget()  # Without displacements the two points are one.

    @property
    def at_iterate(self) -> bool:
        """Whether the model's variables hold the iterate, after `swap_to_iterate`."""
        return bool(number(self._points.flag))

    def swap_to_iterate(self) -> None:
        """Makes the model's variables hold the iterate theta_t = w_t - s_t, to be evaluated.

        Does nothing if they hold it. The way back is `swap_to_lookahead`; without it, the next
        update goes back instead of using its gradient. Which point the variables hold is saved with
        the optimizer, and so are the bits of the look-ahead point in Keras' own files.
        """
        self._points.to_iterate(self._trainable_variables, self._displacements)

    def swap_to_lookahead(self) -> None:
        """Makes the model's variables hold the look-ahead point w_t again, from which they train.

        Gives the bits back that `swap_to_iterate` found; variables that were changed meanwhile
        become theta_t + s_t. Does nothing if the variables hold the look-ahead point.

        Raises:
            ValueError: if a state that was saved at the iterate was loaded, and the optimizer does
                not know the variables yet.
        """
        if not self.built and self.waits and self.at_iterate:
            raise ValueError(
                "The optimizer's state was saved while the variables held the iterate, and loaded "
                "before the optimizer was built. Call optimizer.build(model.trainable_variables) "
                "first, so that it knows the variables."
            )
        self._points.to_look_ahead(self._trainable_variables, self._displacements)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Writes the moving averages, if there are some, into the variables; `fit` ends with it."""
        super().finalize_variable_values(var_list)
        if self.use_ema and keras.backend.backend() == "jax":
            # Keras lets a variable and its average share their memory, which the next step would
            # then give away twice: JAX refuses that, and the model's values are lost.
            for variable in var_list:
                variable.assign(keras.ops.copy(tensor(variable)))

    @property
    def gradient_norm(self) -> Any:
        """The L2 norm of the last tracked update's gradient before clipping, or NaN."""
        return self._gradient_norm

    @property
    def tracks_gradient_norm(self) -> bool:
        """Whether `gradient_norm` is kept; off at first, since it costs a pass over the gradients.

        A step that is compiled keeps to what it found: set this before, or compile the step again
        (`model.make_train_function(force=True)`), as the callbacks that need the norm do.
        """
        return self._tracks_gradient_norm

    @tracks_gradient_norm.setter
    def tracks_gradient_norm(self, value: bool) -> None:
        self._tracks_gradient_norm = bool(value)

    @property
    def callback_state(self) -> Any:
        """The numbers that `nagd_keras.callbacks` keep here, to be saved; NaN where none is."""
        return self._callback_state

    # Configuration

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs, with live numbers as they are now.

        What a schedule was scaled by is no part of it, but of the state.

        Raises:
            ValueError: for a schedule or a callable that could not be loaded again.
        """
        # First, as it refuses what cannot be loaded again, of which Keras' own only warns.
        own: dict[str, Any] = {
            "learning_rate": LEARNING_RATE.serialized(self._learning_rate),
            "momentum": MOMENTUM.serialized(self._momentum),
            "restart": self.restart,
            "skip_nonfinite": self.skip_nonfinite,
            "sparse_updates": "lazy" if self._lazy else "dense",
            "slot_dtype": self._slot_dtype,
            "learning_rate_multipliers": checked_multipliers(self._multipliers),
        }
        if self._weight_decay is not None:
            own["weight_decay"] = WEIGHT_DECAY.serialized(self._weight_decay)
        return {**super().get_config(), **own}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "NAGD":
        """Makes an optimizer, without state, from what `get_config` returned."""
        settable = {
            name: deserialized(config[name], custom_objects) for name in SETTABLE if name in config
        }
        optimizer = cls(**{**config, **settable})
        optimizer._from_config = True
        return optimizer


def _check_lazy(accumulation: Any, restart: str | None) -> None:
    if not kernels.KNOWS_ROWS:
        raise ValueError(
            f"On Keras' {keras.backend.backend()} backend gradients do not tell which rows of an "
            "embedding a batch looked up. Received: sparse_updates='lazy'. Leave it out, or use "
            "the tensorflow backend."
        )
    if accumulation:
        raise ValueError(
            "Accumulated gradients do not tell which rows the batches looked up. Received: "
            f"sparse_updates='lazy' and gradient_accumulation_steps={accumulation}. Use one of "
            "them."
        )
    if restart == SPEED:
        raise ValueError(
            "The speed scheme needs the displacements of all rows at each update, which lazy "
            "updates leave alone. Received: sparse_updates='lazy' and restart='speed'. Use "
            "restart='gradient'."
        )


def _refuse(unknown: Mapping[str, Any]) -> None:
    if unknown:
        allowed = [a for a in inspect.signature(NAGD).parameters if a != "unknown"]
        raise TypeError(
            f"NAGD does not know the argument(s) {', '.join(map(repr, unknown))}. Received: "
            f"{dict(unknown)}. Allowed: {', '.join(allowed)}. Check the spelling, or leave the "
            "argument out."
        )
