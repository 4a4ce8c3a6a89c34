"""Calling the command line in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from arrayoptim import _cli

SOURCE = str(Path(_cli.__file__).parents[2])


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> bool:
        """Whether stderr is one line and no traceback."""
        return self.err.count("\n") == 1 and "Traceback" not in self.err


def call(capsys: pytest.CaptureFixture[str], *argv: object) -> Result:
    """Carry out a command."""
    code = _cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


def process(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Carry out a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "arrayoptim", *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE, **variables},
        check=False,
    )
