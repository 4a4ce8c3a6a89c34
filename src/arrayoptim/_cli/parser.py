"""The grammar of the command line."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import __version__
from ..config.registry import SCHEDULES

EXAMPLES = """\
examples:
  python -m arrayoptim info
  python -m arrayoptim inspect model.h5
  python -m arrayoptim demo
  python -m arrayoptim demo adam sgd --backend torch --compare torch
  python -m arrayoptim plot-schedule CosineDecay initial_learning_rate=0.1 decay_steps=1000
"""

INFO = """\
Say which array libraries and engines can be used here, and why the others cannot.
"""

INSPECT = """\
Say what optimizer state a file holds: its source, class, hyperparameters, step and slots.
"""

INSPECT_MORE = """\
Reads files of arrayoptim, Keras 2 (.h5), Keras 3 (.keras, .weights.h5, .h5) and natural_bm.

examples:
  python -m arrayoptim inspect arrayoptim-demo/adam.h5
  python -m arrayoptim inspect model.keras --json
"""

PLOT = """\
Draw a schedule over the steps of a run.
"""

PLOT_MORE = """\
A value that is JSON is read as such, so that lists and schedules within schedules can be given.

examples:
  python -m arrayoptim plot-schedule OneCycle max_learning_rate=0.1 total_steps=500 --steps 500
  python -m arrayoptim plot-schedule PiecewiseConstantDecay "boundaries=[300, 600]" \\
      "values=[0.1, 0.01, 0.001]" --output steps.png

It needs Matplotlib: the extra "plot".
"""


def build() -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Returns
    -------
    argparse.ArgumentParser
        For each command it sets ``run``, a function of the arguments that returns the exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m arrayoptim",
        description="Gradient descent optimizers for every array library.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"arrayoptim {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    info = _command(commands, "info", "versions, array libraries, engines", (INFO, ""), "info")
    info.add_argument("--json", action="store_true", help="print JSON instead of tables")
    texts = INSPECT, INSPECT_MORE
    inspect = _command(commands, "inspect", "what a checkpoint holds", texts, "checkpoint")
    inspect.add_argument("file", type=Path, metavar="FILE", help="an HDF5 or .keras file")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of tables")
    # `main` passes all further arguments to the demonstration.
    commands.add_parser("demo", help="train, stop, resume, compare; in a clone", add_help=False)
    texts = PLOT, PLOT_MORE
    _plot_options(_command(commands, "plot-schedule", "draw a schedule", texts, "schedule"))
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    title: str,
    texts: tuple[str, str],
    module: str,
) -> argparse.ArgumentParser:
    """Add a command; its module is imported when the command runs."""

    def run(arguments: argparse.Namespace) -> int:
        command: Callable[[argparse.Namespace], int]
        command = importlib.import_module(f".{module}", __package__).run
        return command(arguments)

    parser = commands.add_parser(
        name,
        help=title,
        description=texts[0],
        epilog=texts[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _plot_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot-schedule``."""
    add = parser.add_argument
    add("name", metavar="SCHEDULE", help=", ".join(SCHEDULES.names()))
    # Without a default, argparse treats them as required.
    texts: dict[str, Any] = {"metavar": "KEY=VALUE", "help": "arguments of the schedule"}
    add("arguments", nargs="*", default=[], **texts)
    add("--steps", type=count, default=1000, metavar="N", help="default: %(default)s")
    add(
        "--output",
        type=Path,
        default=Path("schedule.png"),
        metavar="FILE",
        help="the picture; its suffix says the format (default: ./%(default)s)",
    )


def count(text: str) -> int:
    """Parse a count of at least 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"wanted an integer of 1 or more, got {text!r}")
    return value


def whole(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"wanted an integer of 0 or more, got {text!r}")
    return int(text)
