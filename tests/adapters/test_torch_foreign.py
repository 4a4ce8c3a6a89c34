"""Optimizers of torch behind our surface, on the arrays of every library."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import arrayoptim as ao
import foreign_checks as checks
from backends import NUMPY, TestBackend
from optimizers_under_test import same

CASES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.01}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.5}),
    "asgd": (torch.optim.ASGD, {"lr": 0.1, "t0": 2.0}),
    "rprop": (torch.optim.Rprop, {}),
    "foreach": (torch.optim.NAdam, {"foreach": True}),
}
cases = pytest.mark.parametrize(("cls", "kwargs"), CASES.values(), ids=list(CASES))


def run(cls: Any, kwargs: Any) -> checks.Native:
    def native(start: list[np.ndarray], steps: list[list[np.ndarray]]) -> list[np.ndarray]:
        params = [torch.tensor(a) for a in start]
        optimizer = cls(params, **kwargs)
        for grads in steps:
            for p, g in zip(params, grads, strict=True):
                p.grad = torch.tensor(g)
            optimizer.step()
        return [p.numpy() for p in params]

    return native


@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_native(cls: Any, kwargs: Any, backend: TestBackend, dtype: str) -> None:
    checks.equals_native(lambda: ao.TorchOptimizer(cls, **kwargs), run(cls, kwargs), backend, dtype)


@cases
def test_goes_on_exactly(cls: Any, kwargs: Any, backend: TestBackend, tmp_path: Path) -> None:
    checks.goes_on_exactly(lambda: ao.TorchOptimizer(cls, **kwargs), backend, tmp_path)


@cases
def test_updates(cls: Any, kwargs: Any, backend: TestBackend) -> None:
    checks.updates_are_a_step(lambda: ao.TorchOptimizer(cls, **kwargs), backend)


def test_explain_has_nothing_to_say() -> None:
    """Such an optimizer has no engines, nor has a wrapper around it."""
    for optimizer in (torch.optim.Adam, ao.TorchOptimizer(torch.optim.Adam), None):
        given: Any = optimizer or ao.Lookahead(ao.TorchOptimizer(torch.optim.Adam))
        with pytest.raises(TypeError, match=r"found TorchOptimizer.*wanted an arrayoptim"):
            ao.explain([np.zeros(2)], given)


def test_refuses(backend: TestBackend, tmp_path: Path) -> None:
    checks.refuses(lambda: ao.TorchOptimizer(torch.optim.Adam), backend, tmp_path)


def test_bfloat16_and_strange_memory() -> None:
    """Arrays of NumPy are stepped where they lie, whatever their type and order in memory."""
    for array in (
        NUMPY.asarray(np.ones(4), "bfloat16"),
        np.ones((4, 3), "float32", order="F"),
        np.ones((8, 3), "float32")[::2],
        np.ones(4, "float32")[::-1],
        np.ones(4, ">f4"),
        np.ones(4, "complex64"),
    ):
        before = array
        found = ao.TorchOptimizer(torch.optim.SGD, lr=0.5).apply(np.ones_like(array), array)
        assert found is before
        np.testing.assert_array_equal(found.astype("complex64"), 0.5)
    fixed = np.ones(2)
    fixed.flags.writeable = False
    assert ao.TorchOptimizer(torch.optim.SGD, lr=0.5).apply(np.ones(2), fixed)[0] == 0.5


def test_none_leaves_parameter_and_state_alone(tmp_path: Path) -> None:
    """A parameter without gradient has no native state yet; a file says so."""
    opt, params = ao.TorchOptimizer(torch.optim.Adam, lr=0.1), [np.ones(2), np.ones(3)]
    opt.apply([np.ones(2), None], params)
    same([params[1]], [np.ones(3)])
    opt.save_weights(tmp_path / "half.h5")
    twin, copies = ao.load(tmp_path / "half.h5"), copy.deepcopy(params)
    for grads in ([None, np.ones(3)], [np.ones(2), np.ones(3)]):
        opt.apply(grads, params)
        twin.apply(grads, copies)
    same(copies, params)
    same(twin.get_weights(), opt.get_weights())
    assert [int(w) for w in opt.get_weights() if w.shape == ()] == [3, 2, 2]


def test_numbers_are_the_native_ones(tmp_path: Path) -> None:
    """Set by a scheduler, written, read back, and part of the configuration."""
    opt, p = ao.TorchOptimizer(torch.optim.SGD, lr=1.0, momentum=0.5), np.zeros(2)
    opt.init(p)
    torch_schedule = torch.optim.lr_scheduler.StepLR(opt.native, 1, 0.5)
    opt.apply(np.ones(2), p)
    torch_schedule.step()
    opt.save_weights(tmp_path / "sgd.h5")
    again = ao.TorchOptimizer(torch.optim.SGD, lr=9.0)
    again.load_weights(tmp_path / "sgd.h5")
    for twin in (again, ao.load(tmp_path / "sgd.h5"), pickle.loads(pickle.dumps(opt))):
        assert twin.get_config() == opt.get_config()
        assert twin.get_config()["arguments"]["lr"] == 0.5
        same([twin.apply(np.ones(2), np.zeros(2))], [np.full(2, -0.75)])
    assert repr(opt).startswith("TorchOptimizer(SGD, lr=0.5, momentum=0.5")
    assert ao.deserialize(ao.serialize(opt)).get_config() == opt.get_config()


class Own(torch.optim.SGD):
    """An optimizer that torch does not have."""


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    """It has no configuration; its state is kept all the same."""
    opt = ao.TorchOptimizer(Own, lr=0.5, momentum=0.5)
    opt.apply(np.ones(2), np.zeros(2))
    with pytest.raises(NotImplementedError, match=r"Own does not tell .* use load_weights"):
        opt.get_config()
    opt.save_weights(tmp_path / "own.h5")
    with pytest.raises(NotImplementedError, match="Own comes without its arguments"):
        ao.load(tmp_path / "own.h5")
    again = ao.TorchOptimizer(Own, lr=0.5, momentum=0.5)
    again.load_weights(tmp_path / "own.h5")
    again.init(np.zeros(2))
    same(again.get_weights(), opt.get_weights())
    with pytest.raises(ValueError, match=r"state of TorchOptimizer\(.*Own\), wanted"):
        ao.TorchOptimizer(torch.optim.SGD).load_weights(tmp_path / "own.h5")


def test_wrappers_go_around(backend: TestBackend, tmp_path: Path) -> None:
    """Gathered gradients, one file for both."""
    opt = ao.GradientAccumulation(ao.get(torch.optim.Adam), every=2)
    params = backend.tree([np.ones(3)])
    for _ in range(3):
        params = opt.apply(backend.tree([np.ones(3)]), params)
    opt.save_weights(tmp_path / "both.h5")
    twin, copies = ao.load(tmp_path / "both.h5"), backend.tree(backend.read(params))
    for _ in range(3):
        params = opt.apply(backend.tree([np.ones(3)]), params)
        copies = twin.apply(backend.tree([np.ones(3)]), copies)
    same(backend.read(copies), backend.read(params))
    assert twin.iterations == opt.iterations == 3
    with pytest.raises(AttributeError, match="'nonfinite' to set"):
        ao.LossScale(ao.TorchOptimizer(torch.optim.SGD))


def test_bad_input() -> None:
    """What was given is named, and what can be done."""
    instance = torch.optim.Adam([torch.zeros(1)])
    for make in (ao.get, ao.TorchOptimizer):
        with pytest.raises(TypeError, match=r"bound to parameters of its own; wanted its class"):
            make(instance)
    with pytest.raises(TypeError, match="found 'adam', wanted a class"):
        ao.TorchOptimizer("adam")
    with pytest.raises(TypeError, match="LBFGS evaluates the loss itself"):
        ao.get(torch.optim.LBFGS)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        ao.TorchOptimizer(torch.optim.Adam, lr=-1.0)
    with pytest.raises(ValueError, match=r"torch.optim has no 'Eve'"):
        ao.TorchOptimizer.from_config({"optimizer": "Eve", "arguments": {}})
    with pytest.raises(ValueError, match=r"wanted \{\"optimizer\""):
        ao.get({"class_name": "TorchOptimizer", "config": {}})
    with pytest.raises(ValueError, match="or an optimizer of TensorFlow, Keras, optax or torch"):
        ao.get(object())
