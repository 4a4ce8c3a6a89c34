"""The update of every optimizer on one number, in plain Python floats, written from the papers.

Those of matrices are on one matrix, in NumPy's double precision.

Each function takes the start value, the gradients and the hyperparameters, and yields the
parameter and the slots after every step. Nothing here may import the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import copysign, exp, hypot, inf, log, sqrt
from typing import Any

import numpy as np
from hypothesis import strategies as st

import modern_references as new
import preset_references as by

Steps = Iterator[tuple[float, tuple[float, ...]]]
WholeSteps = Iterator[tuple[list[float], tuple[list[float], ...]]]
"""Of a reference whose step of one number depends on all numbers of the tensor."""


def sgd(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    decay: float,
    momentum: float,
    nesterov: bool,
    schedule_decay: float | None = None,
    mom_iter_max: int | None = None,
) -> Steps:
    """Polyak 1964, Nesterov 1983 as in Sutskever et al. 2013; the ramp of natural_bm."""
    v, mu = 0.0, momentum
    for t, g in enumerate(grads):
        eta = lr / (1 + decay * t)
        v = mu * v - eta * g
        p = p + mu * v - eta * g if nesterov else p + v
        if schedule_decay is not None and mom_iter_max is not None:
            up = 1 - 0.5 * 0.96 ** (t * schedule_decay)
            down = 1 - 0.5 * 0.96 ** ((mom_iter_max - t) * schedule_decay)
            mu = momentum * up * down if t < mom_iter_max else momentum / 2
        yield p, (v,)


def rmsprop(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    decay: float,
    rho: float,
    epsilon: float,
    momentum: float = 0.0,
    centered: bool = False,
) -> Steps:
    """Tieleman and Hinton 2012, lecture 6.5; centred as in Graves 2013, equations 38 to 45."""
    a = b = mean = 0.0
    for t, g in enumerate(grads):
        a = rho * a + (1 - rho) * g * g
        mean = rho * mean + (1 - rho) * g
        spread = max(a - mean * mean, 0.0) if centered else a
        b = momentum * b + lr / (1 + decay * t) * g / (sqrt(spread) + epsilon)
        p = p - b
        yield p, (a, *([b] if momentum > 0 else []), *([mean] if centered else []))


def adagrad(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    decay: float,
    epsilon: float,
    initial_accumulator_value: float,
) -> Steps:
    """Duchi, Hazan and Singer 2011, the diagonal form."""
    a = initial_accumulator_value
    for t, g in enumerate(grads):
        a = a + g * g
        p = p - lr / (1 + decay * t) * g / (sqrt(a) + epsilon)
        yield p, (a,)


def adadelta(
    p: float, grads: Sequence[float], *, lr: float, decay: float, rho: float, epsilon: float
) -> Steps:
    """Zeiler 2012, algorithm 1, scaled by a learning rate."""
    a = d = 0.0
    for t, g in enumerate(grads):
        a = rho * a + (1 - rho) * g * g
        update = g * sqrt(d + epsilon) / sqrt(a + epsilon)
        d = rho * d + (1 - rho) * update * update
        p = p - lr / (1 + decay * t) * update
        yield p, (a, d)


def adam(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    amsgrad: bool = False,
) -> Steps:
    """Kingma and Ba 2015, the form before section 2.1; the maximum of Reddi et al. 2018."""
    m = v = largest = 0.0
    for t, g in enumerate(grads):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        largest = max(largest, v)
        alpha = lr / (1 + decay * t) * sqrt(1 - beta_2 ** (t + 1)) / (1 - beta_1 ** (t + 1))
        p = p - alpha * m / (sqrt(largest if amsgrad else v) + epsilon)
        yield p, ((m, v, largest) if amsgrad else (m, v))


def adamax(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> Steps:
    """Kingma and Ba 2015, algorithm 2, with epsilon beside the norm."""
    m = u = 0.0
    for t, g in enumerate(grads):
        m = beta_1 * m + (1 - beta_1) * g
        u = max(beta_2 * u, abs(g))
        p = p - lr / (1 + decay * t) / (1 - beta_1 ** (t + 1)) * m / (u + epsilon)
        yield p, (m, u)


def nadam(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    schedule_decay: float,
) -> Steps:
    """Dozat 2015, algorithm 8, with the warming momentum of its section 2.1."""

    def mu(t: int) -> float:
        return beta_1 * (1 - 0.5 * 0.96 ** (t * schedule_decay))

    m = v = 0.0
    product = 1.0
    for t, g in enumerate(grads, start=1):
        product *= mu(t)
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        mean = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        p = p - lr * mean / (sqrt(v / (1 - beta_2**t)) + epsilon)
        yield p, (m, v)


def lamb(
    p: list[float],
    grads: Sequence[Sequence[float]],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> WholeSteps:
    """You et al. 2020, algorithm 2."""
    m, v = [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(grads):
        m = [beta_1 * a + (1 - beta_1) * g for a, g in zip(m, row, strict=True)]
        v = [beta_2 * a + (1 - beta_2) * g * g for a, g in zip(v, row, strict=True)]
        first, second = 1 - beta_1 ** (t + 1), 1 - beta_2 ** (t + 1)
        d = [
            a / first / (sqrt(b / second) + epsilon) + weight_decay * x
            for a, b, x in zip(m, v, p, strict=True)
        ]
        trust = hypot(*p) / hypot(*d) if any(p) and any(d) else 1.0
        p = [x - lr / (1 + decay * t) * trust * y for x, y in zip(p, d, strict=True)]
        yield p, (m, v)


def lars(
    p: list[float],
    grads: Sequence[Sequence[float]],
    *,
    lr: float,
    decay: float,
    momentum: float,
    trust_coefficient: float,
    epsilon: float,
    weight_decay: float,
) -> WholeSteps:
    """You, Gitman and Ginsburg 2017, algorithm 1."""
    m = [0.0] * len(p)
    for t, row in enumerate(grads):
        trust = 1.0
        if any(p) and any(row):
            whole = hypot(*row) + weight_decay * hypot(*p) + epsilon
            trust = trust_coefficient * hypot(*p) / whole
        eta = lr / (1 + decay * t) * trust
        pulled = [g + weight_decay * x for g, x in zip(row, p, strict=True)]
        m = [momentum * a + eta * g for a, g in zip(m, pulled, strict=True)]
        p = [x - a for x, a in zip(p, m, strict=True)]
        yield p, (m,)


def stable_adamw(
    p: list[float],
    grads: Sequence[Sequence[float]],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> WholeSteps:
    """Wortsman et al. 2023, algorithm 2."""
    m, v = [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(grads, 1):
        b1 = beta_1 * (1 - beta_1 ** (t - 1)) / (1 - beta_1**t)
        b2 = beta_2 * (1 - beta_2 ** (t - 1)) / (1 - beta_2**t)
        m = [b1 * a + (1 - b1) * g for a, g in zip(m, row, strict=True)]
        v = [b2 * a + (1 - b2) * g * g for a, g in zip(v, row, strict=True)]
        squares = [g * g / max(a, epsilon * epsilon) for g, a in zip(row, v, strict=True)]
        eta = lr / (1 + decay * (t - 1)) / max(1.0, sqrt(sum(squares) / len(p)))
        p = [
            x - eta * weight_decay * x - eta * a / (sqrt(b) + epsilon)
            for x, a, b in zip(p, m, v, strict=True)
        ]
        yield p, (m, v)


def dog(
    p: list[float],
    grads: Sequence[Sequence[float]],
    *,
    lr: float,
    reps_rel: float,
    epsilon: float,
    weight_decay: float,
) -> WholeSteps:
    """Ivgi et al. 2023, equation 1."""
    start, far, energy = list(p), reps_rel * (1 + hypot(*p)), 0.0
    for row in grads:
        far = max(far, hypot(*(x - a for x, a in zip(p, start, strict=True))))
        energy += hypot(*row) ** 2
        eta = lr * far / sqrt(energy + epsilon)
        p = [x - eta * (g + weight_decay * x) for x, g in zip(p, row, strict=True)]
        yield p, (start,)


def prodigy(
    p: list[float],
    grads: Sequence[Sequence[float]],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    d0: float,
    d_coef: float,
    growth_rate: float | None = None,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
) -> WholeSteps:
    """Mishchenko and Defazio 2023, algorithm 4, with the options of their program."""
    start, d, top, numerator = list(p), d0, d0, 0.0
    m, v, s = [0.0] * len(p), [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(grads, 1):
        k = sqrt(1 - beta_2**t) / (1 - beta_1**t) if bias_correction else 1.0
        rate = d * lr * k
        m = [beta_1 * a + (1 - beta_1) * d * g for a, g in zip(m, row, strict=True)]
        v = [beta_2 * a + (1 - beta_2) * (d * g) ** 2 for a, g in zip(v, row, strict=True)]
        weight = d / d0 * (d if safeguard_warmup else rate)
        s = [sqrt(beta_2) * a + weight * g for a, g in zip(s, row, strict=True)]
        below = sum(map(abs, s))
        if below:
            dot = sum(g * (a - x) for g, a, x in zip(row, start, p, strict=True))
            numerator = sqrt(beta_2) * numerator + d / d0 * rate * dot
            estimate = d_coef * numerator / below
            new, top = max(d, estimate) if d == d0 else d, max(top, estimate)
            d = top if growth_rate is None else min(top, new * growth_rate)
            p = [
                x - rate * (weight_decay * x + a / (sqrt(b) + d * epsilon))
                for x, a, b in zip(p, m, v, strict=True)
            ]
        yield p, (m, v, s, start)


def adafactor(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    beta_2_decay: float,
    epsilon_1: float,
    epsilon_2: float,
    clip_threshold: float,
    relative_step: bool,
    scale_parameter: bool,
) -> WholeSteps:
    """Shazeer and Stern 2018, algorithm 4 for a matrix and 5 for a vector."""
    r, c, v = 0.0, 0.0, 0.0
    for t, g in enumerate(grads, 1):
        b, squares = 1 - t**beta_2_decay, g**2 + epsilon_1
        if p.ndim == 2:
            r, c = b * r + (1 - b) * squares.mean(1), b * c + (1 - b) * squares.mean(0)
            v = np.outer(r / r.mean(), c)
        else:
            v = b * v + (1 - b) * squares
        u = g / np.sqrt(v)
        rho = min(lr, 1 / sqrt(t)) if relative_step else lr
        alpha = max(epsilon_2, sqrt((p**2).mean())) * rho if scale_parameter else rho
        p = p - alpha * u / max(1.0, sqrt((u**2).mean()) / clip_threshold)
        yield p, ((r, c) if p.ndim == 2 else (v,))


def sm3(
    p: Any, grads: Sequence[Any], *, lr: float, momentum: float, rho: float, epsilon: float
) -> WholeSteps:
    """Anil et al. 2019, algorithm SM3-II."""
    m, matrix = 0.0, p.ndim == 2
    bounds = [np.zeros(n) for n in p.shape]
    new = 1.0 if rho == 1.0 else 1 - rho
    for g in grads:
        least = np.minimum(bounds[0][:, None], bounds[1][None, :]) if matrix else bounds[0]
        v = rho * least + new * g**2
        bounds = [v.max(1), v.max(0)] if matrix else [v]
        m = momentum * m + (1 - momentum) * g / np.sqrt(v + epsilon)
        p = p - lr * m
        yield p, (m, *bounds)


def muon(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    momentum: float,
    epsilon: float,
    nesterov: bool,
    ns_steps: int,
    scaling: str,
    outputs: str,
    rms_rate: float = 0.2,
) -> WholeSteps:
    """Jordan et al. 2024, algorithm 2 with the iteration of its section on Newton-Schulz."""
    m, (n, k) = 0.0, p.shape
    ratio = n / k if outputs == "first" else k / n
    scale = rms_rate * sqrt(max(n, k)) if scaling == "rms" else sqrt(max(1, ratio))
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        x = momentum * m + (1 - momentum) * g if nesterov else m
        x = x / (sqrt((x**2).sum()) + epsilon)
        for _ in range(ns_steps):
            x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
        p = p - lr * scale * x
        yield p, (m,)


def soap(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    precondition_frequency: int,
    max_precondition_dim: int,
    shampoo_beta: float | None = None,
) -> WholeSteps:
    """Vyas et al. 2024, algorithms 3 and 4; begun and sorted as by their program."""
    b3 = beta_2 if shampoo_beta is None else shampoo_beta
    m, v, bases = np.zeros(p.shape), np.zeros(p.shape), [np.eye(n) for n in p.shape]
    means = [np.zeros((n, n)) for n in p.shape]
    long = [n > max_precondition_dim for n in p.shape]
    for t, g in enumerate(grads):
        if t:
            a, b = bases
            m = beta_1 * m + (1 - beta_1) * g
            v = beta_2 * v + (1 - beta_2) * (a.T @ g @ b) ** 2
            alpha = lr * sqrt(1 - beta_2**t) / (1 - beta_1**t)
            p = p - alpha * a @ (a.T @ m @ b / (np.sqrt(v) + epsilon)) @ b.T
        for i, x in enumerate([g, g.T]):
            means[i] = b3 * means[i] + (1 - b3) * x @ x.T
            if t == 0 and not long[i]:
                bases[i] = np.linalg.eigh(means[i])[1]
            elif t % precondition_frequency == 0 and not long[i]:
                order = np.argsort(-np.diag(bases[i].T @ means[i] @ bases[i]))
                bases[i], v = np.linalg.qr(means[i] @ bases[i][:, order])[0], v.take(order, i)
        kept = [None if skip else mean for skip, mean in zip(long, means, strict=True)]
        yield p, (m, v, *kept, None, None)


def shampoo(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    momentum: float,
    rho: float,
    epsilon: float,
    precondition_frequency: int,
    max_precondition_dim: int,
) -> WholeSteps:
    """Gupta, Koren and Singer 2018, algorithm 1; for the means and one side Anil et al. 2020."""
    m, new = 0.0, 1.0 if rho == 1.0 else 1 - rho
    sums, roots = [np.zeros((n, n)) for n in p.shape], [np.eye(n) for n in p.shape]
    short = [i for i, n in enumerate(p.shape) if n <= max_precondition_dim]
    for t, g in enumerate(grads):
        m = momentum * m + (1 - momentum) * g
        for i in short:
            x = g.T if i else g
            sums[i] = rho * sums[i] + new * x @ x.T
            if t % precondition_frequency == 0:
                u, s, _ = np.linalg.svd(sums[i] + epsilon * np.eye(len(x)))
                roots[i] = u @ np.diag(s ** (-0.5 / len(short))) @ u.T
        p = p - lr * roots[0] @ m @ roots[1]
        yield p, (m, *(x[i] if i in short else None for x in (sums, roots) for i in (0, 1)))


def shampoo_of_vectors(
    p: float, grads: Sequence[float], *, lr: float, momentum: float, rho: float, epsilon: float
) -> Steps:
    """The same with the diagonal of a vector's one matrix: Adagrad, epsilon inside the root."""
    m, a, new = 0.0, 0.0, 1.0 if rho == 1.0 else 1 - rho
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        a = rho * a + new * g * g
        p = p - lr * m / sqrt(a + epsilon)
        yield p, (m, a)


def asgd(
    p: float, grads: Sequence[float], *, lr: float, lambd: float, alpha: float, t0: float
) -> Steps:
    """Bottou 2010, section 5: the step sizes of ASGD, with any power; the mean from step t0 on."""
    mean = p
    for t, g in enumerate(grads):
        gamma = lr * (1 + lambd * lr * t) ** -alpha
        p = (1 - gamma * lambd) * p - gamma * g
        mu = 1 / max(1, t - t0)
        mean = (1 - mu) * mean + mu * p
        yield p, (mean,)


def ftrl(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    initial_accumulator_value: float,
    l1_regularization_strength: float,
    l2_regularization_strength: float,
    l2_shrinkage_regularization_strength: float,
    beta: float,
) -> Steps:
    """McMahan et al. 2013, algorithm 1, with Keras's factor 2 and its shrinkage."""
    n, z, l1 = initial_accumulator_value, 0.0, l1_regularization_strength
    for g in grads:
        sigma = (sqrt(n + g * g) - sqrt(n)) / lr
        z = z + g + 2 * l2_shrinkage_regularization_strength * p - sigma * p
        n = n + g * g
        size = (beta + sqrt(n)) / lr + 2 * l2_regularization_strength
        p = 0.0 if abs(z) <= l1 else -(z - copysign(l1, z)) / size
        yield p, (n, z)


def rprop(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    eta_minus: float,
    eta_plus: float,
    step_min: float,
    step_max: float,
) -> Steps:
    """Riedmiller and Braun 1993, equations 4 and 5; Igel and Huesken 2000, iRprop-."""

    def sign(x: float) -> int:
        return (x > 0) - (x < 0)

    previous, delta = 0.0, lr
    for gradient in grads:
        g = gradient
        if sign(previous) * sign(g) > 0:
            delta = delta * eta_plus
        elif sign(previous) * sign(g) < 0:
            delta = delta * eta_minus
            g = 0.0
        delta = min(max(delta, step_min), step_max)
        p = p - sign(g) * delta
        previous = g
        yield p, (g, delta / lr)


def schedule_free_sgd(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    momentum: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    weight_decay: float,
) -> Steps:
    """Defazio et al. 2024, equations 3 to 5, by way of x; the weights of the authors' code."""
    directions = (lambda y, g=g: g + weight_decay * y for g in grads)
    found = _schedule_free(p, directions, lr, momentum, warmup_steps, r, weight_lr_power)
    for y, z in found:
        yield y, (z,)


def schedule_free_adamw(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    momentum: float,
    beta_2: float,
    epsilon: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    weight_decay: float,
) -> Steps:
    """Defazio et al. 2024, algorithm 1, by way of x, with Adam's bias correction of v."""
    squares = [0.0]
    for g in grads:
        squares.append(beta_2 * squares[-1] + (1 - beta_2) * g * g)

    def direction(t: int) -> Callable[[float], float]:
        root = sqrt(squares[t] / (1 - beta_2**t))
        return lambda y: grads[t - 1] / (root + epsilon) + weight_decay * y

    directions = map(direction, range(1, len(squares)))
    found = _schedule_free(p, directions, lr, momentum, warmup_steps, r, weight_lr_power)
    for (y, z), v in zip(found, squares[1:], strict=True):
        yield y, (z, v)


def _schedule_free(
    p: float,
    directions: Iterable[Callable[[float], float]],
    lr: float,
    beta: float,
    warmup_steps: int,
    r: float,
    power: float,
) -> Iterator[tuple[float, float]]:
    x = y = z = p
    total = largest = 0.0
    for t, direction in enumerate(directions, start=1):
        gamma = lr * min(1, t / warmup_steps) if warmup_steps else lr
        largest = max(largest, gamma)
        weight = t**r * largest**power
        total = total + weight
        z = z - gamma * direction(y)
        x = x + weight / total * (z - x)
        y = (1 - beta) * z + beta * x
        yield y, z


def decoupled(steps: Callable[..., Steps]) -> Callable[..., Steps]:
    """Loshchilov and Hutter 2019, algorithm 2: a step, and lr * weight_decay times p taken off."""

    def shrinking(
        p: float, grads: Sequence[float], *, weight_decay: float, **hyper: float
    ) -> Steps:
        # The step of the rules this is for does not depend on p, so its size is found from zero.
        before = 0.0
        for t, (after, slots) in enumerate(steps(0.0, grads, **hyper)):
            eta = hyper["lr"] / (1 + hyper.get("decay", 0.0) * t)
            p = p - eta * weight_decay * p + (after - before)
            before = after
            yield p, slots

    return shrinking


def radam(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    threshold: float,
) -> Steps:
    """Liu et al. 2020, algorithm 2, with another threshold than 4."""
    m = v = 0.0
    limit = 2 / (1 - beta_2) - 1
    for t, g in enumerate(grads, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        step = m / (1 - beta_1**t)
        n = limit - 2 * t * beta_2**t / (1 - beta_2**t)
        if n > threshold:
            r = sqrt((n - 4) * (n - 2) * limit / ((limit - 4) * (limit - 2) * n))
            step = r * step / (sqrt(v / (1 - beta_2**t)) + epsilon)
        p = p - lr * step
        yield p, (m, v)


def adabelief(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> Steps:
    """Zhuang et al. 2020, algorithm 2."""
    m = s = 0.0
    for t, g in enumerate(grads, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        s = beta_2 * s + (1 - beta_2) * (g - m) ** 2 + epsilon
        p = p - lr * (m / (1 - beta_1**t)) / (sqrt(s / (1 - beta_2**t)) + epsilon)
        yield p, (m, s)


def yogi(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    initial_accumulator_value: float,
) -> Steps:
    """Zaheer et al. 2018, algorithm 2, with the bias corrections of Adam."""
    m, v = 0.0, initial_accumulator_value
    for t, g in enumerate(grads, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        sign = (v > g * g) - (v < g * g)
        v = v - (1 - beta_2) * sign * g * g
        p = p - lr * (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)
        yield p, (m, v)


def adan(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    beta_3: float,
    epsilon: float,
) -> Steps:
    """Xie et al. 2022, algorithm 1; betas are 1 minus the paper's, bias corrected as its code."""
    m = d = v = 0.0
    last = grads[0]
    for t, g in enumerate(grads, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        d = beta_2 * d + (1 - beta_2) * (g - last)
        v = beta_3 * v + (1 - beta_3) * (g + beta_2 * (g - last)) ** 2
        step = m / (1 - beta_1**t) + beta_2 * d / (1 - beta_2**t)
        p = p - lr * step / (sqrt(v / (1 - beta_3**t)) + epsilon)
        last = g
        yield p, (m, d, v, g)


def ademamix(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    beta_3: float,
    alpha: float,
    epsilon: float,
    alpha_warmup: int | None = None,
    beta_3_warmup: int | None = None,
) -> Steps:
    """Pagliardini et al. 2024, algorithm 1, with the schedulers of its section 3."""
    m = s = v = 0.0
    for t, g in enumerate(grads, start=1):
        weight = min(t * alpha / alpha_warmup, alpha) if alpha_warmup else alpha
        b3 = beta_3
        if beta_3_warmup and t < beta_3_warmup:
            part, start, end = t / beta_3_warmup, log(beta_1) if beta_1 else -inf, log(beta_3)
            # start * end / ((1 - part) * end + part * start), written so that start may be -inf.
            b3 = min(exp(1 / ((1 - part) / start + part / end)), beta_3)
        m = beta_1 * m + (1 - beta_1) * g
        s = b3 * s + (1 - b3) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        step = m / (1 - beta_1**t) + weight * s
        p = p - lr * step / (sqrt(v / (1 - beta_2**t)) + epsilon)
        yield p, (m, s, v)


def adopt(
    p: float, grads: Sequence[float], *, lr: float, beta_1: float, beta_2: float, epsilon: float
) -> Steps:
    """Taniguchi et al. 2024, algorithm 2; its step 0 only starts v."""
    m, v = 0.0, grads[0] ** 2
    yield p, (m, v)
    for t, g in enumerate(grads[1:], start=1):
        n = g / max(sqrt(v), epsilon)
        m = beta_1 * m + (1 - beta_1) * min(max(n, -(t**0.25)), t**0.25)
        v = beta_2 * v + (1 - beta_2) * g * g
        p = p - lr * m
        yield p, (m, v)


def lion(p: float, grads: Sequence[float], *, lr: float, beta_1: float, beta_2: float) -> Steps:
    """Chen et al. 2023, algorithm 2."""
    m = 0.0
    for g in grads:
        c = beta_1 * m + (1 - beta_1) * g
        p = p - lr * (copysign(1, c) if c else 0.0)
        m = beta_2 * m + (1 - beta_2) * g
        yield p, (m,)


def signum(p: float, grads: Sequence[float], *, lr: float, momentum: float) -> Steps:
    """Bernstein et al. 2018, algorithm 2."""
    m = 0.0
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        p = p - lr * (copysign(1, m) if m else 0.0)
        yield p, (m,)


def _rest_of_muon(
    p: float, grads: Sequence[float], *, lr: float, epsilon: float, adam_beta_1: float
) -> Steps:
    """Adam, for what is no matrix."""
    return adam(p, grads, lr=lr, epsilon=epsilon, beta_1=adam_beta_1, beta_2=0.999, decay=0.0)


@dataclass(frozen=True)
class Reference:
    """A reference with the hyperparameters to try it with, and the preset whose formula it is."""

    steps: Callable[..., Any]
    hyper: dict[str, st.SearchStrategy[Any]]
    whole: bool = False
    shape: tuple[int, ...] | None = None
    """Of the parameter as an array, where the reference takes one, and the gradients alike."""
    """Slots that are None are not compared: those of which only the sign is free."""
    tame: bool = False
    """Whether all gradients are of one size: whose steps no digits could tell otherwise."""
    tolerance: float = 1e-12
    preset: str | None = None

    @property
    def words(self) -> dict[str, str]:
        """What the optimizer is told, and the reference knows."""
        return {"preset": self.preset} if self.preset else {}

    def __str__(self) -> str:
        """Return a short name."""
        return "-".join([*self.hyper, *self.words.values()])


def _within(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high)


def _of(*names: str, **more: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    common = {
        "lr": _within(1e-4, 1.0),
        "decay": st.one_of(st.just(0.0), _within(1e-3, 0.5)),
        "beta_1": st.one_of(st.just(0.0), _within(0.1, 0.99)),
        "beta_2": _within(0.5, 0.999),
        "rho": _within(0.5, 0.99),
        "epsilon": _within(1e-8, 1e-2),
        "momentum": st.one_of(st.just(0.0), _within(0.1, 0.99)),
        "beta_3": _within(0.5, 0.999),
        "shampoo_beta": st.one_of(st.none(), _within(0.5, 0.999)),
        "weight_decay": _within(0.0, 1.0),
    }
    return {name: common[name] for name in names} | more


_BETAS = ("lr", "beta_1", "beta_2", "epsilon")
# Steps as long as the parameter would leave a difference that is all rounding.
_DECAYED = {"weight_decay": st.one_of(st.just(0.0), _within(1e-3, 0.5))}
_RELATIVE = {"lr": _within(1e-4, 0.4), **_DECAYED}
_WARMUPS = {"alpha_warmup": st.integers(1, 8), "beta_3_warmup": st.integers(1, 8)}
_RAMP = {"schedule_decay": _within(0.001, 2.0), "mom_iter_max": st.integers(0, 8)}

_ANY = st.one_of(st.just(0.0), _within(0.01, 2.0))
_FREE = {
    "warmup_steps": st.integers(0, 4),
    "r": st.one_of(st.just(0.0), _within(0.5, 2.0)),
    "weight_lr_power": st.one_of(st.just(0.0), _within(0.5, 2.0)),
    "weight_decay": st.one_of(st.just(0.0), _within(1e-3, 0.5)),
}
_SHARE = _within(0.1, 0.99)
_ON = st.just(True)
_DECAY = st.sampled_from([1.0, 0.9, 0.99])

_FACTORED = _of(
    beta_2_decay=_within(-1.0, 0.0),
    epsilon_1=_within(1e-30, 1e-8),
    epsilon_2=_within(1e-3, 0.1),
    clip_threshold=_within(0.5, 2.0),
    relative_step=st.booleans(),
    scale_parameter=st.booleans(),
    lr=_within(1e-4, 0.4),
)

REFERENCES: dict[str, list[Reference]] = {
    "SGD": [
        Reference(sgd, _of("lr", "decay", "momentum", nesterov=st.booleans())),
        Reference(sgd, _of("lr", "decay", "momentum", nesterov=st.booleans(), **_RAMP)),
        Reference(
            by.sgd_buffer, _of("lr", "decay", "momentum", nesterov=st.booleans()), preset="torch"
        ),
    ],
    "RMSprop": [
        Reference(rmsprop, _of("lr", "decay", "rho", "epsilon")),
        Reference(rmsprop, _of("lr", "decay", "rho", "epsilon", "momentum")),
        Reference(
            rmsprop, _of("lr", "decay", "rho", "epsilon", "momentum", centered=st.just(True))
        ),
        Reference(by.rmsprop_inside, _of("lr", "rho", "epsilon"), preset="keras3"),
        Reference(by.rmsprop_inside, _of("lr", "rho", "epsilon", "momentum"), preset="optax"),
        Reference(by.rmsprop_inside, _of("lr", "rho", "epsilon", centered=_ON), preset="optax"),
        Reference(
            by.rmsprop_inside,
            _of("lr", "rho", "epsilon", momentum=_SHARE, centered=_ON),
            preset="keras3",
        ),
        Reference(by.rmsprop_buffer, _of("lr", "rho", "epsilon", momentum=_SHARE), preset="torch"),
        Reference(
            by.rmsprop_buffer,
            _of("lr", "rho", "epsilon", momentum=_SHARE, centered=_ON),
            preset="torch",
        ),
    ],
    "ASGD": [
        Reference(asgd, _of("lr", lambd=_ANY, alpha=_within(0.0, 1.0), t0=_within(0.0, 4.0))),
        Reference(
            asgd,
            _of("lr", lambd=_ANY, alpha=_within(0.0, 1.0), t0=_within(0.0, 4.0)),
            preset="torch",
        ),
    ],
    "Adagrad": [
        Reference(adagrad, _of("lr", "decay", "epsilon", initial_accumulator_value=_ANY)),
        Reference(
            by.adagrad_inside, _of("lr", "epsilon", initial_accumulator_value=_ANY), preset="keras3"
        ),
        Reference(
            by.adagrad_inside, _of("lr", "epsilon", initial_accumulator_value=_ANY), preset="optax"
        ),
    ],
    "Adadelta": [Reference(adadelta, _of("lr", "decay", "rho", "epsilon"))],
    "Adam": [
        Reference(adam, _of(*_BETAS, "decay", amsgrad=st.booleans())),
        Reference(by.adam_outside, _of(*_BETAS), preset="optax"),
        Reference(by.adam_outside, _of(*_BETAS), preset="paper"),
        Reference(by.adam_outside, _of(*_BETAS), preset="torch"),
        Reference(by.amsgrad_optax, _of(*_BETAS, amsgrad=_ON), preset="optax"),
        Reference(by.amsgrad_paper, _of(*_BETAS, amsgrad=_ON), preset="paper"),
        Reference(by.amsgrad_torch, _of(*_BETAS, amsgrad=_ON), preset="torch"),
    ],
    "LAMB": [
        Reference(lamb, _of(*_BETAS[1:], "decay", **_RELATIVE), whole=True),
        Reference(by.lamb_keras, _of(*_BETAS[1:], **_RELATIVE), whole=True, preset="keras3"),
    ],
    "LARS": [
        Reference(
            lars,
            _of(
                "decay",
                "momentum",
                "epsilon",
                trust_coefficient=_within(1e-3, 0.1),
                **_RELATIVE,
            ),
            whole=True,
        ),
        Reference(
            by.lars_optax,
            _of("momentum", "epsilon", trust_coefficient=_within(1e-3, 0.1), **_RELATIVE),
            whole=True,
            preset="optax",
        ),
    ],
    "Adamax": [
        Reference(adamax, _of(*_BETAS, "decay")),
        Reference(by.adamax_inside, _of(*_BETAS), preset="torch"),
    ],
    "StableAdamW": [
        Reference(stable_adamw, _of(*_BETAS[1:], "decay", **_RELATIVE), whole=True, tolerance=1e-10)
    ],
    "DoG": [
        Reference(
            dog,
            _of("epsilon", lr=_within(0.1, 2.0), reps_rel=_within(1e-6, 1e-2), **_DECAYED),
            whole=True,
            tolerance=1e-10,  # the distance is that of two parameters
        )
    ],
    "Prodigy": [
        Reference(
            prodigy,
            _of(
                *_BETAS[1:],
                lr=_within(0.1, 2.0),
                d0=_within(1e-6, 1e-2),
                d_coef=_within(0.5, 2.0),
                growth_rate=st.one_of(st.none(), _within(1.01, 4.0)),
                bias_correction=st.booleans(),
                safeguard_warmup=st.booleans(),
                **_DECAYED,
            ),
            whole=True,
            tolerance=1e-8,  # the estimate is a sum of differences of parameters
        )
    ],
    "Adafactor": [Reference(adafactor, _FACTORED, shape=shape) for shape in [(2, 3), (6,)]],
    "SM3": [
        Reference(
            sm3,
            _of("lr", "momentum", "epsilon", rho=_DECAY),
            shape=shape,
        )
        for shape in [(2, 3), (6,)]
    ],
    "Muon": [
        Reference(
            muon,
            _of(
                *("lr", "momentum", "epsilon"),
                nesterov=st.booleans(),
                ns_steps=st.integers(1, 6),
                scaling=st.sampled_from(["rms", "shape"]),
                outputs=st.sampled_from(["first", "last"]),
            ),
            shape=shape,
            tolerance=1e-10,  # an iteration, which small singular values leave as they grow
        )
        for shape in [(2, 3), (3, 2)]
    ]
    + [Reference(_rest_of_muon, _of("lr", "epsilon", adam_beta_1=_within(0.1, 0.9)))],
    "Shampoo": [
        Reference(
            shampoo,
            _of(
                *("lr", "momentum"),
                epsilon=_within(1e-4, 1e-2),
                rho=_DECAY,
                precondition_frequency=st.integers(1, 3),
                max_precondition_dim=st.sampled_from([2, 3]),
            ),
            shape=shape,
            tame=True,
            tolerance=1e-9,  # an eigenvalue of 0 is rounded like the largest one
        )
        for shape in [(2, 3), (3, 2)]
    ]
    + [Reference(shampoo_of_vectors, _of("lr", "momentum", "epsilon", rho=_DECAY))],
    "SOAP": [
        Reference(
            soap,
            _of(
                *(*_BETAS, "shampoo_beta"),
                precondition_frequency=st.integers(1, 3),
                max_precondition_dim=st.sampled_from([2, 3]),
            ),
            shape=shape,
            tame=True,
            tolerance=1e-8,  # of eigenvectors, by how near their eigenvalues are
        )
        for shape in [(2, 3), (3, 2)]
    ]
    + [Reference(adam, _of(*_BETAS, "decay"))],
    "Ftrl": [
        Reference(
            ftrl,
            _of(
                "lr",
                initial_accumulator_value=_within(0.01, 2.0),
                l1_regularization_strength=_ANY,
                l2_regularization_strength=_ANY,
                l2_shrinkage_regularization_strength=_ANY,
                beta=_ANY,
            ),
            tame=True,  # after a small gradient a large one cancels but for its last digits
            tolerance=1e-10,  # a difference of roots loses digits
        ),
        Reference(
            by.ftrl_paper,
            _of(
                "lr",
                initial_accumulator_value=_within(0.01, 2.0),
                l1_regularization_strength=_ANY,
                l2_shrinkage_regularization_strength=_ANY,
                l2_regularization_strength=_ANY,
                beta=_ANY,
            ),
            tame=True,
            tolerance=1e-10,
            preset="paper",
        ),
    ],
    "Nadam": [
        Reference(nadam, _of(*_BETAS, schedule_decay=_within(0.001, 2.0))),
        Reference(partial(nadam, schedule_decay=1.0), _of(*_BETAS), preset="keras3"),
        Reference(by.nadam_optax, _of(*_BETAS), preset="optax"),
    ],
    "Rprop": [
        Reference(
            rprop,
            _of(
                "lr",
                eta_minus=_within(0.1, 0.9),
                eta_plus=_within(1.1, 2.0),
                step_min=_within(1e-6, 1e-2),
                step_max=_within(0.05, 50.0),
            ),
        ),
        Reference(
            by.rprop_torch,
            _of(
                "lr",
                eta_minus=_within(0.1, 0.9),
                eta_plus=_within(1.1, 2.0),
                step_min=_within(1e-6, 1e-2),
                step_max=_within(0.05, 50.0),
            ),
            preset="torch",
        ),
        Reference(
            by.rprop_optax,
            _of(
                "lr",
                eta_minus=_within(0.1, 0.9),
                eta_plus=_within(1.1, 2.0),
                step_min=_within(1e-6, 1e-2),
                step_max=_within(0.05, 50.0),
            ),
            preset="optax",
        ),
    ],
    "ScheduleFreeAdamW": [
        Reference(schedule_free_adamw, _of("lr", "beta_2", "epsilon", momentum=_SHARE, **_FREE)),
    ],
    "ScheduleFreeSGD": [
        Reference(schedule_free_sgd, _of("lr", momentum=_SHARE, **_FREE)),
    ],
    "AdamW": [
        Reference(decoupled(adam), _of(*_BETAS, "decay", "weight_decay", amsgrad=st.booleans()))
    ],
    "NadamW": [
        Reference(
            decoupled(nadam), _of(*_BETAS, "weight_decay", schedule_decay=_within(0.001, 2.0))
        )
    ],
    "RAdam": [
        Reference(radam, _of(*_BETAS, threshold=st.sampled_from([4.0, 5.0]))),
        Reference(by.radam_torch, _of(*_BETAS), preset="torch"),
        Reference(radam, _of(*_BETAS, threshold=st.just(4.0)), preset="paper"),
    ],
    "AdaBelief": [Reference(adabelief, _of(*_BETAS))],
    "Yogi": [
        Reference(yogi, _of(*_BETAS, initial_accumulator_value=_within(0.0, 1.0))),
        Reference(
            by.yogi_optax, _of(*_BETAS, initial_accumulator_value=_within(0.0, 1.0)), preset="optax"
        ),
        Reference(
            by.yogi_plain, _of(*_BETAS, initial_accumulator_value=_within(0.0, 1.0)), preset="paper"
        ),
    ],
    "Adan": [
        Reference(adan, _of(*_BETAS, "beta_3")),
        Reference(by.adan_optax, _of(*_BETAS, "beta_3"), preset="optax"),
    ],
    "AdEMAMix": [
        Reference(ademamix, _of(*_BETAS, "beta_3", alpha=_within(0.0, 10.0))),
        Reference(ademamix, _of(*_BETAS, "beta_3", alpha=_within(0.0, 10.0), **_WARMUPS)),
    ],
    "ADOPT": [Reference(adopt, _of(*_BETAS))],
    "MARS": [
        Reference(
            new.mars,
            _of(
                *("lr", "decay", "beta_2", "epsilon"),
                beta_1=_within(0.1, 0.95),
                gamma=_within(0.0, 0.5),
                optimize_1d=_ON,
            ),
            whole=True,
            tame=True,
            tolerance=1e-10,
        ),
        Reference(
            new.adam_beside,
            _of("lr", "epsilon", adam_beta_1=_within(0.1, 0.9), adam_beta_2=_within(0.5, 0.999)),
        ),
    ],
    "CAME": [
        Reference(
            new.came,
            _of(
                *("lr", "beta_1", "beta_2", "beta_3"),
                epsilon_1=_within(1e-30, 1e-8),
                epsilon_2=_within(1e-16, 1e-8),
                clip_threshold=_within(0.5, 2.0),
            ),
            shape=shape,
            tame=True,  # a deviation is a difference
            tolerance=1e-9,
        )
        for shape in [(2, 3), (6,)]
    ],
    "AdamMini": [
        Reference(
            new.adam_mini,
            _of(
                *(*_BETAS, "decay"),
                outputs=st.sampled_from(sides),
                split=split,
                whole=whole,
            ),
            shape=shape,
        )
        for shape, sides, split, whole in [
            ((2, 3), ["first", "last"], st.just(()), st.just(())),
            ((6, 1), ["first"], st.just((("*", 3),)), st.just(())),
            ((1, 6), ["last"], st.just((("*", 3),)), st.just(())),
            ((2, 3), ["first", "last"], st.just(()), st.just(("*",))),
            ((6,), ["first"], st.just(()), st.just(("*",))),
        ]
    ]
    + [
        Reference(
            by.adam_outside,
            _of(*_BETAS),
        )
    ],
    "GaLore": [
        Reference(
            new.galore,
            _of(
                *(*_BETAS, "decay"),
                rank=st.integers(1, 2),
                update_proj_gap=st.integers(1, 3),
                scale=_within(0.25, 1.0),
            ),
            shape=shape,
            tame=True,
            tolerance=1e-7,  # of eigenvectors, by how near their eigenvalues are
        )
        for shape in [(2, 3), (3, 2)]
    ]
    + [Reference(adam, _of(*_BETAS, "decay"))],
    **{
        name: [
            Reference(
                steps,
                _of(
                    *("lr", "momentum", "epsilon"),
                    beta_2=_within(0.5, 0.999),
                    epsilon_2=_within(1e-10, 1e-6),
                    nesterov=st.booleans(),
                    ns_steps=st.integers(1, 6),
                    scaling=st.sampled_from(["rms", "shape"]),
                    outputs=st.sampled_from(["first", "last"]),
                ),
                shape=shape,
                tame=True,  # signs, and roots of what an iteration leaves
                tolerance=1e-9,
            )
            for shape in [(2, 3), (3, 2)]
        ]
        + [Reference(_rest_of_muon, _of("lr", "epsilon", adam_beta_1=_within(0.1, 0.9)))]
        for name, steps in (("NorMuon", new.normuon), ("AdaMuon", new.adamuon))
    },
    "Sophia": [
        Reference(
            new.sophia,
            _of(
                "beta_1",
                **_RELATIVE,
                epsilon=_within(1e-3, 1.0),
                clip_threshold=_within(0.1, 10.0),
                bias_correction=st.booleans(),
            ),
        )
    ],
    "APOLLO": [
        Reference(
            new.apollo,
            _of(
                *(*_BETAS, "decay"),
                rank=st.integers(1, 2),
                scale_type=st.sampled_from(["channel", "tensor"]),
                scale=_within(0.25, 1.0),
                update_proj_gap=st.integers(1, 3),
                norm_growth=st.one_of(st.just(inf), _within(1.0, 1.5)),
            ),
            shape=shape,
            tame=True,
            tolerance=1e-9,  # a row may be nearly at right angles to all directions
        )
        for shape in [(2, 3), (3, 2)]
    ]
    + [Reference(adam, _of(*_BETAS, "decay"))],
    "Kron": [
        Reference(
            new.kron,
            _of(
                *("lr", "decay", "beta_1"),
                update_probability=st.sampled_from([0.4, 1.0]),
                precondition_lr=_within(0.01, 0.5),
                balance_frequency=st.integers(1, 3),
                memory_save_mode=st.sampled_from(modes),
            ),
            shape=shape,
            tame=True,
            tolerance=1e-9,
        )
        for shape, modes in [
            ((2, 3), ["none", "one_diag", "smart_one_diag", "all_diag"]),
            ((3, 2), ["none", "one_diag", "smart_one_diag", "all_diag"]),
        ]
    ]
    + [
        Reference(
            new.adam_beside_kron,
            _of("lr", "decay", "beta_1", "epsilon", adam_beta_2=_within(0.5, 0.999)),
        )
    ],
    "Lion": [Reference(lion, _of("lr", "beta_1", "beta_2"))],
    "Signum": [Reference(signum, _of("lr", "momentum"))],
}
"""Several references of one class are its variants, each with the hyperparameters it needs."""
