"""What is different where the replicas of a `tf.distribute` strategy make one update together.

They sum their gradients before anything else is done. So each clips, decides and counts by the
gradient of the whole batch, and the result does not depend on how many they are. (Keras sums in
the end, behind the clipping, whose result then does.)
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras

from nagd_keras import backends
from nagd_keras.tensors import tensor
from nagd_keras.updates import Updates


class Replicas(Updates):
    """The update of several replicas; what has one replica, or none, is left to `Updates`."""

    _accumulated_gradients: list[Any]

    def apply(self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None) -> None:
        """Makes one update, or accumulates; see `Updates.apply`.

        Raises:
            ValueError: in the scope of a strategy, but outside of its replicas; in a compiled step
                of several replicas, if the optimizer is not built.
        """
        backends.check_in_replica(self.built)
        if not backends.several_replicas():
            super().apply(grads, trainable_variables)
            return
        count = tensor(self._iterations)
        super().apply(grads, trainable_variables)
        # Keras 3.8 counts in what is replaced below, later versions do behind it.
        self._iterations.assign(count + 1)

    # Keras' private surface. `tests/docs/test_layout.py` lists it and holds it to the
    # supported versions.

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        # Keras' place for it, behind the clipping. `Updates.apply` has done it.
        return grads_and_vars

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        steps, overwrites = self.gradient_accumulation_steps, self.ema_overwrite_frequency
        if not backends.several_replicas() or not (steps or (self.use_ema and overwrites)):
            super()._backend_apply_gradients(grads, trainable_variables)
            return

        # As in the base class, but for its conditions: in the branch of such a one replicas cannot
        # meet, so they meet before and go into a branch together.
        def on_each(
            period: int, count: Any, then: Callable[[], Any], otherwise: Callable[[], Any]
        ) -> None:
            due = keras.ops.equal((count + 1) % period, 0)
            backends.branch_together(due, then, otherwise)

        def update(gradients: Any) -> None:
            self._backend_update_step(gradients, trainable_variables, self.learning_rate)

        if steps:
            places = map(self._get_variable_index, trainable_variables)
            sums = [self._accumulated_gradients[i] for i in places]

            def update_with_sums() -> None:
                update([(g + s) / steps for g, s in zip(grads, sums, strict=True)])
                self._backend_reset_gradient_accumulators()

            on_each(
                steps,
                self._iterations,  # which counts batches, as `iterations` does not
                update_with_sums,
                lambda: self._backend_increment_gradient_accumulators(grads, sums),
            )
        else:
            update(grads)
        if self.use_ema:
            variables = self._trainable_variables
            self._update_model_variables_moving_average(variables)
            if overwrites:
                on_each(
                    overwrites,
                    self.iterations,
                    lambda: self._overwrite_model_variables_with_average_value(variables),
                    lambda: None,
                )

    def _distributed_tf_update_step(
        self, distribution: Any, grads_and_vars: Any, learning_rate: Any
    ) -> None:
        # On TensorFlow `_backend_update_step` ends here, outside of the replicas: where they all
        # decide alike, and where a condition may have an update in a branch.
        update = learning_rate

        def local(x: Any) -> Any:
            return distribution.experimental_local_results(x)[0]

        def each(function: Callable[..., Any]) -> list[Any]:
            return [
                distribution.extended.update(v, function, args=(g, update), group=False)
                for g, v in grads_and_vars
            ]

        def make() -> None:
            made = each(self._make_one)
            products = [] if self.restart is None else [keras.tree.flatten(x)[0] for x in made]
            here = update._replace(
                momentum=local(update.momentum),
                at_iterate=local(update.at_iterate),
                norm=local(update.norm),
            )
            variables = [v for _, v in grads_and_vars]
            self._settle(products, here, variables, lambda: each(self._restart_one))

        if self.skip_nonfinite:
            keras.ops.cond(local(update.finite), make, self._count_skipped)
        else:
            make()
