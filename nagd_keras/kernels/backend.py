"""The kernels of the backend that Keras trains with; chosen when they are imported, as Keras is.

Here are the names that the optimizer knows; what a backend has not of its own it takes from the
formula's module.
"""

from typing import Any

import keras

from nagd_keras.kernels import formula

own: Any = formula
if keras.backend.backend() == "tensorflow":
    from nagd_keras.kernels import tensorflow

    own = tensorflow
elif keras.backend.backend() == "torch":
    from nagd_keras.kernels import torch

    own = torch

_of = {**vars(formula), **vars(own)}
ONE_BY_ONE: bool = _of["ONE_BY_ONE"]
IN_PLACE: bool = _of["IN_PLACE"]
KNOWS_ROWS: bool = _of["KNOWS_ROWS"]
update = _of["update"]
update_stateless = formula.update
restart = _of["restart"]
restart_products = formula.restart_products
sum_of_squares = _of["sum_of_squares"]
read = _of["read"]
is_dense = _of["is_dense"]
is_rows = _of["is_rows"]
summed_rows = _of["summed_rows"]
with_values = _of["with_values"]
