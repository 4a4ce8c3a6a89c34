"""Processes that MPI starts come to what one process does that has the gradients of all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import arrayoptim as ao
from places import TESTS
from several_processes import environment

pytest.importorskip("mpi4py")

BESIDE = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
MPIEXEC = BESIDE or shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")


def run(case: str, world: int, folder: Path, timeout: float = 240) -> tuple[int, str]:
    """Start the processes, and return how they ended, and what they said."""
    program = [sys.executable, "-m", "mpi4py", str(TESTS / "mpi_ranks.py"), case, str(folder)]
    done = subprocess.run(
        [str(MPIEXEC), "-n", str(world), *program],
        env=environment(NUMBA_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout


def fine(case: str, world: int, folder: Path) -> None:
    """Assert that all processes ended well."""
    code, said = run(case, world, folder)
    assert code == 0, said


@pytest.mark.parametrize("case", ["losses", "curvature"])
def test_what_the_loop_tells(case: str, tmp_path: Path) -> None:
    """The loss of a step, and estimates of the Hessian: the mean of all processes counts."""
    fine(case, 2, tmp_path)


def test_smoke(tmp_path: Path) -> None:
    """Two processes, a few steps."""
    fine("smoke", 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_every(world: int, tmp_path: Path) -> None:
    """By every rule, with clipping, groups, constraints, codes, averages and wrappers."""
    fine("every", world, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("case", ["types", "ascent", "faults", "differences", "copies"])
def test_all_agree(case: str, world: int, tmp_path: Path) -> None:
    """Narrow and mixed types, SAM, faults of one process, what only one has set, copies."""
    fine(case, world, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["carried", "slow"])
def test_four(case: str, tmp_path: Path) -> None:
    """NCCL's interface, a late process."""
    fine(case, 4, tmp_path)


@pytest.mark.slow
def test_a_file_of_four(tmp_path: Path) -> None:
    """It is read by one process, by two, and by three."""
    fine("save", 4, tmp_path)
    for world in (1, 2, 3):
        fine("resume", world, tmp_path)


@pytest.mark.slow
def test_a_killed_process(tmp_path: Path) -> None:
    """All others end too, soon and with an error, and the last checkpoint is whole."""
    code, _ = run("killed", 4, tmp_path, timeout=60)
    assert code != 0
    params, optimizer, extra = ao.load_checkpoint(tmp_path / "run.h5")
    assert extra["step"] == optimizer.iterations - 1 >= 3
    assert all(np.isfinite(x).all() for x in params.values())
