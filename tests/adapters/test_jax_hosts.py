"""Several processes of JAX over one mesh, and files from which other numbers of them go on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import arrayoptim as ao
from places import TESTS

pytest.importorskip("jax")
pytest.importorskip("orbax.checkpoint")
pytestmark = [pytest.mark.needs("jax"), pytest.mark.slow]


def fine(case: str, world: int, folder: Path) -> None:
    """Start the processes, and assert that all ended well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    paths = [str(Path(ao.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [
                *(sys.executable, str(TESTS / "jax_hosts.py"), case),
                *(str(rank), str(world), meeting, str(folder)),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=400)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    for process, words in zip(running, said, strict=True):
        assert process.returncode == 0 and words.endswith("fine\n"), words


def test_files_of_two(tmp_path: Path) -> None:
    """Orbax's and our own: two processes go on from them, and one."""
    fine("train", 2, tmp_path)
    for world in (2, 1):
        fine("resume", world, tmp_path)
