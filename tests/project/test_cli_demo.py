"""The demo of the command line: what it checks, what it finds out, how it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim._cli import backends as cli_backends
from arrayoptim.arrays.libraries import NAMES
from backends import BACKENDS
from command_line import call, process
from demo import checkpoint, command, compare, course, data, network, plot, settings, training

Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
SLOW = pytest.mark.slow
SMALL = ["--epochs", "1", "--batch-size", "96"]


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b.name in NAMES], ids=str)
def test_demo_on_every_backend(capsys: Captured, tmp_path: Path, backend: Any) -> None:
    code, out, err = call(
        capsys, "demo", "sgd", "ADAM", "--backend", backend, "--output", tmp_path, *SMALL
    )
    assert (code, err) == (0, "")
    assert "bit for bit" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["optimizers"]) == ["SGD", "Adam"]
    for entry in results["optimizers"].values():
        assert entry["test_accuracy"] > 0.3
        assert len(entry["losses"]) == 15
        assert entry["resumed"][0]["backend"] == backend.name
        assert all(resumed["agrees"] for resumed in entry["resumed"])
    assert (tmp_path / "loss_curves.png").read_bytes()[:4] == b"\x89PNG"
    assert call(capsys, "inspect", tmp_path / "adam.h5")[0] == 0


def test_demo_resumes_where_it_is_told(capsys: Captured, tmp_path: Path) -> None:
    argv = ["demo", "adam", "--resume-on", "array_api_strict", "--output", tmp_path, *SMALL]
    assert call(capsys, *argv)[0] == 0
    results = json.loads((tmp_path / "results.json").read_text())
    resumed = results["optimizers"]["Adam"]["resumed"]
    assert [entry["backend"] for entry in resumed] == ["numpy", "array_api_strict"]


def test_demo_is_deterministic(capsys: Captured, tmp_path: Path) -> None:
    def losses(name: str, seed: int) -> list[float]:
        argv = ["demo", "nadam", "--seed", seed, "--output", tmp_path / name, *SMALL]
        assert call(capsys, *argv)[0] == 0
        results = json.loads((tmp_path / name / "results.json").read_text())
        found: list[float] = results["optimizers"]["Nadam"]["losses"]
        return found

    assert losses("a", 5) == losses("b", 5) != losses("c", 6)


def first_slot(file: h5py.File) -> None:
    def scale(_: str, dataset: Any) -> None:
        if isinstance(dataset, h5py.Dataset) and dataset.ndim:
            dataset[...] = dataset[...] * 1.5

    file["optimizer_weights"].visititems(scale)


def test_a_tampered_checkpoint_is_found_out(
    capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    write = checkpoint.write

    def tampered(path: Path, *rest: Any) -> None:
        write(path, *rest)
        with h5py.File(path, "a") as file:
            first_slot(file)

    monkeypatch.setattr(training.checkpoint, "write", tampered)
    result = call(capsys, "demo", "adam", "--output", tmp_path, *SMALL)
    assert result.code == 1
    assert "DISAGREES" in result.out
    assert result.complaint
    assert "Adam on numpy" in result.err


def no_hdf5(path: Path) -> None:
    path.write_bytes(b"not HDF5")


def no_state(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["optimizer_weights"]


def no_bias(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["checkpoint/optimizer/parameter/output/bias"]


def next_up(path: Path) -> None:
    with h5py.File(path, "a") as file:
        values = file["checkpoint/optimizer/parameter/hidden/kernel"]
        values[0, 0] = np.nextafter(values[0, 0], np.float32(9))


@pytest.mark.parametrize("damage", [no_hdf5, no_state, no_bias, next_up])
def test_a_damaged_checkpoint_is_one_line(
    capsys: Captured, tmp_path: Path, monkeypatch: Patch, damage: Callable[[Path], None]
) -> None:
    write = checkpoint.write

    def damaged(path: Path, *rest: Any) -> None:
        write(path, *rest)
        damage(path)

    monkeypatch.setattr(training.checkpoint, "write", damaged)
    result = call(capsys, "demo", "adam", "--output", tmp_path, *SMALL)
    assert result.code == 1
    assert result.complaint
    assert "cannot resume from" in result.err


@pytest.mark.slow
def test_demo_compares_with_torch(capsys: Captured, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    argv = ["demo", "--compare", "torch", "--resume-on", "numpy", "--output", tmp_path, *SMALL]
    code, out, _ = call(capsys, *argv)
    assert code == 0
    assert "torch accuracy" in out
    results = json.loads((tmp_path / "results.json").read_text())
    entries = results["optimizers"].items()
    assert {name for name, entry in entries if "torch_accuracy" in entry} == set(compare.TORCH)
    for name, entry in entries:
        if "torch_accuracy" in entry:
            assert abs(entry["torch_accuracy"] - entry["test_accuracy"]) < 0.02, name


@pytest.mark.slow
def test_demo_compares_with_keras(tmp_path: Path) -> None:
    if not cli_backends.installed("keras"):
        pytest.skip("keras is not installed")
    argv = ["adam", "--compare", "keras", "--resume-on", "numpy", "--output", str(tmp_path), *SMALL]
    # A process of its own: the backend that Keras finds at its first import is for good.
    result = process("demo", *argv, KERAS_BACKEND="numpy")
    assert (result.returncode, result.stderr) == (0, "")
    assert "keras accuracy" in result.stdout
    entry = json.loads((tmp_path / "results.json").read_text())["optimizers"]["Adam"]
    assert abs(entry["keras_accuracy"] - entry["test_accuracy"]) < 0.01


def test_an_unknown_optimizer_names_the_nearest(capsys: Captured) -> None:
    result = call(capsys, "demo", "adm")
    assert result.code == 2
    assert result.complaint
    assert "'Adam'" in result.err


@pytest.mark.parametrize("lr", ["-1", "nan"])
def test_a_bad_learning_rate_is_one_line(capsys: Captured, tmp_path: Path, lr: str) -> None:
    result = call(capsys, "demo", "sgd", f"--lr={lr}", "--output", tmp_path)
    assert result.code == 2
    assert result.complaint
    assert "lr" in result.err


def test_too_few_steps_are_one_line(capsys: Captured, tmp_path: Path) -> None:
    argv = ["--epochs", "1", "--batch-size", "9999", "--output", tmp_path]
    result = call(capsys, "demo", "sgd", *argv)
    assert result.code == 2
    assert result.complaint


def test_an_impossible_directory_is_one_line(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = call(capsys, "demo", "sgd", "--output", tmp_path / "file" / "below")
    assert result.code == 1
    assert result.complaint


def test_an_unusable_backend_names_the_usable(capsys: Captured, monkeypatch: Patch) -> None:
    installed = cli_backends.installed
    monkeypatch.setattr(cli_backends, "installed", lambda name: name == "numpy" and installed(name))
    code, _, err = call(capsys, "demo", "sgd", "--backend", "cupy")
    assert code == 2
    assert err.endswith("backend cupy cannot be used here: not installed; usable: numpy\n")


def test_a_missing_package_says_what_to_install(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setattr(command, "installed", lambda name: name not in {"sklearn", "tqdm"})
    result = call(capsys, "demo")
    assert result.code == 2
    assert result.complaint
    assert 'scikit-learn, tqdm: pip install "arrayoptim[demo]"' in result.err


def test_an_interrupted_demo_leaves_with_130(
    capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run", interrupt)
    code, out, err = call(capsys, "demo", "sgd", "--output", tmp_path)
    assert (code, out) == (130, "")
    assert err == "python -m arrayoptim: interrupted\n"


# ---- the parts of the demo


def test_the_gradients_are_those_of_the_loss() -> None:
    random = np.random.default_rng(0)
    params = {
        "hidden": {"kernel": random.normal(size=(4, 5)), "bias": random.normal(size=5)},
        "output": {"kernel": random.normal(size=(5, 3)), "bias": random.normal(size=3)},
    }
    x, classes = random.normal(size=(6, 4)), np.eye(3)[[0, 1, 2, 2, 1, 0]]
    _, gradients = network.loss_and_gradients(params, x, classes)
    for layer, arrays in params.items():
        for name, array in arrays.items():
            for place in np.ndindex(array.shape):
                value, losses = array[place], []
                for shift in (1e-5, -1e-5):
                    array[place] = value + shift
                    losses.append(network.loss_and_gradients(params, x, classes)[0])
                array[place] = value
                slope = (losses[0] - losses[1]) / 2e-5
                assert abs(gradients[layer][name][place] - slope) < 1e-9


def test_smoothing_averages_over_the_steps_before() -> None:
    losses = np.array([4, 2, 6, 8], np.float32)
    assert plot.smooth(losses, 2).tolist() == [4, 3, 4, 7]


def boxes(drawn: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Return axes, what belongs to each of them, and what belongs to the whole, in pixels."""
    drawn.canvas.draw()
    renderer = drawn.canvas.get_renderer()
    shown = [axes for axes in drawn.axes if axes.get_visible()]
    whole = [*drawn.legends, drawn._suptitle, drawn._supxlabel, drawn._supylabel]
    return (
        [axes.get_window_extent(renderer) for axes in shown],
        [axes.get_tightbbox(renderer) for axes in shown],
        [each.get_window_extent(renderer) for each in whole if each is not None],
    )


@pytest.mark.parametrize("count", [2, 7, pytest.param(6, marks=SLOW), pytest.param(32, marks=SLOW)])
def test_the_picture_is_laid_out(count: int) -> None:
    """Curves have most of it; nothing lies over anything else, nor over the edge."""
    pytest.importorskip("matplotlib")
    problem = data.load(epochs=4, batch_size=96, seed=0)
    losses = np.geomspace(2, 0.01, len(problem.batches)).astype(np.float32)
    courses = []
    for k, name in enumerate(ao.names()[:count]):
        scaled = (losses * (1 + k)).astype(np.float32)
        resumed = course.Resumed("torch", False, scaled[problem.half :], True, 0.0)
        words = settings.described(name, settings.build(name, None))
        courses.append(course.Course(name, words, scaled, 0.1 * k, {}, 0.9, 1.0, [resumed]))
    drawn = plot.figure(courses, problem, "numpy")
    inner, outer, others = boxes(drawn)
    assert len(inner) == (1 if count <= plot.TOGETHER else count)
    width, height = drawn.canvas.get_width_height()
    cells = len(inner) if count <= plot.TOGETHER else -(-count // plot.ACROSS) * plot.ACROSS
    share = sum(box.width * box.height for box in inner) / len(inner) * cells / (width * height)
    assert share > 0.55, share
    placed = [*outer, *others]
    for i, box in enumerate(placed):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        for other in placed[:i]:
            shared = box.intersection(box, other)
            assert shared is None or shared.width <= 1 or shared.height <= 1, (box, other)


def test_there_is_a_picture_after_the_first_few(
    capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(command, "FIRST", 1)
    argv = ["sgd", "adam", "--resume-on", "numpy", "--output", tmp_path, *SMALL]
    code, out, err = call(capsys, "demo", *argv)
    assert (code, err) == (0, "")
    assert out.startswith(f"The first 1: {tmp_path / 'loss_curves.png'}")
    assert "Where torch or JAX is installed each run goes on there too" in out


def test_without_the_source_it_says_where_the_demonstration_is(
    capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("arrayoptim._cli.demo.FOLDER", tmp_path)
    result = call(capsys, "demo", "sgd")
    assert result.code == 2 and result.complaint
    assert "python3 -m nox -s demo" in result.err


@pytest.mark.slow
def test_every_optimizer_has_a_rate_that_trains() -> None:
    problem = data.load(epochs=10, batch_size=32, seed=0)
    backend = cli_backends.wanted("numpy")
    plan = training.Plan(problem, backend, backend, None, Path(), lambda: None)
    for name in ao.names():
        params = cli_backends.from_host(problem.start, backend)
        optimizer = settings.build(name, None)
        params, _ = training.train(optimizer, params, problem.batches, backend, plan)
        assert training.accuracy(params, problem, backend) > 0.8, name


def test_a_resumed_run_with_nan_does_not_agree() -> None:
    nothing = np.zeros(0, np.float32)
    resumed = course.Resumed("torch", False, nothing, identical=False, deviation=float("nan"))
    assert not resumed.agrees


def test_a_run_that_diverges_is_no_traceback(capsys: Captured, tmp_path: Path) -> None:
    argv = ["sgd", "--lr", "1e38", "--resume-on", "numpy", "--output", tmp_path, *SMALL]
    code, out, err = call(capsys, "demo", *argv)
    assert (code, err) == (0, "")
    assert "nan" in out
