"""Serves exported models with plain TensorFlow; `state/test_export.py` starts it.

    python export_served.py FOLDER

loads every SavedModel in FOLDER and writes its predictions for FOLDER/x.npy to FOLDER/NAME.npy.
Neither Keras nor nagd_keras can be imported meanwhile.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np

HIDDEN = ("keras", "tf_keras", "nagd_keras")


class Hide:
    """Finds the hidden packages first, of which none can be loaded.

    TensorFlow asks where Keras is when it is imported, and must get an answer.
    """

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] in HIDDEN else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)

    def exec_module(self, module):
        raise AssertionError("never created")


def main(folder):
    sys.meta_path.insert(0, Hide())
    import tensorflow as tf

    x = np.load(folder / "x.npy")
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        served = tf.saved_model.load(str(path))
        (outputs,) = served.signatures["serving_default"](tf.constant(x)).values()
        np.save(folder / f"{path.name}.npy", outputs.numpy())
    for name in HIDDEN:
        assert not any(module.partition(".")[0] == name for module in sys.modules), name
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        raise AssertionError(f"{name} could be imported")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
