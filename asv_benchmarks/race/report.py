"""The tables, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from statistics import median, quantiles

from .accuracy import Errors
from .machine import cores, processor, versions
from .peer import Contest
from .running import Score

Row = Sequence[str]

HOW = """\
Each peer runs in a process of its own. In a round each takes one turn, in an order drawn anew: up
to 30 ms of steps, of which the first is not counted where there are more. *Step* is the median over
the rounds of the median of a turn. *Ratio* is the median over the rounds of the peer's time over
this library's in the same round: above 1 where this library is faster. *Half the rounds* is the
range of that ratio without its lowest and highest quarter. *Limit* is the fastest of several ways
to stream as many bytes as the step has to read and write, through as much memory, with no
arithmetic: its ratio is the share of that bandwidth which this library reaches. All peers may use
all cores.
"""

STRAYED = """\
Each library's float32 run against its own float64 run, on the same gradients, which were recorded
while a network of two layers learnt handwritten digits. Torch is fused where it has that. What is
compared are the parameters, of size 0.1 to 1, at every 50th step.

"""
SEARCHED = """\
Whole searches until no entry of the gradient is larger than 1e-8, or 1e-5 of a batch, in turns in
one process. What is measured is the processor time of the one thread, with that of the function; of
a single problem it is SciPy's own. *Ratio*: the least time of the search in multiples of that of
SciPy, then the same of medians. An evaluation of the batch is one of all its problems.

"""
HELD = """\
*Asked for*: the most that Python and NumPy held at one time during a step, above what they held
before it. *Process*: by how much three steps raised the peak of its resident memory.

"""


def table(headers: Row, rows: Sequence[Row]) -> str:
    """Return a table, its columns aligned; all but the first hold numbers."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in [headers, rule, *rows]:
        first, *others = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join([first, *others])} |")
    return "\n".join(lines) + "\n"


def heading() -> str:
    """Say when and where it was measured."""
    today = datetime.now(timezone.utc).date().isoformat()
    found = ", ".join(f"{name} {number}" for name, number in versions().items())
    return (
        f"# Race\n\nMeasured on {today} on {processor()}; threads: {cores()}.\n\n{found}.\n\n{HOW}"
    )


def contest(about: Contest, scores: Sequence[Score]) -> str:
    """Return the table of one contest, the fastest first, and who was left out."""
    ran = sorted((s for s in scores if s.seconds), key=lambda s: median(s.ratios))
    rows = [
        [
            f"{s.peer.label} ({s.note})" if s.note else s.peer.label,
            _milliseconds(median(s.seconds)),
            f"{median(s.ratios):.2f}",
            _middle(s.ratios),
            str(len(s.seconds)),
        ]
        for s in ran
    ]
    out = [f"{s.peer.label}: left out, {s.failure}." for s in scores if s.failure]
    parts = [
        f"## {about.heading}\n",
        table(["", "step, ms", "ratio", "half the rounds", "rounds"], rows),
        *(f"{line}\n" for line in out),
    ]
    return "\n".join(parts)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _middle(ratios: Sequence[float]) -> str:
    if len(ratios) < 2:
        return ""
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return f"{low:.2f} to {high:.2f}"


def accuracy(rows: Sequence[tuple[str, Errors, Errors | None]], steps: int) -> str:
    """Return the table of how far float32 is from float64."""
    cells = [
        [
            name,
            *(f"{x:.1e}" for x in (*ours, *(torch or ()))),
            *_quotient(ours, torch),
        ]
        for name, ours, torch in rows
    ]
    others = [] if rows[0][2] is None else ["torch, rms", "torch, largest", "rms, torch over ours"]
    return (
        f"## Accuracy: float32 against float64 over {steps:,} steps\n\n"
        + STRAYED
        + table(["", "ours, rms", "ours, largest", *others], cells)
    )


def searches(rows: Sequence[tuple[str, str, int, float, float, float]] | None) -> str:
    """Return the tables of whole searches."""
    parts = ["## L-BFGS on Rosenbrock's function\n", SEARCHED if rows else "SciPy: left out.\n"]
    for title in dict.fromkeys(row[0] for row in rows or ()):
        cells = [
            [name, f"{count:,}", f"{1e6 * seconds:.0f}", f"{least:.2g}", f"{middle:.2g}"]
            for about, name, count, seconds, least, middle in rows or ()
            if about == title
        ]
        names = [title, "evaluations", "microseconds each", "ratio", "ratio of medians"]
        parts.append(table(names, cells))
    return "\n".join(parts)


def memory(rows: Sequence[Row]) -> str:
    """Return the table of the memory that a step takes."""
    return (
        "## Memory of a step beyond parameters, gradients and state\n\n"
        + HELD
        + table(["MB", "asked for", "process"], rows)
    )


def _quotient(ours: Errors, torch: Errors | None) -> list[str]:
    return [] if torch is None else [f"{torch[0] / ours[0]:.2f}"]
