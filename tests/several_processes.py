"""Programs that are started once for each process of a world."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import arrayoptim as ao


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, in which programs find the package that is tested."""
    paths = [str(Path(ao.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def ended(
    commands: Sequence[Sequence[str]], timeout: float, **more: str
) -> list[tuple[int | None, str]]:
    """Start a process by each command, and return how each of them ended, and what it said."""
    running = [
        subprocess.Popen(
            command,
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    return [(p.returncode, words) for p, words in zip(running, said, strict=True)]
