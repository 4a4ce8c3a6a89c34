"""What a newcomer sees: short reprs, norms on request, names as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend


def bowl(x: Any) -> tuple[float, Any]:
    return float(np.sum((x - 3.0) ** 2)), 2.0 * (x - 3.0)


def test_a_minimization_is_one_line() -> None:
    found = ao.minimize(bowl, np.zeros(20_000), ao.SGD(lr=0.1), steps=50)
    assert repr(found) == (
        "Minimization(50 steps, loss 1.8e+05 to 5.729e-05, 'steps', 1 array of numpy, "
        "20,000 parameters)"
    )
    assert repr(ao.Minimization([np.zeros(2), None])) == (
        "Minimization(0 steps, 1 array of numpy, 2 parameters)"
    )


def test_a_minimization_in_a_notebook() -> None:
    found = ao.minimize(bowl, np.zeros(2), ao.SGD(lr=0.1), steps=5000)
    page = found._repr_html_()
    assert "All 5000 steps have been taken." in page and "<svg" in page
    assert len(page) < 8000
    found.message = "<script>"
    assert "<script>" not in found._repr_html_()
    for history in ([], [1.0], [np.nan, 2.0]):
        assert "<svg" not in ao.Minimization(np.zeros(1), history=history)._repr_html_()
    assert "<svg" in ao.Minimization(np.zeros(1), history=[2.0, 2.0, -1.0])._repr_html_()


def test_a_minimization_as_a_plot() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    found = ao.minimize(bowl, np.zeros(2), ao.SGD(lr=0.1), steps=5)
    axes = Figure().add_subplot()
    assert found.plot(axes) is axes
    assert list(axes.lines[0].get_ydata()) == found.history
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "step"
    matplotlib.use("Agg")
    assert found.plot().get_ylabel() == "loss"
    from matplotlib import pyplot

    pyplot.close("all")


def test_the_norm_of_a_tree(backend: TestBackend) -> None:
    tree = backend.tree([np.array([3.0, 0.0], np.float32), np.array([[4.0]], np.float32)])
    assert float(ao.global_norm(tree)) == 5.0
    assert float(ao.global_norm(tree[0])) == 3.0
    assert ao.global_norm([None]) == 0.0
    with pytest.raises(TypeError, match=r"gradients at '0': found str"):
        ao.global_norm(["a"])


def test_a_step_reports_the_norm_when_asked(backend: TestBackend) -> None:
    """By a bound that nothing exceeds; parameters are those without it."""
    for bound, norm in ((None, None), (float("inf"), 5.0)):
        optimizer, x = ao.SGD(lr=1.0, clipnorm=bound), backend.tree([np.zeros(2)])
        x = optimizer.apply(backend.tree([np.array([3.0, 4.0])]), x)
        assert optimizer.last_step is not None and optimizer.last_step.global_norm == norm
        np.testing.assert_array_equal(backend.read(x)[0], [-3.0, -4.0])


@pytest.mark.parametrize("name", ["x.npz", "x.NPY", "x.pt", "x.pkl", "x.keras", "x.json"])
def test_names_of_other_formats(name: str, tmp_path: Path) -> None:
    optimizer = ao.SGD()
    optimizer.init(np.zeros(2))
    with pytest.raises(ValueError, match=r"will be HDF5, .*; name it x\.h5"):
        optimizer.save_weights(tmp_path / name)
    with pytest.raises(ValueError, match=r"name it x\.h5"):
        ao.save_checkpoint(tmp_path / name, np.zeros(2), optimizer)
    assert not list(tmp_path.iterdir())
    for usual in ("x.h5", "x.hdf5", "x.weights.h5", "x"):
        optimizer.save_weights(tmp_path / usual)
        ao.load(tmp_path / usual)


def test_a_number_that_the_file_changes_is_reported(tmp_path: Path) -> None:
    x, saved = np.zeros(2), ao.Adam(lr=0.1)
    saved.init(x)
    saved.save_weights(tmp_path / "o.h5")
    for built in (False, True):
        optimizer = ao.Adam(lr=0.5)
        if built:
            optimizer.init(x)
        report = optimizer.load_weights(tmp_path / "o.h5")
        assert report.changed == ["lr: 0.1 from the file, was 0.5"]
        assert optimizer.lr == 0.1
    optimizer = ao.Adam(lr=0.5)
    assert optimizer.load_weights(tmp_path / "o.h5", hyperparameters=False).changed == []
    assert optimizer.lr == 0.5
    assert ao.Adam(lr=0.1).load_weights(tmp_path / "o.h5").changed == []


def test_keys_with_a_slash_are_shown_and_matched_as_written() -> None:
    params = {"l1/bias": np.ones(2), "l1/kernel": np.ones(2), "a~b": np.ones(1)}
    grads = {name: np.ones_like(x) for name, x in params.items()}
    optimizer = ao.SGD(lr=1.0, groups=[ao.group("l1/bias", freeze=True)])
    optimizer.apply(grads, params)
    assert params["l1/bias"][0] == 1.0 and params["l1/kernel"][0] == 0.0
    with pytest.raises(ValueError, match=r"'l2/bias' matches none of a~b, l1/bias, l1/kernel$"):
        ao.SGD(groups=[ao.group("l2/bias", freeze=True)]).init(params)
    with pytest.raises(ValueError, match="'bias' matches none of the bare array"):
        ao.SGD(weight_decay=0.1, exclude="bias").init(np.ones(2))


def test_a_bare_array_is_the_parameter() -> None:
    with pytest.raises(TypeError, match=r"^the parameter is int64"):
        ao.SGD().init(np.ones(2, int))
    with pytest.raises(ValueError, match="gradient of the parameter: found shape"):
        ao.SGD().apply(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="entries of the parameter share memory"):
        ao.SGD().init(np.lib.stride_tricks.as_strided(np.ones(1), (2,), (0,)))


def test_arguments_in_another_order_are_answered_with_the_order(tmp_path: Path) -> None:
    params, optimizer = {"w": np.ones(2)}, ao.Adam()
    with pytest.raises(TypeError, match=r"found dict, .* save_checkpoint\(path, params, optimizer"):
        ao.save_checkpoint(params, str(tmp_path / "run.h5"), optimizer)
    with pytest.raises(TypeError, match=r"found dict, .* load_checkpoint\(path, params\)"):
        ao.load_checkpoint(params, str(tmp_path / "run.h5"))
    with pytest.raises(TypeError, match=r"found dict, .* explain\(params, optimizer\)"):
        ao.explain(optimizer, params)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_argument_is_answered_with_the_one_that_was_meant_alone() -> None:
    with pytest.raises(TypeError, match=r"has no argument 'beta1', did you mean 'beta_1'\?$"):
        ao.Adam(beta1=0.9)
