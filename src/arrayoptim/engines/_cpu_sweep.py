"""The text of the sweep: stages and rule on each element, as one loop."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .. import _stages
from .._rule import Rule
from ._cpu_source import Program, framed

STAGES = {
    "master": (),
    "kahan": (),
    "clip": ("scale", "bound"),
    "couple": ("l2",),
    "decay": ("amount",),
    "average": ("keep", "new"),
}
"""Parts of a sweep besides the rule, each compiled in only where used, and their scalars."""

STAGE_SLOTS = {"master": "master", "kahan": "compensation", "average": "average"}
"""Slots that belong to stages, in the order of the pointer table."""

_FUNCTIONS = {"master": ("heal",), "kahan": ("compensate", "remainder")}

_BEFORE = {
    "master": "p = heal(p, load_master(a_master, i), stored_p(load_master(a_master, i)), xp)",
    "kahan": "p = compensate(p, load_compensation(a_compensation, i), xp)",
    "clip": "g = clip(g, scale, bound, xp)",
    "couple": "g = couple(g, p, l2, xp)",
    "decay": "p = decay(p, amount, xp)",
}
_AFTER = {
    "master": "store_master(a_master, i, p)",
    "kahan": "store_compensation(a_compensation, i, remainder(p, stored_p(p), xp))",
    "average": "store_average(a_average, i, average(load_average(a_average, i), p, keep, new, xp))",
}


def sweep_program(
    rule: Rule,
    stages: Sequence[str],
    streams: Sequence[tuple[str, str]],
    compute: str,
    stochastic: Collection[str] = (),
) -> Program:
    """Write the sweep: load, apply stages and rule, store.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in, of `STAGES`.
    streams : sequence of (str, str)
        ``g``, ``p``, the rule's slots as ``s0``, ``s1``, ..., then those of `STAGE_SLOTS`
        that there are; with the dtype of each in memory. All but ``g`` have a column of
        the pointer table.
    compute : str
        The dtype of the arithmetic.
    stochastic : collection of str
        The slots that are rounded by chance.

    Returns
    -------
    Program
        The program.
    """
    slots = [f"s{k}" for k in range(len(rule.slots))]
    constants = [f"c{k}" for k in range(len(rule.coefficients))]
    used = [stage for stage in STAGES if stage in stages]
    results = ", ".join(["p", *slots]) + ("" if slots else ",")
    arguments = ", ".join(["p", "g", *slots, *constants, "xp"])
    loop = [
        *(f"{name} = load_{name}(a_{name}, i)" for name in ("p", "g", *slots)),
        *(_BEFORE[stage] for stage in used if stage in _BEFORE),
        f"{results} = rule({arguments})",
        *_stores(slots, stochastic),
        *(_AFTER[stage] for stage in used if stage in _AFTER),
    ]
    scalars = [*constants, *(name for stage in used for name in STAGES[stage])]
    body = [
        *_head(streams, scalars, len(slots) if stochastic else 0),
        "if a_g:",
        "    for i in range(start, stop):",
        *(f"        {line}" for line in loop),
    ]
    names = [name for stage in used for name in _FUNCTIONS.get(stage, (stage,))]
    functions = [("rule", rule.function), *((name, getattr(_stages, name)) for name in names)]
    return Program(framed(body), tuple(functions), tuple(streams), compute)


def _head(
    streams: Sequence[tuple[str, str]], scalars: Sequence[str], random_slots: int
) -> list[str]:
    """Give the lines that fetch a chunk's addresses and numbers."""
    columns = [name for name, _ in streams[1:]]
    return [
        "a_g = peek(gradients, t)",
        *(f"a_{name} = peek(pointers, {len(columns)} * t + {k})" for k, name in enumerate(columns)),
        f"row = coefficients + {8 * len(scalars)} * peek(rows, t)",
        *(f"{name} = compute(peek_double(row, {k}))" for k, name in enumerate(scalars)),
        *(
            f"key{k} = random_key(seed, peek(leaves, t), {k})"
            for k in range((random_slots + 1) // 2)
        ),
    ]


def _stores(slots: Sequence[str], stochastic: Collection[str]) -> list[str]:
    lines = ["store_p(a_p, i, p)"]
    for k, name in enumerate(slots):
        if name not in stochastic:
            lines.append(f"store_{name}(a_{name}, i, {name})")
            continue
        half = "upper" if k % 2 else "lower"
        bits = f"{half}_half(random(key{k // 2}, i))"
        lines.append(f"chance_{name}(a_{name}, i, {name}, {bits})")
    return lines
