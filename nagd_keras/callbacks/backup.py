"""A callback that saves training after each epoch, and resumes it after an interruption."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import keras

from nagd_keras import keras_private as private
from nagd_keras import saving
from nagd_keras.arguments import call_of, count, verbosity
from nagd_keras.callbacks import resumption
from nagd_keras.callbacks.listed import listed_with
from nagd_keras.callbacks.optimizers import build
from nagd_keras.callbacks.plain import packed, unpacked
from nagd_keras.callbacks.together import BACK_UP, REMEMBER, check

_NAME = re.compile(r"epoch-([0-9]+)\.weights\.h5")


class Backup(keras.callbacks.Callback):
    """Resumes a fit that was killed, at whatever moment, from its last whole epoch.

    `keras.callbacks.BackupAndRestore` writes two files in place, one after the other. If the
    process is killed in between, a file cannot be read, or the weights and the number of the epoch
    do not fit together. This callback writes one file for an epoch, with the number in its name,
    and the file appears only when it is whole (see `nagd_keras.saving`). If a file is damaged
    later, the callback warns and uses the one before it.

    Call the resumed fit as before, with the same model, data and `epochs`. It ends with the same
    bits, since a backup holds, besides the weights and the optimizer's state,

    - the random state of Python, NumPy, PyTorch and Keras, with the seed generators of layers, so
      that arrays are shuffled, and units dropped, as they would have been. TensorFlow shuffles the
      arrays of `fit` by a seed: call `keras.utils.set_random_seed` before, in each process;
    - what the other callbacks of the list know, such as `wait` and `best` of EarlyStopping,
      ReduceLROnPlateau and ModelCheckpoint. These are the public attributes that have changed since
      the fit began, hold numbers, text, arrays or lists of them, and are not named like an argument
      of the constructor.

    A backup does not hold the order, or the place, of data that bring their own order: a `tf.data`
    pipeline that shuffles, a generator, or `steps_per_epoch` that cut an epoch short. Let the order
    of an epoch depend only on its number, as in the second example. Put this callback after those
    that change something at the end of epochs. When a fit ends, the callback deletes the backups.

    Args:
        folder: the folder of the backups, for this training run only.
        keep: the number of backups to keep, at least 1; older ones are deleted.
        verbose: 1 prints a line when training resumes, 0 does not.

    Attributes:
        epochs_done: the number of epochs that were done before training began. In your own loop,
            begin with the epoch of this number.

    Raises:
        TypeError, ValueError: for an argument out of its range; on resuming, for a model that its
            first batch built, and that cannot be built without one.

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

        Data whose order depends on the epoch:

        >>> class Shuffled(keras.utils.PyDataset):
        ...     epoch = 0
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, batch):
        ...         order = np.random.default_rng(self.epoch).permutation(8).reshape(4, 2)
        ...         return np.eye(8)[order[batch], :2], np.ones((2, 1))
        >>> shuffled = Shuffled()
        >>> begin = keras.callbacks.LambdaCallback(
        ...     on_epoch_begin=lambda epoch, logs: setattr(shuffled, "epoch", epoch)
        ... )
        >>> history = model.fit(
        ...     shuffled, epochs=3, shuffle=False, callbacks=[begin, backup], verbose=0
        ... )
    """

    fit_roles = BACK_UP, REMEMBER

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2, *, verbose: int = 1) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.keep = count("keep", keep)
        self.verbose = verbosity(verbose)
        self.epochs_done = 0
        self._others: list[Any] = []  # those of the list that remember something,
        self._begun: list[dict[str, Any]] = []  # and their attributes where the fit begins
        self._to_come: list[Any] = []  # those of them that train after this one,
        self._attributes: dict[str, Any] = {}  # and what they are to remember
        self._was_built_by_data = False

    __repr__ = call_of

    def on_train_begin(self, logs: Any = None) -> None:
        """Loads the newest backup that is whole, if there is one.

        Raises:
            ValueError: if the backups are those of another model, or all are damaged. The model
                stays as it was.
        """
        check(self)
        private.start_at(self.model, None)  # which a fit that was interrupted may have left there
        listed = listed_with(self)
        self._others = [each for each in listed if resumption.remembers(each)]
        self._begun = [resumption.attributes(each) for each in self._others]
        later = listed[[each is self for each in listed].index(True) :]
        self._to_come = [each for each in later if resumption.remembers(each)]
        self._attributes, self.epochs_done = {}, 0
        self._was_built_by_data = not self.model.built
        damaged = []
        for epoch, path in self._backups():
            try:
                beside = saving._load_beside(path)
            except saving.DamagedFileError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                warnings.warn(f"{message} Training resumes from {path}.", stacklevel=2)
            self._resume(path, unpacked(beside) if beside else {})
            # The one way to tell `fit`, which Keras' BackupAndRestore takes too.
            private.start_at(self.model, epoch)
            self.epochs_done = epoch
            if self.verbose:
                print(f"\nBackup: resuming from epoch {epoch + 1}, with {path}.")
            return
        if damaged:
            raise ValueError(
                f"None of the backups in {self.folder} can be used. {' '.join(damaged)} Delete "
                "them to begin anew."
            )

    def _resume(self, path: Path, beside: dict[str, Any]) -> None:
        model = self.model
        if not model.built:
            resumption.call_on(model, beside.get("shapes"))
        build(model)  # so that all of the state is there before training
        before, numbers = resumption.numbers(model), beside.get("numbers", [])
        try:
            # Before, so that what the file has is what the optimizer has; and what comes from
            # the file here, were it other, comes last.
            resumption.set_numbers(model, numbers)
            saving.load_weights(model, path)
        except BaseException:
            resumption.set_numbers(model, before)
            raise
        resumption.set_numbers(model, numbers)
        if not beside:
            return
        self._attributes = beside["callbacks"]
        # Those that stand before this one have begun; the others will forget what they know.
        begun = [each for each in self._others if not any(each is x for x in self._to_come)]
        resumption.set_attributes(self._others, self._attributes, begun)
        resumption.set_randomness(model, beside["randomness"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restores what the callbacks after this one knew, now that they have begun."""
        for place, each in enumerate(self._others):
            if any(each is x for x in self._to_come):
                self._begun[place] = resumption.attributes(each)
        resumption.set_attributes(self._others, self._attributes, self._to_come)
        self._attributes, self._to_come = {}, []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the training's state."""
        shapes = self.model.get_build_config() if self._was_built_by_data else None
        if self._was_built_by_data and not self._backups():
            try:
                resumption.call_on(self.model, shapes)
            except ValueError as error:  # It must be possible when training resumes.
                warnings.warn(f"{error} These backups cannot be resumed from.", stacklevel=2)
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = {
            "shapes": shapes,
            "numbers": resumption.numbers(self.model),
            "callbacks": resumption.all_attributes(self._others, self._begun),
            "randomness": resumption.randomness(self.model),
        }
        path = self.folder / f"epoch-{epoch + 1:06d}.weights.h5"
        saving._save_beside(self.model, path, packed(beside))
        self._delete_all_but(self.keep)

    def on_train_end(self, logs: Any = None) -> None:
        """Deletes the backups, which nobody needs after a fit has ended."""
        private.start_at(self.model, None)
        self._others, self._begun = [], []
        self._delete_all_but(0)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _backups(self) -> list[tuple[int, Path]]:
        """Returns the number of epochs that are done, and the file of each, the newest first."""
        matches = {path: _NAME.fullmatch(path.name) for path in self.folder.glob("epoch-*")}
        return sorted(((int(m[1]), path) for path, m in matches.items() if m), reverse=True)

    def _delete_all_but(self, newest: int) -> None:
        for _, path in self._backups()[newest:]:
            path.unlink(missing_ok=True)
