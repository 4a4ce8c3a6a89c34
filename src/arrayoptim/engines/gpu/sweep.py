"""The source of the sweep: stages and rule on each element, for all tensors in one launch."""

from __future__ import annotations

from collections.abc import Sequence

from ...arrays.backend import ITEMSIZE
from ...rules.rule import Rule
from .element import addressed, begun, element
from .program import Program, named, numbers_of, opening

__all__ = ["sweep_program", "swept"]


def sweep_program(
    rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
) -> Program:
    """Write the sweep: load, apply stages and rule, store.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in.
    streams : sequence of (str, str)
        The name and dtype in memory of each stream: ``g``, ``p``, the rule's slots as ``s0``,
        ``s1``, ..., then the slots of stages. All but ``g`` have a column of the pointer table.
    compute : str
        The compute dtype.

    Returns
    -------
    Program
        The kernel.

    Raises
    ------
    UnprintableError
        If the rule uses something outside the grammar.
    """
    names = numbers_of(rule, stages)
    # Vectorized accesses have 16 bytes for the stream with the smallest elements.
    width = 16 // min(ITEMSIZE[dtype] for _, dtype in streams)
    parts = [
        *opening(rule, stages, compute),
        element(rule, stages, streams),
        _kernel(names, streams, width),
    ]
    return named(rule.name, parts, names)


def _kernel(numbers: Sequence[str], streams: Sequence[tuple[str, str]], width: int) -> str:
    """Write the kernel: each block finds its chunk, and steps it, in packs if it is aligned."""
    called = addressed(streams)
    lines = [
        f"const whole packed = aligned ? stop - (stop - start) % {width} : start;",
        "EACH_THREAD(u) {",
        f"    for (whole i = start + {width} * u; i < packed; i += {width} * THREADS)",
        f"        stepped<{width}>(i, {called}, c);",
        "    for (whole i = packed + u; i < stop; i += THREADS)",
        f"        stepped<1>(i, {called}, c);",
        "}",
    ]
    return swept(numbers, streams, lines)


def swept(
    numbers: Sequence[str],
    streams: Sequence[tuple[str, str]],
    body: Sequence[str],
    tables: Sequence[str] = (),
) -> str:
    """Write a kernel with one block per chunk.

    Parameters
    ----------
    numbers : sequence of str
        Names of the per-step scalars it takes.
    streams : sequence of (str, str)
        As for `sweep_program`.
    body : sequence of str
        What a block does with elements ``start`` to ``stop`` of tensor ``t``; ``aligned`` says
        whether all their addresses are aligned to 16 bytes.
    tables : sequence of str
        Kernel parameters that precede the per-step scalars.
    """
    arguments = "".join(f", {each}" for each in (*tables, *(f"double n_{n}" for n in numbers)))
    lines = [
        "const int t = chunks[2 * blockIdx.x];",
        *begun(streams, numbers),
        "const whole start = (whole)CHUNK * chunks[2 * blockIdx.x + 1], size = sizes[t];",
        "const whole stop = size - start < CHUNK ? size : start + CHUNK;",
        f"const bool aligned = (({addressed(streams, ' | ', '(whole)')}) & 15) == 0;",
        *body,
    ]
    return "\n".join(
        [
            "KERNEL @NAME@(",
            "    const int *chunks, const whole *sizes, const int *leaves, const whole *pointers,",
            "    const whole *gradients, const double *norm, const double *norms,",
            f"    const double *table{arguments}) {{",
            *(f"    {line}" for line in lines),
            "}",
        ]
    )
