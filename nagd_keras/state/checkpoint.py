"""TensorFlow's own checkpoints, which restore variables by their positions.

A note of the names goes with them, so that the positions are those of the same names.
"""

from typing import Any

from nagd_keras.state import legacy
from nagd_keras.state.archive import LOOK_AHEAD, Pending, Saved, checksum
from nagd_keras.state.matching import in_order, paths_of
from nagd_keras.tensors import values_of


def note(state: Any) -> dict[str, Any]:
    """Returns what to write into a checkpoint beside the variables."""
    if state.pending is not None and not state.pending.restored:
        state.check_not_pending()
    found: dict[str, Any] = {}
    state.saved().write(found, only=LOOK_AHEAD)
    return found


def read_note(state: Any, note: Any) -> None:
    """Compares a note with the optimizer, before its variables are restored."""
    saved = Saved.read(note, only=LOOK_AHEAD)
    if saved is None:
        state.pending = None
        return
    if saved.format == legacy.FORMAT:
        raise ValueError(
            "The checkpoint was written by an earlier version of nagd_keras, whose optimizer had a "
            "variable for each number. TensorFlow restores variables by position, so it cannot be "
            "restored here. Nothing was restored. Restore it with that version and save the model "
            "in Keras' own format, which every version loads."
        )
    if state.optimizer.built:
        _check_order(state, saved)
    # What is loaded last counts.
    waits = saved.built and not state.optimizer.built
    state.pending = Pending(saved, restored=True) if waits else None
    state.notes.replace(saved.notes)


def check_restored(state: Any, saved: Saved) -> None:
    """Compares what TensorFlow has restored into a new optimizer with the note that came before.

    Raises:
        ValueError: if there are other variables, or TensorFlow did not restore them when they
            were made.
    """
    saved = _check_order(state, saved)
    lost = [
        str(name)
        for name, variable in state.named().items()
        if name.path and checksum(values_of(variable)) != saved.checksums[name]
    ]
    if lost:
        raise ValueError(
            "A checkpoint was restored before the optimizer was built, and TensorFlow did not "
            f"restore {len(lost)} of its variables, such as the {lost[0]}, when they were "
            "made. Build the optimizer first, optimizer.build(model.trainable_variables), and "
            "restore the checkpoint again."
        )


def _check_order(state: Any, saved: Saved) -> Saved:
    # TensorFlow restores the model's variables after this, so that their values tell nothing yet.
    saved = saved.renamed(in_order(saved.paths, paths_of(state.trained)))
    names = [name for name in saved.arrays if name.slot != LOOK_AHEAD]
    here = list(state.named())
    if names != here:
        moved = [f"{a} for {b}" for a, b in zip(names, here, strict=False) if a != b]
        raise ValueError(
            "The checkpoint's optimizer has other variables, or the same in another order: "
            f"{len(names)} there, {len(here)} here; first difference: "
            f"{moved[0] if moved else 'their number'}. TensorFlow restores them by position. "
            "Nothing was restored. Use the model and the settings that were saved."
        )
    state.take_over(saved)
    return saved
