"""A training run that backs itself up, to be killed; `state/test_faults.py` starts it."""

import json
import os
from pathlib import Path

EPOCHS = 100


def train(folder: str) -> None:
    """Trains to the end, from the backup in a folder if there is one; writes the state there."""
    import keras

    from nagd_keras import callbacks
    from tests.support.saving_cases import CASES, batch, state

    case = next(case for case in CASES if case.name == "everything")
    model = case.start()
    listed = [
        callbacks.EvaluateAtIterate(),
        callbacks.Backup(Path(folder) / "backup"),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: (Path(folder) / "ready").touch()
        ),
    ]
    (Path(folder) / "started").touch()
    model.fit(*batch(0), epochs=EPOCHS, shuffle=False, verbose=0, callbacks=listed)
    partial = Path(folder) / "partial.json"
    partial.write_text(json.dumps(state(model)))
    os.replace(partial, Path(folder) / "end.json")
