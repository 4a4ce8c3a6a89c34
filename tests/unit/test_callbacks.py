"""Callbacks: what they record, in memory and read back from the files of other packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import callbacks


def loss(x: Any) -> tuple[float, Any]:
    """Return the square of a vector, and its gradient."""
    return float(np.sum(x**2)), 2.0 * x


def run(callback: Any, steps: int = 4) -> None:
    """Minimize with everything that can be measured."""
    optimizer = ao.SGD(0.25, measure=("gradient", "update"), clipnorm=2.0, skip_spikes=9.0)
    params = {"a": np.ones(4), "b": np.zeros(2)}

    def both(p: Any) -> Any:
        value, g = loss(p["a"])
        return value, {"a": g, "b": np.zeros(2)}

    ao.minimize(both, params, optimizer, steps, callback=callback)


NAMES = {"loss", "lr", "gradient_norm", "clip_factor", "spikes"}
NAMES |= {f"{word}/{path}" for word in ("gradient", "update") for path in "ab"}


def test_in_memory() -> None:
    """Names, steps and numbers; only every so many steps if asked for."""
    history = callbacks.History()
    run(history)
    assert history.numbers.keys() == NAMES
    assert history.numbers["gradient/a"][0] == (1, 4.0)
    assert history.numbers["clip_factor"][0] == (1, 0.5)
    assert history.numbers["update/a"][0] == (1, 0.5)
    seldom = callbacks.History(every=3)
    run(seldom, 7)
    assert [k for k, _ in seldom.numbers["loss"]] == [3, 6]
    with pytest.raises(ValueError, match="every: found 0"):
        callbacks.History(every=0)


def test_in_a_loop_of_ones_own() -> None:
    """Loss and further numbers are given; a wrapper's counts are there."""
    history, optimizer, p = callbacks.History(), ao.LossScale(ao.SGD(0.5), scale=2.0), np.ones(1)
    for g in (1.0, np.inf):
        optimizer.apply(np.array([g]), p)
        history.log(optimizer, loss=np.float32(g), accuracy=0.5)
    assert history.numbers["accuracy"] == [(1, 0.5), (2, 0.5)]
    assert history.numbers["lr"] == [(1, 0.5), (2, 0.5)]
    assert history.numbers["skipped"] == [(2, 1.0)]


def test_a_picture() -> None:
    """Of all paths of a word; of nothing there is none."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    history = callbacks.History()
    run(history)
    axes = history.plot("gradient", "loss")
    assert [line.get_label() for line in axes.lines] == ["gradient/a", "gradient/b", "loss"]
    assert history.plot(axes=axes) is axes
    with pytest.raises(KeyError, match="what was recorded is loss"):
        history.plot("accuracy")


@pytest.mark.parametrize("count", [2, 6, 40])
def test_the_legend_of_a_picture_covers_nothing(count: int) -> None:
    """It stands beside the axes, which keep most of the picture."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    history = ao.callbacks.History()
    for step in range(5):
        norms = {f"update/layer{k}/kernel": 10.0 + k + step for k in range(count)}
        history.log(ao.SGD(), step=step, **norms)
    axes = history.plot("update")
    figure = axes.figure
    figure.canvas.draw()
    legend, share = axes.get_legend(), axes.get_position()
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == min(count, 12)
    assert f"update/layer{count - 1}/kernel" in names
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert share.width * share.height > 0.45
    matplotlib.pyplot.close(figure)


def test_with_torch() -> None:
    """The groups' numbers have their numbers before them, where there are several."""
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizer = ao.torch.SGD([{"params": [p]} for p in params], lr=0.5, measure="gradient")
    for p in params:
        p.grad = torch.ones(4)
    optimizer.step()
    history = callbacks.History()
    history.log(optimizer, loss=torch.tensor(3.0))
    assert history.numbers["group1/gradient/0"] == [(1, 2.0)]
    assert history.numbers["group0/lr"] == [(1, 0.5)] and history.numbers["loss"] == [(1, 3.0)]


@pytest.mark.parametrize("kind", ["TensorBoard", "MLflow", "WandB"])
def test_packages_that_are_missing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    package = kind.lower()
    monkeypatch.setitem(sys.modules, package, None)
    for name in list(sys.modules):
        if name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    arguments = ("somewhere",) if kind == "TensorBoard" else ()
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
        getattr(callbacks, kind)(*arguments)


@pytest.mark.slow
def test_tensorboard(tmp_path: Path) -> None:
    """Its own reader finds every number."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with callbacks.TensorBoard(tmp_path) as callback:
        run(callback)
    read = EventAccumulator(str(tmp_path)).Reload()
    assert {*read.Tags()["scalars"]} == NAMES
    found = [(event.step, event.value) for event in read.Scalars("gradient/a")]
    assert found[0] == (1, 4.0) and [k for k, _ in found] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages that MLflow keeps its store with
def test_mlflow(tmp_path: Path) -> None:
    """A local store gives them back."""
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    with callbacks.MLflow(run_name="one") as callback:
        run(callback)
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient()
    assert client.get_run(callback.run_id).data.metrics.keys() == NAMES
    rows = client.get_metric_history(callback.run_id, "gradient/a")
    assert (rows[0].step, rows[0].value, len(rows)) == (1, 4.0, 4)


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is offline has the last of them in its summary, and a file."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with callbacks.WandB(project="tests", mode="offline", dir=str(tmp_path)) as callback:
        run(callback)
        summary = {k: v for k, v in dict(callback.run.summary).items() if not k.startswith("_")}
    assert summary.keys() == NAMES and summary["lr"] == 0.25
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_in_keras(keras_or_skip: Any) -> None:
    """``fit`` records batches and epochs."""
    keras, history = keras_or_skip, callbacks.History()
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(ao.keras.SGD(0.01), "mse")
    x = np.ones((8, 3), np.float32)
    model.fit(x, x[:, :1], batch_size=2, epochs=2, verbose=0, callbacks=[history.keras()])
    assert [k for k, _ in history.numbers["loss"]] == [*range(1, 9)]
    assert [k for k, _ in history.numbers["epoch/loss"]] == [4, 8]


@pytest.fixture
def keras_or_skip() -> Any:
    """Return Keras, where it is installed."""
    return pytest.importorskip("keras")
