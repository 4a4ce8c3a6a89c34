"""Moving the state of torch's own optimizers into this library's own form, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import arrayoptim as ao
from golden_peers.parity import WITH_VECTORS
from optimizers_under_test import make

SHAPES = {"weight": (3, 4), "bias": (4,)}
IDS = [f"{row[0]}-{'-'.join(row[3])}" for row in WITH_VECTORS]


@pytest.fixture(autouse=True)
def _double() -> Any:
    """Let torch keep its numbers in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def gradients(step: int) -> list[np.ndarray]:
    """Return the gradients of a step."""
    random = np.random.default_rng(step)
    return [random.normal(size=shape) for shape in SHAPES.values()]


def start() -> list[np.ndarray]:
    """Return the parameters before the first step."""
    return gradients(99)


def native(theirs: str, given: dict[str, Any], values: list[np.ndarray]) -> tuple[Any, Any]:
    """Return parameters of torch and an optimizer over them."""
    held = [torch.nn.Parameter(torch.tensor(x)) for x in values]
    return held, getattr(torch.optim, theirs)(held, **given)


def by_torch(held: list[Any], optimizer: Any, steps: range) -> list[np.ndarray]:
    """Step torch's optimizer."""
    for step in steps:
        for p, g in zip(held, gradients(step), strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
    return [p.detach().numpy().copy() for p in held]


def by_ours(opt: Any, params: Any, steps: range) -> Any:
    """Step an optimizer in this library's own form."""
    as_array = torch.tensor if isinstance(params["bias"], torch.Tensor) else np.array
    for step in steps:
        params = opt.apply(dict(zip(SHAPES, map(as_array, gradients(step)))), params)
    return params


def close(found: list[Any], wanted: list[Any]) -> None:
    """Assert that they are the same course."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("theirs", "given", "ours", "words"), WITH_VECTORS, ids=IDS)
@pytest.mark.parametrize("as_array", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_there_and_back(
    as_array: Callable[..., Any], theirs: str, given: Any, ours: str, words: Any
) -> None:
    """Five steps with torch and five here are ten with torch, and so are five more back there."""
    del words  # they come with the state
    held, optimizer = native(theirs, given, start())
    moved = dict(zip(SHAPES, map(as_array, by_torch(held, optimizer, range(5)))))
    opt = make(ours, preset="torch")
    ao.torch.load_state(opt, optimizer.state_dict(), moved)
    whole = by_torch(held, optimizer, range(5, 10))
    moved = by_ours(opt, moved, range(5, 10))
    close(list(moved.values()), whole)
    assert opt.iterations == (10 if theirs != "SGD" else 5)
    values = [x.numpy().copy() if isinstance(x, torch.Tensor) else x for x in moved.values()]
    back, again = native(theirs, given, values)
    again.load_state_dict(ao.torch.export_state(opt, moved))
    close(by_torch(back, again, range(10, 15)), by_torch(held, optimizer, range(10, 15)))
    kept = ("lr", "weight_decay", "betas", "eps", "momentum", "alpha", "etas", "lambd")
    for key in set(kept) & set(optimizer.param_groups[0]):
        assert again.param_groups[0][key] == optimizer.param_groups[0][key]


@pytest.mark.parametrize(
    ("ours", "theirs", "given", "words"),
    [
        ("SGD", "SGD", {"lr": 0.1, "momentum": 0.9}, "at constant lr they agree; preset="),
        ("RMSprop", "RMSprop", {"momentum": 0.9}, "at constant lr they agree; preset="),
        ("Rprop", "Rprop", {"lr": 0.1}, "at constant lr they agree; preset="),
        ("ASGD", "ASGD", {"lr": 0.1}, "at constant lr they agree; preset="),
        ("Adam", "Adam", {}, "with epsilon=0 they agree; preset="),
        ("RAdam", "RAdam", {}, "with epsilon=0 they agree; preset="),
        ("Adamax", "Adamax", {}, "with epsilon=0 they agree; preset="),
    ],
)
def test_without_the_preset(ours: str, theirs: str, given: Any, words: str) -> None:
    """What is different is said with the preset's name, and what can be converted is."""
    given = given | ({"eps": 1e-30} if "epsilon=0" in words else {})  # too small to show
    held, optimizer = native(theirs, given, start())
    moved = dict(zip(SHAPES, by_torch(held, optimizer, range(5))))
    opt = make(ours)
    with pytest.warns(UserWarning, match=words):
        ao.torch.load_state(opt, optimizer.state_dict(), moved)
    moved = by_ours(opt, moved, range(5, 10))
    close(list(moved.values()), by_torch(held, optimizer, range(5, 10)))
    with pytest.warns(UserWarning, match=words):
        found = ao.torch.export_state(opt, moved)
    back, again = native(theirs, given, list(moved.values()))
    again.load_state_dict(found)
    close(by_torch(back, again, range(10, 12)), by_torch(held, optimizer, range(10, 12)))


def test_which_parameter_is_which() -> None:
    """A list goes by torch's order, a dict by its own order, or by names that torch had."""
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adagrad(net.named_parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for params in (list(net.parameters()), {"bias": net.bias, "weight": net.weight}):
        opt = ao.Adagrad()
        ao.torch.load_state(opt, optimizer.state_dict(), params)
        sums = {array.shape: array for array in opt.get_weights()[1:]}
        assert np.array_equal(sums[2, 3], optimizer.state[net.weight]["sum"])
        assert np.array_equal(sums[2,], optimizer.state[net.bias]["sum"])


def test_groups_and_what_has_not_begun() -> None:
    """Settings in which groups differ stay; a parameter without state begins anew."""
    held = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.Adam([{"params": held[:1]}, {"params": held[1:], "lr": 0.5}], eps=0)
    held[0].grad = torch.ones(2)
    optimizer.step()
    opt = ao.Adam(lr=0.25)
    with pytest.warns(UserWarning, match="the parameter groups differ in lr, which is not loaded"):
        ao.torch.load_state(opt, optimizer.state_dict(), held)
    assert (opt.lr, opt.epsilon, opt.iterations) == (0.25, 0.0, 1)
    assert [float(x.sum()) for x in opt.get_weights()[1:3]] == pytest.approx([0.2, 0.0])


def test_16_bits() -> None:
    """bfloat16 state is widened here, and narrowed again by torch."""
    held = [torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))]
    optimizer = torch.optim.Adagrad(held)
    held[0].grad = torch.ones(2, dtype=torch.bfloat16)
    optimizer.step()
    opt = ao.Adagrad()
    ao.torch.load_state(opt, optimizer.state_dict(), held)
    assert opt.get_weights()[1].tolist() == [1.0, 1.0]
    optimizer.load_state_dict(ao.torch.export_state(opt, held))
    assert optimizer.state[held[0]]["sum"].dtype == torch.bfloat16


def trained(name: str, **given: Any) -> dict[str, Any]:
    """Return a state of torch."""
    held, optimizer = native(name, given, start())
    by_torch(held, optimizer, range(1))
    state: dict[str, Any] = optimizer.state_dict()
    return state


BAD: list[tuple[Callable[[], Any], Callable[[], Any], type[Exception], str]] = [
    (ao.Lion, lambda: trained("Adam"), TypeError, "lion.Lion, wanted one of arrayoptim: ASGD, "),
    (ao.Adam, lambda: trained("SGD", momentum=0.9), ValueError, "parameter groups without betas"),
    (ao.Adam, lambda: {"state": {}}, ValueError, "wanted a dict as from state_dict"),
    (ao.SGD, lambda: trained("SGD", maximize=True), ValueError, "maximize=True"),
    (ao.SGD, lambda: trained("SGD", momentum=0.9, lr=0.0), ValueError, "at lr=0"),
    (ao.Nadam, lambda: trained("Adam"), ValueError, "without momentum_decay"),
]


@pytest.mark.parametrize(("made", "state", "kind", "words"), BAD, ids=[row[3] for row in BAD])
def test_what_is_refused(made: Any, state: Any, kind: type[Exception], words: str) -> None:
    """It is said, with what was found, and nothing has changed."""
    opt = made()
    before = opt.get_config()
    with pytest.raises(kind, match=words):
        ao.torch.load_state(opt, state(), start())
    assert not opt.built
    assert opt.get_config() == before


def test_other_parameters() -> None:
    """Another number of parameters, or other shapes, is an error."""
    opt = ao.Adagrad()
    with pytest.raises(ValueError, match="the state of 2 parameters, wanted 1"):
        ao.torch.load_state(opt, trained("Adagrad"), start()[:1])
    with pytest.raises(ValueError, match=r"the state of torch: .*misshapen"):
        ao.torch.load_state(opt, trained("Adagrad"), start()[::-1])
    assert not opt.built
    with pytest.raises(ValueError, match="no state yet"):
        ao.torch.export_state(opt, start())
    opt = ao.SGD(clipnorm=1.0)
    opt.init(start())
    with pytest.raises(ValueError, match=r"torch's SGD has no counterpart for clipnorm=1.0"):
        ao.torch.export_state(opt, start())
