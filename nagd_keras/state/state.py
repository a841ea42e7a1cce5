"""What an optimizer keeps, saved and loaded by name."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from nagd_keras import keras_private as private
from nagd_keras.state.archive import LOOK_AHEAD, Name, Pending, Saved, fingerprint
from nagd_keras.state.live import Hyperparameters
from nagd_keras.state.matching import paths_of, some_of
from nagd_keras.state.natives import Natives
from nagd_keras.state.notes import Notes
from nagd_keras.state.points import Points
from nagd_keras.state.scalars import Scalars
from nagd_keras.state.slots import DISPLACEMENT, Slots
from nagd_keras.tensors import values_of


class State:
    """The state of one optimizer.

    Attributes:
        optimizer: the optimizer.
        scalars: the numbers that belong to no variable.
        hyperparameters: the sources of the hyperparameters.
        slots: what belongs to a variable.
        natives: Keras variables for those that are not Keras' own.
        points: which of Nesterov's points the variables hold.
        notes: what callbacks remember.
        factors: the factors of the variables' learning rates, in the order of the variables.
        from_config: whether the settings came from a file, as the state will then.
        knows_factors: whether a loaded state said which variables have which factors.
        pending: a state that was loaded before the optimizer was built.
        unsettled: a state that was loaded by its names, perhaps before the weights.
        batches_loaded: the number of finished batches that came with the last state.
    """

    def __init__(self, optimizer: Any, scalars: Scalars, hyperparameters: Hyperparameters) -> None:
        """Takes the optimizer, its registry of numbers and its hyperparameters."""
        self.optimizer, self.scalars, self.hyperparameters = optimizer, scalars, hyperparameters
        self.slots, self.points, self.notes = Slots(), Points(), Notes()
        self.natives = Natives(optimizer)
        self.factors: list[float] = []
        self.from_config = self.knows_factors = False
        self.pending: Pending | None = None
        self.unsettled: Saved | None = None
        self.batches_loaded = 0

    # What there is

    @property
    def trained(self) -> list[Any]:
        """The model's variables that the optimizer was built for."""
        return private.trained(self.optimizer) if self.optimizer.built else []

    def variables(self) -> list[Any]:
        """Returns all variables: numbers first, then the slots, one kind after the other.

        Keras' older format knows only their order.
        """
        return [*self._numbers(), *(slot for _, _, slot in self.slots.items())]

    def _numbers(self) -> list[Any]:
        slots = {id(slot) for _, _, slot in self.slots.items()}
        return [v for v in private.all_variables(self.optimizer) if id(v) not in slots]

    def named(self) -> dict[Name, Any]:
        """Returns what is saved, by name: variables, and scalars that are set alike."""
        named: dict[Name, Any] = {Name(n): scalar for n, scalar in self.scalars.used().items()}
        packed = {id(v) for v in self.scalars.variables.values()}
        for variable in self._numbers():
            if id(variable) not in packed:
                name = Name(variable.name)
                while name in named:  # That of a derived class' own, perhaps.
                    name = Name(f"{name.slot}#")
                named[name] = variable
        paths = paths_of(self.trained)
        return named | {Name(kind, paths[i]): slot for kind, i, slot in self.slots.items()}

    def check_not_pending(self) -> None:
        """Raises ValueError if the slots of a loaded state still wait for the variables."""
        if self.pending is not None:
            raise ValueError(
                "A state was loaded before the optimizer was built, and its slots wait for the "
                "variables. Call optimizer.build(model.trainable_variables) first, so that the "
                "optimizer knows them."
            )

    def not_decayed(self) -> list[str]:
        """Returns the paths of the variables that are excluded from weight decay."""
        pairs = zip(paths_of(self.trained), self.trained, strict=True)
        return [path for path, v in pairs if not private.decays(self.optimizer, v)]

    # Saving

    def saved(self) -> Saved:
        """Returns the present state, as it is saved."""
        if self.pending is not None and self.pending.saved is None:
            self.check_not_pending()
        present = {name: values_of(v) for name, v in self.named().items()}
        notes = self.notes.all()
        if self.pending is not None and self.pending.saved is not None:
            saved = self.pending.saved
            return replace(saved, arrays={**saved.arrays, **present}, notes=notes)
        paths = paths_of(self.trained)
        for i, w in self.points.remembered().items():
            present[Name(LOOK_AHEAD, paths[i])] = values_of(w)
        prints = {path: fingerprint(v) for path, v in zip(paths, self.trained, strict=True)}
        return Saved(
            present,
            self.optimizer.built,
            paths,
            {path: crc for path, crc in prints.items() if crc is not None},
            self.not_decayed(),
            {path: f for path, f in zip(paths, self.factors, strict=False) if f != 1},
            self.points.at_iterate,
            notes,
            self.hyperparameters.began,
        )

    # Loading; see loading.py and, for TensorFlow's own checkpoints, checkpoint.py

    def take_over(self, saved: Saved) -> list[str]:
        """Takes from a saved state what no variable of the optimizer holds.

        Returns what does not fit, in words. Exclusions from weight decay that were made in code
        stay; Keras keeps them only in memory, so a new optimizer has none.
        """
        here, there = self.not_decayed(), saved.not_decayed
        here = [path for path in here if path in saved.paths]  # Of others nothing is said.
        reasons = []
        if here and {*here} != {*there}:
            reasons.append(
                f"the weight decay of all but {some_of(there)}; here all but {some_of(here)}"
            )
        elif there and not here:
            self.exclude(there)
        paths = paths_of(self.trained)
        if self.from_config:
            # The patterns of the multipliers need not fit: Keras leaves the names of the models
            # around a layer out of its variables' paths when it loads them.
            for place, path in enumerate(paths):
                if path in saved.paths:
                    self.factors[place] = saved.factors.get(path, 1.0)
            self.knows_factors = True
        point = {n.path: a for n, a in saved.arrays.items() if n.slot == LOOK_AHEAD}
        self.points.remember(saved.at_iterate, {paths.index(path): a for path, a in point.items()})
        return reasons

    def exclude(self, paths: Collection[str]) -> None:
        """Excludes the variables with these paths, and no others, from weight decay."""
        pairs = zip(paths_of(self.trained), self.trained, strict=True)
        self.optimizer.exclude_from_weight_decay(var_list=[v for p, v in pairs if p in paths])

    # Undoing a load

    def beside_variables(self) -> tuple[Any, ...]:
        """Returns what the state keeps beside the variables, for `put_back`."""
        points = self.points.at_iterate, self.points.remembered()
        return self.pending, points, self.notes.all(), self.not_decayed()

    def put_back(self, kept: tuple[Any, ...]) -> None:
        """Undoes what loading did since `beside_variables`, except to the variables."""
        self.pending, points, notes, not_decayed = kept
        self.points.remember(*points)
        self.notes.replace(notes)
        if self.not_decayed() != not_decayed:
            self.exclude(not_decayed)

    # The two points

    def swap(self, to_iterate: bool) -> None:
        """Makes the model's variables hold the iterate, or the look-ahead point."""
        self.check_not_pending()
        go = self.points.to_iterate if to_iterate else self.points.to_look_ahead
        go(self.trained, self.slots[DISPLACEMENT])
