"""The base class of every optimizer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .config.keras import translate
from .config.readable import readable
from .step.exchange import Exchanging
from .step.graphs import Capturing
from .step.surface import Surface
from .step.updates import Differentiating

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Optimizer"]


class Optimizer(Exchanging, Differentiating, Capturing, Surface):
    """Base of every optimizer.

    A subclass declares its hyperparameters with `hyper`, names its `rule` and computes its
    `coefficients`; all else is here.

    Parameters
    ----------
    clipnorm : float in [0, inf], optional
        Bound on the Euclidean norm of all gradients together, as in Keras 2; 0 or None for none.
    clipvalue : float in [0, inf], optional
        Bound on the magnitude of each entry of a gradient, after `clipnorm`; 0 or None for none.
    clipnorm_per_tensor : float in [0, inf], optional
        Bound on the norm of each gradient, after `clipnorm`, as Keras 3's ``clipnorm``; 0 or None
        for none.
    agc : float in [0, inf], optional
        Adaptive gradient clipping: bound on the norm of a unit's gradient, in multiples of the
        unit's own norm; 0 or None for none.
    agc_units : {"last", "first", "tensor"}
        Which axis counts the units of `agc`: the last, as for kernels of Keras and JAX, the first,
        as for weights of torch; or each tensor is one.
    weight_decay : float in [0, inf) or schedule, optional
        Decoupled weight decay: a step first takes ``lr`` times this share of the parameter.
    peak_lr : float in (0, inf), optional
        The learning rate at its peak. Where it is given weight decay is fully decoupled: a step
        takes ``lr / peak_lr`` times `weight_decay`.
    l2 : float in [0, inf) or schedule, optional
        Coupled weight decay: this times the parameter is added to the clipped gradient.
    exclude : str or sequence of str
        Patterns of the paths of parameters that neither decay touches, as for file names.
    constraint : Constraint, str or dict, optional
        What parameters are brought back to after the step: one of `constraints`, its name or its
        configuration.
    groups : sequence of Group
        Parameters with settings of their own, each described by `group`.
    ema_momentum : float in [0, 1) or schedule, optional
        Decay rate of a moving average of the parameters, which `averages` gives; one more slot.
    cautious : bool
        Whether a step leaves out the entries that it would move against their own gradient, and
        scales up the others to make up for it, tensor by tensor. Costs a pass over the arrays.
    preset : {"keras2", "keras3", "optax", "paper", "torch"}, optional
        Whose formula is computed, with whose defaults. Hyperparameters keep the names and meanings
        that they have here. A class has those that its page names.
    name : str, optional
        A name of the caller's choice.
    nonfinite : {"ignore", "raise", "skip"}
        What happens when a gradient has a NaN or infinite entry: arithmetic takes its course, the
        step raises a ValueError, or the step is left out whole and counted in `skipped`.
    master : bool
        Whether a float16 or bfloat16 parameter keeps its float32 value as another slot. Without it
        steps smaller than half the parameter's resolution are lost.
    kahan : bool
        Whether a 16-bit parameter keeps what its rounding loses, in 16 bits, instead of a master.
    state_dtype : {"bfloat16", "int8"}, optional
        Form in which the rule's slots are stored: 2 bytes, or 1 byte in blocks that share an
        exponent, in place of 4. Slots of other shapes than the parameter's stay in 4.
    stochastic_rounding : bool
        Whether slots in that form are rounded up or down by chance, so that they are right in the
        mean. Small changes of a slot are lost otherwise. For arrays in host memory.
    seed : int
        Seed of stochastic rounding; the random bits follow from it, the step and the place.
    offload : bool
        Whether parameters on a GPU have their state in host memory, where the CPU engine steps
        them; see the page on engines.
    threads : int in [1, inf), optional
        Threads of the CPU engine; by default as many as Numba uses. Results do not depend on it.
    """

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an optimizer from a configuration, which stays as it is.

        Parameters
        ----------
        config : dict
            What `get_config` gave, or that of the same optimizer in any version of Keras.

        Raises
        ------
        TypeError
            If it is no dict, or names something that this class lacks.
        ValueError
            If a value is outside its interval.

        Warns
        -----
        UserWarning
            If a configuration of Keras asks for what this library cannot honour; the message lists
            it.
        """
        if not isinstance(config, dict):
            raise TypeError(f"{cls.__name__}.from_config: found {config!r}, wanted a dict")
        known, lost = translate(cls.__name__, config)
        if lost:
            warnings.warn(
                f"{cls.__name__} leaves out of this configuration: {readable('; '.join(lost))}",
                stacklevel=2,
            )
        return super().from_config(known)
