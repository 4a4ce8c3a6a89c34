"""Kron."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Literal

from .._typing import Array, Namespace, Scalar
from ..config.hyper import bias_correction, either, hyper, square_root
from ..config.registry import register
from ..config.typed import MaybeNumber, Number, Whole
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import (
    MatrixOptimizer,
    due,
    euclidean,
    identity,
    oriented,
    root_mean_square,
    transposed,
    when,
)
from ._signs import random_signs
from .adam import adam, adam_numbers

Form = Literal["triangular", "diagonal"]
Forms = tuple[Form, Form]
FACTORS = ("row_factor", "column_factor")
"""Slots of the factors of rows and columns."""


def forms_of(rows: int, columns: int, longest: int, saving: str) -> Forms:
    """Return the forms of the factors of rows and columns."""
    one = saving == "one_diag" or (saving == "smart_one_diag" and rows != columns)

    def form(n: int, larger: bool) -> Form:
        plain = saving == "all_diag" or n == 1 or n > longest or (one and larger)
        return "diagonal" if plain else "triangular"

    return form(rows, rows > columns), form(columns, rows <= columns)


def shape_of(form: Form, n: int) -> Shape:
    """Return the shape of a factor of a side."""
    return (n, n) if form == "triangular" else (n,)


def multiplied(q: Array, x: Array, form: Form, xp: Namespace) -> Array:
    """Multiply the rows of matrices by a factor."""
    return xp.matmul(q, x) if form == "triangular" else q[..., :, None] * x


def divided(q: Array, x: Array, form: Form, xp: Namespace) -> Array:
    """Multiply the rows of matrices by the inverse transpose of a factor."""
    return xp.linalg.solve(transposed(q, xp), x) if form == "triangular" else x / q[..., :, None]


def least_norm(s: Array, xp: Namespace) -> Array:
    """Return a lower bound on the largest eigenvalue of matrices, from one of their columns."""
    top = xp.max(xp.abs(s), axis=(-2, -1), keepdims=True)
    s = s / xp.where(top > 0, top, 1)
    which = xp.argmax(xp.sum(s * s, axis=-2), axis=-1)
    x = xp.matmul(s, xp.take_along_axis(s, which[..., None, None], axis=-1))
    size = euclidean(x, xp)
    x = xp.matmul(s, x / xp.where(size > 0, size, 1))
    return top * euclidean(x, xp)


def improved(q: Array, x: Array, y: Array, form: Form, rate: Scalar, xp: Namespace) -> Array:
    """Return a factor of rows after a step towards one that makes two arrays equally large."""
    if form == "diagonal":
        more, less = xp.sum(x * x, axis=-1), xp.sum(y * y, axis=-1)
        top = xp.max(more + less, axis=-1, keepdims=True)
        return q - q * (rate * (more - less) / xp.where(top > 0, top, 1))
    more, less = xp.matmul(x, transposed(x, xp)), xp.matmul(y, transposed(y, xp))
    top = least_norm(more + less, xp)
    move = xp.triu(more - less) * (rate / xp.where(top > 0, top, 1))
    return q - xp.matmul(move, q)


def begun(q: Array, form: Form, missing: Array, xp: Namespace) -> Array:
    """Return factors, initialized to the identity where they are missing."""
    if form == "diagonal":
        return xp.where(missing[..., 0], xp.ones_like(q), q)
    return xp.where(missing, identity(q.shape[-1], q), q)


def balanced(a: Array, b: Array, forms: Forms, even: Scalar, xp: Namespace) -> tuple[Array, Array]:
    """Return two factors, rescaled to equal largest entries if that is due."""

    def top(q: Array, form: Form) -> Array:
        axes = (-2, -1) if form == "triangular" else (-1,)
        found = xp.max(xp.abs(q), axis=axes, keepdims=True)
        return found if form == "triangular" else found[..., None]

    ratio = xp.sqrt(top(b, forms[1]) / top(a, forms[0]))
    ratio = xp.where(even > 0, ratio, xp.ones_like(ratio))
    by_a, by_b = (ratio if form == "triangular" else ratio[..., 0] for form in forms)
    return a * by_a, b / by_b


def fitted(
    x: Array,
    a: Array,
    b: Array,
    forms: Forms,
    missing: Array,
    numbers: tuple[Scalar, Scalar, Scalar, Scalar],
    xp: Namespace,
) -> tuple[Array, Array, Array]:
    """Return the mean with a little noise, and improved factors, if a fit is due."""
    now, even, key, rate = numbers
    rows, columns = forms

    def anew() -> tuple[Array, Array, Array]:
        row = begun(a, rows, missing, xp)
        column = begun(b, columns, missing, xp)
        row, column = balanced(row, column, forms, even, xp)
        noise = random_signs(x.shape[-2], x.shape[-1], key, x)
        # The square root of float32's epsilon.
        y = x + 2.0**-11.5 * xp.mean(xp.abs(x), axis=(-2, -1), keepdims=True) * noise
        noise = xp.ones_like(x) * noise
        seen = multiplied(column, transposed(multiplied(row, y, rows, xp), xp), columns, xp)
        drawn = divided(column, transposed(divided(row, noise, rows, xp), xp), columns, xp)
        new_row = improved(row, transposed(seen, xp), transposed(drawn, xp), rows, rate, xp)
        return y, new_row, improved(column, seen, drawn, columns, rate, xp)

    found: tuple[Array, Array, Array] = when(now > 0, anew, lambda: (x, a, b), x)
    return found


def whitened(x: Array, a: Array, b: Array, forms: Forms, xp: Namespace) -> Array:
    """Return ``a' a x b' b``, with a root mean square of at most 1.1."""
    rows, columns = forms
    missing = absent(a, b, forms, xp)
    ta, tb = (
        transposed(q, xp) if form == "triangular" else q
        for q, form in zip((a, b), forms, strict=True)
    )
    u = multiplied(ta, multiplied(a, x, rows, xp), rows, xp)
    u = transposed(u, xp)
    u = transposed(multiplied(tb, multiplied(b, u, columns, xp), columns, xp), xp)
    u = xp.where(missing, x, u)
    return u * xp.minimum(1.1 / (root_mean_square(u, xp) + 1e-12), xp.ones_like(u[..., :1, :1]))


def absent(a: Array, b: Array, forms: Forms, xp: Namespace) -> Array:
    """Return which matrices have no factors yet, with two trailing axes of length 1."""
    axes = (-2, -1) if forms[0] == "triangular" else (-1,)
    found = xp.sum(xp.abs(a), axis=axes, keepdims=True) <= 0
    return found if forms[0] == "triangular" else found[..., None]


@cache
def kron_rule(longest: int, saving: str, outputs: Side) -> Rule:
    """Return the rule for a maximum size of triangular factors and a memory saving mode."""

    def shapes(rows: int, columns: int) -> dict[str, Shape]:
        forms = forms_of(rows, columns, longest, saving)
        sizes = zip(FACTORS, forms, (rows, columns), strict=True)
        return {name: shape_of(form, n) for name, form, n in sizes}

    @rule(slots=("momentum", *FACTORS), kind="matrix", shapes=shapes)
    def kron(p, g, m, a, b, rate, b1, c1, k1, now, even, key, step, xp):
        m = b1 * m + c1 * g
        forms = forms_of(g.shape[-2], g.shape[-1], longest, saving)
        missing = absent(a, b, forms, xp)
        x, a, b = fitted(m / k1, a, b, forms, missing, (now, even, key, step), xp)
        return p - rate * whitened(x, a, b, forms, xp), m, a, b

    return oriented(kron, outputs)


@register
class Kron(MatrixOptimizer):
    """Whiten the momentum with two triangular Kronecker factors, fitted during training.

    For the weight matrices of transformers and other networks: PSGD with factors of rows and
    columns. 4 bytes of state per float32 parameter, and another ``4 * (n**2 + k**2)`` for a matrix
    with sides ``n`` and ``k``. A step costs four products with each factor; a step with a fit costs
    four more and two triangular solves, but no eigendecomposition.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    update_probability : float in (0, 1] or schedule, optional
        Fraction of steps, evenly spaced, in which the factors are fitted. None for all of the first
        500 steps, then a fraction that decays as ``exp(-(t - 500) / 1000)`` to 0.03.
    precondition_lr : float in [0, 1] or schedule
        Step size of the factors, relative to their size.
    balance_frequency : int in [1, inf) or schedule
        Number of fits between balancings of the two factors.
    adam_beta_2 : float in [0, 1) or schedule
        Decay rate of Adam's running mean of squares, of what Adam steps.
    epsilon : float in (0, inf)
        Added to Adam's root, after the bias correction.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    max_size_triangular : int in [1, inf)
        Longest side with a triangular factor; that of a longer one is diagonal. Fixed once the
        state exists.
    memory_save_mode : {"none", "smart_one_diag", "one_diag", "all_diag"}
        Which sides also have diagonal factors: the longer one, if one is longer; the longer one, or
        else the columns; or both.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `weight_decay`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` (shape of the parameter); ``row_factor`` (rows, rows) and ``column_factor``
    (columns, columns), or (rows) and (columns) if diagonal, in the compute dtype, zeros before the
    first fit. Vectors, scalars and complex parameters have those of `Adam`. The scalar states
    ``since_fit`` and ``fits`` are counters. Factors start as the identity; ``t`` counts steps from
    1, and ``v`` are random signs::

        m = beta_1 * m + (1 - beta_1) * g
        x = m / (1 - beta_1**t)
        where the factors a and b are fitted:
            x = x + 2**-11.5 * mean(abs(x)) * v
            y, z = a x b', inv(a') v inv(b)
            a = a - precondition_lr * triu(y y' - z z') / norm(y y' + z z') a
            b = b - precondition_lr * triu(y' y - z' z) / norm(y' y + z' z) b
        u = a' a x b' b
        p = p - lr * u * min(1, 1.1 / (rms(u) + 1e-12))

    As in kron_torch, whose ``v`` are normally distributed, and which balances randomly in one of a
    hundred fits; the signs here depend only on position and ``t``, so a resumed run redraws them,
    in every library. ``norm`` is its lower bound on the largest eigenvalue, from one column. It has
    one diagonal factor for a vector, and excludes vectors from weight decay.

    References
    ----------
    Li (2018), Preconditioned Stochastic Gradient Descent; Li (2022), Black Box Lie Group
    Preconditioners for SGD; kron_torch, by E. Walters, for schedule, noise and bounds.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([[1.0, -2.0], [2.0, 1.0]]), ao.Kron(lr=0.1)
    >>> for _ in range(2):
    ...     w = optimizer.apply(np.array([[3.0, 0.0], [0.0, 4.0]]), w)
    >>> w.round(4)
    array([[ 0.7011, -1.9952],
           [ 2.0062,  0.6775]])
    """

    lr: Number = hyper(default=0.0003, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    update_probability: MaybeNumber = hyper(
        default=None, interval="(0, 1]", doc="Fraction of steps in which the factors are fitted."
    )
    precondition_lr: Number = hyper(
        default=0.1, interval="[0, 1]", doc="Relative step size of the factors."
    )
    balance_frequency: Whole = hyper(
        default=100, interval="[1, inf)", integer=True, doc="Fits between balancings."
    )
    adam_beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of Adam's mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="(0, inf)", doc="Added to Adam's root.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    max_size_triangular: Whole = hyper(
        default=8192,
        interval="[1, inf)",
        integer=True,
        static=True,
        kw_only=True,
        doc="Longest side with a triangular factor.",
    )
    memory_save_mode: str = hyper(
        default="none",
        choices=("none", "smart_one_diag", "one_diag", "all_diag"),
        kw_only=True,
        doc="Which sides also have diagonal factors.",
    )

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return kron_rule(self.max_size_triangular, self.memory_save_mode, self.outputs)

    def initial_scalars(self) -> dict[str, float]:
        """Return the numbers of steps since the last fit, and of fits."""
        return {"since_fit": 0.0, "fits": 0.0}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        rest, k2 = adam_numbers(h.lr, h.beta_1, h.adam_beta_2, h.epsilon, it, xp)
        often = h.update_probability
        if often is None:
            often = xp.minimum(xp.maximum(xp.exp(0.5 - 0.001 * it), 0.03), 1.0)
        since = scalars["since_fit"] + 1.0
        now = either(since * often >= 1.0, 1.0, 0.0, xp)
        fits = scalars["fits"] + now
        return {
            **rest,
            "rate": h.lr,
            "eps": h.epsilon * square_root(k2, xp),
            "k1": bias_correction(h.beta_1, it + 1, xp),
            "now": now,
            "even": due(fits, h.balance_frequency, xp),
            "key": it % 2.0**24,
            "step": h.precondition_lr,
            "since_fit": since * (1.0 - now),
            "fits": fits,
        }
