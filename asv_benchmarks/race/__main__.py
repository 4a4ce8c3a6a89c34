"""The command line of the race."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from . import accuracy, gpu, memory, report, searches
from .chart import draw
from .contests import CONTESTS, peers
from .machine import processor
from .peer import Contest
from .running import Race, Score, say
from .shapes import SHAPES

GROUPS = (*CONTESTS, "memory", "accuracy", "searches")
OUTPUT = Path(__file__).parents[2] / "build" / "race"
Results = list[tuple[Contest, list[Score]]]


def options(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        prog="race", description="Time a step of this library and of every peer installed."
    )
    add = parser.add_argument
    add("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="what to measure")
    add("--shapes", nargs="+", choices=list(SHAPES), help="on which shapes (all)")
    add("--peers", nargs="+", choices=peers(), help="against whom (all that are installed)")
    add("--repeats", type=int, default=30, help="rounds of each contest (30)")
    add("--output", type=Path, default=OUTPUT, help="folder for race.md and race.png (build/race)")
    add("--gpu", action="store_true", help="on a GPU instead: CuPy arrays, torch CUDA tensors")
    add("--quick", action="store_true", help="five rounds, of S1, S2 and S3")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.repeats = min(chosen.repeats, 5)
        chosen.shapes = chosen.shapes or ["S1", "S2", "S3"]
    return chosen


def main() -> None:
    """Race, print the tables, and write them."""
    chosen = options()
    chosen.output.mkdir(parents=True, exist_ok=True)
    parts = []
    for part in measured(chosen):
        sys.stdout.write(f"{part}\n")
        sys.stdout.flush()
        parts.append(part)
    name = "race_gpu.md" if chosen.gpu else "race.md"
    (chosen.output / name).write_text("\n".join(parts), encoding="utf-8")
    say(f"written to {chosen.output}")


def measured(chosen: Namespace) -> Iterator[str]:
    """Measure what is asked for; give the parts of the report, each when it is ready."""
    if chosen.gpu:
        yield from gpu.measured(chosen.repeats)
        return
    yield report.heading()
    for group in chosen.groups:
        if group in CONTESTS:
            yield from contests(group, chosen)
        else:
            yield _OTHERS[group](chosen)


def contests(group: str, chosen: Namespace) -> Iterator[str]:
    """Run the contests of a group; give the tables."""
    results: Results = []
    with Race(chosen.repeats) as race:
        for contest in CONTESTS[group]:
            if chosen.shapes and contest.shape not in chosen.shapes:
                continue
            wanted = (contest.peers[0].name, "limit", *(chosen.peers or peers()))
            kept = tuple(peer for peer in contest.peers if peer.name in wanted)
            results.append((contest, race.run(replace(contest, peers=kept))))
            yield report.contest(*results[-1])
    if group == "adam" and results:
        today = datetime.now(timezone.utc).date().isoformat()
        draw(results, f"{processor()}, {today}", chosen.output / "race.png")
        yield "![One step of Adam: its time in multiples of this library's](race.png)\n"


def of_memory(chosen: Namespace) -> str:
    """Return the table of the memory that a step takes."""
    rows = []
    for shape in chosen.shapes or SHAPES:
        for name in memory.OPTIONS:
            say(f"memory of a step: {name}, {shape}")
            asked, grown = memory.peak(shape, name)
            found = [f"{asked / 1e6:.3f}", "unknown" if grown is None else f"{grown / 1e6:.3f}"]
            rows.append([f"{name}, {shape}", *found])
    return report.memory(rows)


def of_accuracy(chosen: Namespace) -> str:
    """Return the table of what float32 loses."""
    say("accuracy over 1,000 steps")
    steps = 100 if chosen.quick else accuracy.STEPS
    return report.accuracy(accuracy.compare(steps), steps)


def of_searches(chosen: Namespace) -> str:
    """Return the table of whole searches."""
    say("searches of L-BFGS")
    return report.searches(searches.found(chosen.repeats))


_OTHERS = {"memory": of_memory, "accuracy": of_accuracy, "searches": of_searches}


if __name__ == "__main__":
    main()
