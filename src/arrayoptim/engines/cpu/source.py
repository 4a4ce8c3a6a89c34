"""The source of the kernels: the loop over all tensors.

A kernel takes the address of a *job*, an array of int64 with the cells `JOB`, and whether it leads.
Every thread that runs it claims tasks until none is left. The leader starts at the front, helpers
at the end: at the next step each finds most of its tasks' arrays in its own processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

JOB = (
    "claimed",
    "behind",
    "tasks",
    "bounds",
    "chunks",
    "gradients",
    "pointers",
    "rows",
    "coefficients",
    "leaves",
    "seed",
    "noise",
    "sums",
    "counts",
    "calls",
    "kernel",
    "brief",
    "pool",
    "helpers",
    "lines",
)
"""Cells of a job: how many tasks are claimed, how many of them by helpers; their number, the
addresses of tables; for the thread that leads its own calls, the kernel, whether it is done before
another thread of Python could be let in, and who helps; and a table of rows and columns."""

CELLS = {name: k for k, name in enumerate(JOB)}


@dataclass(frozen=True)
class Program:
    """Source text with its namespace.

    Attributes
    ----------
    source : str
        Text that defines ``kernel(job, leader)``.
    functions : tuple of (str, callable)
        Pure functions that are compiled into it.
    streams : tuple of (str, str)
        The arrays of a tensor, in the order of the pointer table: name and dtype in memory.
    compute : str
        The compute dtype.
    answers : bool
        Whether it is a Python function, see `calls`: of the address of an object and of those of
        its arguments, with an object as its result.
    parts : tuple of callable
        Functions that are compiled into it under their own names: they may call one another and
        anything else that the source defines, and use constants of their modules.
    inlined : tuple of callable
        Parts that are large and called in one place.
    """

    source: str
    functions: tuple[tuple[str, Callable[..., Any]], ...]
    streams: tuple[tuple[str, str], ...]
    compute: str
    answers: bool = False
    parts: tuple[Callable[..., Any], ...] = ()
    inlined: tuple[Callable[..., Any], ...] = ()


def squares_program(storage: str) -> Program:
    """Write the pass over the gradients: sum of squares and nonfinite entries of each chunk.

    Parameters
    ----------
    storage : str
        Dtype of the gradients.

    Returns
    -------
    Program
        The program; a chunk is a block of `numerics.sums`.
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
    return Program(framed(body.strip().splitlines()), (), (("g", storage),), "float64")


def framed(each_chunk: Sequence[str], columns: Sequence[str] = ("t", "start", "stop")) -> str:
    """Wrap the work on one chunk in the loops over tasks and chunks.

    Parameters
    ----------
    each_chunk : sequence of str
        Lines that use the chunk ``c`` and its columns.
    columns : sequence of str
        The columns of the chunk table; by default the tensor ``t``, its first element and the end.

    Returns
    -------
    str
        The source of a kernel.
    """
    loads = "\n".join(f"    {name} = peek(job, {k})" for k, name in enumerate(JOB) if k > 1)
    told = [f"{name} = peek(chunks, {len(columns)} * c + {k})" for k, name in enumerate(columns)]
    body = "\n".join(f"            {line}" for line in (*told, *each_chunk))
    return f"""
def kernel(job, leader):
{loads}
    front = 0
    while claim(job, {CELLS["claimed"]}) < tasks:
        if leader:
            task = front
            front += 1
        else:
            task = tasks - 1 - claim(job, {CELLS["behind"]})
        for c in range(peek(bounds, task), peek(bounds, task + 1)):
{body}
"""
