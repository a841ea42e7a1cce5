"""A callback that saves training after each epoch, and resumes it when it was interrupted."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras import saving
from nagd_keras.arguments import count
from nagd_keras.callbacks.optimizers import build

_NAME = re.compile(r"epoch-([0-9]+)\.weights\.h5")


class Backup(keras.callbacks.Callback):
    """Resumes a fit that was killed, at whatever moment, from its last whole epoch.

    As `keras.callbacks.BackupAndRestore`, which writes its two files in place and one after the
    other: killed in between, it leaves a file that cannot be read, or weights of another epoch than
    the number that stands beside them. Here one file holds an epoch, with the number in its name;
    it is there when it is whole (see `nagd_keras.saving`). A file that is damaged later is left out
    with a warning, and the one before it is used.

    The fit that is resumed must be called as before, with the same model, data and `epochs`. Put
    this callback after `AdaptiveRestart` and `StopAtTolerance` in the list. When a fit ends, the
    backups are deleted.

    Args:
        folder: where to keep the backups; for one training run alone.
        keep: how many to keep, at least 1; the older ones are deleted.

    Raises:
        TypeError, ValueError: for a `keep` that is no positive integer.

    Example:
        >>> import keras, tempfile
        >>> import numpy as np
        >>> from nagd_keras import NAGD, callbacks
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=NAGD(), loss="mse")
        >>> backup = callbacks.Backup(tempfile.mkdtemp())
        >>> history = model.fit(
        ...     np.eye(2), np.ones((2, 1)), epochs=3, callbacks=[backup], verbose=0
        ... )
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._keep = count("keep", keep)

    def on_train_begin(self, logs: Any = None) -> None:
        """Loads the newest backup that is whole, if there is one.

        Raises:
            ValueError: if the backups are those of another model, or all are damaged. The model
                stays as it was.
        """
        private.start_at(self.model, None)  # which a fit that was interrupted may have left there
        damaged = []
        for epoch, path in self._backups():
            try:
                saving.check(path)
            except saving.DamagedFileError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                warnings.warn(f"{message} Training resumes from {path}.", stacklevel=2)
            build(self.model)  # so that all of the state is there before training
            saving.load_weights(self.model, path)
            # The one way to tell `fit`, which Keras' BackupAndRestore takes too.
            private.start_at(self.model, epoch)
            return
        if damaged:
            raise ValueError(
                f"None of the backups in {self._folder} can be used. {' '.join(damaged)} Delete "
                "them to begin anew."
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the training's state."""
        self._folder.mkdir(parents=True, exist_ok=True)
        saving.save_weights(self.model, self._folder / f"epoch-{epoch + 1:06d}.weights.h5")
        self._delete_all_but(self._keep)

    def on_train_end(self, logs: Any = None) -> None:
        """Deletes the backups, which are of no use after a fit that has ended."""
        private.start_at(self.model, None)
        self._delete_all_but(0)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _backups(self) -> list[tuple[int, Path]]:
        """Returns the number of epochs that are done, and the file of each, the newest first."""
        matches = {path: _NAME.fullmatch(path.name) for path in self._folder.glob("epoch-*")}
        return sorted(((int(m[1]), path) for path, m in matches.items() if m), reverse=True)

    def _delete_all_but(self, newest: int) -> None:
        for _, path in self._backups()[newest:]:
            path.unlink(missing_ok=True)
