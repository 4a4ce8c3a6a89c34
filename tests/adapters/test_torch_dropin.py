"""The classes of torch under their own names: arguments, groups and numbers are torch's."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import arrayoptim as ao

DOUBLE = torch.float64
OTHER = {"LBFGS", "Optimizer"}
"""What torch.optim has besides."""
CLASSES = sorted(
    name for name, cls in vars(torch.optim).items() if isinstance(cls, type) and name not in OTHER
)

CHOICES: dict[str, dict[str, list[Any]]] = {
    "SGD": {"momentum": [0.9], "dampening": [0.3], "nesterov": [True]},
    "RMSprop": {"alpha": [0.9], "momentum": [0.8], "centered": [True]},
    "Adagrad": {"lr_decay": [0.05], "initial_accumulator_value": [0.1]},
    "Adadelta": {"rho": [0.8]},
    "Adam": {"amsgrad": [True], "decoupled_weight_decay": [True]},
    "AdamW": {"amsgrad": [True]},
    "Adamax": {},
    "NAdam": {"momentum_decay": [0.02], "decoupled_weight_decay": [True]},
    "RAdam": {"decoupled_weight_decay": [True]},
    "ASGD": {"lambd": [0.1], "alpha": [0.6], "t0": [20.0]},
    "Rprop": {"etas": [(0.4, 1.5)], "step_sizes": [(1e-3, 0.5)]},
    "Adafactor": {"beta2_decay": [-0.5], "d": [2.0], "eps": [(1e-2, 0.1)]},
}
"""What each class has besides the options that most have: each is tried with all others."""


def combinations(name: str) -> Iterator[dict[str, Any]]:
    """Return settings that reach all combinations of the options of a class."""
    parameters = inspect.signature(getattr(torch.optim, name)).parameters
    every = {"lr": [torch.tensor(0.02)], "eps": [1e-3], **CHOICES[name]}
    every |= {"weight_decay": [0.1]} if "weight_decay" in parameters else {}
    every |= {"maximize": [True]}
    rows = [[None, *values] for key, values in every.items() if key in parameters]
    keys = [key for key in every if key in parameters]
    for row in itertools.product(*rows):
        yield {key: value for key, value in zip(keys, row, strict=True) if value is not None}


def start(kind: Any) -> list[torch.nn.Parameter]:
    """Return the same parameters each time."""
    torch.manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, dtype=kind)) for shape in ((2, 3), (3,))]


@cache
def noise(kind: Any, steps: int) -> list[list[torch.Tensor]]:
    """Return the parts of gradients that do not depend on the parameters."""
    torch.manual_seed(11)
    return [[torch.randn_like(p) * 10 ** (t % 4 - 2) for p in start(kind)] for t in range(steps)]


def course(optimizer: Any, params: list[torch.nn.Parameter], steps: int) -> None:
    """Take steps whose gradients depend on step and parameters; the rate is halved midway."""
    for step, row in enumerate(noise(params[0].dtype, steps)):
        for p, x in zip(params, row[: len(params)], strict=True):
            p.grad = 0.1 * p.detach() + x
        if step == steps // 2:
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] * 0.5
        optimizer.step()


@pytest.fixture
def _double() -> Iterator[None]:
    """Let torch keep its numbers in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(before)


def test_each_class_is_here() -> None:
    """A class that a new torch has is missed."""
    assert set(CLASSES) <= set(ao.torch.names()) <= set(dir(ao.torch))
    assert set(CHOICES) | {"Muon", "SparseAdam"} == set(CLASSES)
    assert ao.torch.Nadam is ao.torch.NAdam and ao.torch.NAdam.__name__ == "NAdam"


@pytest.mark.parametrize("name", CLASSES)
def test_signatures(name: str) -> None:
    """Torch's arguments come first, with its defaults; ours are by keyword."""
    ours = list(inspect.signature(getattr(ao.torch, name)).parameters.values())
    theirs = list(inspect.signature(getattr(torch.optim, name)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in ours[: len(theirs)]] == [
        (p.name, p.kind, p.default) for p in theirs
    ]
    assert {p.kind for p in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", CLASSES)
def test_groups(name: str) -> None:
    """They hold torch's keys with torch's values, and what is given by position."""
    ours, theirs = (getattr(module, name)(start(DOUBLE)[:1]) for module in (ao.torch, torch.optim))
    found, wanted = ours.param_groups[0], theirs.param_groups[0]
    assert {k: found[k] for k in wanted if k != "params"} == {
        k: v for k, v in wanted.items() if k != "params"
    }
    assert [type(found[k]) for k in wanted] == [type(v) for v in wanted.values()]
    defaults = inspect.signature(getattr(torch.optim, name)).parameters.values()
    places = [p.default for p in defaults if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    placed = getattr(ao.torch, name)(start(DOUBLE)[:1], *places).param_groups[0]
    assert {k: v for k, v in placed.items() if k != "params"} == {
        k: v for k, v in found.items() if k != "params"
    }


@pytest.mark.slow
@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("kind", [DOUBLE, torch.complex128], ids=str)
def test_every_combination_of_options(name: str, kind: Any) -> None:
    """A hundred steps end where torch's do, and what torch refuses is refused as well."""
    if name == "Adafactor" and kind.is_complex:
        return  # which torch refuses in a step, and this library takes
    for settings in combinations(name):
        pair = []
        for module in (torch.optim, ao.torch):
            params = start(kind)
            try:
                optimizer = getattr(module, name)(params, **settings)
                course(optimizer, params, 100)
            except (ValueError, RuntimeError) as error:
                pair.append((type(error), str(error)))
            else:
                pair.append((params, optimizer))
        (theirs, one), (ours, other) = pair
        if isinstance(theirs, type):
            assert ours is theirs and one in other, (settings, one, other)
            continue
        assert isinstance(ours, list), (settings, other)
        for p, q in zip(theirs, ours, strict=True):
            assert torch.allclose(q, p, rtol=1e-12, atol=1e-12), (settings, p, q)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", CHOICES)
def test_all_options_at_once(name: str) -> None:
    """With everything that a class has, twenty steps end where torch's do."""
    settings = list(combinations(name))[-1]
    nesterov = {"dampening": 0} if "nesterov" in settings else {}
    pair = []
    for module in (torch.optim, ao.torch):
        params = start(DOUBLE)
        course(getattr(module, name)(params, **{**settings, **nesterov}), params, 20)
        pair.append(params)
    for p, q in zip(*pair, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("NAdam", {}),
        ("NAdam", {"momentum_decay": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.1}),
        ("ASGD", {}),
        ("ASGD", {"t0": 5, "lambd": 0.01, "alpha": 0.6}),
        ("ASGD", {"t0": -5.0}),
    ],
    ids=str,
)
@pytest.mark.parametrize("kept", [torch.float32, DOUBLE], ids=str)
def test_numbers_that_torch_rounds(name: str, settings: dict[str, Any], kept: Any) -> None:
    """Those of its state are of its default dtype, whatever the parameters are of."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(kept)
    pair = []
    try:
        for module in (torch.optim, ao.torch):
            params = start(DOUBLE)
            course(getattr(module, name)(params, **settings), params, 100)
            pair.append(params)
    finally:
        torch.set_default_dtype(before)
    for p, q in zip(*pair, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "words", [{"foreach": True}, {"fused": True}, {"capturable": True}], ids=str
)
def test_words_of_how_a_step_is_carried_out(words: dict[str, Any]) -> None:
    """They stand in the group and change nothing."""
    pair = []
    for given in ({}, words):
        params = start(DOUBLE)
        optimizer = ao.torch.Adam(params, **given)
        course(optimizer, params, 3)
        assert given.items() <= optimizer.param_groups[0].items()
        pair.append(params)
    for p, q in zip(*pair, strict=True):
        assert torch.equal(p, q)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", CHOICES)
def test_each_parameter_counts_for_itself(name: str) -> None:
    """Those that begin later, and pause now and then, step as in torch, and so do their counts."""
    momentum = {"momentum": 0.9, "dampening": 0.5} if name == "SGD" else {}
    pair = []
    for module in (torch.optim, ao.torch):
        torch.manual_seed(5)
        params = [torch.nn.Parameter(torch.randn(3)) for _ in range(4)]
        optimizer = getattr(module, name)(params, lr=0.02, **momentum)
        for step in range(24):
            for i, p in enumerate(params):
                there = step >= 4 * i and (step + i) % 5
                p.grad = torch.cos(p.detach() * 7 + step) if there else None
            optimizer.step()
        pair.append((params, [*optimizer.state_dict()["state"].values()]))
    (theirs, wanted), (ours, found) = pair
    for p, q, entry, own in zip(theirs, ours, wanted, found, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-12, atol=1e-12)
        for key, x in entry.items():
            torch.testing.assert_close(own[key], x, rtol=1e-12, atol=1e-12, check_dtype=False)


def test_equal_counts_are_one() -> None:
    """Parameters that have stepped equally often share their numbers again."""
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = ao.torch.Adam(params)
    for present in ((1, 0), (0, 1), (1, 1)):
        for p, there in zip(params, present, strict=True):
            p.grad = torch.ones(2) if there else None
        optimizer.step()
    one, other = (optimizer.state[p] for p in params)
    assert one["step"] is other["step"] and one["step"] == 2
    assert torch.equal(*params)
    one["step"] = torch.tensor(7.0)
    optimizer.step()
    assert (one["step"], other["step"]) == (8, 3)


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam"])
def test_a_parameter_given_twice(name: str) -> None:
    """Torch warns, and steps it twice; the numbers are torch's."""
    pair = []
    for module in (torch.optim, ao.torch):
        w, other = start(DOUBLE)
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = getattr(module, name)([w, other, w], lr=0.1)
        for _ in range(3):
            for p in (w, other):
                p.grad = torch.cos(p.detach())
            optimizer.step()
        pair.append((w, other))
    for p, q in zip(*pair, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-6)


def embedding(name: str, module: Any, **settings: Any) -> list[torch.Tensor]:
    """Return a table after steps whose gradients have some of its rows only."""
    torch.manual_seed(2)
    table = torch.nn.Embedding(6, 3, sparse=True, dtype=DOUBLE)
    optimizer = getattr(module, name)(table.parameters(), lr=0.1, **settings)
    for step in range(5):
        optimizer.zero_grad()
        rows = torch.tensor([step % 3, 4, step % 3])
        (table(rows).square().sum() + (step + 1) * table(rows).sum()).backward()
        with torch.sparse.check_sparse_tensor_invariants():  # or torch's own Adagrad warns
            optimizer.step()
    kept = optimizer.state[table.weight]
    return [table.weight, *(kept[key] for key in ("exp_avg", "sum") if key in kept)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SparseAdam", {}),
        ("SparseAdam", {"maximize": True, "betas": (0.8, 0.9)}),
        ("SGD", {}),
        ("SGD", {"momentum": 0.9}),
        ("Adagrad", {"lr_decay": 0.1, "maximize": True}),
    ],
    ids=str,
)
def test_sparse_gradients(name: str, settings: dict[str, Any]) -> None:
    """The classes of torch that take them are here those that do, with the same numbers."""
    wanted, found = (embedding(name, m, **settings) for m in (torch.optim, ao.torch))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_sparse_gradients_by_other_classes(name: str) -> None:
    """They are taken where a group says how, with norms over all groups; `state_dict` says it."""
    found = {}
    for mode in ("lazy", "exact", "dense"):
        torch.manual_seed(2)
        table = torch.nn.Embedding(6, 3, sparse=mode != "dense", dtype=DOUBLE)
        head = torch.nn.Parameter(torch.ones(3, dtype=DOUBLE))
        before = table.weight.detach().clone()
        groups = [{"params": [table.weight]}, {"params": [head]}]
        settings = {} if mode == "dense" else {"sparse": mode}
        momentum = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(ao.torch, name)(groups, lr=0.1, clipnorm=0.5, **settings, **momentum)
        for step in range(5):
            optimizer.zero_grad()
            (table(torch.tensor([step % 3, 4, step % 3])) @ head).square().sum().backward()
            optimizer.step()
            if step == 2:
                again = getattr(ao.torch, name)(groups, lr=0.1)
                again.load_state_dict(optimizer.state_dict())
                optimizer = again
        assert optimizer.param_groups[0]["sparse"] == settings.get("sparse")
        found[mode] = table.weight.detach(), head.detach()
        assert (table.weight[5] == before[5]).all()
    for a, b in zip(found["exact"], found["dense"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert (found["lazy"][0] != found["exact"][0]).any()


def test_gradients_of_another_layout() -> None:
    """They are refused, with the class that takes them."""
    dense = torch.nn.Parameter(torch.ones(3))
    dense.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"does not support dense gradients, .* Adam"):
        ao.torch.SparseAdam([dense]).step()
    with pytest.raises(ValueError, match="requires dense parameter"):
        ao.torch.SparseAdam([torch.zeros(3, layout=torch.sparse_coo)])
    for name, settings in (("Adam", {}), ("Adagrad", {"weight_decay": 0.1})):
        with pytest.raises(RuntimeError, match="sparse gradients"):
            embedding(name, ao.torch, **settings)


def shapes_of_a_state(name: str, place: Any, **settings: Any) -> list[dict[str, Any]]:
    """Return the shapes of a state after steps, a load and another step."""
    with place:
        shapes = [(2, 3), (3, 4)] if name == "Muon" else [(2, 3), (3,), (4, 2, 3), ()]
        params = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
        optimizer = getattr(ao.torch, name)(params, lr=0.1, **settings)
        for step in range(3):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()
            if step == 1 and not settings:
                optimizer.load_state_dict(optimizer.state_dict())
        entries = [optimizer.state[p] for p in params]
        assert all(
            x.device == p.device for p in params for x in optimizer.state[p].values() if x.ndim
        )
        return [{key: x.shape for key, x in entry.items()} for entry in entries]


@pytest.mark.parametrize("name", [n for n in ao.torch.names() if n not in ("DoG", "SparseAdam")])
def test_tensors_without_values(name: str) -> None:
    """Models on the meta device, and of fake tensors, are stepped as shapes."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    wanted = shapes_of_a_state(name, torch.device("cpu"))
    for place in (torch.device("meta"), FakeTensorMode()):
        assert shapes_of_a_state(name, place) == wanted


@pytest.mark.parametrize(
    "settings",
    [{"clipnorm": 1.0}, {"clipnorm_per_tensor": 1.0}, {"agc": 0.1}, {"nonfinite": "raise"}],
    ids=str,
)
def test_norms_of_tensors_without_values(settings: dict[str, Any]) -> None:
    """They are unknown, and a step goes on."""
    for name in ("Adam", "LAMB", "DoG", "Lion"):
        wanted = shapes_of_a_state(name, torch.device("cpu"), **settings)
        assert shapes_of_a_state(name, torch.device("meta"), **settings) == wanted


def test_compiled_step() -> None:
    """The compiler leaves a step alone."""
    import torch._dynamo.testing

    layer = torch.nn.Linear(2, 2)
    optimizer = ao.torch.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    graphs = torch._dynamo.testing.CompileCounter()
    step = torch.compile(optimizer.step, backend=graphs)
    for _ in range(2):
        layer(torch.ones(1, 2)).sum().backward()
        step()
    assert graphs.frame_count == 0
    assert optimizer.state[layer.bias]["step"] == 2


def test_default_device() -> None:
    """Counts are numbers of the host, whatever device new tensors come to."""
    params = start(DOUBLE)
    for p in params:
        p.grad = torch.ones_like(p)
    with torch.device("meta"):
        optimizer = ao.torch.Adam(params)
        for _ in range(2):
            optimizer.step()
    assert optimizer.state[params[0]]["step"] == 2


@pytest.mark.parametrize("preset", ["torch", None])
def test_adafactor_changes_over(preset: str | None) -> None:
    """Its state goes over from torch and back, whichever formula goes on."""
    params = start(DOUBLE)
    native = torch.optim.Adafactor(params, lr=0.1)
    course(native, params, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = ao.torch.to_torch(ao.torch.from_torch(native, preset=preset))
    for p in params:
        assert all(torch.equal(back.state[p][key], x) for key, x in native.state[p].items())


def test_state_of_others_and_resets() -> None:
    """What wrappers keep in the state is saved and loaded; `reset` forgets all."""
    pair = [start(DOUBLE), start(DOUBLE)]
    optimizer, again = (ao.torch.SGD(params, lr=0.1, momentum=0.9) for params in pair)
    course(optimizer, pair[0], 2)
    optimizer.state[pair[0][0]]["slow"] = torch.ones(2, 3, dtype=DOUBLE)
    again.load_state_dict(optimizer.state_dict())
    course(again, pair[1], 1)
    assert torch.equal(again.state[pair[1][0]]["slow"], torch.ones(2, 3, dtype=DOUBLE))
    again.reset()
    assert not again.state
    course(again, pair[1], 1)
    assert again.state[pair[1][0]]["step"] == 1


def test_state_dicts_of_torch() -> None:
    """They are loaded as they are, and the training goes on exactly."""
    for name in CHOICES:
        pair = [start(DOUBLE), start(DOUBLE)]
        native = getattr(torch.optim, name)(pair[0], lr=0.05)
        course(native, pair[0], 3)
        ours = getattr(ao.torch, name)(pair[1])
        with torch.no_grad():
            for p, q in zip(*pair, strict=True):
                q.copy_(p)
        ours.load_state_dict(native.state_dict())
        course(native, pair[0], 3)
        course(ours, pair[1], 3)
        for p, q in zip(*pair, strict=True):
            torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-6)


def test_shared_memory_and_betas() -> None:
    """Words of torch's Adagrad and of the authors' schedule-free optimizer."""
    params = start(DOUBLE)
    optimizer = ao.torch.Adagrad(params)
    optimizer.share_memory()
    assert all(optimizer.state[p]["sum"].is_shared() for p in params)
    course(optimizer, params, 1)
    assert all(optimizer.state[p]["sum"].is_shared() for p in params)
    group = ao.torch.ScheduleFreeAdamW(params, betas=(0.8, 0.9)).param_groups[0]
    assert (group["betas"], "momentum" in group) == ((0.8, 0.9), False)


@pytest.mark.parametrize(
    "settings",
    [{}, {"adjust_lr_fn": "match_rms_adamw"}, {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3}],
    ids=str,
)
def test_muon(settings: dict[str, Any]) -> None:
    """Torch's words are taken, and its numbers come out, in bfloat16 as they are there."""
    for shape in ((3, 4), (40, 7), (33, 64)):
        pair = []
        for module in (torch.optim, ao.torch):
            torch.manual_seed(1)
            params = [torch.nn.Parameter(torch.randn(shape, dtype=DOUBLE))]
            optimizer = module.Muon(params, lr=0.1, **settings)
            for _ in range(50):
                params[0].grad = 0.1 * params[0].detach() + torch.randn(shape, dtype=DOUBLE)
                optimizer.step()
            pair.append(params[0])
            assert settings.items() <= optimizer.param_groups[0].items()
        torch.testing.assert_close(*pair, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="Adjust learning rate function arbitrary"):
        ao.torch.Muon(params, adjust_lr_fn="arbitrary")


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop"])
def test_flags_that_are_none(name: str) -> None:
    """Torch asks of a flag only whether it is true; None in a group is as good as False."""
    theirs = getattr(torch.optim, name)
    some = theirs([torch.ones(2, requires_grad=True)]).param_groups[0]
    flags = [k for k, v in some.items() if v is False]
    assert "maximize" in flags
    found = []
    for made in (theirs, getattr(ao.torch, name)):
        p = torch.ones(2, dtype=DOUBLE, requires_grad=True)
        optimizer = made([{"params": [p], **dict.fromkeys(flags)}], lr=0.1)
        for step in range(3):
            p.grad = torch.full_like(p, 0.5 + step)
            optimizer.step()
        found.append(p.detach())
    torch.testing.assert_close(*found, rtol=1e-8, atol=0)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"maximize": 1}),
        ("SGD", {"momentum": 0.5, "nesterov": 1}),
        ("Adam", {"amsgrad": 1, "maximize": np.bool_(True)}),
        ("RMSprop", {"centered": 1}),
        ("NAdam", {"decoupled_weight_decay": 1, "weight_decay": 0.1}),
    ],
    ids=str,
)
def test_flags_that_are_numbers(name: str, settings: dict[str, Any]) -> None:
    """1 is as good as True; what is neither is refused."""
    found = []
    for made in (getattr(torch.optim, name), getattr(ao.torch, name)):
        p = torch.ones(2, dtype=DOUBLE, requires_grad=True)
        optimizer = made([p], lr=0.1, **settings)
        for step in range(3):
            p.grad = torch.full_like(p, 0.5 + step)
            optimizer.step()
        found.append(p.detach())
        assert settings.items() <= optimizer.param_groups[0].items()
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
    flag = max(settings, key=lambda key: settings[key] == 1)
    for wrong in (2, 0.5, "yes"):
        with pytest.raises(TypeError, match="must be True or False"):
            getattr(ao.torch, name)([p], **{**settings, flag: wrong})


def test_fused_without_values() -> None:
    """Parameters on meta are stepped, but not where a fused kernel is asked for, as in torch."""
    for module in (torch.optim, ao.torch):
        p = torch.nn.Parameter(torch.empty(2, device="meta"))
        optimizer = module.Adam([p], fused=True)
        p.grad = torch.empty_like(p)
        with pytest.raises(RuntimeError, match="`fused=True` requires all the params"):
            optimizer.step()
        p.grad = None
        optimizer.step()


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Rprop"])
def test_state_dict_into_torch(name: str) -> None:
    """What is saved here goes on in torch's own class: no parameter counts for another one too."""
    held = []
    for own in (True, False):
        params = [torch.ones(n, dtype=DOUBLE, requires_grad=True) for n in (2, 3, 4)]
        optimizer = getattr(ao.torch if own else torch.optim, name)(params, lr=0.1)
        for step in range(3):
            stepped(params, optimizer, step)
        held.append((params, optimizer))
    (params, ours), (reference, native) = held
    again = getattr(torch.optim, name)(params, lr=0.1)
    again.load_state_dict(ours.state_dict())
    tensors = [x for entry in ours.state_dict()["state"].values() for x in entry.values()]
    assert len({id(x) for x in tensors}) == len(tensors)
    for step in range(3, 6):
        stepped(params, again, step)
        stepped(reference, native, step)
    torch.testing.assert_close(params, reference, rtol=1e-8, atol=0)


def stepped(params: list[torch.Tensor], optimizer: Any, step: int) -> None:
    """Take a step with gradients that depend on its number only."""
    for p in params:
        p.grad = torch.linspace(-1.0, 1.0, len(p), dtype=DOUBLE) + 0.1 * step
    optimizer.step()


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", sorted({*CHOICES, "Muon"}))
@pytest.mark.parametrize("way", ["ours", "theirs"])
def test_state_dicts_go_both_ways(name: str, way: str) -> None:
    """Torch's class goes on from a state of ours, and ours from one of torch's."""
    modules = (ao.torch, torch.optim) if way == "ours" else (torch.optim, ao.torch)
    settings = {"t0": 1.0} if name == "ASGD" else {}
    wanted, found = start(DOUBLE)[:1], start(DOUBLE)[:1]
    optimizer = getattr(torch.optim, name)(wanted, **settings)
    for row in noise(DOUBLE, 4):
        wanted[0].grad = row[0]
        optimizer.step()
    first = getattr(modules[0], name)(found, **settings)
    for row in noise(DOUBLE, 4)[:2]:
        found[0].grad = row[0]
        first.step()
    second = getattr(modules[1], name)(found)
    second.load_state_dict(first.state_dict())
    for row in noise(DOUBLE, 4)[2:]:
        found[0].grad = row[0]
        second.step()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


WIDE: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 1.2}),
    ("SGD", {"momentum": 1.0, "nesterov": True}),
    ("SGD", {"momentum": 0.5, "dampening": 1.5}),
    ("RMSprop", {"momentum": 1.1}),
    ("RMSprop", {"alpha": 1.0}),
    ("Adadelta", {"rho": 1.0}),
    ("ASGD", {"lambd": -0.1, "alpha": -0.5, "t0": -3.0}),
    ("Rprop", {"step_sizes": (0.0, float("inf"))}),
]


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(("name", "settings"), WIDE)
def test_all_that_torch_takes(name: str, settings: dict[str, Any]) -> None:
    """Values that only torch's formula allows are taken, and computed with."""
    pair = []
    for module in (torch.optim, ao.torch):
        params = start(DOUBLE)
        course(getattr(module, name)(params, **settings), params, 10)
        pair.append(params)
    torch.testing.assert_close(*pair, rtol=1e-11, atol=1e-12, equal_nan=True)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SGD", "RMSprop"])
def test_a_scheduler_writes_the_momentum(name: str) -> None:
    """It may be above 1, which a constructor refuses of betas and a step does not."""
    pair = []
    for module in (torch.optim, ao.torch):
        params = start(DOUBLE)
        settings = {"momentum": 0.5} if name in ("SGD", "RMSprop") else {}
        optimizer = getattr(module, name)(params, **settings)
        scheduler = torch.optim.lr_scheduler.CyclicLR(
            optimizer, 0.01, 0.02, step_size_up=2, base_momentum=0.8, max_momentum=1.3
        )
        for row in noise(DOUBLE, 4):
            for p, g in zip(params, row, strict=True):
                p.grad = g
            optimizer.step()
            scheduler.step()
        pair.append(params)
    torch.testing.assert_close(*pair, rtol=1e-11, atol=1e-12)
    if name.startswith("A"):
        with pytest.raises(ValueError, match=r"beta"):
            getattr(ao.torch, name)(start(DOUBLE), betas=(1.0, 0.9))
