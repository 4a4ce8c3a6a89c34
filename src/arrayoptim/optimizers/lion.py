"""Lion."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber, Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum",))
def lion(p, g, m, lr, b1, c1, b2, c2, xp):
    return p - lr * xp.sign(b1 * m + c1 * g), b2 * m + c2 * g


@register
class Lion(Optimizer):
    """Step by the sign of the momentum, interpolated with the current gradient.

    Every entry moves by ``lr`` at each step, whatever the size of its gradient. The paper uses a
    learning rate 3 to 10 times smaller than Adam's, and a `weight_decay` larger by the same
    factor. 4 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1] or schedule
        Weight of the running mean in the step; at 1 the last gradient is left out.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    **options
        Options of every optimizer, by keyword, such as `weight_decay`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter)::

        p = p - lr * sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g

    As in Keras 3 and optax. The default of ``lr`` is that of the authors' code; Keras 3 has 0.001.

    References
    ----------
    Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le (2023), Symbolic Discovery
    of Optimization Algorithms, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Lion(lr=0.1).apply(np.array([3.0, -4.0]), w)
    array([ 0.9, -1.9])
    """

    presets = forms("keras3 optax paper")

    lr: Number = hyper(
        default=0.0001, elsewhere={"keras3": 0.001}, interval="[0, inf)", doc="Step size."
    )
    beta_1: Number = hyper(default=0.9, interval="[0, 1]", doc="Weight of the mean in the step.")
    beta_2: Number = hyper(
        default=0.99,
        interval="[0, 1)",
        wider={"keras3": "[0, 1]", "optax": "[0, 1]"},
        doc="Decay rate of the mean.",
    )
    weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        elsewhere={"optax": 0.001},
        doc="Decoupled weight decay: a step first subtracts lr * weight_decay * parameter.",
    )

    rule = lion

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {
            "lr": h.lr,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
        }
