"""Results that nobody keeps, and gradients and parameters that have changed places."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend


def read_only(values: list[float]) -> Any:
    x = np.array(values)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("make", [read_only, lambda values: np.float64(values[0])])
def test_a_dropped_result_is_told_once(make: Any) -> None:
    optimizer, p, g = ao.SGD(lr=0.1), make([1.0, 2.0]), make([1.0, 1.0])
    optimizer.apply(g, p)
    with pytest.warns(UserWarning, match="use the result, params = optimizer.apply") as told:
        optimizer.apply(g, p)
    assert told[0].filename == __file__
    optimizer.apply(g, p)  # a warning here would be an error


def test_in_any_library(backend: TestBackend) -> None:
    """Only where arrays cannot be written."""
    optimizer = ao.Adam()
    p, g = backend.tree([np.ones(2, np.float32)]), backend.tree([np.ones(2, np.float32)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(4):
            optimizer.apply(g, p)
    assert len(told) == (np.array_equal(backend.read(p)[0], np.ones(2)))


def test_by_way_of_wrappers_and_pairs() -> None:
    p, g = read_only([1.0]), read_only([1.0])
    for wrap in (ao.Lookahead, ao.GradientAccumulation):
        optimizer = wrap(ao.SGD())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(4):
                optimizer.apply(g, p)
        assert ["SGD.apply" in str(each.message) for each in told] == [True]
    optimizer = ao.SGD()
    optimizer.apply_gradients([(g, p)])
    with pytest.warns(UserWarning, match="SGD.apply"):
        optimizer.apply_gradients([(g, p)])


def test_kept_results_are_not_told() -> None:
    """Nor is a step from the same point whose result is in use."""
    optimizer, p, g = ao.SGD(), read_only([1.0, 2.0]), read_only([1.0, 1.0])
    for _ in range(3):
        p = optimizer.apply(g, p)
    kept = [optimizer.apply(g, p) for _ in range(3)]
    assert len(kept) == 3
    accumulated = ao.GradientAccumulation(ao.SGD(), every=2)
    for _ in range(6):
        p = accumulated.apply(g, p)
    ao.get("sgd").minimize(lambda x: (0.0, g), p)


def test_parameters_that_come_as_gradients() -> None:
    optimizer, w, b = ao.SGD(lr=0.1), np.ones(2), np.ones(3)
    optimizer.apply([np.ones(2), np.ones(3)], [w, b])
    before = w.copy()
    with pytest.raises(ValueError, match=r"the parameters of the steps before; wanted apply\("):
        optimizer.apply([w, b], [np.ones(2), np.ones(3)])
    assert np.array_equal(w, before) and optimizer.iterations == 1
    with pytest.raises(ValueError, match=r"\(None\); apply takes the gradients first"):
        ao.SGD().apply([w, b], [None, np.ones(3)])


def test_moved_parameters_are_not_taken_for_gradients() -> None:
    optimizer, g = ao.SGD(lr=0.5), np.ones(2)
    for _ in range(3):
        optimizer.apply(g, np.ones(2))
    w = np.ones(2)
    optimizer.apply(w, w.copy())
    optimizer.apply(w, w)


def test_leaves_of_torch_that_come_as_gradients() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(2, 1)
    params = dict(layer.named_parameters())
    grads = {name: torch.ones_like(p) for name, p in params.items()}
    with pytest.raises(ValueError, match="are leaf tensors that require gradients"):
        ao.SGD().apply(params, grads)
    ao.SGD().apply(grads, params)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_arguments_of_the_pure_form_in_another_order(order: tuple[int, ...]) -> None:
    opt, params = ao.SGD(), {"w": np.ones(2)}
    given = [opt.init_state(params), {"w": np.ones(2)}, params]
    with pytest.raises(
        ValueError, match=r"state: found dict of w, wanted .*\(state, grads, params\)"
    ):
        opt.stateless_apply(*[given[i] for i in order])
    with pytest.raises(ValueError, match="state: found ndarray, wanted "):
        opt.stateless_apply(np.ones(2), np.ones(2), np.ones(2))  # type: ignore[arg-type]


def test_a_bare_array_against_a_tree() -> None:
    def refused(grads: Any, params: Any, words: str) -> None:
        for optimizer in (ao.SGD(), ao.Lookahead("sgd"), ao.GradientAccumulation("sgd")):
            with pytest.raises(ValueError, match=words):
                optimizer.apply(grads, params)
        optimizer = ao.SGD()
        with pytest.raises(ValueError, match=words):
            optimizer.stateless_apply(optimizer.init_state(params), grads, params)

    p, tree = np.ones(2), {"a": np.ones(2), "b": np.ones(2)}
    refused(p, tree, "gradients are one array, the parameters a tree of 2 leaves: a, b; wanted")
    refused(None, tree, "gradients are None, the parameters a tree of 2 leaves: a, b; wanted")
    refused(tree, p, "gradients are a tree of 2 leaves: a, b, the parameters one array; wanted")
    refused([p], None, "the parameters None.*apply takes the gradients first")
    refused(None, [], "the parameters a tree without leaves")
    with pytest.raises(ValueError, match=r"loss returned are None; wanted a tree of 1 leaf: 0"):
        ao.SGD().minimize(lambda x: (0.0, None), [p])


def test_what_is_missing_is_missed_by_the_name_of_the_class() -> None:
    """Python's own errors name the class of the documentation, and pickles find its methods."""
    for optimizer, name in ((ao.Adam(), "Optimizer"), (ao.LBFGS(), "LBFGS|Optimizer")):
        for method in ("stateless_apply", "init_state", "save_weights", "set_weights", "minimize"):
            with pytest.raises(TypeError, match=rf"^({name})\.{method}\(\) missing"):
                getattr(optimizer, method)()
    step = ao.Adam.stateless_apply
    assert pickle.loads(pickle.dumps(step)) is step
    for pairs in (None, 3.0, [np.ones(2)], [(np.ones(2),)], [None], np.ones((2, 2))):
        with pytest.raises(TypeError, match=r"apply_gradients: found .*, wanted pairs"):
            ao.SGD().apply_gradients(pairs)
