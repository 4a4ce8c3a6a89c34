"""Several processes of JAX over one mesh, and files from which other numbers of them go on."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from pathlib import Path

import pytest

import arrayoptim as ao
from places import TESTS
from several_processes import ended

pytest.importorskip("jax")
pytest.importorskip("orbax.checkpoint")
pytestmark = [pytest.mark.needs("jax"), pytest.mark.slow]


def free_port() -> int:
    """Return a port that is free, and that the system gives to nobody who asks for any."""
    while True:
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port := random.randrange(20_000, 32_000)))
            return port


def fine(case: str, world: int, folder: Path, *more: str) -> None:
    """Start the processes, and assert that all ended well."""
    program = [sys.executable, str(TESTS / "jax_hosts.py"), case]
    ends = [str(world), f"127.0.0.1:{free_port()}", str(folder), *more]
    commands = [[*program, str(rank), *ends] for rank in range(world)]
    for code, words in ended(commands, 450, JAX_PLATFORMS="cpu"):
        assert code == 0 and words.endswith("fine\n"), words


def test_files_of_two(tmp_path: Path) -> None:
    """Orbax's and our own: two processes go on from them, and one."""
    fine("train", 2, tmp_path)
    for world in (2, 1):
        fine("resume", world, tmp_path)


@pytest.mark.parametrize("case", ["models", "saving"])
def test_two(case: str, tmp_path: Path) -> None:
    """Many models; and what a process has in memory while a file is written."""
    fine(case, 2, tmp_path)


@pytest.mark.parametrize("part", range(4))
def test_each_rule(part: int, tmp_path: Path) -> None:
    """Steps over both processes are those of NumPy."""
    fine("each", 2, tmp_path, *[*ao.names(), "measured", "decays", "families"][part::4])
