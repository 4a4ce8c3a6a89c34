"""The text of the kernels: what the loop over all tensors does, and in which order.

A kernel takes the address of a *job*, an array of int64 whose cells `JOB` names, and
whether it leads. Every thread that runs it claims one task after another until none is
left; the leader then waits until all tasks are done, so its return is the end of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import _stages
from .._rule import Rule

JOB = (
    "claimed",
    "done",
    "tasks",
    "bounds",
    "chunks",
    "gradients",
    "pointers",
    "rows",
    "coefficients",
    "sums",
    "counts",
    "yield_",
)
"""Cells of a job: the tasks claimed and done, their number, and the addresses of tables."""

CELLS = {name: k for k, name in enumerate(JOB)}

STAGES = {
    "master": (),
    "clip": ("scale", "bound"),
    "couple": ("l2",),
    "decay": ("amount",),
    "average": ("keep", "new"),
}
"""Parts of a sweep besides the rule, each compiled in only where used, and their scalars."""

_BEFORE = {
    "master": "p = heal(p, load_master(a_master, i), stored_p(load_master(a_master, i)), xp)",
    "clip": "g = clip(g, scale, bound, xp)",
    "couple": "g = couple(g, p, l2, xp)",
    "decay": "p = decay(p, amount, xp)",
}
_AFTER = {
    "master": "store_master(a_master, i, p)",
    "average": "store_average(a_average, i, average(load_average(a_average, i), p, keep, new, xp))",
}


@dataclass(frozen=True)
class Program:
    """Source text and what its names mean.

    Attributes
    ----------
    source : str
        Text that defines ``kernel(job, leader)``.
    functions : tuple of (str, callable)
        Pure functions that are compiled into it.
    streams : tuple of (str, str)
        The arrays of a tensor, in the order of the pointer table: name and dtype in memory.
    compute : str
        The dtype of the arithmetic.
    """

    source: str
    functions: tuple[tuple[str, Callable[..., Any]], ...]
    streams: tuple[tuple[str, str], ...]
    compute: str


def sweep_program(
    rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
) -> Program:
    """Write the sweep: load, apply stages and rule, store.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in, of `STAGES`.
    streams : sequence of (str, str)
        ``g``, ``p``, the rule's slots as ``s0``, ``s1``, ..., then ``master`` and
        ``average`` where there are such; with the dtype of each in memory. All but ``g``
        have a column of the pointer table.
    compute : str
        The dtype of the arithmetic.

    Returns
    -------
    Program
        The program.
    """
    slots = [f"s{k}" for k in range(len(rule.slots))]
    scalars = [f"c{k}" for k in range(len(rule.coefficients))]
    results = ", ".join(["p", *slots]) + ("," if not slots else "")
    arguments = ", ".join(["p", "g", *slots, *scalars, "xp"])
    loop = [f"{name} = load_{name}(a_{name}, i)" for name in ("p", "g", *slots)]
    loop += [_BEFORE[stage] for stage in STAGES if stage in stages and stage in _BEFORE]
    loop += [f"{results} = rule({arguments})"]
    loop += [f"store_{name}(a_{name}, i, {name})" for name in ("p", *slots)]
    loop += [_AFTER[stage] for stage in STAGES if stage in stages and stage in _AFTER]
    scalars += [name for stage in STAGES if stage in stages for name in STAGES[stage]]
    head = ["a_g = peek(gradients, t)"]
    for k, (name, _) in enumerate(streams[1:]):
        head += [f"a_{name} = peek(pointers, {len(streams) - 1} * t + {k})"]
    head += [f"row = coefficients + {8 * len(scalars)} * peek(rows, t)"]
    head += [f"{name} = compute(peek_double(row, {k}))" for k, name in enumerate(scalars)]
    body = [*head, "if a_g:", "    for i in range(start, stop):"]
    body += [f"        {line}" for line in loop]
    used = {"master": "heal"}
    functions = [(used.get(s, s), getattr(_stages, used.get(s, s))) for s in STAGES if s in stages]
    return Program(_frame(body), (("rule", rule.function), *functions), tuple(streams), compute)


def squares_program(storage: str) -> Program:
    """Write the pass over the gradients: sum of squares and non-finite entries of each chunk.

    Parameters
    ----------
    storage : str
        Dtype of the gradients.

    Returns
    -------
    Program
        The program; a chunk is a block of `_norms`.
    """
    body = """
at = peek(gradients, t)
total = 0.0
if at:
    total = squares_g(at, start, stop)
poke_double(sums, c, total)
count = 0
if not total - total == 0.0:
    for i in range(start, stop):
        x = load_g(at, i)
        count += not x - x == 0.0
poke(counts, c, count)
"""
    return Program(_frame(body.strip().splitlines()), (), (("g", storage),), "float64")


def _frame(each_chunk: Sequence[str]) -> str:
    """Wrap the work on one chunk in the loops over tasks and chunks."""
    loads = "\n".join(f"    {name} = peek(job, {k})" for k, name in enumerate(JOB) if k > 1)
    body = "\n".join(f"            {line}" for line in each_chunk)
    return f"""
def kernel(job, leader):
{loads}
    task = claim(job, {CELLS["claimed"]})
    while task < tasks:
        for c in range(peek(bounds, task), peek(bounds, task + 1)):
            t = peek(chunks, 3 * c)
            start = peek(chunks, 3 * c + 1)
            stop = peek(chunks, 3 * c + 2)
{body}
        arrive(job, {CELLS["done"]})
        task = claim(job, {CELLS["claimed"]})
    if leader:
        spins = 0
        while arrived(job, {CELLS["done"]}) < tasks:
            spins += 1
            if spins > 1000:
                relax(yield_)
"""
