"""Children that are forked while other threads are in the midst of things."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from arrayoptim import _locks
from arrayoptim.engines import store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

HEAD = """
import os, signal, sys, threading, time, warnings
import numpy as np
import arrayoptim as ao
warnings.simplefilter("ignore")

def child(what):
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)
        try:
            what()
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]
"""

STEPPING = """
optimizer = ao.{0}
params, grads, stop = [np.zeros(500_000, "f4")], [np.ones(500_000, "f4")], []
optimizer.apply(grads, params)

def busy():
    while not stop:
        optimizer.apply(grads, params)

def look():
    optimizer.get_weights(), optimizer.iterations, optimizer.lr
    try:
        optimizer.apply(grads, params)
    except RuntimeError as error:
        assert "interrupted" in str(error)
    optimizer.reset()
    other = [np.zeros(3)]
    optimizer.apply([np.ones(3)], other)
    assert other[0].all()

thread = threading.Thread(target=busy)
thread.start()
found = []
for _ in range(6):
    time.sleep(0.05)
    found.append(child(look))
stop.append(1)
thread.join()
print(found)
"""

COMPILING = """
def first():
    ao.Adam(clipnorm=1.0).apply([np.ones(9)], [np.zeros(9)])

def theirs():
    params = [np.zeros(9)]
    ao.SGD(momentum=0.5).apply([np.ones(9)], params)
    assert params[0].all()

thread = threading.Thread(target=first)
thread.start()
found = []
for _ in range(3):
    time.sleep(0.15)
    found.append(child(theirs))
thread.join()
print(found)
"""

IMPORTING = """
names = [*ao.optimizers._FILES, "minimize", "find_lr", "explain", "SAM", "LBFGS", "load"]

def take():
    for name in names:
        ao.config.registry.lookup(name) if name in ao.optimizers._FILES else getattr(ao, name)

thread = threading.Thread(target=take)
thread.start()
found = []
for _ in range(6):
    time.sleep(0.002)
    found.append(child(take))
thread.join()
print(found)
"""


def run(program: str, tmp_path: Path) -> str:
    """Return what a program prints, with no kernel compiled yet."""
    environment = {**os.environ, store.VARIABLE: str(tmp_path / "kernels")}
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program],
        env=environment, capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["Adam()", "Lookahead(ao.SGD(momentum=0.9))"])
def test_while_a_thread_steps(optimizer: str, tmp_path: Path) -> None:
    """The child can read the optimizer, is told of a step cut in two, and can start anew."""
    assert run(STEPPING.format(optimizer), tmp_path) == str([0] * 6)


@pytest.mark.slow
def test_while_a_thread_compiles(tmp_path: Path) -> None:
    """The fork waits for the compiler, which would not survive in pieces."""
    assert run(COMPILING, tmp_path) == str([0] * 3)


@pytest.mark.slow
def test_while_a_thread_imports(tmp_path: Path) -> None:
    """What is imported when it is first asked for is whole in the child, or not there yet."""
    assert run(IMPORTING, tmp_path) == str([0] * 6)


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX warns where another test has imported it
def test_locks() -> None:
    """A lock that another thread holds is free in the child; one's own is still held."""
    mine, theirs = _locks.lock(), _locks.lock()
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with theirs:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)
    with mine:
        pid = os.fork()
        if pid == 0:
            good = theirs.acquire(timeout=5) and mine._is_owned()
            os._exit(0 if good else 1)
        assert os.waitpid(pid, 0)[1] == 0
    done.set()
    thread.join()
