"""Files of Keras 3, and of ``tf.keras`` from 2.11, which has the same optimizers.

The order of variables: counter, learning rate (unless it is a schedule), moving averages of the
model and gradient accumulators if enabled, then the slots. Those of Adadelta, Adam, Adamax and
Nadam are interleaved; Nadam has another scalar, after the slots or, up to 3.3, before them.
``tf.keras`` includes neither the learning rate nor that scalar, and always a momentum for SGD.
Those of `arrayoptim.keras` are interleaved, after all their scalars.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from ..config.keras import KERAS_3, SCALED, TF_KERAS_NEW, identified, inside, marked
from . import keras_adapter as _keras_own
from .keras3_matrices import CUTS
from .record import LOSS_SCALE, Record
from .stored import Stored, counter, number
from .weight_lists import AVERAGE, Layout, Shapes, Slots, choose

ORDERS = {
    "SGD": Layout(("momentum",)),
    "RMSprop": Layout(("velocity",)),
    "Adagrad": Layout(("accumulator",)),
    "Adadelta": Layout((), ("accumulated_grad", "accumulated_delta_var")),
    "Adam": Layout((), ("momentum", "velocity")),
    "AdamW": Layout((), ("momentum", "velocity")),
    "Adamax": Layout((), ("momentum", "norm")),
    "Nadam": Layout((), ("momentum", "velocity")),
    "Ftrl": Layout((), ("accumulator", "linear")),
    "Lion": Layout(("momentum",)),
    "Lamb": Layout((), ("momentum", "velocity")),
    "ScheduleFreeAdamW": Layout((), ("base", "velocity")),
}
KNOWN = (*ORDERS, *CUTS)
SPELT = {"base": "momentum"}
"""Slots with a different name in Keras."""
FLAGS = {"SGD": ("momentum",), "RMSprop": ("momentum", "centered"), "Adam": ("amsgrad",)}
FLAGS["AdamW"] = FLAGS["Adam"]


def class_of(name: str | None) -> str | None:
    """Return the class of an optimizer with a name like ``rm_sprop`` or ``adam_1``.

    Parameters
    ----------
    name : str or None
        Keras 3's automatic name.
    """
    plain = re.sub(r"_\d+$", "", name or "").replace("_", "").lower()
    return next((known for known in [*KNOWN, *SCALED] if known.lower() == plain), None)


def interpret(
    arrays: list[Stored],
    class_name: str | None,
    config: Mapping[str, Any] | None,
    *,
    dialect: str = KERAS_3,
    named: bool = False,
    within: Shapes | None = None,
    half: bool = False,
) -> Record:
    """Return the state in a list of variables.

    Parameters
    ----------
    arrays : list of Stored
        The variables in Keras's order.
    class_name : str or None
        The class, if the file names it.
    config : mapping or None
        The hyperparameters, if they are in the file.
    dialect : str
        Which of the two Keras generations wrote them.
    named : bool
        Whether the variables have Keras's own names.
    within : Counter, optional
        The count of each shape among the model's variables.
    half : bool
        Whether these have a 16-bit dtype.

    Raises
    ------
    ValueError
        If the class is unknown, or the number or shapes of the variables do not match.
    """
    notes: list[str] = []
    unkept: list[str] = []
    if class_name in SCALED:
        own = 0 if dialect == TF_KERAS_NEW else 4
        class_name, config, arrays = _unwrapped(class_name, config, arrays[own:])
        unkept.append(LOSS_SCALE)
    if not marked(config):
        class_name = next((k for k in KNOWN if k.lower() == str(class_name).lower()), class_name)
    if not arrays or class_name is None or not (class_name in KNOWN or marked(config)):
        raise ValueError(
            f"found {len(arrays)} variables of {class_name or 'an optimizer of unknown class'}, "
            f"wanted at least the counter of one of {', '.join(KNOWN)}"
        )
    steps = (config or {}).get("gradient_accumulation_steps") or 1
    iterations, rest = counter(arrays[0]) // steps, arrays[1:]
    kept: dict[str, Any] | None = None if config is None else dict(config)
    if _has_rate(rest, config, named, dialect):
        kept = {**(kept or {}), "learning_rate": float(number(rest.pop(0)))}
    if config is not None and marked(config):
        names, layout = _keras_own.order(class_name, config, half)
        layout = replace(layout, lead=_lead(config))
        scalars, slots = _cut_own(rest, names, layout, class_name)
    else:
        scalars, slots = _cut(rest, class_name, config, notes, within, dialect, named)
    if named and dialect == KERAS_3 and class_name not in CUTS:
        _check_names(slots, {} if marked(config) else SPELT)
    notes += _lost(class_name, config, slots)
    source = "keras 3" if dialect == KERAS_3 else "keras 2"
    record = Record(source, class_name, kept, iterations, scalars, slots, None, notes)
    record.partial, record.skipped = not config, int(scalars.pop("skipped", 0))
    record.unkept = unkept
    record.dialect = None if marked(config) else dialect
    return record


def _lost(class_name: str, config: Mapping[str, Any] | None, slots: Slots) -> list[str]:
    """Return notes about what was left out, and what is not in the file."""
    settings, notes = config or {}, []
    if (steps := settings.get("gradient_accumulation_steps") or 1) > 1:
        notes.append(f"a step is {steps} calls; gradients summed since the last are left out")
    if not settings:
        notes.append(
            "the file holds no hyperparameters but the learning rate; those of Keras 3 default to "
            "other values than those of Keras 2, epsilon=1e-7 for one"
        )
    if not slots.keys() - {AVERAGE}:
        notes.append(f"Keras 3 keeps no slot for {class_name} without momentum; it starts at zero")
    return notes


def _unwrapped(
    class_name: str | None,
    config: Mapping[str, Any] | None,
    arrays: list[Stored],
) -> tuple[str | None, Mapping[str, Any] | None, list[Stored]]:
    """Return the optimizer inside one that scales the loss."""
    inner = inside({"class_name": class_name, "config": config})
    if not isinstance(inner, Mapping):
        raise ValueError(
            f"found a {class_name} whose inner optimizer the file does not describe; save the "
            "whole model, with its configuration, instead"
        )
    return *identified(inner), arrays


def _has_rate(
    rest: list[Stored], config: Mapping[str, Any] | None, named: bool, dialect: str
) -> bool:
    if not rest:
        return False
    if named:
        return rest[0].name.rpartition("/")[2].startswith("learning_rate")
    if dialect == TF_KERAS_NEW:
        return False
    if config and isinstance(config.get("learning_rate"), Mapping):
        return False
    return rest[0].shape == ()


def _cut(
    rest: list[Stored],
    class_name: str,
    config: Mapping[str, Any] | None,
    notes: list[str],
    within: Shapes | None,
    dialect: str,
    named: bool,
) -> tuple[dict[str, float], Slots]:
    what = f"{dialect} {class_name}"
    if class_name in CUTS:
        if lead := _lead(config or {}):
            # The number of parameters could only be inferred from arrays that are not uniform.
            raise ValueError(
                f"found the state of {what} with {' and '.join(lead)}, whose arrays cannot be told "
                "from its own; save it without"
            )
        if not rest:
            raise ValueError(f"found no slots of {what}: the model was saved before its first step")
        return {}, CUTS[class_name](rest, named, dialect == KERAS_3)
    layouts = _layouts(class_name, config, dialect)
    if class_name != "Nadam":
        return {}, choose(rest, layouts, what, within)
    layout = layouts[0]
    n, odd = divmod(len(rest), layout.per_parameter)
    if odd != 1:
        notes.append("the file does not hold m_schedule of Nadam; it follows from the count")
        return {}, choose(rest, layouts, what, within)
    place = -1 if rest[-1].shape == () else len(layout.lead) * n
    scalar = rest.pop(place)
    return {"m_schedule": float(number(scalar))}, choose(rest, layouts, what, within)


def _cut_own(
    rest: list[Stored], names: list[str], layout: Layout, class_name: str
) -> tuple[dict[str, float], Slots]:
    place = len(layout.lead) * ((len(rest) - len(names)) // layout.per_parameter)
    heads, rest[place:] = rest[place : place + len(names)], rest[place + len(names) :]
    scalars = {name: float(number(held)) for name, held in zip(names, heads, strict=False)}
    words = f"{class_name} of arrayoptim.keras, which keras.models.load_model loads,"
    return scalars, choose(rest, [layout], words)


def _lead(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the variables that Keras itself keeps per parameter."""
    sums = ("gradient accumulators",) * bool(settings.get("gradient_accumulation_steps"))
    return (AVERAGE,) * bool(settings.get("use_ema")) + sums


def _layouts(class_name: str, config: Mapping[str, Any] | None, dialect: str) -> list[Layout]:
    """Return the possible orders given the hyperparameters, or all orders without them."""
    order, flags = ORDERS[class_name], FLAGS.get(class_name, ())
    settings = config or {}
    if config is None:
        choices = [dict(zip(flags, on)) for on in product([False, True], repeat=len(flags))]
    else:
        choices = [{flag: bool(settings.get(flag)) for flag in flags}]
    found = []
    for on in choices:
        blocks = order.blocks
        if class_name == "SGD":
            blocks = blocks if on["momentum"] or dialect == TF_KERAS_NEW else ()
        elif class_name == "RMSprop":
            blocks += ("momentum",) * on["momentum"] + ("average_gradient",) * on["centered"]
        elif on.get("amsgrad"):
            blocks += ("velocity_hat",)
        found.append(Layout(blocks, order.together, _lead(settings)))
    return found


def _check_names(slots: Slots, words: Mapping[str, str]) -> None:
    for slot, arrays in slots.items():
        spelt = words.get(slot, slot)
        for array in arrays:
            if not re.search(rf"(^|[/_]){spelt}(_\d+)?(:\d+)?$", array.name):
                raise ValueError(
                    f"found {array.name!r} where {slot} of a parameter was wanted: the variables "
                    "are in an order that no known version of Keras 3 writes"
                )
