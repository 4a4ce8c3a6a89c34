"""Parameters, optimizer and more in one file, and what a fingerprint finds out."""

from __future__ import annotations

import io
import json
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.persistence import atomic
from backends import TestBackend
from command_line import call
from optimizers_under_test import make, same


def trained(steps: int = 3) -> tuple[dict[str, Any], Any]:
    params = {"layers": [{"kernel": np.ones((2, 3)), "bias": np.zeros(3)}], "scale": np.ones(())}
    optimizer = ao.Nadam(lr=0.1)
    for _ in range(steps):
        params = optimizer.apply(gradients(params), params)
    return params, optimizer


def gradients(params: Any) -> Any:
    layer = params["layers"][0]
    return {
        "layers": [{"kernel": layer["kernel"] - 3.0, "bias": layer["bias"] + 1.0}],
        "scale": params["scale"] * 2.0,
    }


def test_goes_on_exactly(name: str, backend: TestBackend, tmp_path: Path) -> None:
    """With every optimizer, on every library, from one file."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)]
    slopes = [[rng.normal(size=x.shape).astype(np.float32) for x in start] for _ in range(6)]
    optimizer, params = make(name), backend.tree(start)
    for k, slope in enumerate(slopes):
        if k == 3:
            ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, step=k)
        params = optimizer.apply(backend.tree(slope), params)
    again, other, extra = ao.load_checkpoint(
        tmp_path / "c.h5", backend.tree([np.zeros_like(x) for x in start])
    )
    assert extra == {"step": 3} and type(other) is type(optimizer)
    for slope in slopes[3:]:
        again = other.apply(backend.tree(slope), again)
    same(backend.read(again), backend.read(params))


def test_arrays_that_can_be_written_get_the_values(tmp_path: Path) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    mine, own = trained(steps=1)
    kernel = mine["layers"][0]["kernel"]
    found = ao.load_checkpoint(tmp_path / "c.h5", mine, own)
    assert found.params["layers"][0]["kernel"] is kernel and found.optimizer is own
    assert np.array_equal(kernel, params["layers"][0]["kernel"])
    assert own.iterations == 3


def test_without_parameters_it_gives_the_containers_and_host_arrays(tmp_path: Path) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    found, other, extra = ao.load_checkpoint(tmp_path / "c.h5")
    assert isinstance(found["layers"], list) and extra == {}
    assert np.array_equal(found["layers"][0]["kernel"], params["layers"][0]["kernel"])
    assert other.lr == optimizer.lr
    other.apply(gradients(found), found)
    optimizer.apply(gradients(params), params)
    assert np.array_equal(found["layers"][0]["kernel"], params["layers"][0]["kernel"])


@pytest.mark.parametrize(
    "params",
    [np.ones(3), [np.ones(2)], (np.ones(2), None), {1: np.ones(2)}, OrderedDict(a=np.ones(1))],
    ids=["bare", "list", "tuple", "number", "ordered"],
)
def test_trees_of_every_kind(params: Any, tmp_path: Path) -> None:
    optimizer = ao.Adam()
    optimizer.init(params)
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    found = ao.load_checkpoint(tmp_path / "c.h5").params
    if isinstance(params, np.ndarray):
        assert np.array_equal(found, params)
    else:
        assert type(found) is (dict if isinstance(params, OrderedDict) else type(params))
        assert len(found) == len(params)
    ao.load_checkpoint(tmp_path / "c.h5", params)


def test_other_containers_come_as_dicts_by_path(tmp_path: Path) -> None:
    Pair = namedtuple("Pair", "x y")
    params = {"a/b": Pair(np.ones(2), np.zeros(1))}
    ao.save_checkpoint(tmp_path / "c.h5", params, ao.SGD())
    found = ao.load_checkpoint(tmp_path / "c.h5").params
    assert list(found) == ["a/b"] and [x.shape for x in found["a/b"].values()] == [(2,), (1,)]
    assert isinstance(ao.load_checkpoint(tmp_path / "c.h5", params).params["a/b"], Pair)


EXTRA: dict[str, Any] = {
    "epoch": 3,
    "best": float("inf"),
    "note": "größer / ~1",
    "done": False,
    "nothing": None,
    "history": np.arange(4.0),
    "nested": {"losses": [1.5, (2, None)], 7: {"mask": np.array([True, False])}, "a/b": "c"},
    "rate": np.float32(0.5),
}


def test_more_comes_back_as_it_was(tmp_path: Path) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, **EXTRA)
    found = ao.load_checkpoint(tmp_path / "c.h5", params).extra
    assert list(found) == list(EXTRA)
    np.testing.assert_array_equal(found.pop("history"), EXTRA["history"])
    assert found["nested"][7].pop("mask").tolist() == [True, False]
    assert found.pop("rate") == 0.5
    wanted = {k: v for k, v in EXTRA.items() if k not in ("history", "rate", "nested")}
    assert found == {**wanted, "nested": {"losses": [1.5, (2, None)], 7: {}, "a/b": "c"}}


def test_the_state_of_a_random_generator_goes_along(tmp_path: Path) -> None:
    for kind in (np.random.PCG64, np.random.MT19937):
        rng = np.random.Generator(kind(5))
        params, optimizer = trained()
        ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, rng=rng.bit_generator.state)
        wanted = rng.normal(size=3)
        again = np.random.Generator(kind(6))
        again.bit_generator.state = ao.load_checkpoint(tmp_path / "c.h5").extra["rng"]
        assert np.array_equal(again.normal(size=3), wanted)


def test_the_fingerprint_finds_other_parameters(backend: TestBackend, tmp_path: Path) -> None:
    path, params = tmp_path / "c.h5", backend.tree([np.ones(3, np.float32)])
    optimizer = ao.Adam()
    params = optimizer.apply(backend.tree([np.ones(3, np.float32)]), params)
    ao.save_checkpoint(path, params, optimizer)
    other, grads = backend.tree([np.zeros(3, np.float32)]), backend.tree([np.ones(3, np.float32)])
    for use in (lambda o: o.init(other), lambda o: o.apply(grads, other)):
        loaded = ao.load(path)
        with pytest.raises(ValueError, match="not the parameters that this state was saved with"):
            use(loaded)
        same(backend.read(other), [np.zeros(3, np.float32)])
    ao.load(path).apply(grads, params)
    ao.load(path, fingerprint=False).apply(grads, other)


def test_the_fingerprint_with_state_that_there_is(tmp_path: Path) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    moved, own = trained(steps=5)
    own.load_weights(tmp_path / "c.h5")
    with pytest.raises(ValueError, match="their values differ"):
        own.apply(gradients(moved), moved)
    own.load_weights(tmp_path / "c.h5", fingerprint=False)
    own.apply(gradients(moved), moved)
    own.load_weights(tmp_path / "c.h5", strict=False)
    own.apply(gradients(moved), moved)


def test_parameters_exchanged_in_the_file(tmp_path: Path) -> None:
    import h5py

    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    with h5py.File(tmp_path / "c.h5", "r+") as file:
        file["checkpoint/optimizer/parameter/scale"][...] = 7.0
    with pytest.raises(ValueError, match="are not those that its optimizer was saved beside"):
        ao.load_checkpoint(tmp_path / "c.h5", params)
    found = ao.load_checkpoint(tmp_path / "c.h5", params, fingerprint=False)
    assert found.params["scale"] == 7.0


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, epoch=1)
    before = (tmp_path / "c.h5").read_bytes()
    with pytest.raises(FileExistsError):
        ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, overwrite=False)
    with pytest.raises(TypeError, match=r"model: found object, wanted None, a number"):
        ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, model=object())
    with pytest.raises(ValueError, match="not the ones the optimizer's state was made for"):
        ao.save_checkpoint(tmp_path / "c.h5", {"other": np.ones(2)}, optimizer)
    with pytest.raises(TypeError, match="one of torch's or Keras's kind is saved by its framework"):
        ao.save_checkpoint(tmp_path / "c.h5", params, object())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        ao.save_checkpoint(tmp_path / "c.h5", params, optimizer, epoch=2)
    assert (tmp_path / "c.h5").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c.h5"]


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    x = np.zeros(2)
    with pytest.raises(ValueError, match=r"'w': found none, wanted float64\[2\]"):
        ao.load_checkpoint(tmp_path / "c.h5", {"w": x})
    mine, adam = trained(steps=1)[0], ao.Adam()
    before = mine["layers"][0]["kernel"].copy()
    with pytest.raises(ValueError, match="found the state of Nadam, wanted Adam"):
        ao.load_checkpoint(tmp_path / "c.h5", mine, adam)
    assert np.array_equal(mine["layers"][0]["kernel"], before) and not adam.built
    optimizer.save_weights(tmp_path / "plain.h5")
    with pytest.raises(ValueError, match="no whole checkpoint"):
        ao.load_checkpoint(tmp_path / "plain.h5")
    with pytest.raises(FileNotFoundError):
        ao.load_checkpoint(tmp_path / "none.h5")


@pytest.mark.parametrize("wrap", [ao.GradientAccumulation, ao.Lookahead, ao.SAM, ao.LossScale])
def test_around_an_optimizer(wrap: Any, tmp_path: Path) -> None:
    x, optimizer = np.ones(3), wrap(ao.SGD(lr=0.1, momentum=0.9))
    optimizer.init(x)
    ao.save_checkpoint(tmp_path / "c.h5", x, optimizer)
    found = ao.load_checkpoint(tmp_path / "c.h5", np.zeros(3))
    assert type(found.optimizer) is wrap and np.array_equal(found.params, x)
    ao.load_checkpoint(tmp_path / "c.h5", np.zeros(3), wrap(ao.SGD()))


def test_its_repr_is_short() -> None:
    text = repr(ao.Checkpoint({"w": np.zeros((100, 100))}, ao.SGD(), {"epoch": 1}))
    assert text == "Checkpoint(1 arrays, SGD(lr=0.01, momentum=0.0, decay=0.0, nesterov=False), " \
        "extra: epoch)"  # fmt: skip


def test_inspect_shows_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params, optimizer = trained()
    path = tmp_path / "c.h5"
    ao.save_checkpoint(path, params, optimizer, epoch=3, history=np.zeros(5))
    code, out, _ = call(capsys, "inspect", str(path))
    assert code == 0
    assert "params  3 arrays, 80 bytes" in out
    assert "layers/0/kernel  2 x 3" in out
    assert "history  float64[5]" in out
    code, out, _ = call(capsys, "inspect", "--json", str(path))
    found = json.loads(out)
    assert found["extra"] == {"epoch": 3, "history": "float64[5]"}
    assert [entry["parameter"] for entry in found["parameters"]] == [
        "layers/0/bias", "layers/0/kernel", "scale",
    ]  # fmt: skip


def test_in_memory(tmp_path: Path) -> None:
    memory, (params, optimizer) = io.BytesIO(), trained()
    ao.save_checkpoint(memory, params, optimizer, epoch=2)
    memory.seek(0)
    found = ao.load_checkpoint(memory, trained(steps=1)[0])
    assert found.extra == {"epoch": 2} and found.optimizer.iterations == 3
    assert np.array_equal(found.params["scale"], params["scale"])


def test_other_parameters_are_matched_by_their_paths(tmp_path: Path) -> None:
    """What is in both goes on exactly; what is not is listed and stays as it was given."""
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    new = {"layers": [{"kernel": np.zeros((2, 3))}], "head": np.full(2, 7.0), "scale": np.ones(4)}
    with pytest.raises(ValueError, match="strict=False loads what fits"):
        ao.load_checkpoint(tmp_path / "c.h5", new)
    for given in (None, ao.Nadam(lr=3.0)):
        found = ao.load_checkpoint(tmp_path / "c.h5", new, given, strict=False)
        assert given is None or found.optimizer is given
        assert found.report.restored[:2] == ["layers/0/kernel", "momentum of layers/0/kernel"]
        assert found.report.missing[0] == "head" and "momentum of head" in found.report.missing[1]
        assert found.report.unexpected[0] == "layers/0/bias"
        assert found.report.misshapen[0].startswith("parameter 'scale': found float64[], wanted")
        assert any("at the step count 3" in note for note in found.report.notes)
        same([found.params["head"], found.params["scale"]], [np.full(2, 7.0), np.ones(4)])
        kernel = params["layers"][0]["kernel"].copy()
        same([found.params["layers"][0]["kernel"]], [kernel])
        slopes = gradients({"layers": [{"kernel": kernel, "bias": np.zeros(3)}], "scale": kernel})
        tree = {"layers": [{"kernel": slopes["layers"][0]["kernel"]}], "head": None, "scale": None}
        found.optimizer.apply(tree, found.params)
        own, alone = ao.load_checkpoint(tmp_path / "c.h5")[1::-1]
        slopes["layers"][0]["bias"], slopes["scale"] = np.zeros(3), np.zeros(())
        wanted = own.apply(slopes, alone)["layers"][0]["kernel"]
        same([found.params["layers"][0]["kernel"]], [wanted])


def test_a_strict_load_has_a_report_too(tmp_path: Path) -> None:
    params, optimizer = trained()
    ao.save_checkpoint(tmp_path / "c.h5", params, optimizer)
    report = ao.load_checkpoint(tmp_path / "c.h5", trained(1)[0]).report
    assert len(report.restored) > 6 and not report.faults
    assert not ao.load_checkpoint(tmp_path / "c.h5").report.restored


def test_arrays_without_names_meet_the_same_parameters_only(tmp_path: Path) -> None:
    """Even unless strict: by their order nothing else could be meant."""
    from arrayoptim.persistence import Record, write

    slots = {"momentum": [np.ones(2), np.ones(3)], "velocity": [np.ones(2), np.ones(3)]}
    write(tmp_path / "w.h5", Record("arrayoptim", "Adam", {}, 4, {}, slots, None))
    optimizer = ao.Adam()
    optimizer.init({"a": np.zeros(2), "b": np.zeros(3)})
    assert optimizer.load_weights(tmp_path / "w.h5").restored[0] == "momentum of a"
    said = r"found 2 arrays of momentum without parameter names: \[2\], \[3\]; wanted {}: "
    for others, count in (([3, 2], 2), ([2], 1), ([2, 3, 4], 3)):
        optimizer = ao.Adam()
        optimizer.init([np.zeros(n) for n in others])
        with pytest.raises(ValueError, match=said.format(count)):
            optimizer.load_weights(tmp_path / "w.h5", strict=False)
        assert optimizer.iterations == 0
