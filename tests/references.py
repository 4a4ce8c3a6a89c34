"""The update of every optimizer on one number, in plain Python floats, written from the papers.

Each function takes the start value, the gradients and the hyperparameters, and yields the
parameter and the slots after every step. Nothing here may import the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Any

from hypothesis import strategies as st

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


def adagrad(p: float, grads: Sequence[float], *, lr: float, decay: float, epsilon: float) -> Steps:
    """Duchi, Hazan and Singer 2011, the diagonal form."""
    a = 0.0
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


@dataclass(frozen=True)
class Reference:
    """A reference with the hyperparameters to try it with."""

    steps: Callable[..., Any]
    hyper: dict[str, st.SearchStrategy[Any]]
    whole: bool = False


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
    }
    return {name: common[name] for name in names} | more


_BETAS = ("lr", "beta_1", "beta_2", "epsilon")
# Steps as long as the parameter would leave a difference that is all rounding.
_RELATIVE = {"lr": _within(1e-4, 0.4), "weight_decay": st.one_of(st.just(0.0), _within(1e-3, 0.5))}
_RAMP = {"schedule_decay": _within(0.001, 2.0), "mom_iter_max": st.integers(0, 8)}

REFERENCES: dict[str, list[Reference]] = {
    "SGD": [
        Reference(sgd, _of("lr", "decay", "momentum", nesterov=st.booleans())),
        Reference(sgd, _of("lr", "decay", "momentum", nesterov=st.booleans(), **_RAMP)),
    ],
    "RMSprop": [
        Reference(rmsprop, _of("lr", "decay", "rho", "epsilon")),
        Reference(rmsprop, _of("lr", "decay", "rho", "epsilon", "momentum")),
        Reference(
            rmsprop, _of("lr", "decay", "rho", "epsilon", "momentum", centered=st.just(True))
        ),
    ],
    "Adagrad": [Reference(adagrad, _of("lr", "decay", "epsilon"))],
    "Adadelta": [Reference(adadelta, _of("lr", "decay", "rho", "epsilon"))],
    "Adam": [Reference(adam, _of(*_BETAS, "decay", amsgrad=st.booleans()))],
    "LAMB": [Reference(lamb, _of(*_BETAS[1:], "decay", **_RELATIVE), whole=True)],
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
        )
    ],
    "Adamax": [Reference(adamax, _of(*_BETAS, "decay"))],
    "Nadam": [Reference(nadam, _of(*_BETAS, schedule_decay=_within(0.001, 2.0)))],
}
"""Several references of one class are its variants, each with the hyperparameters it needs."""
