"""The stages of a step around the rule, each a small pure function.

They obey the grammar of a rule: straight-line, no literals, the exact vocabulary
only. The array engine calls them on whole arrays, the fused engines compile the
very same functions into their loops, so both give the same bits. The order of a
step is ``heal`` or ``compensate``, ``clip``, ``couple``, ``decay``, the rule,
``caution``, ``box``, ``remainder``, ``average``.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "agreement",
    "average",
    "box",
    "caution",
    "clip",
    "compensate",
    "couple",
    "decay",
    "heal",
    "remainder",
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
    """Return where a step goes down its own gradient.

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
    """Return the parameter after that part of a step which goes down its own gradient.

    Parameters
    ----------
    q, p : array
        The parameter before and after the rule.
    g : array
        The gradient, clipped and coupled.
    boost : scalar
        Half of what this part is multiplied with, to make up for what is left out.
    xp : namespace
        The array library.

    Returns
    -------
    array
        ``q + 2 * boost * (p - q)`` or ``q``.
    """
    s = xp.sign(q - p) * xp.sign(g)
    return q + boost * (s + xp.abs(s)) * (p - q)


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
