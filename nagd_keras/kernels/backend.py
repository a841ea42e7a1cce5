"""The kernels of the backend that Keras trains with; chosen when they are imported, as Keras is."""

import keras

if keras.backend.backend() == "tensorflow":
    from nagd_keras.kernels import tensorflow as chosen
else:
    from nagd_keras.kernels import formula as chosen

ONE_BY_ONE = chosen.ONE_BY_ONE
KNOWS_ROWS = chosen.KNOWS_ROWS
update = chosen.update
sum_of_squares = chosen.sum_of_squares
is_rows = chosen.is_rows
summed_rows = chosen.summed_rows
with_values = chosen.with_values
