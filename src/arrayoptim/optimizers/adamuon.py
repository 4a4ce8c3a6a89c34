"""AdaMuon."""

from __future__ import annotations

import math
from functools import cache

from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number
from ..rules.rule import Rule, Side, rule
from ._matrices import oriented
from ._polynomials import SCALES, Triple, constants, joint_of, lengths
from .muon import ScaledMuon


@cache
def adamuon_rule(
    steps: int,
    scaling: str,
    outputs: Side,
    triples: tuple[Triple, ...] = (),
    dtype: str = "compute",
    stacked: bool = False,
    sizes: tuple[int, ...] = (),
) -> Rule:
    """Return the rule of one kind of matrices, with the parameters of `muon_rule`."""
    axis = -2 if outputs == "first" else -1
    joint, plain = joint_of(steps, triples, dtype, sizes, axis), SCALES["none"]

    def direction(p, g, m, v, mu, nu, ahead, now, xp):
        m = mu * m + nu * g
        return xp.sign(ahead * m + now * g), m, v

    def wanted(rows: int, columns: int, outputs: Side) -> float:
        return math.sqrt(min(rows, columns)) * SCALES[scaling](rows, columns, outputs)

    @rule(slots=("momentum", "velocity"), kind="matrix", direction=direction, joint=joint)
    def adamuon(p, g, m, v, rate, rho, sigma, least, xp):
        v = rho * v + sigma * (g * g)
        u = g / (xp.sqrt(v) + least)
        size = lengths(u, plain, outputs, sizes, axis, xp) + least
        return p - rate * (u * (constants(u, wanted, outputs, sizes, axis, xp) / size)), m, v

    return oriented(adamuon, "stack" if stacked else outputs)


@register
class AdaMuon(ScaledMuon):
    """Muon on the signs of the momentum, divided elementwise by a running root mean square.

    For the weight matrices of transformers. 8 bytes of state per float32 parameter. See `Muon` for
    which matrices are better left to Adam.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size; with ``scaling="rms"`` in the units of `Adam`. ``learning_rate`` is accepted.
    momentum : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    nesterov : bool
        Whether to look one step ahead along the mean.
    ns_steps : int in [1, inf)
        Iterations of the polynomial. Fixed once a step is compiled.
    scaling : {"rms", "shape", "none"}
        Scale of a step: ``rms_rate * sqrt(max(rows, columns))``, or ``sqrt(max(1, outputs /
        inputs))``, or 1.
    rms_rate : float in [0, inf) or schedule
        Root mean square of a step of a matrix, in units of ``lr``; for ``scaling="rms"``.
    adam_lr_ratio : float in [0, inf) or schedule
        Step size of parameters that are not matrices, in units of ``lr``.
    adam_beta_1 : float in [0, 1) or schedule
        Decay rate of their running mean, per step.
    adam_beta_2 : float in [0, 1) or schedule
        Decay rate of their running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to norms of matrices, and to the root for the rest.
    ns_a, ns_b, ns_c : float in (-inf, inf) or schedule
        Coefficients of ``x``, ``x**3`` and ``x**5`` in the polynomial; by default, those of Jordan
        et al.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    outputs : {"first", "last"}
        Which axis of a matrix holds the outputs of a layer: ``"first"`` for torch kernels,
        ``"last"`` for Keras kernels.
    leading_axes : {"auto", "batch", "flatten"}
        How to treat an array with more than two axes: ``"batch"``, as a stack of matrices along its
        last two, such as the experts of a layer, each stepped independently; ``"flatten"``, as one
        matrix, with all axes but that of the outputs merged. ``"auto"`` treats three axes as a
        stack, and more as a convolution kernel, which is one matrix.
    split : dict of str to int or tuple of int
        Path patterns, as in `group`, of matrices that are concatenated along the axis of the
        outputs, each with the number of equal blocks or the number of outputs of each block:
        ``{"*qkv*": 3}``, or ``{"*qkv*": (512, 128, 128)}`` for grouped-query attention. Each block
        is stepped independently.
    ns_schedule : {"polar_express", None} or sequence of triples
        Coefficients of ``x``, ``x**3`` and ``x**5`` for each iteration, instead of the constants
        `ns_a`, `ns_b` and `ns_c`; the last triple is repeated. With ``ns_steps=8``, those of Polar
        Express bring singular values above 0.001 of the norm to between 0.99 and 1.01.
    adam_weight_decay : float in [0, inf) or schedule, optional
        Decoupled weight decay of the parameters that Adam steps; `weight_decay`, as for matrices,
        if None.
    exclude_layers : str or sequence of str
        Regular expressions for the paths of matrices that Adam steps.
    exclude_embeddings : bool
        Whether Adam steps matrices whose path contains the word embedding.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon_2 : float in [0, inf)
        Added to the root of that mean, and to the norm in the denominator.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter), the latter for squares of ``x``.
    ``orthogonalized`` is the iteration of `Muon`, ``|u|`` the Euclidean norm over a matrix::

        m = momentum * m + (1 - momentum) * g
        x = orthogonalized(sign(momentum * m + (1 - momentum) * g))    # sign(m) without nesterov
        v = beta_2 * v + (1 - beta_2) * x**2
        u = x / (sqrt(v) + epsilon_2)
        p = p - lr * scale * sqrt(min(rows, columns)) * u / (|u| + epsilon_2)

    With ``scaling="rms"`` the root mean square of a step is ``rms_rate * lr``. This is the authors'
    code, whose ``beta_2`` equals its momentum, as by default here, and which rounds to bfloat16
    during the iteration.

    References
    ----------
    Si, Zhang, Shen (2025), AdaMuon: Adaptive Muon Optimizer, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.AdaMuon(lr=0.1).apply(np.array([[3.0, 0.0], [0.0, 1.0]]), w).round(4)
    array([[ 0.9717, -2.    ],
           [ 2.    ,  0.9717]])
    """

    epsilon_2: Number = hyper(
        default=1e-08, interval="[0, inf)", kw_only=True, doc="Added to its root and to norms."
    )

    def matrix_rule(self, stacked: bool, sizes: tuple[int, ...]) -> Rule:
        """Return the rule of matrices, stacked or split into blocks."""
        return adamuon_rule(*self.polynomial, stacked, sizes)
