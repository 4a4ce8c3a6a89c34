"""Schedules that keep numbers in the state, and the metrics that they watch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config.each import EachKeeping, row, several
from ..config.scheduled import keeps_numbers
from .session import Session


def observe(session: Session, metric: Any) -> None:
    """Feed a metric to every schedule that takes one; see `Optimizer.observe`."""
    models = session.settings.models
    if models is not None and np.shape(metric) == (models,):
        metric = row(metric)
        shared = [p for p, s in session.settings.keeping if not isinstance(s, EachKeeping)]
        if shared:
            raise ValueError(
                f"{type(session.formula).__name__}.observe: found a metric of each model, and one "
                f"schedule that all share, {shared[0].rstrip('.')}; give a list with one for each"
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


def begin_schedule(session: Session, name: str) -> None:
    """Let a schedule that was set keep its numbers in the state, and the one before not."""
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
