"""The updates of presets on one number, in plain Python floats, from what the libraries document.

As in ``references.py``, each function yields the parameter and the slots after every step, and
nothing here may import the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import copysign, hypot, sqrt

Floats = Sequence[float]
Steps = Iterator[tuple[float, tuple[float, ...]]]
WholeSteps = Iterator[tuple[list[float], tuple[list[float], ...]]]


def sign(x: float) -> float:
    """Return -1, 0 or 1."""
    return copysign(1.0, x) if x else 0.0


def sgd_buffer(
    p: float, grads: Floats, *, lr: float, decay: float, momentum: float, nesterov: bool
) -> Steps:
    """torch.optim.SGD without dampening, optax.trace."""
    b = 0.0
    for t, g in enumerate(grads):
        b = momentum * b + g
        p = p - lr / (1 + decay * t) * (g + momentum * b if nesterov else b)
        yield p, (b,)


def rmsprop_inside(
    p: float,
    grads: Floats,
    *,
    lr: float,
    rho: float,
    epsilon: float,
    momentum: float = 0.0,
    centered: bool = False,
) -> Steps:
    """keras.optimizers.RMSprop, optax.rmsprop."""
    a = b = mean = 0.0
    for g in grads:
        a = rho * a + (1 - rho) * g * g
        mean = rho * mean + (1 - rho) * g
        spread = max(a - mean * mean, 0.0) if centered else a
        b = momentum * b + lr * g / sqrt(spread + epsilon)
        p = p - b
        yield p, (a, *([b] if momentum > 0 else []), *([mean] if centered else []))


def rmsprop_buffer(
    p: float,
    grads: Floats,
    *,
    lr: float,
    rho: float,
    epsilon: float,
    momentum: float,
    centered: bool = False,
) -> Steps:
    """torch.optim.RMSprop with momentum."""
    a = b = mean = 0.0
    for g in grads:
        a = rho * a + (1 - rho) * g * g
        mean = rho * mean + (1 - rho) * g
        spread = max(a - mean * mean, 0.0) if centered else a
        b = momentum * b + g / (sqrt(spread) + epsilon)
        p = p - lr * b
        yield p, (a, b, *([mean] if centered else []))


def adagrad_inside(
    p: float, grads: Floats, *, lr: float, epsilon: float, initial_accumulator_value: float
) -> Steps:
    """keras.optimizers.Adagrad, optax.adagrad."""
    a = initial_accumulator_value
    for g in grads:
        a = a + g * g
        p = p - (lr * g / sqrt(a + epsilon) if a else 0.0)
        yield p, (a,)


def adam_outside(
    p: float, grads: Floats, *, lr: float, beta_1: float, beta_2: float, epsilon: float
) -> Steps:
    """Kingma and Ba 2015, algorithm 1; torch and optax."""
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        p = p - lr * (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)
        yield p, (m, v)


def amsgrad_torch(
    p: float,
    grads: Floats,
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    amsgrad: bool,
) -> Steps:
    """torch.optim.Adam."""
    m = v = h = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        h = max(h, v)
        p = p - lr * (m / (1 - beta_1**t)) / (sqrt(h / (1 - beta_2**t)) + epsilon)
        yield p, (m, v, h)


def amsgrad_optax(
    p: float,
    grads: Floats,
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    amsgrad: bool,
) -> Steps:
    """optax.amsgrad."""
    m = v = h = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        h = max(h, v / (1 - beta_2**t))
        p = p - lr * (m / (1 - beta_1**t)) / (sqrt(h) + epsilon)
        yield p, (m, v, h)


def amsgrad_paper(
    p: float,
    grads: Floats,
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    amsgrad: bool,
) -> Steps:
    """Reddi, Kale and Kumar 2018, algorithm 2, with an epsilon."""
    m = v = h = 0.0
    for g in grads:
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        h = max(h, v)
        p = p - lr * m / (sqrt(h) + epsilon)
        yield p, (m, v, h)


def adamax_inside(
    p: float, grads: Floats, *, lr: float, beta_1: float, beta_2: float, epsilon: float
) -> Steps:
    """torch.optim.Adamax, optax.adamax."""
    m = u = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        u = max(beta_2 * u, abs(g) + epsilon)
        p = p - lr / (1 - beta_1**t) * m / u
        yield p, (m, u)


def nadam_optax(
    p: float, grads: Floats, *, lr: float, beta_1: float, beta_2: float, epsilon: float
) -> Steps:
    """optax.nadam: a momentum that does not warm up."""
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        mean = beta_1 * m / (1 - beta_1 ** (t + 1)) + (1 - beta_1) * g / (1 - beta_1**t)
        p = p - lr * mean / (sqrt(v / (1 - beta_2**t)) + epsilon)
        yield p, (m, v)


def radam_torch(
    p: float, grads: Floats, *, lr: float, beta_1: float, beta_2: float, epsilon: float
) -> Steps:
    """torch.optim.RAdam."""
    m = v = 0.0
    limit = 2 / (1 - beta_2) - 1
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        step = m / (1 - beta_1**t)
        n = limit - 2 * t * beta_2**t / (1 - beta_2**t)
        if n > 5.0:
            r = sqrt((n - 4) * (n - 2) * limit / ((limit - 4) * (limit - 2) * n))
            step = step * r * sqrt(1 - beta_2**t) / (sqrt(v) + epsilon)
        p = p - lr * step
        yield p, (m, v)


def yogi_plain(
    p: float,
    grads: Floats,
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    initial_accumulator_value: float,
) -> Steps:
    """Zaheer et al. 2018, algorithm 2."""
    m, v = 0.0, initial_accumulator_value
    for g in grads:
        m = beta_1 * m + (1 - beta_1) * g
        v = v - (1 - beta_2) * sign(v - g * g) * g * g
        p = p - lr * m / (sqrt(v) + epsilon)
        yield p, (m, v)


def yogi_optax(
    p: float,
    grads: Floats,
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    initial_accumulator_value: float,
) -> Steps:
    """optax.yogi: both moments begin alike."""
    m = v = initial_accumulator_value
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = v - (1 - beta_2) * sign(v - g * g) * g * g
        p = p - lr * (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)
        yield p, (m, v)


def adan_optax(
    p: float,
    grads: Floats,
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    beta_3: float,
    epsilon: float,
) -> Steps:
    """optax.adan with both its epsilons alike."""
    m = d = v = 0.0
    last = grads[0]
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        d = beta_2 * d + (1 - beta_2) * (g - last)
        v = beta_3 * v + (1 - beta_3) * (g + (1 - beta_2) * (g - last)) ** 2
        step = m / (1 - beta_1**t) + (1 - beta_2) * d / (1 - beta_2**t)
        p = p - lr * step / (sqrt(v / (1 - beta_3**t) + epsilon) + epsilon)
        last = g
        yield p, (m, d, v, g)


def ftrl_paper(
    p: float,
    grads: Floats,
    *,
    lr: float,
    initial_accumulator_value: float,
    l1_regularization_strength: float,
    l2_regularization_strength: float,
    l2_shrinkage_regularization_strength: float,
    beta: float,
) -> Steps:
    """McMahan et al. 2013, algorithm 1, with Keras's shrinkage."""
    n, z, l1 = initial_accumulator_value, 0.0, l1_regularization_strength
    for g in grads:
        pull = 2 * l2_shrinkage_regularization_strength
        z = z + g + pull * p - (sqrt(n + g * g) - sqrt(n)) / lr * p
        n = n + g * g
        size = (beta + sqrt(n)) / lr + l2_regularization_strength
        p = 0.0 if abs(z) <= l1 else -(z - copysign(l1, z)) / size
        yield p, (n, z)


def rprop_torch(
    p: float,
    grads: Floats,
    *,
    lr: float,
    eta_minus: float,
    eta_plus: float,
    step_min: float,
    step_max: float,
) -> Steps:
    """torch.optim.Rprop."""
    previous, length = 0.0, lr
    for gradient in grads:
        g = gradient
        agree = sign(g * previous)
        length = length * (1.0 if not agree else eta_plus if agree > 0 else eta_minus)
        length = min(max(length, step_min), step_max)
        g = 0.0 if agree < 0 else g
        p = p - sign(g) * length
        previous = g
        yield p, (g, length)


def rprop_optax(
    p: float,
    grads: Floats,
    *,
    lr: float,
    eta_minus: float,
    eta_plus: float,
    step_min: float,
    step_max: float,
) -> Steps:
    """optax.rprop, which takes the step of the gradient before."""
    step, length = 0.0, lr
    for g in grads:
        agree = sign(g * step)
        if agree:
            length = length * (eta_plus if agree > 0 else eta_minus)
            length = min(max(length, step_min), step_max)
        p = p - (0.0 if agree < 0 else step)
        step = 0.0 if agree < 0 else length * sign(g)
        yield p, (step, length)


def lamb_keras(
    p: list[float],
    grads: Sequence[Floats],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> WholeSteps:
    """keras.optimizers.Lamb: its decay comes before the step."""
    m, v = [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(grads, 1):
        p = [x - lr * weight_decay * x for x in p]
        m = [beta_1 * a + (1 - beta_1) * g for a, g in zip(m, row, strict=True)]
        v = [beta_2 * a + (1 - beta_2) * g * g for a, g in zip(v, row, strict=True)]
        first, second = 1 - beta_1**t, 1 - beta_2**t
        d = [a / first / (sqrt(b / second) + epsilon) for a, b in zip(m, v, strict=True)]
        trust = hypot(*p) / hypot(*d) if any(p) and any(d) else 1.0
        p = [x - lr * trust * y for x, y in zip(p, d, strict=True)]
        yield p, (m, v)


def lars_optax(
    p: list[float],
    grads: Sequence[Floats],
    *,
    lr: float,
    momentum: float,
    trust_coefficient: float,
    epsilon: float,
    weight_decay: float,
) -> WholeSteps:
    """optax.lars."""
    m = [0.0] * len(p)
    for row in grads:
        d = [g + weight_decay * x for g, x in zip(row, p, strict=True)]
        trust = 1.0
        if any(p) and any(d):
            trust = trust_coefficient * hypot(*p) / (hypot(*d) + epsilon)
        m = [momentum * a + lr * trust * g for a, g in zip(m, d, strict=True)]
        p = [x - a for x, a in zip(p, m, strict=True)]
        yield p, (m,)
