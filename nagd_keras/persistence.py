"""How an optimizer's state is saved and loaded: by name, all of it or nothing."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from nagd_keras.backends import check_lifted, lifted
from nagd_keras.points import Points
from nagd_keras.state import (
    Name,
    State,
    checksum,
    fingerprint,
    fitted,
    of_dtype,
    paths_of,
    values_of,
)
from nagd_keras.tensors import put

# Numbers that are there with `skip_nonfinite` or a scheme of restart only, and how they begin.
_BY_SETTINGS = {"skipped_updates": 0, "velocity_norm": np.nan}
_LOOK_AHEAD = "look_ahead"  # the slot, in a saved state only, of the remembered look-ahead point


class NamedState(keras.optimizers.Optimizer):
    """What NAGD does in Keras' place where optimizers are saved and loaded.

    A state that is loaded before the optimizer is built waits until `build` knows the variables;
    the numbers that belong to none of them are there at once.
    """

    _displacements: list[Any]
    _factors: list[float]
    _points: Points

    # Whether the settings came from a file, as the state will then, and no update was made yet.
    _from_config = False
    _factors_loaded = False
    _waiting: State | None = None
    _unnamed: list[Any] | None = None  # slots that wait in the same way, without names
    _checkpoint: State | None = None  # the names in a TensorFlow checkpoint, without arrays

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a store of Keras' saving."""
        self._state().write(store)

    def load_own_variables(self, store: Any) -> None:
        """Reads the state that `save_own_variables` wrote.

        Matched by the paths of the model's variables. If the optimizer is not built yet, the slots
        are matched and loaded when it is.

        Raises:
            ValueError: if it is not the state of an NAGD with these settings and these variables,
                or if it is damaged. Nothing of the optimizer is changed then.
        """
        state = State.read(store)
        if state is None:
            warnings.warn(
                f"What was loaded holds no state for the optimizer {self.name!r}, which stays as "
                "it is. It was saved without an optimizer.",
                stacklevel=2,
            )
        else:
            self._load(state)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all variables of the optimizer, in the order of `variables`.

        Keras' older format loads by this. If the optimizer is not built yet, the slots are set
        when it is.

        Raises:
            ValueError: if their number or their shapes are others. Nothing is changed then.
        """
        # As arrays: the file that they come from may be closed before they are used.
        variables, weights = self.variables, [np.asarray(weight) for weight in weights]
        if not self.built and len(weights) > len(variables):
            self._waiting = None
            weights, self._unnamed = weights[: len(variables)], weights[len(variables) :]
        self._set(variables, weights)

    def _set(self, variables: Sequence[Any], weights: Sequence[Any]) -> None:
        wrong = [
            f"{v.path}: {tuple(np.shape(w))} for {tuple(v.shape)}"
            for v, w in zip(variables, weights, strict=False)
            if tuple(np.shape(w)) != tuple(v.shape)
        ]
        if len(weights) != len(variables) or wrong:
            raise ValueError(
                f"The weights do not fit the optimizer {self.name!r}. Received: {len(weights)} "
                f"arrays for {len(variables)} variables; of another shape: "
                f"{', '.join(wrong) or 'none'}. Nothing was changed. Build the optimizer for the "
                "model's variables, with the settings that it had."
            )
        for variable, array in zip(variables, weights, strict=True):
            dtype = keras.backend.standardize_dtype(variable.dtype)
            known = of_dtype(array, dtype)  # which a bfloat16 is not in Keras' older format
            put(variable, array if known is None else known)

    @property
    def waits(self) -> bool:
        """Whether a state was loaded whose slots wait until the optimizer is built."""
        return any(each is not None for each in (self._waiting, self._unnamed, self._checkpoint))

    @property
    def trained_variables(self) -> list[Any]:
        """The model's variables that the optimizer was built for."""
        return list(self._trainable_variables)

    def unsaved(self) -> tuple[Any, ...]:
        """Returns what the optimizer remembers beside its variables, for `put_back`."""
        waiting = self._waiting, self._unnamed, self._checkpoint
        return waiting, self._points.remembered(), self.not_decayed()

    def put_back(self, notes: tuple[Any, ...]) -> None:
        """Undoes what loading did since `unsaved`, except to the variables."""
        waiting, point, not_decayed = notes
        self._waiting, self._unnamed, self._checkpoint = waiting
        self._points.remember(point)
        if self.not_decayed() != not_decayed:
            self._exclude(not_decayed)

    def _state(self) -> State:
        variables = self._trainable_variables if self.built else []
        paths = paths_of(variables)
        present = {name: values_of(v) for name, v in self.named_variables().items()}
        waiting = self._waiting
        if waiting is not None:
            return replace(waiting, arrays={**waiting.arrays, **present})
        for i, w in self._points.remembered().items():
            present[Name(_LOOK_AHEAD, paths[i])] = values_of(w)
        prints = {path: fingerprint(v) for path, v in zip(paths, variables, strict=True)}
        return State(
            present,
            self.built,
            paths,
            {path: crc for path, crc in prints.items() if crc is not None},
            self.not_decayed(),
            {path: f for path, f in zip(paths, self._factors, strict=False) if f != 1},
        )

    def _load(self, state: State) -> None:
        variables = self.named_variables()
        state = self._with_settings_of_here(state, variables)
        numbers = {name: array for name, array in state.arrays.items() if not name.path}
        self._checkpoint = None
        if not self.built:
            plan = fitted(numbers, variables)
            self._waiting, self._unnamed = (state if state.built else None), None
        elif not state.built:
            plan = fitted(numbers, {n: v for n, v in variables.items() if not n.path})
            plan += [(v, np.zeros(v.shape)) for n, v in variables.items() if n.path]
            self._points.forget()
        else:
            plan = self._plan(state, variables)
        for variable, array in plan:
            put(variable, array)

    def _with_settings_of_here(self, state: State, variables: dict[Name, Any]) -> State:
        """Returns a state with those of the numbers that depend on settings that are here.

        Training may go on with them switched on or off.
        """
        arrays = dict(state.arrays)
        for slot, start in _BY_SETTINGS.items():
            name = Name(slot)
            if name not in variables:
                arrays.pop(name, None)
            elif name not in arrays:
                variable = variables[name]
                arrays[name] = np.full(variable.shape, start, values_of(variable).dtype)
        return replace(state, arrays=arrays)

    def _load_waiting(self) -> None:
        """Gives the slots, once they are there, the values that were loaded before."""
        if self._checkpoint is not None:
            with lifted():
                self._check_restored(self._check_order(self._checkpoint))
            self._checkpoint = None
        waiting, unnamed = self._waiting, self._unnamed
        if waiting is None and unnamed is None:
            return
        check_lifted()
        slots = {name: v for name, v in self.named_variables().items() if name.path}
        # The step that is being compiled, perhaps, must not do this again each time it runs.
        with lifted():
            if waiting is not None:
                arrays = {name: array for name, array in waiting.arrays.items() if name.path}
                for variable, array in self._plan(replace(waiting, arrays=arrays), slots):
                    put(variable, array)
            else:
                numbers = len(self.variables) - len(slots)
                self._set(self.variables[numbers:], unnamed or [])
        self._waiting = self._unnamed = None

    def _plan(self, state: State, variables: dict[Name, Any]) -> list[tuple[Any, Any]]:
        """Returns what to assign; the rest of the state is loaded, once all is found to fit."""
        saved, trained = len(state.paths), len(self._trainable_variables)
        state = state.matched(self._trainable_variables, partly=self._from_config)
        arrays = {n: a for n, a in state.arrays.items() if n.slot != _LOOK_AHEAD}
        here = dict(
            zip(paths_of(self._trainable_variables), self._trainable_variables, strict=True)
        )
        new = set(here) - set(state.paths)
        for name, variable in variables.items():
            if name.path in new:  # As a variable that is trained for the first time.
                average = name.slot == "average"
                arrays[name] = values_of(here[name.path] if average else variable)
        plan = fitted(arrays, variables)
        self._load_extras(state)
        if saved != trained:
            warnings.warn(
                f"The optimizer's state was saved with {saved} variables, and the model trains "
                f"{trained} now: layers were frozen, or set free, after the optimizer was built. "
                "What both have is loaded; the others begin with displacement zero when they are "
                "trained.",
                stacklevel=2,
            )
        return plan

    def named_variables(self) -> dict[Name, Any]:
        """Returns the optimizer's variables by name, in the order in which they were made."""
        paths = paths_of(self._trainable_variables if self.built else [])
        names = {
            id(variable): Name(slot, path)
            for slot, variables in self._slots().items()
            for path, variable in zip(paths, variables, strict=False)
            if variable is not None
        }
        named: dict[Name, Any] = {}
        for variable in self._variables:
            name = names.get(id(variable), Name(variable.name))
            while name in named:  # Two slots of a derived class, perhaps.
                name = Name(f"{name.slot}#", name.path)
            named[name] = variable
        return named

    @property
    def variables(self) -> list[Any]:
        """The optimizer's variables: numbers first, then the slots, one kind after the other.

        Versions of Keras make them in different orders, and its older format knows only the order.
        """
        slots = [v for slot in self._slots().values() for v in slot if v is not None]
        known = {id(variable) for variable in slots}
        return [v for v in self._variables if id(v) not in known] + slots

    def _slots(self) -> dict[str, list[Any]]:
        # Keras has the first two only where they are in use.
        return {
            "average": list(getattr(self, "_model_variables_moving_average", [])),
            "gradient_accumulator": list(getattr(self, "_accumulated_gradients", [])),
            "displacement": list(self._displacements),
        }

    def _load_extras(self, state: State) -> None:
        """Takes over what no variable of the optimizer holds."""
        self._decay_alike(state)
        if self._from_config:
            # The patterns of the multipliers need not fit: Keras leaves the names of the models
            # around a layer out of its variables' paths when it loads them.
            paths = paths_of(self._trainable_variables)
            known = set(state.paths)
            self._factors = [
                state.factors.get(path, 1.0) if path in known else factor
                for path, factor in zip(paths, self._factors, strict=True)
            ]
            self._factors_loaded = True
        places = {path: i for i, path in enumerate(paths_of(self._trainable_variables))}
        points = {n.path: a for n, a in state.arrays.items() if n.slot == _LOOK_AHEAD}
        self._points.remember({places[path]: array for path, array in points.items()})

    # Which variables take no weight decay: Keras keeps it in memory only.

    def not_decayed(self) -> list[str]:
        """Returns the paths of the variables that are excluded from weight decay."""
        variables = self._trainable_variables if self.built else []
        pairs = zip(paths_of(variables), variables, strict=True)
        return [path for path, v in pairs if not self._use_weight_decay(v)]

    def _decay_alike(self, state: State) -> None:
        here, saved = set(self.not_decayed()), set(state.not_decayed)
        if here == saved:
            return
        if here:
            raise ValueError(
                "The saved optimizer state excludes other variables from weight decay than this "
                f"optimizer does. Excluded there: {sorted(saved)}. Excluded here: {sorted(here)}. "
                "Nothing of the optimizer's state was loaded. Exclude the same variables, or none, "
                "before loading."
            )
        self._exclude(saved)

    def _exclude(self, paths: Collection[str]) -> None:
        variables = self._trainable_variables
        chosen = [v for p, v in zip(paths_of(variables), variables, strict=True) if p in paths]
        self.exclude_from_weight_decay(var_list=chosen)

    # TensorFlow's own checkpoints restore variables by their positions; these two methods see that
    # the positions are those of the same names.

    def _checkpoint_note(self) -> dict[str, Any]:
        """Returns what is to be written into a checkpoint beside the variables."""
        if self._waiting is not None or self._unnamed is not None:
            raise ValueError(
                "A state was loaded into this optimizer before it was built, and TensorFlow's "
                "checkpoints would not hold it. Build the optimizer first: "
                "optimizer.build(model.trainable_variables)."
            )
        note: dict[str, Any] = {}
        self._state().write(note, only=_LOOK_AHEAD)
        return note

    def _read_checkpoint_note(self, note: Any) -> None:
        """Compares a note with the optimizer, before its variables are restored."""
        state = State.read(note, only=_LOOK_AHEAD)
        self._waiting = self._unnamed = self._checkpoint = None  # What is loaded last counts.
        if state is None or not (state.built or self.built):
            return
        if self.built:
            self._check_order(state)
        else:
            self._checkpoint = state

    def _check_restored(self, state: State) -> None:
        """Raises unless TensorFlow restored the slots when they were made."""
        lost = [
            str(name)
            for name, variable in self.named_variables().items()
            if name.path and checksum(values_of(variable)) != state.checksums[name]
        ]
        if lost:
            raise ValueError(
                "A checkpoint was restored before the optimizer was built, and TensorFlow did not "
                f"restore {len(lost)} of its variables, such as the {lost[0]}, when they were "
                "made. Build the optimizer first, optimizer.build(model.trainable_variables), and "
                "restore the checkpoint again."
            )

    def _check_order(self, state: State) -> State:
        if state.built:  # The variables may be restored after this.
            state = state.matched(self._trainable_variables, compare=False)
        names = [name for name in state.arrays if name.slot != _LOOK_AHEAD]
        here = list(self.named_variables())
        if names != here:
            moved = [f"{a} for {b}" for a, b in zip(names, here, strict=False) if a != b]
            raise ValueError(
                "The checkpoint's optimizer has other variables, or the same in another order: "
                f"{len(names)} there, {len(here)} here; first difference: "
                f"{moved[0] if moved else 'their number'}. TensorFlow restores them by position. "
                "Nothing was restored. Use the model and the settings that were saved."
            )
        self._load_extras(state)
        return state
