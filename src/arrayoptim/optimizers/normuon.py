"""NorMuon."""

from __future__ import annotations

from functools import cache

from ..config.registry import register
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import oriented
from ._polynomials import SCALES, Triple, joint_of, lengths
from .muon import ScaledMuon


@cache
def normuon_rule(
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
    joint, scaled, plain = (
        joint_of(steps, triples, dtype, sizes, axis),
        SCALES[scaling],
        SCALES["none"],
    )

    def direction(p, g, m, v, mu, nu, ahead, now, xp):
        m = mu * m + nu * g
        return ahead * m + now * g, m, v

    def shapes(*shape: int) -> dict[str, Shape]:
        return {"velocity": shape[:-1] if outputs == "first" else (*shape[:-2], shape[-1])}

    @rule(
        slots=("momentum", "velocity"),
        kind="matrix",
        shapes=shapes,
        direction=direction,
        joint=joint,
    )
    def normuon(p, g, m, v, rate, rho, sigma, least, xp):
        v = rho * v + sigma * xp.mean(g * g, axis=-3 - axis)
        u = g / (xp.expand_dims(xp.sqrt(v), axis=-3 - axis) + least)
        kept = lengths(g, scaled, outputs, sizes, axis, xp)
        u = u * (kept / (lengths(u, plain, outputs, sizes, axis, xp) + least))
        return p - rate * u, m, v

    return oriented(normuon, "stack" if stacked else outputs)


@register
class NorMuon(ScaledMuon):
    """Muon with its step normalised per neuron by a running mean of squares.

    For the weight matrices of transformers, where some neurons would get most of Muon's step. 4
    bytes of state per float32 parameter of a matrix and 4 per output, 8 of vectors and scalars,
    which Adam steps. See `Muon` for which matrices are better left to Adam.

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
        Decay rate of the running mean of each output's squares, per step.
    epsilon_2 : float in [0, inf)
        Added to the root of that mean, and to the norm in the denominator.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` (shape of the parameter) and ``velocity`` (outputs) for matrices; vectors,
    scalars and complex parameters have those of `Adam`. ``x`` is the direction of `Muon`, before
    ``scale``::

        v = beta_2 * v + (1 - beta_2) * mean over inputs(x**2)
        u = x / (sqrt(v) + epsilon_2)
        p = p - lr * scale * u * |x| / (|u| + epsilon_2)

    With ``scaling="shape"`` this is the authors' code, which rounds to bfloat16 during the
    iteration; the paper sets the norm of a step to ``0.2 * lr * sqrt(rows * columns)``, as
    ``scaling="rms"`` does up to the convergence of `Muon`'s iteration.

    References
    ----------
    Li, Liu, Wei, Zhang, Zhao (2025), NorMuon: Making Muon more efficient and scalable, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.NorMuon(lr=0.1).apply(np.array([[3.0, 0.0], [0.0, 1.0]]), w).round(4)
    array([[ 0.9728, -2.    ],
           [ 2.    ,  0.9728]])
    """

    def matrix_rule(self, stacked: bool, sizes: tuple[int, ...]) -> Rule:
        """Return the rule of matrices, stacked or split into blocks."""
        return normuon_rule(*self.polynomial, stacked, sizes)
