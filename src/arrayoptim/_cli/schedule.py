"""``plot-schedule``: plots a schedule to an image file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ..config.registry import SCHEDULES
from ..schedules import plot
from .errors import CommandError, one_line


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : argparse.Namespace
        The command line.

    Returns
    -------
    int
        0.
    """
    schedule = made(arguments.name, arguments.arguments)
    try:
        plot(schedule, arguments.steps, arguments.output)
    except ModuleNotFoundError as error:
        raise CommandError(one_line(error), code=2) from error
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot draw {arguments.output}: {one_line(error)}") from error
    print(f"{schedule!r}\nwritten to {arguments.output}")
    return 0


def made(name: str, words: Sequence[str]) -> Any:
    """Make a schedule from command-line arguments.

    Parameters
    ----------
    name : str
        The name of a registered schedule, case-insensitive.
    words : sequence of str
        Arguments as ``key=value``; a value that is valid JSON is parsed, any other is text.

    Returns
    -------
    callable
        The schedule.

    Raises
    ------
    CommandError
        If there is no such schedule, or it does not take these arguments.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise CommandError(f"found the argument {word!r}, wanted KEY=VALUE", code=2)
        if key in values:
            raise CommandError(f"{key} is given twice", code=2)
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    try:
        return SCHEDULES.lookup(name).from_config(values)
    except (TypeError, ValueError) as error:
        raise CommandError(one_line(error), code=2) from error
