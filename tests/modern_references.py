"""References of younger rules, for `references`; written from the papers and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Any

import numpy as np

Steps = Iterator[tuple[float, tuple[float, ...]]]
WholeSteps = Iterator[tuple[Any, tuple[Any, ...]]]


def mars(
    p: list[float],
    grads: Sequence[Sequence[float]],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    gamma: float,
    epsilon: float,
    optimize_1d: bool,
) -> WholeSteps:
    """Yuan et al. 2024, algorithm 2, with the last gradient for that at the last point."""
    m, v, last = [0.0] * len(p), [0.0] * len(p), [0.0] * len(p)
    for t, row in enumerate(grads):
        k, eta = gamma * beta_1 / (1 - beta_1), lr / (1 + decay * t)
        c = [g + k * (g - o) for g, o in zip(row, last, strict=True)]
        norm, last = max(1.0, sqrt(sum(x * x for x in c))), list(row)
        m = [beta_1 * a + (1 - beta_1) * x / norm for a, x in zip(m, c, strict=True)]
        v = [beta_2 * a + (1 - beta_2) * (x / norm) ** 2 for a, x in zip(v, c, strict=True)]
        k1, k2 = 1 - beta_1 ** (t + 1), 1 - beta_2 ** (t + 1)
        p = [x - eta * a / k1 / (sqrt(b / k2) + epsilon) for x, a, b in zip(p, m, v, strict=True)]
        yield p, (m, v, last)


def adam_beside(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    epsilon: float,
    adam_beta_1: float,
    adam_beta_2: float,
) -> Steps:
    """Kingma and Ba 2015, algorithm 1, for what is no matrix."""
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        m = adam_beta_1 * m + (1 - adam_beta_1) * g
        v = adam_beta_2 * v + (1 - adam_beta_2) * g * g
        root = sqrt(v / (1 - adam_beta_2**t))
        p = p - lr * m / (1 - adam_beta_1**t) / (root + epsilon)
        yield p, (m, v)


def came(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    beta_1: float,
    beta_2: float,
    beta_3: float,
    epsilon_1: float,
    epsilon_2: float,
    clip_threshold: float,
) -> WholeSteps:
    """Luo et al. 2023, algorithm 2."""
    m, r, c, a, b, v = (0.0 * p.sum(),) * 6
    for g in grads:
        squares = g**2 + epsilon_1
        if p.ndim == 2:
            r = beta_2 * r + (1 - beta_2) * squares.mean(1)
            c = beta_2 * c + (1 - beta_2) * squares.mean(0)
            v = np.outer(r, c) / r.mean()
        else:
            v = beta_2 * v + (1 - beta_2) * squares
        u = g / np.sqrt(v)
        u = u / max(1.0, sqrt((u**2).mean()) / clip_threshold)
        m = beta_1 * m + (1 - beta_1) * u
        if p.ndim == 1:
            p = p - lr * m
            yield p, (m, v)
            continue
        d = (u - m) ** 2 + epsilon_2
        a = beta_3 * a + (1 - beta_3) * d.mean(1)
        b = beta_3 * b + (1 - beta_3) * d.mean(0)
        p = p - lr * m / np.sqrt(np.outer(a, b) / a.mean())
        yield p, (m, r, c, a, b)


def adam_mini(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    outputs: str,
    split: Any,
    whole: Any,
) -> WholeSteps:
    """Zhang et al. 2024, algorithms 1 to 3, with blocks of outputs or of all."""
    m = v = 0.0
    columns = outputs == "last" and not whole
    for t, g in enumerate(grads):
        x = g.T if columns else g
        count = 1 if whole else split[0][1] if split else x.shape[0]
        blocks = (x**2).reshape(count, -1).mean(1)
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * blocks
        root = np.sqrt(v / (1 - beta_2 ** (t + 1)))
        each = np.repeat(root, x.size // count).reshape(x.shape)
        mean = m / (1 - beta_1 ** (t + 1))
        p = p - lr / (1 + decay * t) * mean / ((each.T if columns else each) + epsilon)
        yield p, (m, v)


def orthogonalized(x: Any, epsilon: float, ns_steps: int) -> Any:
    """Jordan et al. 2024, with their factors."""
    x = x / (sqrt((x**2).sum()) + epsilon)
    for _ in range(ns_steps):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


def scale_of(p: Any, scaling: str, outputs: str) -> float:
    """Return what a step is multiplied by."""
    n, k = p.shape
    if scaling == "rms":
        return 0.2 * sqrt(max(n, k))
    return sqrt(max(1, n / k if outputs == "first" else k / n))


def normuon(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    momentum: float,
    beta_2: float,
    epsilon: float,
    epsilon_2: float,
    nesterov: bool,
    ns_steps: int,
    scaling: str,
    outputs: str,
) -> WholeSteps:
    """Li et al. 2025, algorithm 1, with the norm of the authors' program."""
    m, v, axis = 0.0, 0.0, 1 if outputs == "first" else 0
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        x = momentum * m + (1 - momentum) * g if nesterov else m
        x = orthogonalized(x, epsilon, ns_steps)
        v = beta_2 * v + (1 - beta_2) * (x**2).mean(axis, keepdims=True)
        u = x / (np.sqrt(v) + epsilon_2)
        u = u * sqrt((x**2).sum()) / (sqrt((u**2).sum()) + epsilon_2)
        p = p - lr * scale_of(p, scaling, outputs) * u
        yield p, (m, v.ravel())


def adamuon(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    momentum: float,
    beta_2: float,
    epsilon: float,
    epsilon_2: float,
    nesterov: bool,
    ns_steps: int,
    scaling: str,
    outputs: str,
) -> WholeSteps:
    """Si et al. 2025, algorithm 1."""
    m = v = 0.0
    for g in grads:
        m = momentum * m + (1 - momentum) * g
        x = momentum * m + (1 - momentum) * g if nesterov else m
        x = orthogonalized(np.sign(x), epsilon, ns_steps)
        v = beta_2 * v + (1 - beta_2) * x**2
        u = x / (np.sqrt(v) + epsilon_2)
        size = sqrt(min(p.shape)) * scale_of(p, scaling, outputs)
        p = p - lr * size * u / (sqrt((u**2).sum()) + epsilon_2)
        yield p, (m, v)


def galore(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    rank: int,
    update_proj_gap: int,
    scale: float,
) -> WholeSteps:
    """Zhao et al. 2024, algorithm 2, with vectors that keep their side."""
    m, v, q, tall = 0.0, 0.0, np.zeros(()), p.shape[0] >= p.shape[1]
    for t, g in enumerate(grads):
        x = g if tall else g.T
        if t % update_proj_gap == 0:
            new = np.linalg.svd(x)[2][:rank].T
            q = new * np.where((new * q).sum(0) < 0, -1.0, 1.0)
        u = x @ q
        m, v = beta_1 * m + (1 - beta_1) * u, beta_2 * v + (1 - beta_2) * u**2
        k1, k2 = 1 - beta_1 ** (t + 1), 1 - beta_2 ** (t + 1)
        eta = lr / (1 + decay * t) * scale * sqrt(k2) / k1
        step = eta * (m / (np.sqrt(v) + epsilon)) @ q.T
        p = p - (step if tall else step.T)
        yield p, (None, v if tall else v.T, None)


def adam_beside_kron(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    epsilon: float,
    adam_beta_2: float,
) -> Steps:
    """Kingma and Ba 2015, the form before section 2.1, for what is no matrix."""
    m = v = 0.0
    for t, g in enumerate(grads):
        m = beta_1 * m + (1 - beta_1) * g
        v = adam_beta_2 * v + (1 - adam_beta_2) * g * g
        k1, k2 = 1 - beta_1 ** (t + 1), 1 - adam_beta_2 ** (t + 1)
        p = p - lr / (1 + decay * t) * sqrt(k2) / k1 * m / (sqrt(v) + epsilon * sqrt(k2))
        yield p, (m, v)


def sophia(
    p: float,
    grads: Sequence[float],
    *,
    lr: float,
    beta_1: float,
    epsilon: float,
    clip_threshold: float,
    weight_decay: float,
    bias_correction: bool,
) -> Steps:
    """Liu et al. 2023, algorithm 3, before the first estimate; optax corrects the mean."""
    m = 0.0
    for t, g in enumerate(grads, 1):
        m = beta_1 * m + (1 - beta_1) * g
        mean = m / (1 - beta_1**t) if bias_correction else m
        step = min(max(mean / epsilon, -clip_threshold), clip_threshold)
        p = p - lr * weight_decay * p - lr * step
        yield p, (m, 0.0)


def signs(rows: int, columns: int, key: int) -> Any:
    """Return the random signs of a key, one by one."""
    low = (1 << 15) - 1

    def sign(i: int, j: int) -> float:
        far = 7 * (i >> 15) + 8191 * (j >> 15) + 4093 * (key >> 15)
        own, left, right = key & low, i & low, j & low
        for factor in (20077, 31337, 9973, 27059, 14741):
            own = (own * 12269 + 6925) & low
            x = ((right + own + far) & low) * factor & low
            left, right = right, (left + (x * x >> 7)) & low
        return 1.0 if right >> 14 else -1.0

    return np.array([[sign(i, j) for j in range(columns)] for i in range(rows)])


def apollo(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    rank: int,
    scale_type: str,
    scale: float,
    update_proj_gap: int,
    norm_growth: float,
) -> WholeSteps:
    """Zhu et al. 2024, algorithm 1, on a matrix whose shorter side comes last."""
    m, v, last, tall = 0.0, 0.0, 0.0, p.shape[0] >= p.shape[1]
    rank = min(rank, *p.shape)
    p = p if tall else p.T
    axis = 1 if scale_type == "channel" else None
    for t, g in enumerate(grads):
        x = g if tall else g.T
        q = signs(x.shape[1], rank, t // update_proj_gap) / sqrt(rank)
        u = x @ q
        m, v = beta_1 * m + (1 - beta_1) * u, beta_2 * v + (1 - beta_2) * u**2
        d = m / (np.sqrt(v) + epsilon)
        s = x * np.sqrt((d**2).sum(axis, keepdims=True))
        s = s / (np.sqrt((u**2).sum(axis, keepdims=True)) + 1e-8)
        size, most = sqrt((s**2).sum()), norm_growth * (last + 1e-8)
        s, last = (s * (most / size), most) if t and size > most else (s, size)
        k1, k2 = 1 - beta_1 ** (t + 1), 1 - beta_2 ** (t + 1)
        p = p - lr / (1 + decay * t) * sqrt(scale) * sqrt(k2) / k1 * s
        rows = (m, v) if tall else (m.T, v.T)
        yield (p if tall else p.T), (*rows, q, last)


def bound(s: Any) -> float:
    """Return the length of a matrix times its longest column, made a unit vector by it."""
    x = s @ s[:, (s**2).sum(0).argmax()]
    x = s @ (x / sqrt((x**2).sum()))
    return sqrt((x**2).sum())


def kron(
    p: Any,
    grads: Sequence[Any],
    *,
    lr: float,
    decay: float,
    beta_1: float,
    update_probability: float,
    precondition_lr: float,
    balance_frequency: int,
    memory_save_mode: str,
) -> WholeSteps:
    """Li 2022 in the form of kron_torch, with factors that are matrices throughout."""
    n, k = p.shape
    row = memory_save_mode == "all_diag" or (memory_save_mode != "none" and n > k)
    column = memory_save_mode == "all_diag" or (memory_save_mode != "none" and n <= k)
    m, a, b, since, fits = 0.0, np.eye(n), np.eye(k), 0, 0

    def better(q: Any, more: Any, less: Any, plain: bool) -> Any:
        top = np.diag(more + less).max() if plain else bound(more + less)
        move = np.diag(np.diag(more - less)) if plain else np.triu(more - less)
        return q - precondition_lr / top * move @ q

    for t, g in enumerate(grads):
        m = beta_1 * m + (1 - beta_1) * g
        x, since = m / (1 - beta_1 ** (t + 1)), since + 1
        if since * update_probability >= 1:
            since, fits, v = 0, fits + 1, signs(n, k, t)
            if fits % balance_frequency == 0:
                ratio = sqrt(np.abs(b).max() / np.abs(a).max())
                a, b = a * ratio, b / ratio
            x = x + 2**-11.5 * np.abs(x).mean() * v
            y, z = a @ x @ b.T, np.linalg.inv(a).T @ v @ np.linalg.inv(b)
            a = better(a, y @ y.T, z @ z.T, row)
            b = better(b, y.T @ y, z.T @ z, column)
        u = a.T @ a @ x @ b.T @ b
        u = u * min(1, 1.1 / (sqrt((u**2).mean()) + 1e-12))
        p = p - lr / (1 + decay * t) * u
        slots = [np.diag(q) if plain else q for q, plain in ((a, row), (b, column))]
        # The identity is kept as zeros before the first fit.
        rows, columns = ((q if fits else 0.0 * q) for q in slots)
        yield p, (since, fits, m, rows, columns)
