"""For matrices: all directions alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from nagd_keras.arguments import boolean, choice, expressions, positive, value
from nagd_keras.directions.adaptive import Adaptive, averaged
from nagd_keras.directions.direction import Direction
from nagd_keras.rules.layouts import Layout, layouts
from nagd_keras.rules.newton_schulz import ITERATIONS, TINY, IterationName, norm, orthogonalized

_NAMES = "beta", "scale", "normalize", "iteration"
# The least root mean square of an output that is brought to the length of others.
LEAST = 1e-10


@keras.saving.register_keras_serializable(package="nagd_keras")
class Orthogonal(Direction):
    r"""An average of a matrix' gradient, with all its singular values brought to 1.

    The average $M_t = b M_{t-1} + (1 - b) g_t$ looks ahead, $u_t = b M_t + (1 - b) g_t$. With the
    orthogonal factor $O_t$ of $u_t$, and the mean of squares $q$ of each output's column of $O_t$,
    averaged with $\beta_2$,

    $$d_t = c \sqrt{\max(\mathrm{rows}, \mathrm{columns})} \;
      \frac{\|O_t\|}{\|O_t / \sqrt{q_t}\|} \, \frac{O_t}{\sqrt{q_t}}, \qquad
      e_t = \varepsilon_t (1 - \mu_{t+1}).$$

    Embeddings, vectors, and what `exclude` names go along `Adaptive`. `describe` tells how each
    variable is cut into matrices.

    Args:
        beta: $b$, in [0, 1). With 0 there is no average, and one slot less.
        beta_2: $\beta_2$, in [0, 1), here and for `Adaptive`.
        epsilon: the least size by which `Adaptive` divides a gradient, above 0.
        scale: $c$, above 0. With 0.2 an element's step is about as long as Adam's.
        normalize: whether to bring the outputs of a matrix to one length.
        exclude: regular expressions. A variable goes along `Adaptive` if `re.search` finds one of
            them in its path.
        iteration: how a matrix becomes orthogonal: "polar_express", four steps, "quintic", or
            "muon", the five steps of Muon.

    Example:
        >>> import keras
        >>> from nagd_keras import NAGD, directions
        >>> optimizer = NAGD(direction=directions.Orthogonal(exclude=["head/"]))
        >>> dense = keras.layers.Dense(4, name="hidden")
        >>> dense.build((None, 3))
        >>> for path, what in optimizer.direction.describe(dense.variables):
        ...     print(path, what)
        hidden/kernel 1 of 3 x 4
        hidden/bias adaptive

    References:
        Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks; Li et al.
        (2025), NorMuon, algorithm 1; Amsel et al. (2025), The Polar Express, algorithms 1 and 2.
    """

    learning_rate, momentum = 0.01, 0.9

    def __init__(
        self,
        beta: float = 0.8,
        beta_2: float = 0.99,
        epsilon: float = 1e-12,
        scale: float = 0.2,
        normalize: bool = True,
        exclude: Sequence[str] = (),
        iteration: IterationName = "polar_express",
    ) -> None:
        self.rest = Adaptive(beta_2, epsilon)  # for what is no matrix
        self.beta, self.scale = value("beta", beta, 1.0), positive("scale", scale)
        self.normalize = boolean("normalize", normalize)
        self.exclude = expressions("exclude", exclude)
        self.iteration = choice("iteration", iteration, tuple(ITERATIONS))

    def check(self, paths: Sequence[str]) -> None:
        """Raises ValueError if a pattern of `exclude` is found in none of the paths."""
        for pattern in self.exclude:
            if not any(pattern.search(path) for path in paths):
                raise ValueError(
                    f"`exclude` has {pattern.pattern!r}, which is found in the path of no "
                    f"variable. The paths: {', '.join(paths)}. Correct it, or leave it out."
                )

    def for_variables(self, paths: Sequence[str], shapes: Sequence[Any]) -> list[Direction]:
        """Returns the direction of each: this one for matrices, `Adaptive` for what is none."""
        same: dict[Any, Direction] = {}  # One for those that are alike: they are computed at once.
        found: list[Direction] = []
        for layout, shape in zip(self._layouts(paths, shapes), shapes, strict=True):
            if layout is None:
                found.append(self.rest)
            else:
                key = layout, tuple(shape)
                found.append(same.setdefault(key, _Matrices(self, layout, tuple(shape))))
        return found

    def ahead(self, average: Any, gradient: Any) -> Any:
        r"""Returns $u_t$, the average looked ahead."""
        return averaged(average, gradient, self.beta)

    def describe(self, variables: Sequence[Any]) -> list[tuple[str, str]]:
        """Returns the path of each variable, and how it is cut: "4 of 16 x 32", or "adaptive"."""
        paths = [variable.path for variable in variables]
        found = self._layouts(paths, [tuple(v.shape) for v in variables])
        return [(path, str(x or "adaptive")) for path, x in zip(paths, found, strict=True)]

    def _layouts(self, paths: Sequence[str], shapes: Sequence[Any]) -> list[Layout | None]:
        found = layouts(paths, shapes)
        for place, path in enumerate(paths):
            if any(pattern.search(path) for pattern in self.exclude):
                found[place] = None
        return found

    def step_length(self, learning_rate: Any, momentum: Any) -> Any:
        r"""Returns $\varepsilon_t (1 - \mu_{t+1})$."""
        return self.rest.step_length(learning_rate, momentum)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this direction again."""
        own = {name: getattr(self, name) for name in _NAMES}
        return {**self.rest.get_config(), **own, "exclude": [x.pattern for x in self.exclude]}


class _Matrices(Direction):
    """The direction of variables that are cut into matrices alike."""

    compiled = True

    def __init__(self, settings: Orthogonal, layout: Layout, shape: tuple[int, ...]) -> None:
        self._settings, self._layout, self._shape = settings, layout, shape
        self._iteration = ITERATIONS[settings.iteration]
        slots = {"gradient_average": settings.beta > 0, "output_mean_square": settings.normalize}
        self.slots = tuple(name for name, used in slots.items() if used)

    def slot_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the variable's shape, or that of one number an output."""
        numbers = (self._layout.number, self._layout.columns)
        return numbers if name == "output_mean_square" else shape

    def direct(
        self, gradient: Any, slots: Mapping[str, Any], t: Any
    ) -> tuple[Any, Mapping[str, Any]]:
        """Returns the direction and the new averages."""
        (direction,), (after,) = self.direct_all([gradient], [slots], t)
        return direction, after

    def direct_all(
        self, gradients: Sequence[Any], slots: Sequence[Mapping[str, Any]], t: Any
    ) -> tuple[list[Any], list[Mapping[str, Any]]]:
        """Returns the same of several variables: all their matrices are one batch."""
        settings, layout = self._settings, self._layout
        after: list[dict[str, Any]] = [{} for _ in gradients]
        ahead = list(gradients)
        if settings.beta > 0:
            for n, (gradient, before) in enumerate(zip(gradients, slots, strict=True)):
                average = averaged(before["gradient_average"], gradient, settings.beta)
                after[n]["gradient_average"] = average
                ahead[n] = settings.ahead(average, gradient)
        step = orthogonalized(_joined([layout.cut(x) for x in ahead]), self._iteration)
        if settings.normalize:
            before = _joined([each["output_mean_square"] for each in slots])
            squares = ops.mean(ops.square(step), axis=-2)
            mean = averaged(before, squares, settings.rest.beta_2)
            step = _alike(step, mean)
            for each, part in zip(after, _parts(mean, len(gradients)), strict=True):
                each["output_mean_square"] = part
        scale = settings.scale * max(layout.rows, layout.columns) ** 0.5
        parts = _parts(scale * step, len(gradients))
        return [layout.joined(x, self._shape) for x in parts], list(after)


def _joined(batches: Sequence[Any]) -> Any:
    return batches[0] if len(batches) == 1 else ops.concatenate(batches)


def _parts(batch: Any, number: int) -> list[Any]:
    return [batch] if number == 1 else list(ops.split(batch, number))


def _alike(step: Any, mean_squares: Any) -> Any:
    """Returns matrices with outputs of one length, whose norms stay."""
    even = step / ops.maximum(ops.sqrt(mean_squares), LEAST)[:, None, :]
    return even * (norm(step) / ops.maximum(norm(even), TINY))
