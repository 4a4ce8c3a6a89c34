"""Correspondence of optax's states with slots of this library."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ...arrays.libraries import is_array
from ...optimizer import Optimizer
from ...step.session import session_of


@dataclass(frozen=True, eq=False)
class Pair:
    """A node of an optax state and the corresponding slots here.

    Attributes
    ----------
    ours : tuple of str
        The names of our classes.
    node : str
        The name of optax's class.
    fields : dict of str to str
        Maps its fields with moments to our slots.
    factor : float or "lr"
        The factor from optax's moments to ours; "lr" for minus the learning rate.
    eps : str
        How the use of epsilon differs; empty if it does not.
    other : str
        Other differences.
    """

    ours: tuple[str, ...]
    node: str
    fields: dict[str, str]
    factor: float | str = 1.0
    eps: str = ""
    other: str = ""


_MOMENTS = {"mu": "momentum", "nu": "velocity"}
_ADAM = "epsilon is added before the bias correction here, but after it in optax"
_RMS = "epsilon is added outside the root here, but inside it in optax unless eps_in_sqrt=False"

TABLE = (
    Pair(("Adam", "AdamW"), "ScaleByAdamState", _MOMENTS, eps=_ADAM),
    Pair(("Adam", "AdamW"), "ScaleByAmsgradState", {**_MOMENTS, "nu_max": "velocity_hat"},
         eps=_ADAM, other="the running maximum is taken before the bias correction here, "
         "but after it in optax"),
    Pair(("ADOPT", "LAMB", "RAdam", "Yogi"), "ScaleByAdamState", _MOMENTS),
    Pair(("Adamax",), "ScaleByAdamState", {"mu": "momentum", "nu": "norm"},
         eps="epsilon is added to the norm here, but to the gradient's magnitude in optax"),
    Pair(("Nadam", "NadamW"), "ScaleByAdamState", _MOMENTS,
         other="momentum warms up here, but not in optax; with schedule_decay=1e6 they agree"),
    Pair(("AdaBelief",), "ScaleByBeliefState", _MOMENTS),
    Pair(("AdEMAMix",), "ScaleByAdemamixState",
         {"m1": "momentum", "m2": "slow_momentum", "nu": "velocity"}),
    Pair(("Lion",), "ScaleByLionState", {"mu": "momentum"}),
    Pair(("Signum",), "EmaState", {"ema": "momentum"}),
    Pair(("Adagrad",), "ScaleByRssState", {"sum_of_squares": "accumulator"},
         eps="epsilon is added outside the root here, but inside it in optax"),
    Pair(("Adadelta",), "ScaleByAdaDeltaState",
         {"e_g": "accumulated_grad", "e_x": "accumulated_delta_var"}),
    Pair(("RMSprop",), "ScaleByRmsState", {"nu": "velocity"}, eps=_RMS),
    Pair(("RMSprop",), "ScaleByRStdDevState", {"mu": "average_gradient", "nu": "velocity"},
         eps=_RMS),
    Pair(("RMSprop",), "TraceState", {"trace": "momentum"}, -1.0),
    Pair(("LARS",), "TraceState", {"trace": "momentum"}, -1.0),
    Pair(("SGD",), "TraceState", {"trace": "momentum"}, "lr",
         other="momentum includes the learning rate here, but not in optax; at constant lr "
         "they agree"),
)  # fmt: skip


COUNTS = {"count", "count_m2", "gradient_step"}
"""Names of the step counters in optax's states."""

OWN = {"iterations", "skipped", "hyper", "scalars", "slots"}
"""The keys of a state from `Optimizer.init_state`."""


def pairs_of(optimizer: Optimizer) -> list[Pair]:
    """Return the pairs for an optimizer's class.

    Raises
    ------
    TypeError
        If there is none for its class.
    ValueError
        If it has state that optax's states cannot hold.
    """
    name = type(optimizer).__name__
    found = [row for row in TABLE if name in row.ours]
    if not found:
        known = ", ".join(sorted({name for row in TABLE for name in row.ours}))
        raise TypeError(f"found {optimizer!r}, wanted one whose moments optax has too: {known}")
    if any(each.optimizer for each in optimizer.groups):
        raise ValueError(
            f"{optimizer!r} has a group with its own optimizer, but a state of optax belongs to "
            "one class"
        )
    if set(optimizer.initial_scalars()) - {"m_schedule"}:
        raise ValueError(
            f"{optimizer!r} has the state {', '.join(optimizer.initial_scalars())}, which optax "
            "cannot hold"
        )
    if optimizer.state_dtype == "int8":
        raise ValueError(f"{optimizer!r} has 8-bit slots, which optax does not support")
    return [row for row in found if set(row.fields.values()) <= set(optimizer.rule.slots)]


def needed_by(optimizer: Optimizer) -> list[str]:
    """Return the slots that affect results."""
    idle = (
        "momentum" in optimizer.hyperparameters
        and session_of(optimizer).settings.whole["momentum"] == 0.0
    )
    return [slot for slot in optimizer.rule.slots if slot != "momentum" or not idle]


def factor_of(optimizer: Optimizer, pair: Pair) -> float:
    """Return the factor from optax's moments to the optimizer's."""
    if pair.factor != "lr":
        return float(pair.factor)
    lr = float(optimizer.lr)
    if lr == 0.0:
        raise ValueError(
            "momentum here includes the learning rate, unlike in optax; at lr=0 it cannot be "
            "converted. Set the lr with which the last step was taken"
        )
    return -lr


def wanted(pairs: Iterable[Pair]) -> str:
    """Return the names of nodes and their fields, for a message."""
    return " and ".join(f"{row.node} with {', '.join(row.fields)}" for row in pairs)


def say(optimizer: Optimizer, used: Iterable[Pair], stacklevel: int) -> list[str]:
    """Warn about differences between the two formulas, and return them."""
    eps = getattr(optimizer, "epsilon", 0.0)
    notes = [f"{row.eps}; with epsilon 0 they agree" for row in used if row.eps and eps]
    notes += [row.other for row in used if row.other]
    for note in notes:
        warnings.warn(f"{type(optimizer).__name__}: {note}", stacklevel=stacklevel + 1)
    return notes


def nodes_of(state: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the nodes of a state that are in the table, and otherwise its leaves."""
    yield from jax.tree_util.tree_flatten_with_path(state, is_leaf=is_node)[0]


def is_node(node: Any) -> bool:
    """Whether this is a node of the table, or a state of this library."""
    return is_own(node) or type(node).__name__ in {row.node for row in TABLE}


def is_own(node: Any) -> bool:
    """Whether this is a state of this library."""
    return isinstance(node, dict) and set(node) == OWN


def last_name(path: Any) -> str:
    """Return the last field of a JAX path; empty if it does not end in a field."""
    return str(getattr(path[-1], "name", "")) if path else ""


def matters(node: Any) -> bool:
    """Whether a value in an optax state, other than moments and counts, is no longer initial."""
    leaves = jax.tree.leaves(node)
    return any(is_array(x) and np.ndim(x) > 0 and bool(np.any(np.asarray(x) != 0)) for x in leaves)


def kinds(state: Any) -> str:
    """Return the names of the table's nodes in a state."""
    nodes = [type(node).__name__ for _, node in nodes_of(state) if is_node(node)]
    return ", ".join(dict.fromkeys(nodes)) or "none that is known"
