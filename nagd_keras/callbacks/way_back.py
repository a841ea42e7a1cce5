"""Where to go back to when training diverges, and by how much to lower the learning rate."""

from typing import NamedTuple

from nagd_keras.callbacks.climbs import Climb, Climbs
from nagd_keras.callbacks.snapshots import Kept, State

_ANEW = 2  # powers more of the factor where the learning rate has spoiled the weights


class Return(NamedTuple):
    """A state that was brought back.

    Attributes:
        state: it.
        power: that of its factor by which the learning rate is to be lowered.
        is_of_rate: whether what was seen cannot be put down to a spoiled batch.
    """

    state: State
    power: int
    is_of_rate: bool


class WayBack:
    """Chooses between the last good state, the best one and the beginning, and brings it back.

    The beginning takes the place of another state if it was not long ago and that state is far from
    it, further than the weights' own length: such weights are spoiled, as where units are dead.
    """

    def __init__(self, store: Kept, climbs: Climbs) -> None:
        """Takes the states, and the levels of the losses."""
        self._store, self._climbs = store, climbs

    def after_climb(self, climb: Climb) -> Return:
        """Goes back to the best level."""
        self._climbs.go_back(climb)
        anew = self._climbs.is_young and self._store.is_far(best=True)
        state = self._store.begin_anew() if anew else self._store.restore(best=True)
        return self._returned(state, climb.power + (_ANEW if state.is_first else 0), True)

    def after_bad_batch(self) -> Return:
        """Goes back to the last good state, unless weights were spoiled before the batch."""
        nothing = self._climbs.is_young and not self._climbs.has_halved
        anew = nothing and self._store.is_far()
        state = self._store.begin_anew() if anew else self._store.restore()
        return self._returned(state, 1 + _ANEW if anew else 1, anew)

    def _returned(self, state: State, power: int, is_of_rate: bool) -> Return:
        if state.is_first:
            self._climbs.begin_anew()
        return Return(state, power, is_of_rate)
