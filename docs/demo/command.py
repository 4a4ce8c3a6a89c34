"""``demo``: checks what is asked for, trains, reports."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from arrayoptim._cli.backends import installed, other_than, wanted
from arrayoptim._cli.errors import CommandError, one_line
from arrayoptim.config import registry as _registry

if TYPE_CHECKING:
    from .course import Course
    from .data import Problem

FIRST = 4
"""After how many optimizers there is a picture already, where there are many."""

NEEDED = {
    "sklearn": "scikit-learn",
    "tqdm": "tqdm",
    "matplotlib": "matplotlib",
    "h5py": "h5py",
    "array_api_compat": "array-api-compat",
}
"""The packages that the demo needs, by module; more than the library itself does."""

RESULTS = "results.json"
PICTURE = "loss_curves.png"

ALONE = """
Where torch or JAX is installed each run goes on there too, from the same file.\
"""


def run(arguments: argparse.Namespace) -> int:
    """Carry out what the command line asks for.

    Parameters
    ----------
    arguments : argparse.Namespace
        The command line.

    Returns
    -------
    int
        0. A resumed run that disagrees is a `CommandError`.
    """
    names = _names(arguments.optimizers)
    _require(arguments.compare)
    began = time.perf_counter()
    from . import data

    problem = data.load(arguments.epochs, arguments.batch_size, arguments.seed)
    courses = _train(names, arguments, problem)
    _report(courses, arguments, problem)
    took = time.perf_counter() - began
    output = arguments.output
    print(f"\nWrote {PICTURE}, {RESULTS} and checkpoints (*.h5) to {output} in {took:.1f} s.")
    print(f"Look into one: python -m arrayoptim inspect {output / f'{names[0].lower()}.h5'}")
    return _verdict(courses)


def _names(asked: list[str]) -> list[str]:
    """Return registered names for those asked for, each once; all of them for none."""
    try:
        found = [_registry.lookup(name).__name__ for name in asked]
    except ValueError as error:
        raise CommandError(one_line(error), code=2) from error
    return list(dict.fromkeys(found)) or _registry.names()


def _require(rival: str | None) -> None:
    """Insist on the packages that the demo needs."""
    missing = [package for module, package in NEEDED.items() if not installed(module)]
    if missing:
        raise CommandError(
            f'the demo needs {", ".join(missing)}: pip install "arrayoptim[demo]"', code=2
        )
    if rival is not None and not installed(rival):
        raise CommandError(f"--compare {rival} needs {rival}: pip install {rival}", code=2)


def _train(names: list[str], arguments: argparse.Namespace, problem: Problem) -> list[Course]:
    """Send each optimizer through the demo under one progress bar."""
    from tqdm import tqdm

    from . import compare, settings, training
    from .steady import steady

    backend = wanted(arguments.backend)
    elsewhere = wanted(arguments.resume_on) if arguments.resume_on else other_than(backend.name)
    _make(arguments.output)
    # Checked before the first step: a bad learning rate shall not cost a training.
    optimizers = {name: settings.build(name, arguments.lr) for name in names}
    rest = len(problem.batches) - problem.half
    total = len(problem.batches) + rest * len({backend.name, elsewhere.name})
    rivals = [
        name for name in names if arguments.compare and compare.known(arguments.compare, name)
    ]
    total = total * len(names) + len(rivals) * len(problem.batches)
    courses = []
    # A log file gets no bar: tqdm draws on terminals only.
    bar = tqdm(total=total, unit="step", disable=None, file=sys.stderr, leave=False)
    with steady(), bar:
        tick = bar.update
        plan = training.Plan(problem, backend, elsewhere, arguments.lr, arguments.output, tick)
        for name in names:
            bar.set_description(name)
            courses.append(training.run(name, plan))
            if len(courses) == FIRST < len(names):
                bar.write(f"The first {FIRST}: {_picture(courses, arguments, problem)}")
            if name in rivals:
                bar.set_description(f"{name} of {arguments.compare}")
                score = compare.accuracy(arguments.compare, name, optimizers[name], problem, tick)
                courses[-1].rivals[arguments.compare] = score
    return courses


def _make(output: Path) -> None:
    """Make the directory for the results."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot make the directory {output}: {one_line(error)}") from error


def _report(courses: list[Course], arguments: argparse.Namespace, problem: Problem) -> None:
    """Print the table, write the results and draw the picture."""
    from . import report

    print(report.printed(courses, arguments.compare))
    if {run.backend for course in courses for run in course.resumed} == {arguments.backend}:
        print(ALONE)
    setup = {
        key: getattr(arguments, key) for key in ("backend", "epochs", "batch_size", "seed", "lr")
    }
    try:
        report.written(courses, setup, arguments.output / RESULTS)
        _picture(courses, arguments, problem)
    except OSError as error:
        raise CommandError(f"cannot write to {arguments.output}: {one_line(error)}") from error


def _picture(courses: list[Course], arguments: argparse.Namespace, problem: Problem) -> Path:
    """Draw what there is so far, and return where."""
    from . import plot

    file: Path = arguments.output / PICTURE
    plot.draw(courses, problem, arguments.backend, file)
    return file


def _verdict(courses: list[Course]) -> int:
    """Say which resumed runs disagree."""
    bad = [
        f"{course.name} on {run.backend}"
        for course in courses
        for run in course.resumed
        if not run.agrees
    ]
    if bad:
        raise CommandError(f"resumed runs disagree with the uninterrupted ones: {', '.join(bad)}")
    return 0
