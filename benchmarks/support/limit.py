"""The limit: Nesterov's update of one variable in one pass over memory, written in C.

It reads three arrays and writes two; no update of float32 variables can move fewer bytes.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

NAME = "the limit, in C"
BYTES = 5 * 4  # of an element: w, s and g are read, w and s are written

SOURCE = """
#include <stddef.h>
void step(float* restrict w, float* restrict s, const float* restrict g, size_t n,
          float m, float e) {
  float c = m * e;
#pragma omp parallel for simd schedule(static)
  for (size_t i = 0; i < n; i++) {
    float t = m * s[i] - c * g[i];
    s[i] = t;
    w[i] = w[i] + t - e * g[i];
  }
}
"""


def compiler() -> str | None:
    """Returns the C compiler that is here, or None."""
    return next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)


def update(elements: int) -> Callable[[], object] | None:
    """Returns a function that updates so many elements, or None where none can be compiled."""
    found = compiler()
    if found is None:
        return None
    # Else its threads would go on spinning while others are measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "limit.c"), Path(folder, "limit.so")
        source.write_text(SOURCE)
        flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
        made = subprocess.run(
            [found, *flags, source, "-o", library], capture_output=True, check=False
        )
        if made.returncode:
            return None
        step = ctypes.CDLL(str(library)).step
    arrays = [np.ones(elements, np.float32) for _ in range(3)]
    pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for a in arrays]
    step.argtypes = [type(p) for p in pointers] + [ctypes.c_size_t, *[ctypes.c_float] * 2]
    step.restype = None

    def call(keeps: object = arrays) -> None:
        step(*pointers, elements, 0.9, 1e-5)

    return call


def bandwidth(rows: dict[str, dict[str, object]], elements: int) -> dict[str, dict[str, object]]:
    """Returns, by contestant, the gigabytes a second of the limit's bytes, and its part of them."""
    if NAME not in rows:
        return {}
    best = float(str(rows[NAME]["ms"]))
    said = {}
    for name, row in rows.items():
        ms = float(str(row.get("ms", 0)))
        if ms > best / 2:  # Without a pass over memory there is no bandwidth.
            said[name] = {
                "GB/s": round(elements * BYTES / ms / 1e6, 2),
                "of the limit": round(best / ms, 3),
            }
    return said
