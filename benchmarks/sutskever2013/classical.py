"""Classical momentum whose coefficient follows a schedule, which Keras' SGD cannot."""

from keras import ops, optimizers


class ClassicalMomentum(optimizers.Optimizer):
    """v <- mu_t v - eps g(theta), then theta <- theta + v (Sutskever et al. 2013, equations 1, 2).

    As in `NAGD`, update t takes mu_t from the schedule, and t counts finished updates.
    """

    def __init__(self, learning_rate, momentum, name="classical_momentum"):
        """Takes a number, and a schedule."""
        super().__init__(learning_rate=learning_rate, name=name)
        self.momentum = momentum

    def build(self, variables):
        """Makes the velocities, which are zero."""
        if self.built:
            return
        super().build(variables)
        self.velocities = [self.add_variable_from_reference(v, "velocity") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable and its velocity."""
        velocity = self.velocities[self._get_variable_index(variable)]
        mu, eps = (
            ops.cast(x, variable.dtype) for x in (self.momentum(self.iterations), learning_rate)
        )
        new = mu * velocity - eps * ops.cast(gradient, variable.dtype)
        self.assign(velocity, new)
        self.assign_add(variable, new)
