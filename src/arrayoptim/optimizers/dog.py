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

    Needs no tuned learning rate. Its authors evaluate an average of the parameters, such as the one
    of `ema_momentum`. 4 bytes of state per float32 parameter, and two passes over the arrays.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        What the rate is multiplied by; best left at 1. ``learning_rate`` is accepted.
    reps_rel : float in (0, inf)
        First distance, in units of ``1 + |p|``; 1e-4 is advised for batch normalisation.
    epsilon : float in (0, inf)
        Added to the sum of squared gradients.
    **options
        What every optimizer takes by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``initial`` (shape of the parameter), the parameter before the first step, always in the
    type of the arithmetic. Numbers ``farthest`` and ``energy``. ``|x|`` is the Euclidean norm over
    all entries of all parameters that have a gradient::

        farthest = max(farthest, |p - p0|, reps_rel * (1 + |p0|))
        energy = energy + |g|**2
        rate = lr * farthest / sqrt(energy + eps)
        p = p - rate * g - rate * weight_decay * p

    The parameters of each group count by themselves, as in the authors' program: the paper's
    layer-wise form L-DoG is a group for each layer, such as ``group("layer_1/*", lr=1.0)``.
    The authors' program adds the decay to the gradient before it is measured, which is `l2` here.
    A gradient that is NaN makes the numbers NaN for good: `nonfinite` can leave such steps out.

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

    lr: Number = hyper(default=1.0, interval="[0, inf)", doc="What the rate is multiplied by.")
    reps_rel: Number = hyper(default=1e-6, interval="(0, inf)", doc="First distance, relative.")
    epsilon: Number = hyper(default=1e-08, interval="(0, inf)", doc="Added to the sum of squares.")

    rule = dog

    def initial_slots(self) -> dict[str, Start]:
        """Return what the slot begins with."""
        return {"initial": "parameter"}

    def initial_scalars(self) -> dict[str, float]:
        """Return the numbers that are kept beside the count."""
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
