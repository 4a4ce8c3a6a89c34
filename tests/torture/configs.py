"""Configurations that were changed by chance: an optimizer, a ValueError or a TypeError."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import arrayoptim as ao
from arrayoptim.persistence.json_config import dumps, loads
from torture.batches import serve

VALUES: list[Any] = [
    *[None, True, False, 0, -1, 1, 0.5, 10**400, -(10**400), 2**63, 1e308, 1e-320, 5e-324],
    *[float("inf"), float("nan"), "", "x", "Adam", "SGD", "\x1b]0;x\x07", "a" * 70_000, b"x"],
    *[[], [[]], [None], [1, 2, 3], ["a"], [{"x": 1}], {}, {1: 2}, (1,), {"nonfinite": "inf"}],
    {"class_name": "Adam", "config": {}},
    {"class_name": "CosineDecay", "config": {"initial_learning_rate": {}}},
    {"class_name": 3, "config": {}},
    {"class_name": "Adam", "config": None},
    {"unserializable": "os.system"},
    {"class_name": "Lookahead", "config": {"inner": {"class_name": "Lookahead", "config": {}}}},
]
KEYS = [
    *["lr", "learning_rate", "groups", "constraint", "inner", "every", "preset", "exclude", "x"],
    *["nonfinite", "class_name", "config", "clipnorm", "use_ema", "name", "weight_decay", 3, None],
]

DEEPEST = 20
"""How deep a change may be."""


@cache
def originals() -> list[dict[str, Any]]:
    """Return good configurations, as files have them."""
    schedule = ao.schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2, 0.3])
    optimizers = [
        *[ao.get(name) for name in ao.names()],
        ao.Lookahead(ao.Adam()),
        ao.GradientAccumulation(ao.SGD(lr=ao.schedules.CosineDecay(0.1, 100)), every=3),
        ao.Adam(lr=schedule, constraint="NonNeg", groups=[ao.group("*b", lr=0.1)]),
        ao.LossScale(ao.Adam(clipnorm=1.0)),
    ]
    keras = {"learning_rate": 0.1, "beta_1": 0.9, "global_clipnorm": None, "use_ema": False}
    found = [loads(dumps(ao.serialize(each))) for each in optimizers]
    return [*found, {"class_name": "Adam", "config": keras}]


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each entry."""
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    while waiting:
        here, at = waiting.pop()
        yield at
        if len(at) > DEEPEST:
            continue
        if isinstance(here, dict):
            waiting += [(inner, (*at, key)) for key, inner in here.items()]
        elif isinstance(here, list):
            waiting += [(inner, (*at, place)) for place, inner in enumerate(here)]


def changed(config: Any, chance: random.Random) -> Any:
    """Return a configuration with one entry that is another, missing, new or deep."""
    at = chance.choice(list(places(config)))
    if not at:
        return copy.deepcopy(chance.choice(VALUES))
    holder = config
    for key in at[:-1]:
        holder = holder[key]
    way = chance.random()
    if way < 0.6:
        holder[at[-1]] = copy.deepcopy(chance.choice(VALUES))
    elif way < 0.7:
        del holder[at[-1]]
    elif way < 0.8 and isinstance(holder, dict):
        holder[chance.choice(KEYS)] = copy.deepcopy(chance.choice(VALUES))
    else:
        for _ in range(chance.choice([1, 3, 300])):
            inner = {"initial_learning_rate": holder[at[-1]], "decay_steps": 1}
            holder[at[-1]] = {"class_name": "CosineDecay", "config": inner}
    return config


def case(number: int, folder: Path) -> str:
    """Make one optimizer, look at it and, at times, take steps."""
    chance = random.Random(number)
    config: Any = copy.deepcopy(chance.choice(originals()))
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        config = changed(config, chance)
    try:
        optimizer = chance.choice([ao.get, ao.deserialize])(config)
        optimizer.get_config(), repr(optimizer)
        if chance.random() < 0.2:
            params = [np.ones((3, 2), "f4"), np.ones(2, "f4")]
            with np.errstate(all="ignore"):
                for _ in range(3):
                    optimizer.apply([np.ones_like(p) for p in params], params)
    except (ValueError, TypeError):
        return "refused"
    except Exception as error:
        return f"unclean: {type(error).__name__}: {str(error)[:80]}"
    return "made"


if __name__ == "__main__":
    serve(case)
