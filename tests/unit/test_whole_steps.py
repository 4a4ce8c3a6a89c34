"""A step is whole or nothing, wherever the program is interrupted in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from gpu_on_host import NumPyOnHost, compiler, launched

ROOT = str(Path(ao.__file__).parent)

MAKERS: dict[str, Callable[[], Any]] = {
    "adam": lambda: ao.Adam(0.1, clipnorm=1.0, nonfinite="skip", ema_momentum=0.9),
    "lamb": lambda: ao.LAMB(0.1),
    "clipped lamb": lambda: ao.LAMB(0.1, clipnorm=0.5),
    "accumulation": lambda: ao.GradientAccumulation(ao.Adam(0.1), every=2),
    "lookahead": lambda: ao.Lookahead(ao.SGD(0.1, momentum=0.9), k=2),
    "scale": lambda: ao.LossScale(ao.SGD(0.1), scale=4.0, growth_interval=2),
    "nested": lambda: ao.Lookahead(ao.GradientAccumulation(ao.Adam(0.1), every=2), k=1),
}


class Interrupted(BaseException):
    """What comes at a line of the library."""


class AtLine:
    """Raises before some line of the library is executed, counted from where it was entered."""

    def __init__(self, line: int, room: str = "") -> None:
        self.left, self.raised, self.room = line, False, str(Path(ROOT) / room)

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(self.room) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise Interrupted
        return self._line


class Run:
    """An optimizer with its parameters; each step has other gradients, of the dtypes in turn."""

    def __init__(
        self, name: str, backend: TestBackend, steps: int, dtypes: tuple[str, ...] = ("float32",)
    ) -> None:
        self.optimizer, self.backend, self.dtypes = MAKERS[name](), backend, dtypes
        self.taken, self.given = 0, dict[int, Any]()
        self.params = backend.tree([np.linspace(-1, 1, 5), np.ones((3, 2))], "float32")
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        dtype = self.dtypes[self.taken % len(self.dtypes)]
        grads = [np.full(5, 0.25 + self.taken), np.full((3, 2), -0.5)]
        # All are kept, so that none lies where another did, and a step may be taken again.
        given = self.given.setdefault(self.taken, self.backend.tree(grads, dtype))
        self.params = self.optimizer.apply(given, self.params)
        self.taken += 1

    def all(self) -> list[np.ndarray]:
        return [*self.backend.read(self.params), *map(np.copy, self.optimizer.get_weights())]


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    """Whether all arrays have the same bits."""
    pairs = zip(found, wanted, strict=True)
    return len(found) == len(wanted) and all(np.array_equal(a, b) for a, b in pairs)


def interrupted(name: str, backend: TestBackend, stride: int) -> Iterator[tuple[Run, int]]:
    """Yield runs that were interrupted in their fourth step, and the line at which."""
    line = 0
    while True:
        run, at = Run(name, backend, 3), AtLine(line)
        try:
            with at:
                run.step()
        except Interrupted:
            pass
        if not at.raised:
            return
        yield run, line
        line += stride


def check(name: str, backend: TestBackend, stride: int) -> None:
    """Find the state before the step or after it, and the same course from there."""
    course = [Run(name, backend, steps).all() for steps in (3, 4, 5)]
    seen = set()
    for run, line in interrupted(name, backend, stride):
        found = run.all()
        taken = next((k for k in (0, 1) if same(found, course[k])), None)
        assert taken is not None, f"{name}: half a step after line {line}"
        seen.add(taken)
        run.taken = 3 + taken
        run.step()
        assert same(run.all(), course[taken + 1]), f"{name}: another course after line {line}"
    assert 0 in seen


@pytest.mark.parametrize("name", ["adam", "accumulation", "scale"])
def test_fused_steps(name: str) -> None:
    """Every eleventh line of the library is tried, those of what is called included."""
    check(name, NUMPY, 11)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["array", "cpu"])
@pytest.mark.parametrize("name", list(MAKERS))
def test_every_line(name: str, engine: str) -> None:
    """With all lines of the fused engine, and many of the array engine."""
    with ao.engine(engine):
        check(name, NUMPY, 1 if engine == "cpu" else 17)


RECORDS = {"adam": "array_checks.py", "lookahead": "array_checks.py", "clipped lamb": "batches.py"}


@pytest.mark.parametrize("name", list(RECORDS))
@pytest.mark.parametrize("everywhere", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_records_that_machine_code_reads(name: str, everywhere: bool) -> None:
    """Whole at each line of the fused engine that writes them: no array is read for another.

    The second step has gradients of another dtype for a while, is the first that writes to slow
    weights, or takes totals of its own between the gradients' squares of two steps. Those after it
    have other gradients than the interrupted one.
    """
    other = "float64" if name == "adam" else "float32"
    check_records(name, "engines/cpu/" + ("" if everywhere else RECORDS[name]), other)


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("file", ["place.py", "glance.py"])
def test_tables_that_kernels_read(file: str, host: NumPyOnHost) -> None:
    """The same of a GPU: no launch finds the gradients of another step."""
    check_records("adam", "engines/gpu/" + file, "float64", again=True)
    assert launched(host.devices)


def check_records(name: str, room: str, other: str, again: bool = False) -> None:
    """Interrupt the second step at each line of some files, and go on or take it again."""
    dtypes = ("float32", other, other, "float32")

    def course(*numbers: int) -> list[list[np.ndarray]]:
        run, found = Run(name, NUMPY, 1, dtypes), []
        for run.taken in numbers:
            run.step()
            found.append(run.all())
        return found

    whole, before = course(1, 2, 3), Run(name, NUMPY, 1, dtypes).all()
    first = 1 if again else 2
    wanted, line = {True: whole[1:], False: course(first, first + 1)}, 0
    while True:
        run, at = Run(name, NUMPY, 1, dtypes), AtLine(line, room)
        try:
            with at:
                run.step()
        except Interrupted:
            pass
        if not at.raised:
            break
        taken = same(run.all(), whole[0])
        assert taken or same(run.all(), before), f"half a step after line {line}"
        for number, state in enumerate(wanted[taken], 2 if taken else first):
            run.taken = number
            run.step()
            assert same(run.all(), state), f"another course after line {line}"
        line += 1
    assert line > 10


@pytest.mark.parametrize("name", ["adam", "lookahead"])
def test_arrays_of_every_library(name: str, backend: TestBackend) -> None:
    """Where arrays cannot be written the state stays with the parameters that the caller has."""
    with ao.engine("array"):
        check(name, backend, 211)


def test_groups_of_a_torch_optimizer() -> None:
    """All parameter groups are stepped, or none."""
    torch = pytest.importorskip("torch")

    def made() -> tuple[Any, Any]:
        params = [torch.ones(3, requires_grad=True), torch.ones(2, 2, requires_grad=True)]
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.01}]
        return params, ao.torch.Adam(groups, lr=0.1, clipnorm=1.0)

    def step(params: Any, optimizer: Any) -> None:
        for p in params:
            p.grad = 0.25 * p.detach()
        try:
            optimizer.step()
        finally:
            # Python may leave a block without its exit where a line of it is interrupted.
            torch.set_grad_enabled(True)

    def all_of(params: Any, optimizer: Any) -> list[np.ndarray]:
        held = [x for entry in optimizer.state.values() for x in entry.values()]
        return [x.detach().numpy().copy() for x in (*params, *held)]

    course, run = [], made()
    for _ in range(4):
        step(*run)
        course.append(all_of(*run))
    line, seen = 0, set()
    while True:
        run, at = made(), AtLine(line)
        step(*run)
        step(*run)
        try:
            with at:
                step(*run)
        except Interrupted:
            pass
        if not at.raised:
            break
        taken = next((k for k in (1, 2) if same(all_of(*run), course[k])), None)
        assert taken is not None, f"some groups are stepped after line {line}"
        seen.add(taken)
        step(*run)
        assert same(all_of(*run), course[taken + 1])
        line += 37
    assert seen == {1, 2}
