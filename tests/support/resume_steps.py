"""Continues runs that another process has saved; `state/test_resume_steps.py` starts it.

    python -m tests.support.resume_steps FOLDER

loads every `NUMBER-STEP.keras` in FOLDER, trains case NUMBER from STEP to the last step, and
writes the states at the end to FOLDER/states.json.
"""

import json
import sys
from pathlib import Path

import keras

from tests.support.saving_cases import CASES, STEPS, state


def resumed(path: Path) -> list[str]:
    """Returns the state at the end of the run that was saved in a file."""
    number, step = map(int, path.stem.split("-"))
    # Keras decides by the policy whether the loaded optimizer is within a LossScaleOptimizer.
    keras.config.set_dtype_policy(CASES[number].policy)
    model = keras.saving.load_model(path)
    for i in range(step + 1, STEPS + 1):
        CASES[number].step(model, i)
    return state(model)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    states = {path.stem: resumed(path) for path in sorted(folder.glob("*.keras"))}
    (folder / "states.json").write_text(json.dumps(states))
