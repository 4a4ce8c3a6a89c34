"""AdamW."""

from __future__ import annotations

from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber
from .adam import Adam


@register
class AdamW(Adam):
    """Adam with decoupled weight decay.

    The usual choice for transformers. It is `Adam` with a different default of `weight_decay`, an
    option of every optimizer; `exclude` and `groups` exempt parameters from it, usually biases and
    normalisation scales. 8 bytes of state per float32 parameter, 12 with `amsgrad`.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, before the bias correction: the paper's "epsilon hat".
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    amsgrad : bool
        Whether to use the maximum of all means of squares so far.
    weight_decay : float in [0, inf) or schedule
        Decoupled weight decay: a step first subtracts ``lr * weight_decay * parameter``.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity``, and ``velocity_hat`` with `amsgrad` (shape of the
    parameter); ``t`` counts steps from 1::

        p = p - lr * weight_decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        p = p - lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps)

    In the paper, the decay is multiplied by the schedule of the step size only; here, as in torch,
    Keras 3 and optax, by the step size itself. The default of `weight_decay` is torch's; Keras 3
    has 0.004, optax 0.0001. See `Adam` for the differences in epsilon.

    The presets are those of `Adam`, except ``"paper"``, whose decay is not multiplied by ``lr``.

    References
    ----------
    Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.AdamW(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.899, -1.898])
    """

    presets = forms("keras3", optax="optax", torch="torch")

    weight_decay: MaybeNumber = hyper(
        default=0.01,
        elsewhere={"keras3": 0.004, "optax": 1e-4},
        interval="[0, inf)",
        kw_only=True,
        doc="Decoupled weight decay: a step first subtracts lr * weight_decay * parameter.",
    )
