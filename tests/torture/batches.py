"""Cases in processes of their own, with limits of time and memory."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

MEMORY = 8 * 2**30
"""Bytes of address space of a batch."""

PATIENCE = 30
"""Seconds for one case."""

Case = Callable[[int, Path], str]
"""Takes the number of a case and an empty folder; returns in a word or two how it went."""


def serve(case: Case) -> None:
    """Be a batch: run the cases that the command line names, and print how many went how."""
    first, last, progress = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last):
            progress.write_text(json.dumps([number, found]))
            found[case(number, Path(folder))] += 1
    progress.write_text(json.dumps([last, found]))


def run(module: str, first: int, last: int) -> Counter[str]:
    """Run cases in as many processes as it takes.

    Parameters
    ----------
    module : str
        The module of the cases.
    first, last : int
        The numbers of the first case, and of the one after the last.
    """
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder) / "progress"
        while first < last:
            progress.write_text(json.dumps([first, {}]))
            with subprocess.Popen(
                [sys.executable, "-m", f"torture.{module}", *map(str, (first, last, progress))],
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            ) as process:  # fmt: skip
                hung = _watched(process, progress)
                errors = (process.stderr.read() if process.stderr else "")[-2000:]
            reached, found = json.loads(progress.read_text())
            total.update(found)
            if process.returncode:
                how = "hung" if hung else "crashed"
                total[how] += 1
                end = f"{how}, exit status {process.returncode}"
                sys.stderr.write(f"{module} {reached}: {end}: {errors}\n")
            first = reached + bool(process.returncode)
    return total


def _watched(process: subprocess.Popen[str], progress: Path) -> bool:
    """Wait for a batch; kill it and return True where a case takes too long."""
    while process.poll() is None:
        time.sleep(0.1)
        if time.time() - progress.stat().st_mtime > PATIENCE:
            process.kill()
            process.wait()
            return True
    return False
