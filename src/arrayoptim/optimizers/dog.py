"""Distance over gradients."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import rule


def dog_lengths(p, g, a, xp):
    return p - a, g, a


@rule(
    slots=("initial",),
    measure=dog_lengths,
    norms=("distance", "slope", "start"),
    exact=("initial",),
)
def dog(p, g, a, rate, wd, xp):
    return p - rate * g - rate * (wd * p), a


@register
class DoG(Optimizer):
    """SGD whose learning rate follows from the distance travelled and the gradients so far.

    Needs no learning rate tuning. The authors evaluate an average of the parameters, such as that
    of `ema_momentum`. 4 bytes of state per float32 parameter, and two passes over the arrays.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Factor of the rate; best left at 1. ``learning_rate`` is accepted.
    reps_rel : float in (0, inf)
        Initial distance, in units of ``1 + |p|``; 1e-4 is advised with batch normalisation.
    epsilon : float in (0, inf)
        Added to the sum of squared gradients.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``initial`` (shape of the parameter), the parameter before the first step, always in the
    compute dtype. Scalar state ``farthest`` and ``energy``. ``|x|`` is the Euclidean norm over all
    entries of all parameters with a gradient::

        farthest = max(farthest, |p - p0|, reps_rel * (1 + |p0|))
        energy = energy + |g|**2
        rate = lr * farthest / sqrt(energy + eps)
        p = p - rate * g - rate * weight_decay * p

    Each group has its own distance and energy, as in the authors' code: the paper's layer-wise form
    L-DoG is a group per layer, such as ``group("layer_1/*", lr=1.0)``. The authors' code adds the
    decay to the gradient before its norm is taken, which is `l2` here. A NaN gradient makes the
    scalars NaN permanently: `nonfinite` can skip such steps.

    References
    ----------
    Ivgi, Hinder and Carmon (2023), DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size
    Schedule, equation 1 and section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> optimizer, w = ao.DoG(reps_rel=0.1), np.array([3.0, -4.0])
    >>> for _ in range(20):
    ...     w = optimizer.apply(w, w)
    >>> bool(np.max(np.abs(w)) < 0.1)
    True
    """

    lr: Number = hyper(default=1.0, interval="[0, inf)", doc="Factor of the rate.")
    reps_rel: Number = hyper(default=1e-6, interval="(0, inf)", doc="First distance, relative.")
    epsilon: Number = hyper(default=1e-08, interval="(0, inf)", doc="Added to the sum of squares.")

    rule = dog

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial slot."""
        return {"initial": "parameter"}

    def initial_scalars(self) -> dict[str, float]:
        """Return the scalars besides the step count."""
        return {"farthest": 0.0, "energy": 0.0}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        far = xp.maximum(scalars["distance"], h.reps_rel * (1.0 + scalars["start"]))
        far = xp.maximum(scalars["farthest"], far)
        energy = scalars["energy"] + scalars["slope"] * scalars["slope"]
        return {
            "rate": h.lr * far / xp.sqrt(energy + h.epsilon),
            "wd": 0.0 if h.weight_decay is None else h.weight_decay,
            "farthest": far,
            "energy": energy,
        }
