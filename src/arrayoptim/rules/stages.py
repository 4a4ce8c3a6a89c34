"""The stages of a step around the rule, each a small pure function.

They obey the grammar of a rule: straight-line, no literals, the exact vocabulary only. The
array engine calls them on whole arrays, and the fused engines compile the same functions into
their loops, so both are bit-identical. The order in a step is ``heal`` or ``compensate``,
``clip``, ``couple``, ``decay``, the rule, ``caution``, ``spare``, ``box``, ``remainder``,
``average``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

__all__ = [
    "NEUTRAL",
    "NUMBERS",
    "SLOTS",
    "STAGES",
    "SWEPT",
    "Stage",
    "UNITS",
    "agreement",
    "applied",
    "average",
    "box",
    "caution",
    "clip",
    "compensate",
    "couple",
    "decay",
    "heal",
    "limit",
    "recalled",
    "remainder",
    "spare",
]


def heal(p: Any, master: Any, stored: Any, xp: Any) -> Any:
    """Return the float32 value of a 16-bit parameter.

    Parameters
    ----------
    p : array
        The 16-bit parameter, widened to float32.
    master : array
        The float32 value after the last step.
    stored : array
        `master` rounded to the parameter's 16-bit dtype and widened again.
    xp : namespace
        The array library.

    Returns
    -------
    array
        `master` where the parameter is still its rounded value; elsewhere `p`, because
        the caller has written to the parameter since then.
    """
    return xp.where(stored == p, master, p)


def compensate(p: Any, lost: Any, xp: Any) -> Any:
    """Return a 16-bit parameter plus its rounding error.

    Parameters
    ----------
    p, lost : array
        The 16-bit parameter and the `remainder` of the last step, both widened to float32.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``p + lost``.
    """
    return p + lost


def remainder(p: Any, stored: Any, xp: Any) -> Any:
    """Return the rounding error of a parameter in 16 bits.

    Parameters
    ----------
    p : array
        The new parameter in float32.
    stored : array
        `p` rounded to the parameter's 16-bit dtype and widened again.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``p - stored``, which 16 bits represent nearly exactly.
    """
    return p - stored


def limit(large: Any, given: Any, most: Any, scale: Any, least: Any, one: Any, xp: Any) -> Any:
    """Return the factor by which a unit of the gradient is clipped.

    Parameters
    ----------
    large, given : array
        The norms of the unit's parameters and of its gradient.
    most : scalar
        The largest ratio of the two allowed; infinity for no bound.
    scale : scalar
        The factor that the stage `clip` will multiply the gradient by.
    least : scalar
        The lower bound of the parameters' norm.
    one : scalar
        1.
    xp : namespace
        The array library.

    Returns
    -------
    array
        At most 1.
    """
    bound = most * xp.maximum(large, least)
    norm = scale * given
    over = norm > bound
    return xp.where(over, bound, one) / xp.where(over, norm, one)


def clip(g: Any, scale: Any, bound: Any, xp: Any) -> Any:
    """Return the gradient times `scale`, limited to ``[-bound, bound]``.

    Parameters
    ----------
    g : array
        The gradient.
    scale : scalar
        Factor that unscales the gradient and clips it by norm; 1 for neither.
    bound : scalar
        The largest magnitude allowed; infinity for no bound.
    xp : namespace
        The array library.

    Returns
    -------
    array
        The clipped gradient. NaN propagates.
    """
    return xp.minimum(xp.maximum(g * scale, -bound), bound)


def couple(g: Any, p: Any, l2: Any, xp: Any) -> Any:
    """Return the gradient of the loss with an L2 penalty.

    Parameters
    ----------
    g, p : array
        The gradient and the parameter.
    l2 : scalar
        The coefficient of ``p`` in the penalty's gradient.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``g + l2 * p``.
    """
    return g + l2 * p


def decay(p: Any, amount: Any, xp: Any) -> Any:
    """Return the parameter after decoupled weight decay.

    Parameters
    ----------
    p : array
        The parameter.
    amount : scalar
        The fraction of the parameter to subtract: learning rate times weight decay.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``p - amount * p``.

    Notes
    -----
    Not ``p * (1 - amount)``: rounding that factor to float32 would change an amount of 1e-6
    by up to 3 percent, in the same direction at every step.
    """
    return p - amount * p


def agreement(q: Any, p: Any, g: Any, xp: Any) -> Any:
    """Return a mask of the entries whose step descends their gradient.

    Parameters
    ----------
    q, p : array
        The parameter before and after the rule.
    g : array
        The gradient, clipped and coupled.
    xp : namespace
        The array library.

    Returns
    -------
    array
        2 where the step and the gradient have opposite signs, 0 elsewhere.
    """
    s = xp.sign(q - p) * xp.sign(g)
    return s + xp.abs(s)


def caution(q: Any, p: Any, g: Any, boost: Any, xp: Any) -> Any:
    """Return the parameter after a step masked to the entries that descend their gradient.

    Parameters
    ----------
    q, p : array
        The parameter before and after the rule.
    g : array
        The gradient, clipped and coupled.
    boost : scalar
        Half the factor of the remaining entries, which compensates for those masked out.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``q + 2 * boost * (p - q)`` or ``q``.
    """
    s = xp.sign(q - p) * xp.sign(g)
    return q + boost * (s + xp.abs(s)) * (p - q)


def spare(p: Any, q: Any, taken: Any, xp: Any) -> Any:
    """Return the parameter after decay of only those entries that the step moves towards zero.

    Parameters
    ----------
    p, q : array
        The parameter after and before the rule.
    taken : scalar
        The fraction of the parameter before the rule to subtract.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``p - taken * q``, or ``p`` where the step moves away from zero.
    """
    return xp.where(xp.sign(p - q) == xp.sign(q), p, p - taken * q)


def box(p: Any, floor: Any, ceiling: Any, xp: Any) -> Any:
    """Return the parameter, clipped to ``[floor, ceiling]``.

    Parameters
    ----------
    p : array
        The new parameter.
    floor, ceiling : scalar
        The smallest and the largest value allowed.
    xp : namespace
        The array library.

    Returns
    -------
    array
        The clipped parameter. NaN propagates.
    """
    return xp.minimum(xp.maximum(p, floor), ceiling)


def average(e: Any, p: Any, keep: Any, new: Any, xp: Any) -> Any:
    """Return the exponential moving average of the parameter.

    Parameters
    ----------
    e, p : array
        The average before the step, and the new parameter.
    keep, new : scalar
        The weights of the two; ``new`` is ``1 - keep``, computed in double precision.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``keep * e + new * p``.
    """
    return keep * e + new * p


@dataclass(frozen=True)
class Stage:
    """What an engine needs to know about a stage.

    Attributes
    ----------
    name : str
        Its name in the recipes of engines.
    phase : {"gradients", "before", "after", "stored"}
        When it runs: before the sweep, on whole gradients; in the sweep, before or after the
        rule; or once the parameter has been stored. A stage of the last kind also runs before
        the rule, to restore what storing has lost.
    numbers : dict of str to float or None
        Its scalars in the order in which its function takes them, each with its neutral value,
        for parameters in groups without the stage; None for a scalar that every parameter has.
    function : callable or None
        The stage's function, if it is of the form ``target = function(*operands, *numbers, xp)``.
    operands : str
        Letters of the operands: ``p`` and ``g`` for parameter and gradient, ``q`` for the
        parameter before the rule; the first is the target.
    slot : str or None
        Its slot.
    """

    name: str
    phase: Literal["gradients", "before", "after", "stored"]
    numbers: dict[str, float | None] = field(default_factory=dict)
    function: Callable[..., Any] | None = None
    operands: str = ""
    slot: str | None = None


UNITS = {f"{axis}_units": axis for axis in ("last", "first", "tensor")}
"""The stages that clip units, each with a scalar of its name, and the axis that counts those."""

STAGES = (
    *(Stage(name, "gradients", {name: inf}) for name in UNITS),
    Stage("master", "stored", slot="master"),
    Stage("kahan", "stored", slot="compensation"),
    # A bound on the tensor's norm, where only a device knows that: it becomes part of `scale`.
    Stage("each", "before", {"tensor_bound": 0.0}),
    Stage("clip", "before", {"scale": 1.0, "bound": inf}, clip, "g"),
    Stage("couple", "before", {"l2": 0.0}, couple, "gp"),
    Stage("decay", "before", {"amount": 0.0}, decay, "p"),
    Stage("caution", "after", {"boost": None}),
    Stage("spare", "after", {"taken": 0.0}, spare, "pq"),
    Stage("box", "after", {"floor": -inf, "ceiling": inf}, box, "p"),
    Stage("average", "stored", {"keep": None, "new": None}, slot="average"),
)
"""All stages, in the order in which each phase runs them."""

NUMBERS = tuple(name for stage in STAGES for name in stage.numbers)
"""Names of the stages' scalars, which no coefficient of a rule may use."""

NEUTRAL = {k: v for stage in STAGES for k, v in stage.numbers.items() if v is not None}
"""The neutral values of the stages' scalars, with which they have no effect."""

SWEPT = {stage.name: tuple(stage.numbers) for stage in STAGES if stage.phase != "gradients"}
"""Stages of a sweep, each compiled in only if used, and their scalars."""

SLOTS = {stage.name: stage.slot for stage in STAGES if stage.slot}
"""Slots that belong to stages, in the order of engines' tables."""


def recalled(stages: Collection[str]) -> bool:
    """Whether any of the stages, given by name, takes the parameter before the rule."""
    return any("q" in stage.operands for stage in STAGES if stage.name in stages)


def applied(phase: str) -> tuple[Stage, ...]:
    """Return the stages of a phase that are plain functions of parameter and gradient."""
    return tuple(stage for stage in STAGES if stage.phase == phase and stage.function)
