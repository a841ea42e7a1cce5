"""Which callbacks stand in the same list."""

import gc
from typing import Any

import keras


def listed_with(callback: Any) -> list[Any]:
    """Returns all callbacks of the list that holds this one, in their order, while it trains.

    Keras tells a callback its model and the settings of the fit, but not its neighbours. So this
    looks for the list among Python's objects, the young ones first, since `fit` has just made it.
    A callback without a list is alone.
    """
    for generation in range(3):
        for each in reversed(gc.get_objects(generation)):
            if issubclass(type(each), keras.callbacks.CallbackList) and _is_in(callback, each):
                return list(each.callbacks)
    return [callback]


def _is_in(callback: Any, listed: Any) -> bool:
    """Whether a callback is in a list, and not only in that of another fit.

    Another thread may be making the list, which then lacks its attributes.
    """
    params = getattr(listed, "params", None)
    same_fit = params is callback.params or not (params or callback.params)
    return same_fit and any(each is callback for each in getattr(listed, "callbacks", ()))
