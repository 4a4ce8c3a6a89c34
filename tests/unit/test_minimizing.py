"""A whole minimization: history, progress, early stopping, checkpoints."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import make, same
from places import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "minimize_rosenbrock.py"


def bowl(x: Any) -> tuple[float, Any]:
    return float(np.sum((x - 3.0) ** 2)), 2.0 * (x - 3.0)


def bowl_on(backend: TestBackend) -> Any:
    def loss(params: list[Any]) -> Any:
        (x,) = backend.read(params)
        value, slope = bowl(x)
        return value, [backend.asarray(slope)]

    return loss


def test_is_a_loop_of_steps(name: str, backend: TestBackend) -> None:
    """With every optimizer, on every library."""
    loss = bowl_on(backend)
    found = ao.minimize(loss, backend.tree([np.zeros(3)]), make(name), steps=5)
    plain, params, history = make(name), backend.tree([np.zeros(3)]), []
    for _ in range(5):
        history.append(bowl(backend.read(params)[0])[0])
        params = plain.minimize(loss, params)
    same(backend.read(found.params), backend.read(params))
    assert (found.history, found.steps, found.reason) == (history, 5, "steps")
    assert found.message == "All 5 steps have been taken."


WRAPPED: dict[str, Any] = {
    "accumulation": lambda: ao.GradientAccumulation("sgd"),
    "lookahead": lambda: ao.Lookahead("sgd"),
    "loss scale": lambda: ao.LossScale("sgd", scale=1.0),
    "sam": lambda: ao.SAM("sgd", rho=0.01),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=list(WRAPPED))
def test_around_an_optimizer(wrap: Any, tmp_path: Path) -> None:
    """Stopped and gone on, with the wrapper's state; SAM takes its second gradient itself."""
    whole = ao.minimize(bowl, np.zeros(2), wrap(), steps=9)
    assert whole.history[-1] < whole.history[0]
    ao.minimize(bowl, np.zeros(2), wrap(), steps=4, checkpoint=tmp_path / "run.h5")
    again = ao.minimize(bowl, np.zeros(2), wrap(), steps=9, checkpoint=tmp_path / "run.h5")
    assert again.history == whole.history
    same([again.params], [whole.params])


KILLED = """
import os, signal, sys
import numpy as np
import arrayoptim as ao

def loss(x):
    return float(np.sum((x - 3.0) ** 2)), 2.0 * (x - 3.0)

def kill(so_far):
    if so_far.steps == 7:
        os.kill(os.getpid(), signal.SIGKILL)

ao.minimize(loss, np.zeros(2), ao.Nadam(lr=0.1), steps=20, callback=kill, checkpoint=sys.argv[1],
            every=3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_resumes_exactly_after_a_kill(tmp_path: Path) -> None:
    """From the last checkpoint, parameters, state, history and the learning rate."""
    path = tmp_path / "run.h5"
    ran = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert ran.returncode == -signal.SIGKILL
    seen: list[int] = []
    found = ao.minimize(
        bowl, np.zeros(2), "nadam", steps=20, checkpoint=path,
        callback=lambda so_far: seen.append(so_far.steps),
    )  # fmt: skip
    whole = ao.minimize(bowl, np.zeros(2), ao.Nadam(lr=0.1), steps=20)
    assert seen == list(range(7, 21)) and found.history == whole.history
    same([found.params], [whole.params])
    assert ao.load(path).lr == 0.1


def test_patience_and_callback() -> None:
    """Of what ends it the message tells."""
    found = ao.minimize(bowl, np.zeros(2), ao.SGD(lr=0.5), patience=3, tolerance=1e-6)
    assert (found.reason, found.steps) == ("patience", 5)
    assert found.message == "No loss was below 0 for 3 steps."

    def stop(so_far: ao.Minimization) -> None:
        assert so_far.reason == "" and len(so_far.history) == so_far.steps
        if so_far.steps == 2:
            raise StopIteration

    found = ao.minimize(bowl, np.zeros(2), "sgd", callback=stop)
    assert (found.reason, found.steps) == ("callback", 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite(bad: float, tmp_path: Path) -> None:
    """It ends before the step, and leaves the last good checkpoint."""

    def loss(x: Any) -> Any:
        value, slope = bowl(x)
        return (bad if value < 5.0 else value), slope

    path = tmp_path / "run.h5"
    found = ao.minimize(loss, np.zeros(2), ao.SGD(lr=0.1), checkpoint=path, every=2)
    assert found.reason == "nonfinite" and f"The loss is {bad} after 3 steps" in found.message
    assert np.isfinite(found.params).all() and len(found.history) == found.steps == 3


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Take interrupts, which a program that was started in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupts_keep_what_is_there(tmp_path: Path) -> None:
    """In the loss at once, in a step at its end; the checkpoint is of the same step."""
    calls: list[int] = []

    class Slow(ao.SGD):
        def apply(self, *args: Any) -> Any:
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().apply(*args)

    def loss(x: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return bowl(x)

    x, path = np.zeros(2), tmp_path / "run.h5"
    first = ao.minimize(loss, x, Slow(lr=0.1), steps=9, checkpoint=path)
    assert (first.reason, first.steps) == ("interrupted", 3) and first.params is x
    assert first.message == "It was interrupted after 3 steps."
    calls.append(1)
    second = ao.minimize(loss, np.zeros(2), Slow(lr=0.1), steps=9, checkpoint=path)
    assert (second.reason, second.steps) == ("interrupted", 4)
    calls.append(1)
    third = ao.minimize(loss, np.zeros(2), Slow(lr=0.1), steps=9, checkpoint=path)
    assert third.history == ao.minimize(bowl, np.zeros(2), ao.SGD(lr=0.1), steps=9).history


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar with the loss, or a word on what it needs."""
    pytest.importorskip("tqdm")
    ao.minimize(bowl, np.zeros(2), "sgd", steps=3, progress=True)
    bar = capsys.readouterr().err
    assert "3/3" in bar and "loss=" in bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"arrayoptim\[progress\]\""):
        ao.minimize(bowl, np.zeros(2), "sgd", progress=True)


def test_a_checkpoint_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over parameters, hyperparameters and a smaller number of steps, of which it says so."""
    pytest.importorskip("tqdm")
    path, x = tmp_path / "run.h5", np.ones(2)
    first = ao.minimize(bowl, np.zeros(2), ao.SGD(lr=0.1), steps=10, checkpoint=path)
    again = ao.minimize(bowl, x, ao.SGD(lr=9.0), steps=3, checkpoint=path, progress=True)
    same([again.params, x], [first.params, first.params])
    assert (again.steps, again.history, again.reason) == (10, first.history, "steps")
    assert again.message == "The checkpoint has 10 steps already, more than the 3 wanted."
    assert "10/10" in capsys.readouterr().err and ao.load(path).lr == 0.1


def test_bad_input(tmp_path: Path) -> None:
    """Nothing has changed after an error."""
    path, x = tmp_path / "run.h5", np.zeros(2)
    ao.minimize(bowl, np.ones(2), "adam", steps=2, checkpoint=path)
    for error, message, change in (
        (TypeError, "loss: found float, wanted a function", {"loss": 1.0}),
        (TypeError, "returned 'low', wanted one real number", {"loss": lambda x: ("low", x)}),
        (ValueError, "steps: found -1", {"steps": -1}),
        (ValueError, "patience: found 0", {"patience": 0}),
        (ValueError, "every: found 0.5", {"every": 0.5}),
        (ValueError, "tolerance: found nan", {"tolerance": np.nan}),
        (ValueError, "or an optimizer of TensorFlow", {"optimizer": object()}),
        (ValueError, "found the state of Adam, wanted SGD", {"checkpoint": path}),
        (ValueError, r"'0': found none, wanted float64\[2\]",
         {"checkpoint": path, "params": [np.zeros(2)], "optimizer": "adam"}),
    ):  # fmt: skip
        arguments = {"loss": bowl, "params": x, "optimizer": "sgd", **change}
        with pytest.raises(error, match=message):
            ao.minimize(**arguments)
        same([x], [np.zeros(2)])
    ao.SGD().init(x)
    other = ao.SGD()
    other.init(x)
    other.save_weights(tmp_path / "plain.h5")
    with pytest.raises(ValueError, match="wanted a group checkpoint too"):
        ao.minimize(bowl, x, "sgd", checkpoint=tmp_path / "plain.h5")


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the documentation runs, and shows what it says."""
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "after 400 steps" in capsys.readouterr().out
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 66


@pytest.mark.parametrize("place", ["missing/run.h5", "."], ids=["directory", "no file"])
def test_where_no_checkpoint_can_be(place: str, tmp_path: Path) -> None:
    """It is noticed before the loss is asked."""

    def loss(x: Any) -> Any:
        raise AssertionError("nothing was to be computed")

    with pytest.raises(OSError, match="directory"):
        ao.minimize(loss, np.zeros(2), "sgd", 3, checkpoint=tmp_path / place)
    with pytest.raises(TypeError, match="callback: found 3"):
        ao.minimize(loss, np.zeros(2), "sgd", 3, callback=3)  # type: ignore[arg-type]


def test_a_loss_that_does_not_take_the_parameters() -> None:
    """The message says what a loss is given, and an error inside of a loss stays as it is."""
    for loss in (lambda: 1.0, lambda a, b: 1.0):
        for way in (ao.SGD().minimize, ao.SGD().get_gradients):
            with pytest.raises(
                TypeError, match=r"the loss is called with the parameters, one tree"
            ):
                way(loss, np.ones(2))

    def inner(x: Any) -> Any:
        return len(3)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len"):
        ao.SGD().minimize(inner, np.ones(2))
    for callback in (lambda: None, 3):
        with pytest.raises(TypeError, match="wanted a function of the Minimization so far"):
            ao.minimize(lambda x: (1.0, x), np.ones(2), "SGD", callback=callback)  # type: ignore[arg-type]


@pytest.mark.needs("torch")
def test_a_loss_of_nothing_that_reads_the_parameters() -> None:
    """It serves where the library tracks what the parameters are used for."""
    import torch

    w = torch.nn.Parameter(torch.zeros(2))
    ao.SGD(lr=0.5).minimize(lambda: ((w - 1.0) ** 2).sum(), {"w": w})
    assert w.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="does not depend on"):
        ao.SGD(lr=0.5).minimize(lambda: torch.ones(()) * 2.0, {"w": torch.ones(2)})
