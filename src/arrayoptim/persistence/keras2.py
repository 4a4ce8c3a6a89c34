"""Files of Keras 1 and 2: of multi-backend Keras up to 2.3, and of ``tf.keras``.

Up to 2.10 the slots are stored one after another. They follow the step counter and, from 2.3,
Nadam's ``m_schedule``, if these are saved at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..config.keras import dialect_of, identified, inside
from .record import LOSS_SCALE, Record
from .stored import Stored, counter, number
from .weight_lists import Layout, choose

# What Keras 2.0 saves, in its order: whether the counter, then the slots.
KEPT: dict[str, tuple[bool, tuple[str, ...]]] = {
    "SGD": (True, ("momentum",)),
    "RMSprop": (False, ("velocity",)),
    "Adagrad": (False, ("accumulator",)),
    "Adadelta": (False, ("accumulated_grad", "accumulated_delta_var")),
    "Adam": (True, ("momentum", "velocity")),
    "Adamax": (True, ("momentum", "norm")),
    "Nadam": (True, ("momentum", "velocity")),
}
# What tf.keras added, and its order.
ADDED = {"Ftrl": Layout((), ("accumulator", "linear"))}
KNOWN = (*KEPT, *ADDED)
# Classes whose steps depend on the counter only through a decay of the learning rate.
COUNT_LITTLE = frozenset({"SGD", "RMSprop", "Adagrad", "Adadelta"})
COUNTERS = ("iterations", "iter")
PRODUCTS = ("m_schedule", "momentum_cache")


def keras2_saves_iterations(class_name: str) -> bool:
    """Return whether Keras 2.0 saves the step counter of an optimizer.

    Parameters
    ----------
    class_name : str
        The optimizer's class.

    Returns
    -------
    bool
        False for RMSprop, Adagrad and Adadelta; True for all others.
    """
    return KEPT.get(class_name, (True, ()))[0]


def listed(class_name: str, slots: Iterable[str]) -> list[str]:
    """Return the slots that belong in ``weight_names``.

    Parameters
    ----------
    class_name : str
        The optimizer's class. If Keras 2.0 does not know it, all its slots are listed.
    slots : iterable of str
        The existing slots.
    """
    present = list(slots)
    wanted = KEPT[class_name][1] if class_name in KEPT else present
    return [name for name in wanted if name in present and name != "master"]


def class_in_names(names: Iterable[str]) -> str | None:
    """Return the class encoded in variable names such as ``training/Adam_1/Variable:0``.

    Parameters
    ----------
    names : iterable of str
        The names.
    """
    for name in names:
        for part in name.split("/"):
            if re.sub(r"_\d+$", "", part) in KNOWN:
                return re.sub(r"_\d+$", "", part)
    return None


def last_part(name: str) -> str:
    """Return ``iterations`` for ``Adam/iterations:0`` and the like.

    Parameters
    ----------
    name : str
        A variable's name.
    """
    return re.sub(r"(_\d+)?(:\d+)?$", "", name.rpartition("/")[2])


def interpret(
    arrays: list[Stored],
    class_name: str | None,
    config: Mapping[str, Any] | None,
    version: str | None = None,
) -> Record:
    """Return the state in a list of variables.

    Parameters
    ----------
    arrays : list of Stored
        The variables in the order of ``weight_names``.
    class_name : str or None
        The class, if the file names it.
    config : mapping or None
        The hyperparameters, if they are in the file.
    version : str, optional
        The version of Keras, if it is in the file.

    Raises
    ------
    ValueError
        If the class is unknown, or the number or shapes of the variables do not match.
    """
    rest, notes, unkept = list(arrays), list[str](), list[str]()
    if found := inside({"class_name": class_name, "config": config}):
        class_name, config = identified(found)
        unkept.append(LOSS_SCALE)
    class_name = class_name or class_in_names(array.name for array in arrays)
    # Keras ignores the case of its own names.
    class_name = next((k for k in KNOWN if k.lower() == str(class_name).lower()), class_name)
    if class_name not in KNOWN:
        raise ValueError(
            f"found the state of {class_name or 'an optimizer of unknown class'}, wanted one of "
            f"{', '.join(KNOWN)}"
        )
    iterations, scalars = _heads(rest, class_name, notes)
    if not rest and class_name == "SGD" and not (config or {}).get("momentum"):
        slots: dict[str, list[Any]] = {}
        notes.append("this SGD without momentum saved no slot; it starts at zero")
    else:
        slots = choose(rest, _layouts(class_name, config), f"Keras 2 {class_name}")
    kept = None if config is None else dict(config)
    record = Record("keras 2", class_name, kept, iterations, scalars, slots, None, notes)
    record.unkept = unkept
    record.dialect = None if kept is None else dialect_of(kept, version)
    return record


def _heads(
    rest: list[Stored], class_name: str, notes: list[str]
) -> tuple[int | None, dict[str, float]]:
    """Remove counter and scalars from the list, if they are there."""
    iterations, scalars = None, {}
    named = bool(rest) and last_part(rest[0].name) in COUNTERS
    # Keras 1 does not name it, and stores it as a float.
    if named or (rest and rest[0].shape == () and keras2_saves_iterations(class_name)):
        iterations = counter(rest.pop(0))
    else:
        notes.append(
            f"the file does not hold the step counter of {class_name}: set optimizer.iterations "
            "where the steps to come depend on it"
        )
    if class_name == "Nadam":
        if rest and last_part(rest[0].name) in PRODUCTS:
            scalars["m_schedule"] = float(number(rest.pop(0)))
        else:
            notes.append("the file does not hold m_schedule of Nadam; it follows from the count")
    return iterations, scalars


def _layouts(class_name: str, config: Mapping[str, Any] | None) -> list[Layout]:
    if class_name in ADDED:
        return [ADDED[class_name]]
    slots = KEPT[class_name][1]
    settings = config or {}
    if class_name == "RMSprop":
        # Only tf.keras has these.
        extra = ["momentum"] * bool(settings.get("momentum"))
        extra += ["average_gradient"] * bool(settings.get("centered"))
        return [Layout((*slots, *extra))]
    if class_name != "Adam":
        return [Layout(slots)]
    # From 2.1.3 there are placeholders of shape (1,) if amsgrad is off.
    off = [Layout(slots), Layout(slots, placeholders=True)]
    on = [Layout((*slots, "velocity_hat"))]
    if config is None:
        return off + on
    return on if settings.get("amsgrad") else off
