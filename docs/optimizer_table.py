"""The table of all optimizers, from the registry and from what the race has measured."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import arrayoptim as ao
from arrayoptim.engines.cpu import engine as cpu
from arrayoptim.engines.gpu import engine as gpu

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "docs" / "benchmarks" / "race.md"
SHAPE = "S3"
HEADERS = ["optimizer", "slots", "state, bytes", "fused on", "step, ms", "fastest other, ms"]
NOTHING = "-"


@dataclass(frozen=True)
class Report:
    """What stands in the report of a race.

    Attributes
    ----------
    where : str
        Day, machine and threads.
    sections : dict of str to dict
        For each heading the milliseconds of a step by who took it.
    """

    where: str
    sections: dict[str, dict[str, str]]


def read(path: Path = REPORT) -> Report:
    """Return what the report of a race says."""
    text = path.read_text(encoding="utf-8")
    measured = re.search(r"^Measured on (.*)\.$", text, flags=re.MULTILINE)
    sections = {}
    for part in text.split("\n## ")[1:]:
        rows = re.findall(r"^\| (.*?) *\| +([\d.]+) \| +[\d.]+ \|", part, flags=re.MULTILINE)
        sections[part.partition("\n")[0]] = dict(rows)
    return Report(measured.group(1) if measured else "an unknown day", sections)


def headings() -> dict[str, str]:
    """Return the first heading under which the race reports each class."""
    sys.path.append(str(ROOT / "asv_benchmarks"))
    from race.contests import CONTESTS
    from race.peers.ours import OPTIMIZERS

    found: dict[str, str] = {}
    for contest in (*CONTESTS["adam"], *CONTESTS["others"]):
        name, _ = OPTIMIZERS[contest.optimizer]
        if contest.shape == SHAPE:
            found.setdefault(name, contest.heading)
    return found


def times(section: dict[str, str]) -> list[str]:
    """Return our time and that of the fastest other, who is named."""
    ours = section.get("this library, NumPy arrays", NOTHING)
    others = {
        who: float(ms)
        for who, ms in section.items()
        if not who.startswith(("limit", "this library"))
    }
    if not others:
        return [ours, NOTHING]
    first = min(others, key=others.__getitem__)
    return [ours, f"{section[first]} ({first})"]


def engines(optimizer: ao.Optimizer, params: np.ndarray) -> str:
    """Return the fused engines that serve the rule."""
    slots = optimizer.init_state(params)["slots"]
    found = []
    if cpu.refusal(optimizer.rule, params, slots) is None:
        found.append("cpu")
    if gpu.unprintable(optimizer.rule) is None:
        found.append("gpu")
    return ", ".join(found) or NOTHING


def rows(report: Report) -> list[list[str]]:
    """Return a row for each registered optimizer."""
    table, raced = [], headings()
    for name in ao.names():
        optimizer, params = ao.get(name), np.zeros((64, 64), np.float32)
        optimizer.init(params)
        state = optimizer.get_weights()[1 + len(optimizer.initial_scalars()) :]
        held = sum(array.nbytes for array in state) / params.size
        table.append(
            [
                f":class:`~arrayoptim.{name}`",
                ", ".join(f"``{slot}``" for slot in optimizer.rule.slots) or "none",
                f"{held:g}",
                engines(optimizer, params),
                *times(report.sections.get(raced.get(name, ""), {})),
            ]
        )
    return table


def note(report: Report) -> str:
    """Return what the reader has to know of the columns."""
    return (
        "State is counted for a float32 parameter of 64 by 64, with the defaults. Every optimizer "
        "runs on arrays of all libraries and inside ``jax.jit``; :doc:`fused engines </engines>` "
        "step all arrays of a tree at once. Times are those of :doc:`the race "
        f"</benchmarks/race>` on 10 float32 arrays of 1,000,000 entries, measured on {report.where}"
        "; SGD has momentum there. The others are those that were raced, all of them public; a "
        "dash is for what was not.\n"
    )
