"""``demo``: finds the demonstration, which ships with the source, not with the package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import CommandError

FOLDER = Path(__file__).parents[3] / "docs"
"""Its path in a clone, if the package is imported from there without installing it."""

WORDS = """\
Train on handwritten digits with each optimizer, stop halfway, go on elsewhere and compare.
"""


def main(argv: Sequence[str]) -> int:
    """Run the demonstration.

    Parameters
    ----------
    argv : sequence of str
        Its arguments.

    Raises
    ------
    CommandError
        If the source is not available.
    """
    if not (FOLDER / "demo" / "command.py").is_file():
        raise CommandError(
            "the demonstration is a program of the source, not of the installed package: in a "
            "clone, python3 -m nox -s demo runs it",
            code=2,
        )
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    run: Callable[[Sequence[str]], int] = importlib.import_module("demo").main
    return run(argv)
