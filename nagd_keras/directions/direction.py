"""What a direction is: where the step d_t of Nesterov's update and its length e_t come from."""

from collections.abc import Mapping, Sequence
from typing import Any


class Direction:
    """A direction for `NAGD(direction=...)`.

    Attributes:
        slots: the names of what it remembers of each variable, beside the displacement: tensors,
            zero at first, of the shape that `slot_shape` gives.
        learning_rate: the learning rate of a `NAGD` that is made without one.
        momentum: the momentum of a `NAGD` that is made without one.
        elementwise: whether each element of the direction depends only on its own gradient and on
            slots of the variable's shape. NAGD may then update a large variable piece by piece.
        compiled: whether TensorFlow may compile it by XLA, as it compiles elementwise ones.
    """

    slots: tuple[str, ...] = ()
    learning_rate = 0.01
    momentum = 0.9
    elementwise = False
    compiled = False

    def check(self, paths: Sequence[str]) -> None:
        """Raises ValueError if the direction does not suit a model with variables of these paths.

        It is not called for a loaded model, whose variables may have other paths.
        """

    def for_variables(self, paths: Sequence[str], shapes: Sequence[Any]) -> "list[Direction]":
        """Returns the direction of each variable of a model; this one for all."""
        return [self for _ in paths]

    def slot_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of a slot of a variable; the variable's own."""
        return shape

    def direct(
        self, gradient: Any, slots: Mapping[str, Any], t: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        """Returns the direction $d_t$ and the new slots. A pure function.

        Args:
            gradient: $g_t$, clipped, of the shape of the variable.
            slots: the tensors by their names, of the gradient's dtype.
            t: the number of this update, counted from 1.
        """
        raise NotImplementedError

    def direct_all(
        self, gradients: Sequence[Any], slots: Sequence[Mapping[str, Any]], t: Any
    ) -> tuple[list[Any], list[Mapping[str, Any]]]:
        """Returns what `direct` returns, of several variables.

        This goes through them one by one; a direction may have a faster way.
        """
        found = [self.direct(*pair, t) for pair in zip(gradients, slots, strict=True)]
        return [direction for direction, _ in found], [after for _, after in found]

    def step_length(self, learning_rate: Any, momentum: Any) -> Any:
        r"""Returns $e_t$ from the learning rate and the momentum $\mu_{t+1}$."""
        return learning_rate

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this direction again."""
        return {}

    def __repr__(self) -> str:
        """Returns what makes it again: "Adaptive(beta_2=0.99, epsilon=1e-12)"."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({given})"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Direction":
        """Makes the direction from what `get_config` returned."""
        return cls(**config)
