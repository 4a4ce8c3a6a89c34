"""L-BFGS as torch has it: arguments, numbers and state."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

import arrayoptim as ao

Closure = Callable[[], Any]
ROWS = {
    "lr": (1, 0.3, torch.tensor(0.5)),
    "max_iter": (20, 4),
    "max_eval": (None, 7),
    "history_size": (100, 3),
    "tolerance_change": (1e-9, 1e-4),
    "line_search_fn": (None, "strong_wolfe"),
}
PAIRS = [
    dict(zip(ROWS, row, strict=True))
    for i, row in enumerate(itertools.product(*ROWS.values()))
    if i % 7 == 0
]


def valley(kind: Any = torch.float64) -> tuple[list[Any], Closure]:
    """Return a matrix and a vector with the loss of Rosenbrock over both."""
    numbers = torch.tensor([-1.2, 1.0, 0.5, -0.7, 0.3, 0.1], dtype=kind)
    params = [
        torch.nn.Parameter(numbers[:4].reshape(2, 2).clone()),
        torch.nn.Parameter(numbers[4:].clone()),
    ]

    def loss() -> Any:
        x = torch.cat([p.reshape(-1) for p in params])
        return (10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum() * 0.1

    return params, loss


def regression(kind: Any = torch.float64) -> tuple[list[Any], Closure]:
    """Return the parameters of a small network with its loss."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)
    ).double()
    x = torch.randn(30, 3, dtype=torch.float64)
    y = torch.sin(x.sum(1, keepdim=True))
    model, x, y = model.to(kind), x.to(kind), y.to(kind)
    return list(model.parameters()), lambda: (model(x) - y).square().mean()


def closing(optimizer: Any, loss: Closure, seen: list[float] | None = None) -> Closure:
    """Return a closure for an optimizer, which notes the losses."""

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        if seen is not None:
            seen.append(float(value.detach()))
        return value

    return closure


def course(cls: Any, problem: Any, steps: int, **settings: Any) -> tuple[Any, list[float], Any]:
    """Return parameters, losses and state after some steps."""
    params, loss = problem()
    optimizer, seen = cls(params, **settings), list[float]()
    for _ in range(steps):
        optimizer.step(closing(optimizer, loss, seen))
    found = torch.cat([p.detach().reshape(-1) for p in params])
    return found, seen, optimizer.state_dict()


def alike(one: Any, other: Any) -> None:
    """Assert that states hold the same."""
    assert one["param_groups"] == other["param_groups"]
    mine, theirs = one["state"][0], other["state"][0]
    assert mine.keys() - {"al"} == theirs.keys() - {"al"}
    rows = {"old_dirs", "old_stps", "ro"}
    for key in rows:
        torch.testing.assert_close(mine[key], theirs[key], rtol=1e-9, atol=1e-12)
    for key in mine.keys() - {"al"} - rows:
        one, other = (torch.as_tensor(row[key]) for row in (mine, theirs))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, check_dtype=False)


def test_the_signature() -> None:
    """Torch's arguments, in its order, with its defaults."""
    ours, theirs = (inspect.signature(m.LBFGS).parameters for m in (ao.torch, torch.optim))
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]
    group, wanted = (m.LBFGS([torch.nn.Parameter(torch.ones(1))]) for m in (ao.torch, torch.optim))
    assert group.param_groups == wanted.param_groups and group.defaults == wanted.defaults


@pytest.mark.slow
@pytest.mark.parametrize("problem", [valley, regression])
@pytest.mark.parametrize("settings", PAIRS, ids=lambda row: "-".join(map(str, row.values())))
def test_a_hundred_steps(problem: Any, settings: dict[str, Any]) -> None:
    """Parameters, the losses that are asked for, and the state are torch's."""
    theirs, wanted, their_state = course(torch.optim.LBFGS, problem, 100, **settings)
    ours, found, state = course(ao.torch.LBFGS, problem, 100, **settings)
    assert len(found) == len(wanted)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    alike(state, their_state)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("problem", [valley, regression])
def test_the_trajectory(problem: Any, search: str | None) -> None:
    """Each loss that is asked for is torch's."""
    settings: dict[str, Any] = {"line_search_fn": search, "lr": 1 if search else 0.3}
    theirs, wanted, _ = course(torch.optim.LBFGS, problem, 5, max_iter=7, **settings)
    ours, found, _ = course(ao.torch.LBFGS, problem, 5, max_iter=7, **settings)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-15)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_complex_parameters() -> None:
    """They count as their real and imaginary parts."""

    def problem() -> Any:
        z = torch.nn.Parameter(torch.tensor([1 + 2j, -0.5 + 0.3j], dtype=torch.complex128))
        return [z], lambda: (z - (0.2 - 1j)).abs().square().sum() + z.real.cos().sum()

    theirs, wanted, _ = course(torch.optim.LBFGS, problem, 4, line_search_fn="strong_wolfe")
    ours, found, _ = course(ao.torch.LBFGS, problem, 4, line_search_fn="strong_wolfe")
    assert found == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("way", ["ours", "theirs", "from_torch", "to_torch", "pickle", "copy"])
def test_going_on(way: str, search: str | None) -> None:
    """State of either side goes on in the other, and one that was restored as if never stopped."""
    settings = {"max_iter": 4, "line_search_fn": search, "lr": 0.5}
    wanted, _, _ = course(torch.optim.LBFGS, regression, 8, **settings)
    params, loss = regression()
    begins, ends = ao.torch.LBFGS, ao.torch.LBFGS
    if way in ("theirs", "to_torch"):
        ends = torch.optim.LBFGS
    if way == "from_torch":
        begins = torch.optim.LBFGS
    first: Any = begins(params, **settings)
    for _ in range(4):
        first.step(closing(first, loss))
    second: Any
    if way in ("from_torch", "to_torch"):
        second = getattr(ao.torch, way)(first)
        assert type(second) is ends
    elif way == "copy":
        second = copy.deepcopy(first)
        params = second.param_groups[0]["params"]
        for p, old in zip(params, first.param_groups[0]["params"], strict=True):
            assert p is not old
        old_params = first.param_groups[0]["params"]
        second.param_groups[0]["params"] = old_params
        second.state[old_params[0]] = second.state.pop(params[0])
        params = old_params
    else:
        second = ends(params)
        state = first.state_dict()
        second.load_state_dict(pickle.loads(pickle.dumps(state)) if way == "pickle" else state)
    for _ in range(4):
        second.step(closing(second, loss))
    found = torch.cat([p.detach().reshape(-1) for p in params])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_parameters_without_gradients() -> None:
    """They stay; a sparse gradient counts as a dense one."""
    table = torch.nn.Embedding(4, 2, sparse=True).double()
    idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    before = table.weight.detach().clone()
    optimizer = ao.torch.LBFGS([idle, table.weight], line_search_fn="strong_wolfe")
    optimizer.step(closing(optimizer, lambda: (table(torch.tensor([1, 3])) - 2.0).square().sum()))
    assert torch.equal(idle, torch.ones(2, dtype=torch.float64))
    assert torch.equal(table.weight[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(
        table.weight[[1, 3]], torch.full((2, 2), 2.0, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_a_loss_that_is_not_everywhere() -> None:
    """A trial where the loss is no number is one that is too far."""
    x = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    optimizer = ao.torch.LBFGS([x], lr=1.0, line_search_fn="strong_wolfe")
    for _ in range(3):
        optimizer.step(closing(optimizer, lambda: (-x.log() + 30 * x).sum()))
    assert float(x.detach()[0]) == pytest.approx(1 / 30, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lr": -1.0}, ValueError, "Invalid learning rate"),
        ({"lr": torch.ones(2)}, ValueError, "1-element"),
        ({"lr": float("nan")}, ValueError, "LBFGS.lr"),
        ({"max_iter": 1.5}, TypeError, "max_iter must be an integer"),
        ({"history_size": 0}, ValueError, "history_size"),
        ({"line_search_fn": "armijo"}, RuntimeError, "only 'strong_wolfe' is supported"),
        ({"momentum": 0.9}, TypeError, "momentum"),
    ],
)
def test_settings_that_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """By the constructor, and in the group before a step."""
    (x, _), _ = valley()
    with pytest.raises(error, match=message):
        ao.torch.LBFGS([x], **settings)
    if "momentum" in settings:
        return
    optimizer = ao.torch.LBFGS([x])
    optimizer.param_groups[0].update(settings)
    with pytest.raises(error, match=message):
        optimizer.step(lambda: 0.0)
    assert not optimizer.state


@pytest.mark.parametrize("name", ["tolerance_grad", "tolerance_change"])
@pytest.mark.parametrize("bound", [float("inf"), -float("inf")])
def test_infinite_tolerances(name: str, bound: float) -> None:
    """A step may always be the last, or never."""
    found = []
    for module in (torch.optim, ao.torch):
        params, loss = valley()
        optimizer = module.LBFGS(params, lr=0.1, max_iter=5, **{name: bound})

        def closure(params: Any = params, loss: Any = loss, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        found.append([p.detach() for p in params])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_one_group_and_a_closure() -> None:
    """All parameters are in one group, as in torch, and a step evaluates the loss."""
    params, _ = valley()
    with pytest.raises(ValueError, match="doesn't support per-parameter options"):
        ao.torch.LBFGS([{"params": [p]} for p in params])
    optimizer = ao.torch.LBFGS(params[:1])
    with pytest.raises(ValueError, match="doesn't support per-parameter options"):
        optimizer.add_param_group({"params": params[1:]})
    with pytest.raises(TypeError, match="closure"):
        optimizer.step()
    with pytest.raises(TypeError, match="found closure=None"):
        optimizer.step(None)
    assert optimizer.step(lambda: torch.tensor(2.0)) == 2.0


def test_schedulers_and_hooks() -> None:
    """What torch offers around an optimizer takes it for one of its own."""
    params, loss = valley()
    optimizer = ao.torch.LBFGS(params, lr=0.5, max_iter=2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    seen = list[str]()
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    for _ in range(2):
        optimizer.step(closing(optimizer, loss))
        scheduler.step()
    assert seen == ["before", "after"] * 2
    assert optimizer.param_groups[0]["lr"] == 0.125
