"""The stages of a step around the rule, each a small pure function.

They obey the grammar of a rule: straight-line, no literals, the exact vocabulary
only. The array engine calls them on whole arrays, the fused engines compile the
very same functions into their loops, so both give the same bits. The order of a
step is ``heal`` or ``compensate``, ``clip``, ``couple``, ``decay``, the rule,
``caution``, ``spare``, ``box``, ``remainder``, ``average``.
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
        The float32 value that the last step left.
    stored : array
        `master` rounded to the parameter's 16-bit dtype and widened again.
    xp : namespace
        The array library.

    Returns
    -------
    array
        `master` where the parameter is still its rounding, otherwise `p`: whoever
        wrote to the parameter since then wins over the master.
    """
    return xp.where(stored == p, master, p)


def compensate(p: Any, lost: Any, xp: Any) -> Any:
    """Return a 16-bit parameter together with what its rounding lost.

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
    """Return what rounding a parameter to 16 bits loses.

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
        ``p - stored``, which another 16-bit number holds nearly exactly.
    """
    return p - stored


def clip(g: Any, scale: Any, bound: Any, xp: Any) -> Any:
    """Return the gradient times `scale`, limited to ``[-bound, bound]``.

    Parameters
    ----------
    g : array
        The gradient.
    scale : scalar
        What unscales the gradient and clips it by norm; 1 for neither.
    bound : scalar
        The largest magnitude that is let through; infinity for no bound.
    xp : namespace
        The array library.

    Returns
    -------
    array
        The clipped gradient. NaN stays NaN.
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
        The part of the parameter that is taken away: learning rate times decay.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``p - amount * p``.

    Notes
    -----
    Not ``p * (1 - amount)``: rounding that factor to float32 changes an amount of
    1e-6 by up to 3 percent, the same way at every step.
    """
    return p - amount * p


def agreement(q: Any, p: Any, g: Any, xp: Any) -> Any:
    """Return where a step descends its own gradient.

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
    """Return the parameter after only that part of a step which descends its own gradient.

    Parameters
    ----------
    q, p : array
        The parameter before and after the rule.
    g : array
        The gradient, clipped and coupled.
    boost : scalar
        Half of what this part is multiplied by, to make up for what is left out.
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
    """Return the parameter after decay of those entries only that the step brings nearer to zero.

    Parameters
    ----------
    p, q : array
        The parameter after and before the rule.
    taken : scalar
        The part of the parameter before the rule that is taken away.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``p - taken * q``, or ``p`` where the step has led away from zero.
    """
    return xp.where(xp.sign(p - q) == xp.sign(q), p, p - taken * q)


def box(p: Any, floor: Any, ceiling: Any, xp: Any) -> Any:
    """Return the parameter, limited to ``[floor, ceiling]``.

    Parameters
    ----------
    p : array
        The new parameter.
    floor, ceiling : scalar
        The smallest and the largest entry that are let through.
    xp : namespace
        The array library.

    Returns
    -------
    array
        The limited parameter. NaN stays NaN.
    """
    return xp.minimum(xp.maximum(p, floor), ceiling)


def average(e: Any, p: Any, keep: Any, new: Any, xp: Any) -> Any:
    """Return the exponential moving average of the parameter.

    Parameters
    ----------
    e, p : array
        The average so far and the new parameter.
    keep, new : scalar
        The weights of the two; ``new`` is ``1 - keep``, computed in double.
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
    """What an engine must know about a stage besides its functions.

    Attributes
    ----------
    name : str
        What recipes of engines call it.
    phase : {"gradients", "before", "after", "stored"}
        When it comes: before the sweep, on whole gradients; in the sweep before the rule, or after
        it; or once the parameter has been stored. A stage that keeps what storing loses comes
        before the rule too.
    numbers : dict of str to float or None
        Its numbers in the order in which its function takes them, each with the value that does
        nothing, for parameters whose group does not have the stage; None where every parameter has.
    function : callable or None
        What is done, where that is ``target = function(*operands, *numbers, xp)``.
    operands : str
        The letters of what it takes: ``p`` and ``g`` for parameter and gradient, ``q`` for the
        parameter before the rule; the first of them is the target.
    slot : str or None
        The slot that it keeps.
    """

    name: str
    phase: Literal["gradients", "before", "after", "stored"]
    numbers: dict[str, float | None] = field(default_factory=dict)
    function: Callable[..., Any] | None = None
    operands: str = ""
    slot: str | None = None


STAGES = (
    Stage("units", "gradients", {"units": 0.0}),
    Stage("master", "stored", slot="master"),
    Stage("kahan", "stored", slot="compensation"),
    Stage("clip", "before", {"scale": 1.0, "bound": inf}, clip, "g"),
    Stage("couple", "before", {"l2": 0.0}, couple, "gp"),
    Stage("decay", "before", {"amount": 0.0}, decay, "p"),
    Stage("caution", "after", {"boost": None}),
    Stage("spare", "after", {"taken": 0.0}, spare, "pq"),
    Stage("box", "after", {"floor": -inf, "ceiling": inf}, box, "p"),
    Stage("average", "stored", {"keep": None, "new": None}, slot="average"),
)
"""All stages, in the order in which each phase applies them."""

NUMBERS = tuple(name for stage in STAGES for name in stage.numbers)
"""Names of the stages' numbers, which no coefficient of a rule may use."""

NEUTRAL = {k: v for stage in STAGES for k, v in stage.numbers.items() if v is not None}
"""The numbers with which stages do nothing."""

SWEPT = {stage.name: tuple(stage.numbers) for stage in STAGES if stage.phase != "gradients"}
"""Stages of a sweep, each compiled in only where used, and their numbers."""

SLOTS = {stage.name: stage.slot for stage in STAGES if stage.slot}
"""Slots that belong to stages, in the order of engines' tables."""


def recalled(stages: Collection[str]) -> bool:
    """Whether some of the stages, given by name, take the parameter as it was before the rule."""
    return any("q" in stage.operands for stage in STAGES if stage.name in stages)


def applied(phase: str) -> tuple[Stage, ...]:
    """Return the stages of a phase that are simply functions of parameter and gradient."""
    return tuple(stage for stage in STAGES if stage.phase == phase and stage.function)
