"""Schedules with state, and the metrics that they watch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config.per_model import EachKeeping, row, several
from ..config.scheduled import keeps_numbers
from .session import Session
from .spikes import told


def observe(session: Session, metric: Any) -> None:
    """Pass a metric to every schedule that takes one; see `Optimizer.observe`."""
    models = session.settings.models
    if models is not None and np.shape(metric) == (models,):
        metric = row(metric)
        shared = [p for p, s in session.settings.keeping if not isinstance(s, EachKeeping)]
        if shared:
            raise ValueError(
                f"{type(session.formula).__name__}.observe: found one metric per model, but a "
                f"schedule that all models share, {shared[0].rstrip('.')}; give each model its own "
                "schedule"
            )
    elif isinstance(metric, str | bytes) or not hasattr(metric, "__float__"):
        name = type(session.formula).__name__
        raise TypeError(f"{name}.observe: found {metric!r}, wanted a number")
    with session.lock:
        if session.state is None and session.settings.keeping:
            raise ValueError("a metric changes the state; call init(params) first")
        given = metric if several(metric) else float(metric)
        new = session.settings.observed(session.scalars, given)
        assert session.state is not None
        session.state.scalars = new


def tell(session: Session, loss: Any) -> None:
    """Pass a session the loss of its next step; see `Optimizer.tell_loss`."""
    name = type(session.formula).__name__
    require_guard(session.settings.loss_guarded, name)
    session.tell(number_told(loss, name))


def number_told(loss: Any, name: str) -> float:
    """Return a loss passed to an optimizer as a float.

    Raises
    ------
    TypeError
        If it is not a real number.
    """
    loss = loss.detach() if hasattr(loss, "detach") else loss
    fault = isinstance(loss, str | bytes | complex) or not hasattr(loss, "__float__")
    try:
        if not fault and np.ndim(loss) == 0:
            return float(loss)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name}.tell_loss: found {loss!r}, wanted one real number")


def told_in_state(session: Session, state: dict[str, Any], loss: Any) -> dict[str, Any]:
    """Return a state of the pure form with a loss recorded; see `Optimizer.stateless_tell_loss`."""
    require_guard(session.settings.loss_guarded, type(session.formula).__name__)
    if np.shape(loss) != ():
        raise TypeError(f"stateless_tell_loss: found {loss!r}, wanted one real number")
    scalars = state["scalars"]
    return {**state, "scalars": {**scalars, **told(scalars, loss)}}


def require_guard(guarded: bool, name: str) -> None:
    """Refuse a loss if no spike guard uses it."""
    if not guarded:
        raise ValueError(
            f"{name}.tell_loss: found skip_loss_spikes=None, so the loss would have no effect; set "
            "skip_loss_spikes, such as to 6.0, before the first step"
        )


def begin_schedule(session: Session, name: str) -> None:
    """Add the state of a newly set schedule, and drop that of the one it replaces."""
    if session.state is None:
        return
    with session.lock:
        prefix, value = f"{name}.", session.settings.whole[name]
        old = session.state.scalars
        new = {k: v for k, v in old.items() if not k.startswith(prefix)}
        if keeps_numbers(value):
            new |= {prefix + k: v for k, v in value.initial_scalars().items()}
        if new != old:
            order = [*session.settings.initial_scalars(), *new]
            session.state.scalars = {k: new[k] for k in order if k in new}
