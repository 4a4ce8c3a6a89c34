"""What the demo prints and writes when it is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arrayoptim._cli.table import table

from .compare import NOTES, RIVALS
from .course import TOLERANCE, Course, Resumed


def printed(courses: Sequence[Course], rival: str | None) -> str:
    """Lay out the results as a table with the notes that belong to it.

    Parameters
    ----------
    courses : sequence of Course
        What became of each optimizer.
    rival : str or None
        The library compared with.

    Returns
    -------
    str
        Lines for a terminal.
    """
    headers = ["optimizer", "settings", "final loss", "test accuracy", "steps/s"]
    headers += ["resumed on", "max deviation"]
    if rival is not None:
        headers.append(f"{rival} accuracy")
    rows = [row for course in courses for row in _rows(course, rival)]
    lines = [table(headers, rows, "<<>>><<" + ">"), ""]
    lines.append(
        "Resumed from the checkpoint written half-way. On the same backend every bit must agree;\n"
        f"on another one each parameter, to {TOLERANCE:g} of the largest (float32), or the losses "
        "of the\nfirst three steps as near, where differences of rounding grow."
    )
    if rival is not None:
        lines += _notes(courses, rival)
    return "\n".join(lines)


def _rows(course: Course, rival: str | None) -> list[list[str]]:
    """Return the row of a course, and one more for each further resumed run."""
    first = [course.name, course.settings, f"{course.final_loss:.3g}", f"{course.accuracy:.4f}"]
    first.append(f"{course.speed:.0f}")
    rows = []
    for place, run in enumerate(course.resumed):
        start = first if place == 0 else [""] * len(first)
        end = [_rival(course, rival) if place == 0 else ""] if rival else []
        rows.append([*start, run.backend, _deviation(run), *end])
    return rows


def _rival(course: Course, rival: str) -> str:
    found = course.rivals.get(rival)
    return "no counterpart" if found is None else f"{found:.4f}"


def _deviation(run: Resumed) -> str:
    text = "none, bit for bit" if run.identical else f"{run.deviation:.1e}"
    return text if run.agrees else f"{text}  DISAGREES"


def _notes(courses: Sequence[Course], rival: str) -> list[str]:
    notes = NOTES[rival]
    found = [
        f"  {course.name}: {notes[course.name]}." for course in courses if course.name in notes
    ]
    return ["", f"{rival} takes the same start, batches and hyperparameters.", *found]


def written(courses: Sequence[Course], setup: dict[str, Any], file: Path) -> None:
    """Write results and loss curves as JSON.

    Parameters
    ----------
    courses : sequence of Course
        What became of each optimizer.
    setup : dict
        What the command line asked for.
    file : Path
        The file to write.
    """
    content = {"setup": setup, "optimizers": {course.name: _entry(course) for course in courses}}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _entry(course: Course) -> dict[str, Any]:
    return {
        "settings": course.settings,
        "final_loss": course.final_loss,
        "test_accuracy": course.accuracy,
        "steps_per_second": course.speed,
        "resumed": [
            {
                "backend": run.backend,
                "identical": run.identical,
                "deviation": run.deviation,
                "agrees": run.agrees,
            }
            for run in course.resumed
        ],
        **{f"{rival}_accuracy": course.rivals[rival] for rival in RIVALS if rival in course.rivals},
        "losses": [round(float(loss), 7) for loss in course.losses],
    }
