"""Muon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, ClassVar

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.matrices import ScheduleHyper, SplitHyper, Splits, Triple, Triples, sizes_of
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber, Number, Whole, Words
from ..rules.rule import Rule, Side, rule
from ._matrices import MatrixOptimizer, oriented
from ._polynomials import SCALES, joint_of, looking_ahead, polar_express
from .adam import adam, adam_numbers


@cache
def muon_rule(
    steps: int,
    scaling: str,
    outputs: Side,
    triples: tuple[Triple, ...] = (),
    dtype: str = "compute",
    stacked: bool = False,
    sizes: tuple[int, ...] = (),
) -> Rule:
    """Return the rule of one kind of matrices.

    Parameters
    ----------
    steps : int
        Number of iterations.
    scaling : str
        How steps depend on the shape.
    outputs : {"first", "last"}
        Which axis of a matrix holds the outputs.
    triples : tuple of tuple of float
        Fixed coefficients of the iterations, of which the last is repeated; if empty, they are
        hyperparameters.
    dtype : {"compute", "bfloat16"}
        In which the iterations are computed.
    stacked : bool
        Whether parameters are stacks of matrices; otherwise extra axes are merged into one matrix.
    sizes : tuple of int
        The numbers of outputs of the blocks into which matrices are split.
    """
    axis = -2 if outputs == "first" else -1
    scale = partial(SCALES[scaling], outputs=outputs)
    joint = joint_of(steps, triples, dtype, sizes, axis, scale)

    @rule(slots=("momentum",), kind="matrix", direction=looking_ahead, joint=joint)
    def muon(p, g, m, rate, xp):
        return p - rate * g, m

    return oriented(muon, "stack" if stacked else outputs)


@register
class Muon(MatrixOptimizer):
    """Step along the orthogonalised momentum of each matrix; Adam for all other parameters.

    For the weight matrices of transformers and other networks. 4 bytes of state per float32
    parameter of a matrix, 8 of vectors and scalars. A step costs 15 matrix products by default.
    Embeddings and the last layer are better left to another optimizer, in their own group:
    ``groups=[ao.group("embed*", "head*", optimizer=ao.AdamW(lr=1e-3))]``.

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
    ns_dtype : {"compute", "bfloat16"}
        Dtype of the iterations: the compute dtype, or bfloat16 with float32 accumulation, which is
        faster on hardware that supports it, with relative errors of some thousandths. torch tensors
        are multiplied in bfloat16; for arrays of other libraries, float32 values are rounded at the
        same points.
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
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter) for matrices; vectors, scalars and complex parameters
    have those of `Adam`::

        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g       # with nesterov; u = m without
        x = u / (|u| + epsilon)                     # the Euclidean norm over all entries
        x = a * x + b * x x' x + c * x x' x x' x    # ns_steps times, with 3.4445, -4.7750, 2.0315
        p = p - lr * scale * x

    The iteration ends with singular values between 0.7 and 1.2 and is not meant to converge. With
    ``ns_dtype="bfloat16"`` `epsilon` is a lower bound on the norm instead. optax corrects the bias
    of the mean when looking ahead. ``scaling="shape"`` is torch's and the authors' default;
    ``"rms"`` is Keras 3's. `weight_decay` applies to all parameters, except where
    `adam_weight_decay` is given.

    With ``preset="torch"`` the iteration is that of ``torch.optim.Muon``, in bfloat16, and
    bit-identical for tensors. With ``preset="keras3"`` the momentum is the sum ``momentum * m +
    g``, arrays of more than two axes are left to Adam, and 1e-7 is added to norms.

    References
    ----------
    Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks; for the scaling
    by `rms_rate` Liu et al. (2025), Muon is Scalable for LLM Training, equation 4; for
    ``"polar_express"`` Amsel et al. (2025), The Polar Express, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.Muon(lr=0.1).apply(np.array([[3.0, 0.0], [0.0, 3.0]]), w).round(4)
    array([[ 0.9687, -2.    ],
           [ 2.    ,  0.9687]])
    """

    presets = forms("torch", sum="keras3")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(
        default=0.95,
        interval="[0, 1)",
        wider={"keras3": "[0, inf)", "torch": "[0, inf)"},
        doc="Decay rate of the mean.",
    )
    nesterov: bool = hyper(default=True, doc="Whether to look one step ahead along the mean.")
    ns_steps: Whole = hyper(
        default=5,
        interval="[1, inf)",
        wider={"keras3": "[0, inf)", "torch": "[0, inf)"},
        integer=True,
        static=True,
        doc="Iterations of a step.",
    )
    scaling: str = hyper(
        default="rms",
        choices=("rms", "shape", "none"),
        elsewhere={"torch": "shape"},
        doc="How steps depend on the shape of a matrix.",
    )
    rms_rate: Number = hyper(default=0.2, interval="[0, inf)", doc="Root mean square of a step.")
    adam_lr_ratio: Number = hyper(default=1.0, interval="[0, inf)", doc="Share of lr for the rest.")
    adam_beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of Adam's mean.")
    adam_beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of Adam's mean of squares."
    )
    epsilon: Number = hyper(default=1e-07, interval="[0, inf)", doc="Added to norms and roots.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        elsewhere={"keras3": 0.004, "torch": 0.1},
        doc="Decoupled weight decay: a step first subtracts lr * weight_decay * parameter.",
    )
    adam_weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        elsewhere={"keras3": 0.004},
        doc="Decoupled weight decay of what Adam steps; weight_decay if None.",
    )
    exclude_layers: Words = hyper(
        default=(),
        words=True,
        kw_only=True,
        doc="Regular expressions for the paths of matrices that Adam steps.",
    )
    exclude_embeddings: bool = hyper(
        default=False,
        elsewhere={"keras3": True},
        kw_only=True,
        doc="Whether Adam steps matrices whose path contains the word embedding.",
    )

    ns_a: Number = hyper(
        default=3.4445, interval="(-inf, inf)", kw_only=True, doc="The polynomial's factor of x."
    )
    ns_b: Number = hyper(
        default=-4.775, interval="(-inf, inf)", kw_only=True, doc="Its factor of x**3."
    )
    ns_c: Number = hyper(
        default=2.0315, interval="(-inf, inf)", kw_only=True, doc="Its factor of x**5."
    )

    ns_schedule: Triples = hyper(
        default=None,
        kw_only=True,
        kind=ScheduleHyper,
        doc="Coefficients of each iteration, instead of ns_a, ns_b and ns_c.",
    )
    ns_dtype: str = hyper(
        default="compute",
        choices=("compute", "bfloat16"),
        elsewhere={"torch": "bfloat16"},
        kw_only=True,
        doc="Dtype of the iterations.",
    )
    leading_axes: str = hyper(
        default="auto",
        choices=("auto", "batch", "flatten"),
        kw_only=True,
        doc="Whether arrays with more than two axes are stacks of matrices or one matrix.",
    )
    split: Splits = hyper(
        default=(),
        kw_only=True,
        kind=SplitHyper,
        doc="Path patterns of concatenated matrices, with the number of blocks.",
    )

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices that are not split."""
        return self.matrix_rule(False, ())

    @property
    def polynomial(self) -> tuple[int, str, Side, tuple[Triple, ...], str]:
        """Iterations, scaling, the axis of the outputs, fixed coefficients, and a dtype."""
        found: Any = self.ns_schedule
        triples = polar_express() if found == "polar_express" else found or ()
        side: Any = self.outputs
        return self.ns_steps, self.scaling, side, triples, self.ns_dtype

    def matrix_rule(self, stacked: bool, sizes: tuple[int, ...]) -> Rule:
        """Return the rule of matrices, stacked or split into blocks."""
        return muon_rule(*self.polynomial, stacked, sizes)

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter: Adam's unless it is a matrix and not excluded."""
        if self.form == "sum" and len(shape) != 2:
            return self.rest
        if self.exclude_embeddings and "embedding" in path.lower():
            return self.rest
        if any(re.search(pattern, path) for pattern in self.exclude_layers):
            return self.rest
        if super().rule_for(path, shape) is self.rest:
            return self.rest
        axes = len(shape)
        stacked = axes > 2 and (
            self.leading_axes == "batch" or (self.leading_axes == "auto" and axes == 3)
        )
        place = (-2 if stacked else 0) if self.outputs == "first" else -1
        return self.matrix_rule(stacked, sizes_of(self.split, path, shape[place]))

    def words_for(self, rule: Rule) -> Mapping[str, str]:
        """Return the weight decay of the parameters that Adam steps."""
        own = rule is self.rest and self.adam_weight_decay is not None
        return {"weight_decay": "adam_weight_decay"} if own else {}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        betas = h.adam_beta_1, h.adam_beta_2
        rest, _ = adam_numbers(h.lr * h.adam_lr_ratio, *betas, h.epsilon, it, xp)
        new = 1.0 if self.form == "sum" else 1.0 - h.momentum
        return {
            **rest,
            "rate": h.lr * h.rms_rate if self.scaling == "rms" else h.lr,
            "mu": h.momentum,
            "nu": new,
            "ahead": h.momentum if self.nesterov else 1.0,
            "now": new if self.nesterov else 0.0,
            "tiny": 1e-7 if self.form == "sum" else h.epsilon,
            "a": h.ns_a,
            "b": h.ns_b,
            "c": h.ns_c,
        }


class ScaledMuon(Muon):
    """Base of Muon's variants that divide its direction by a running root mean square."""

    presets: ClassVar[dict[str, str]] = {}

    beta_2: Number = hyper(
        default=0.95, interval="[0, 1)", kw_only=True, doc="Decay rate of the mean of squares."
    )
    epsilon_2: Number = hyper(
        default=1e-10, interval="[0, inf)", kw_only=True, doc="Added to its root and to norms."
    )

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        own = {"rho": h.beta_2, "sigma": 1.0 - h.beta_2, "least": h.epsilon_2}
        return super().coefficients(h, it, scalars, xp) | own
