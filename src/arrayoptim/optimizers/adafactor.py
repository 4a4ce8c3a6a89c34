"""Adafactor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import MachineEpsilon, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber, Number
from ..rules.rule import Rule, Side, rule
from ._matrices import MatrixOptimizer, root_mean_square


def rows_and_columns(*shape):
    return {"row_velocity": shape[:-1], "column_velocity": (*shape[:-2], shape[-1])}


@cache
def adafactor_rule(outputs: Side, axes: int) -> Rule:
    """Return the rule of matrices, or of stacks of matrices with `axes` axes in all."""

    @rule(
        slots=("row_velocity", "column_velocity"),
        kind="matrix",
        shapes=rows_and_columns,
        outputs=outputs,
    )
    def adafactor(p, g, r, c, rho, least, share, b2, c2, eps, top, xp):
        squares = g * g + eps
        r = b2 * r + c2 * xp.mean(squares, axis=-1)
        c = b2 * c + c2 * xp.mean(squares, axis=-2)
        # The derivative of a quotient of numbers as small as eps overflows float32.
        rows = xp.sqrt(r) / xp.sqrt(xp.mean(r, axis=-1, keepdims=True))
        u = g / (rows[..., :, None] * xp.sqrt(c)[..., None, :])
        size = share * root_mean_square(p, xp, axes)
        excess = root_mean_square(u, xp, axes) / top
        step = rho * xp.where(size > least, size, least) / xp.where(excess > 1, excess, 1)
        return p - step * u, r, c

    return adafactor


def direction(p, g, v, b2, c2, eps, xp):
    v = b2 * v + c2 * (g * g + eps)
    return g / xp.sqrt(v), v


def rate(size, p, d, rho, least, share, top, xp):
    root = xp.sqrt(xp.maximum(size, 1.0))
    length = share * p / root
    excess = d / root / top
    # A NaN norm must not limit anything, so that NaN stays in its own entry.
    longest = xp.where(length > least, length, least)
    return {"rate": rho * longest / xp.where(excess > 1.0, excess, 1.0)}


@rule(slots=("velocity",), direction=direction, ratio=rate, measured=("rate",))
def adafactor_of_vectors(p, g, v, rate, xp):
    return p - rate * g, v


def kept_axes(*shape):
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}


@cache
def clamped_rule(axes: int) -> Rule:
    """Return torch's rule of parameters with `axes` axes, of which the last two are the matrix."""
    # A single matrix is not a stack, so the fused loop over rows and columns serves it.
    seen: Side = "first" if axes == 2 else "stack"

    @rule(slots=("row_var", "col_var"), kind="matrix", shapes=kept_axes, outputs=seen)
    def adafactor_clamped(p, g, r, c, rho, least, share, b2, c2, eps, tiny, top, wd, xp):
        r = b2 * r + c2 * xp.mean(g * g, axis=-1, keepdims=True)
        c = b2 * c + c2 * xp.mean(g * g, axis=-2, keepdims=True)
        mean = xp.mean(r[..., 0], axis=-1, keepdims=True)[..., :, None]
        v = r * c / xp.maximum(mean, eps)
        u = g / xp.sqrt(xp.maximum(v, tiny))
        size = share * root_mean_square(p, xp, axes)
        excess = root_mean_square(u, xp, axes) / top
        step = rho * xp.where(size > least, size, least) / xp.where(excess > 1, excess, 1)
        return p - wd * p - step * u, r, c

    return adafactor_clamped


def clamped_direction(p, g, v, b2, c2, tiny, xp):
    v = b2 * v + c2 * (g * g)
    return g / xp.sqrt(xp.maximum(v, tiny)), v


@rule(slots=("variance",), direction=clamped_direction, ratio=rate, measured=("rate",))
def clamped_of_vectors(p, g, v, rate, wd, xp):
    return p - wd * p - rate * g, v


@register
class Adafactor(MatrixOptimizer):
    """Divide the gradient by a running root mean square, factored into rows and columns.

    For models whose optimizer state must be small. 4 bytes of state for each row and each column of
    a float32 matrix; 4 bytes per parameter of vectors and scalars.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter's root mean square with `scale_parameter`.
        ``learning_rate`` is accepted.
    beta_2_decay : float in (-inf, 0] or schedule
        Power of the step number in the weight of the newest square.
    epsilon_1 : float in [0, inf), optional
        Added to the squared gradient. None for the machine epsilon of the compute dtype, the
        default with ``preset="torch"``.
    epsilon_2 : float in [0, inf)
        Lower bound on the root mean square of a parameter.
    clip_threshold : float in (0, inf] or schedule
        Bound on the root mean square of a step before it is multiplied by the step size.
    relative_step : bool
        Whether the step size is at most ``1 / sqrt(t)``.
    scale_parameter : bool
        Whether the step size is proportional to the size of each parameter.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``row_velocity`` (rows) and ``column_velocity`` (columns) for a matrix, ``velocity``
    (shape of the parameter) for anything else, including complex parameters; ``t`` counts steps
    from 1::

        b2 = 1 - t**beta_2_decay
        r = b2 * r + (1 - b2) * mean over columns(g**2 + epsilon_1)
        c = b2 * c + (1 - b2) * mean over rows(g**2 + epsilon_1)
        u = g / sqrt(r * c / mean(r))               # g / sqrt(v) of a vector
        p = p - max(epsilon_2, rms(p)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / clip_threshold)

    With ``preset="keras3"`` the last two axes of a parameter form its matrix, and those before
    index matrices, regardless of `outputs`; and the step size is at most ``1 / sqrt(t)``,
    regardless of `relative_step`.

    With ``preset="torch"`` the matrices are the same, the slots are ``row_var``, ``col_var`` (with
    the averaged axis of length 1) and ``variance``, and the denominator is bounded below::

        r = b2 * r + (1 - b2) * mean over columns(g**2)                     # c and v likewise
        u = g / sqrt(max(r * c / max(mean(r), epsilon_1), epsilon_1**2))    # max(v, epsilon_1**2)

    There `weight_decay` applies after the norm of the parameter is taken, otherwise before.

    There is no first moment; the paper also leaves that to the user. Names and defaults are Keras
    3's; optax adds epsilon elsewhere, and factors only matrices with at least 128 rows and columns.
    Squares are taken in the compute dtype: in float32 a gradient entry beyond about 1e19 makes its
    matrix infinite or NaN, which `clipnorm` prevents.

    References
    ----------
    Shazeer and Stern (2018), Adafactor: Adaptive Learning Rates with Sublinear Memory Cost,
    algorithms 4 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.Adafactor(lr=0.1).apply(np.array([[1.0, -1.0], [2.0, 2.0]]), w).round(4)
    array([[ 0.8419, -1.8419],
           [ 1.8419,  0.8419]])
    """

    presets = forms(stack="keras3", clamped="torch")

    lr: Number = hyper(
        default=0.001, elsewhere={"torch": 0.01}, interval="[0, inf)", doc="Relative step size."
    )
    beta_2_decay: Number = hyper(
        default=-0.8, interval="(-inf, 0]", doc="Power of the step in the weight of a new square."
    )
    epsilon_1: MaybeNumber = hyper(
        default=1e-30,
        elsewhere={"torch": None},
        interval="[0, inf)",
        kind=MachineEpsilon,
        doc="Added to squared gradients; None for the machine epsilon.",
    )
    epsilon_2: Number = hyper(default=0.001, interval="[0, inf)", doc="Minimum parameter size.")
    clip_threshold: Number = hyper(
        default=1.0, interval="(0, inf]", doc="Bound on the root mean square of a step."
    )
    relative_step: bool = hyper(default=True, doc="Whether lr is at most 1 / sqrt(t).")
    scale_parameter: bool = hyper(
        default=True, doc="Whether steps are proportional to the parameter."
    )

    @property
    def rest(self) -> Rule:  # type: ignore[override]
        """The rule of all else."""
        return clamped_of_vectors if self.form == "clamped" else adafactor_of_vectors

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return clamped_rule(2) if self.form == "clamped" else adafactor_rule(self.outputs, 2)

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter: `rest` unless it is a matrix."""
        if self.form and len(shape) > 2:
            axes = len(shape)
            return clamped_rule(axes) if self.form == "clamped" else adafactor_rule("stack", axes)
        return super().rule_for(path, shape)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        newest = (it + 1.0) ** h.beta_2_decay
        relative = self.relative_step or self.form == "stack"
        return {
            "rho": xp.minimum(h.lr, (it + 1.0) ** -0.5) if relative else h.lr,
            "least": h.epsilon_2 if self.scale_parameter else 1.0,
            "share": 1.0 if self.scale_parameter else 0.0,
            "b2": 1.0 - newest,
            "c2": newest,
            "eps": h.epsilon_1,
            "tiny": h.epsilon_1 * h.epsilon_1,
            "wd": 0.0 if h.weight_decay is None else h.lr * h.weight_decay,
            "top": h.clip_threshold,
        }
