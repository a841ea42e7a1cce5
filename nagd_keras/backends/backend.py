"""What the optimizer asks of a backend, as any backend of Keras can answer it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias, TypeVar

import keras
import numpy as np

from nagd_keras.keras_private import in_stateless_scope
from nagd_keras.tensors import all_finite, copied, dense, is_symbolic, number, tensor, total

Reader: TypeAlias = Callable[[], tuple[list[Any], Any]]
Method = TypeVar("Method", bound=Callable[..., Any])


class Backend:
    """The plain answers; each backend's own class overrides some.

    Attributes:
        writes_in_place: whether variables are written in place. Otherwise they get new values,
            which are then the results of a condition.
        knows_rows: whether gradients of embeddings tell which rows a batch looked up.
        reads_numbers: whether `read` and `scalar` return numbers, where nothing is compiled.
        native_types: the classes of the backend's own variables, if it has any.
    """

    writes_in_place = False
    knows_rows = False
    reads_numbers = False
    native_types: tuple[type, ...] = ()

    def in_place(self) -> bool:
        """Whether to write in place here: never within a `keras.StatelessScope`."""
        return self.writes_in_place and not in_stateless_scope()

    # Variables

    def shared(self, native: Any) -> Any:
        """Returns a Keras variable that shares the memory of one of the backend's own."""
        raise NotImplementedError

    def assign(self, variable: Any, value: Any) -> None:
        """Sets a variable."""
        variable.assign(value)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Adds to a variable."""
        variable.assign(tensor(variable) + keras.ops.cast(value, variable.dtype))

    def branch(
        self,
        condition: Any,
        then: Callable[[], None],
        otherwise: Callable[[], None],
        variables: Sequence[Any],
    ) -> None:
        """Calls one of two functions that set variables.

        Args:
            condition: a boolean tensor.
            then: the function to call if it holds.
            otherwise: the function to call if it does not.
            variables: all that the two read or set.
        """
        if not is_symbolic(condition):
            (then if number(condition) else otherwise)()
            return
        if self.in_place():
            keras.ops.cond(condition, then, otherwise)
            return
        # Where variables are values, a condition has values as its result. To compute both and to
        # select would be simpler, and cost XLA on a CPU copies of all that is selected.
        before = [tensor(v) for v in variables]

        def results(call: Callable[[], None]) -> list[Any]:
            with keras.StatelessScope(state_mapping=[*zip(variables, before, strict=True)]) as now:
                call()
            return [now.get_current_value(v) for v in variables]

        after = keras.ops.cond(condition, lambda: results(then), lambda: results(otherwise))
        for variable, value in zip(variables, after, strict=True):
            variable.assign(value)

    def read(self, scalars: Any) -> Any:
        """Returns what a variable of a few numbers holds, for the arithmetic of an update."""
        return tensor(scalars)

    def taken(self, packed: Any, place: int) -> Any:
        """Returns one number of a variable of a few, for Python to make a number of."""
        return tensor(packed)[place]

    def put(self, packed: Any, place: int, value: Any) -> None:
        """Sets one number of a variable of a few, to a tensor or to an array of its dtype."""
        here = np.arange(packed.shape[0]) == place
        value = keras.ops.cast(value, packed.dtype)
        packed.assign(keras.ops.where(here, value, tensor(packed)))

    def scalar(self, value: Any) -> Any:
        """Returns a hyperparameter's value, for the arithmetic of an update."""
        return tensor(value)

    def at_once(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that reads variables, perhaps as one that costs a single call."""
        return function

    def reader(self, variables: Sequence[Any], checked: Sequence[Any]) -> Reader:
        """Returns a function that returns the variables' values, and whether others are finite.

        The values outlive the steps of the training, which may overwrite the memory of a variable,
        or give it away. The sums of the others tell whether they are finite, and may overflow.
        """
        return partial(_read, variables, checked)

    # Gradients

    def received(self, gradient: Any, shape: tuple[int, ...], rows: bool, lazy: bool) -> Any:
        """Returns a gradient as the update takes it: a tensor, or rows that are there once.

        Args:
            gradient: the gradient from Keras.
            shape: the shape of the variable.
            rows: whether the update can take rows.
            lazy: whether it asks for rows, however small the table.
        """
        return dense(gradient, shape)

    def values(self, gradient: Any) -> Any:
        """Returns the elements of a gradient."""
        return gradient

    def with_values(self, gradient: Any, values: Any) -> Any:
        """Returns a gradient with other elements."""
        return values

    def after(self, gradients: Sequence[Any]) -> AbstractContextManager[Any]:
        """A context whose operations wait for the gradients, even if they do not use them.

        A compiled step of TensorFlow runs what it can, in any order. When an iterator of unknown
        length finds that the data are at an end, it runs everything that needs no data.
        """
        return nullcontext()

    def device_of(self, variable: Any) -> str:
        """Returns the name of a variable's device, if that matters."""
        return ""

    def has_rows(self, gradient: Any) -> bool:
        """Whether a gradient has only some rows of its variable."""
        return False

    def rows_of(self, variable: Any, gradient: Any) -> Any:
        """Returns the rows of a variable that a gradient has, or all of it."""
        return tensor(variable)

    def assign_rows(self, variable: Any, gradient: Any, values: Any) -> None:
        """Sets the rows of a variable that a gradient has, or all of it."""
        self.assign(variable, values)

    def are_finite(self, tensors: Sequence[Any]) -> Any:
        """Whether all elements of tensors are finite, and their sums over each."""
        return all_finite(map(total, tensors))

    # Replicas and compiled steps

    def unconverted(self, method: Method) -> Method:
        """Returns a method that TensorFlow's AutoGraph leaves as it is."""
        return method

    def lifted(self) -> AbstractContextManager[Any]:
        """A context that does its work at once, even while a step is compiled."""
        return nullcontext()

    def can_lift(self) -> bool:
        """Whether variables can be set at once here, even while a step is compiled."""
        return not in_stateless_scope()

    def several_replicas(self) -> bool:
        """Whether this is a step of one of several replicas, each with a share of a gradient."""
        return False

    def summed_over_replicas(self, gradients: list[Any]) -> list[Any]:
        """Returns gradients, or their sums if several replicas have shares of them."""
        return gradients

    def check_in_replica(self, built: bool) -> None:
        """Raises if an optimizer cannot apply gradients here.

        Raises:
            ValueError: in the scope of a `tf.distribute` strategy, but outside its replicas; in a
                compiled step of several replicas, if the optimizer is not built.
        """

    def check_scope(self, strategy: Any, variables: Sequence[Any]) -> None:
        """Raises ValueError unless all variables belong to a `tf.distribute` strategy."""

    def beside(self, variable: Any) -> AbstractContextManager[Any]:
        """A context that makes variables on the devices of another one."""
        return nullcontext()

    def in_checkpoints(
        self, write: Callable[[], dict[str, Any]], read: Callable[[Any], None]
    ) -> Any:
        """Returns an attribute that makes TensorFlow's checkpoints note the state's names."""
        return None

    def generators_kept(self) -> AbstractContextManager[Any]:
        """A context that gives the backend's random generators back as it found them."""
        return nullcontext()

    def generators(self) -> list[Any]:
        """Returns the state of the backend's random generators, from which `fit` draws orders."""
        return []

    def set_generators(self, states: Sequence[Any]) -> None:
        """Sets the backend's random generators to what `generators` returned."""


def _read(variables: Sequence[Any], checked: Sequence[Any]) -> tuple[list[Any], Any]:
    sums = [total(keras.ops.stop_gradient(tensor(v))) for v in checked]
    return [copied(v) for v in variables], all_finite(sums) if sums else True
