"""NadamW."""

from __future__ import annotations

from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber
from .nadam import Nadam


@register
class NadamW(Nadam):
    """Nadam with decoupled weight decay.

    `Nadam` with a different default of `weight_decay`, an option of every optimizer. 8 bytes of
    state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step, once warmed up.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root.
    schedule_decay : float in [0, inf)
        Rate of the warm-up, per step.
    weight_decay : float in [0, inf) or schedule
        Decoupled weight decay: a step first subtracts ``lr * weight_decay * parameter``.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter), and the scalar ``m_schedule``. A
    step first subtracts ``lr * weight_decay * p``, then is that of `Nadam`. Equal to torch's
    ``NAdam`` with ``decoupled_weight_decay=True``.

    The presets are those of `Nadam`, for the libraries that have this optimizer.

    References
    ----------
    Dozat (2016), Incorporating Nesterov Momentum into Adam, algorithm 8; Loshchilov and Hutter
    (2019), Decoupled Weight Decay Regularization, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.NadamW(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.8934, -1.8924])
    """

    presets = forms("torch", optax="optax")

    weight_decay: MaybeNumber = hyper(
        default=0.01,
        elsewhere={"optax": 1e-4},
        interval="[0, inf)",
        kw_only=True,
        doc="Decoupled weight decay: a step first subtracts lr * weight_decay * parameter.",
    )
