"""LaProp, an optimizer that the library does not have (Ziyin, Wang and Ueda 2020, algorithm 1)."""

import arrayoptim as ao


@ao.rule(slots=("momentum", "velocity"))
def laprop(p, g, m, v, rate, b1, c1, b2, c2, k2, eps, xp):
    """Divide the gradient by its running root mean square, and average what comes of it."""
    v = b2 * v + c2 * (g * g)
    m = b1 * m + c1 * (g / (xp.sqrt(v / k2) + eps))
    return p - rate * m, m, v


@ao.register
class LaProp(ao.Optimizer):
    """Step along the running mean of gradients that are scaled one by one."""

    lr: float = ao.hyper(default=4e-4, interval="[0, inf)", doc="Step size.")
    beta_1: float = ao.hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: float = ao.hyper(default=0.999, interval="[0, 1)", doc="That of the squares.")
    epsilon: float = ao.hyper(default=1e-15, interval="(0, inf)", doc="Added to the root.")

    rule = laprop

    def coefficients(self, h, it, scalars, xp):
        """Compute the numbers of one step from the hyperparameters and the count of steps."""
        return {
            "rate": h.lr / ao.bias_correction(h.beta_1, it + 1, xp),
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "k2": ao.bias_correction(h.beta_2, it + 1, xp),
            "eps": h.epsilon,
        }
