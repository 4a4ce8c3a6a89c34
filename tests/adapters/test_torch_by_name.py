"""State dicts of models that have changed since: parameters are matched by name."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

import arrayoptim as ao
from torch_models import through_a_file

WIDTH = 4


def network(names: str) -> Any:
    """Return layers of one shape, whose weights depend on their names only."""
    layers = OrderedDict()
    for name in names:
        torch.manual_seed(ord(name))
        layers[name] = torch.nn.Linear(WIDTH, WIDTH)
    return torch.nn.Sequential(layers)


def feed(net: Any, step: int) -> None:
    """Give each parameter a gradient that depends on its name and the step only."""
    for name, p in net.named_parameters():
        if p.requires_grad:
            rng = np.random.default_rng([step, *name.encode()])
            p.grad = torch.from_numpy(rng.normal(size=p.shape).astype(np.float32))


def trained(net: Any, optimizer: Any, steps: range) -> Any:
    """Take steps, and return the optimizer."""
    for step in steps:
        feed(net, step)
        optimizer.step()
    return optimizer


def entries(net: Any, optimizer: Any) -> dict[str, dict[str, Any]]:
    """Return parameters and their state, by name."""
    return {
        name: {"value": p.detach(), **optimizer.state.get(p, {})}
        for name, p in net.named_parameters()
    }


def require_same(found: dict[str, Any], wanted: dict[str, Any], letters: str) -> None:
    """Require the same of all parameters of some layers, to the last bit."""
    names = [name for name in wanted if name[0] in letters]
    assert names
    for name in names:
        assert found[name].keys() == wanted[name].keys()
        for key, x in wanted[name].items():
            assert torch.equal(found[name][key], x), (name, key)


def unfrozen(net: Any) -> list[tuple[str, Any]]:
    """Return the parameters that are trained, by name."""
    return [(name, p) for name, p in net.named_parameters() if p.requires_grad]


THEIRS = ("AdamW", "SGD", "RMSprop", "NAdam")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        *((name, torch.optim) for name in THEIRS),
        *((name, ao.torch) for name in (*THEIRS, "Lion", "Adafactor")),
    ],
)
def test_a_layer_added_one_frozen_and_two_swapped(name: str, module: Any) -> None:
    """What the model still trains goes on as if nothing had happened; the rest is listed."""
    maker = getattr(module, name)
    extra = {"momentum": 0.9} if name == "SGD" else {}
    old = network("abcd")
    trained(old, before := maker(old.named_parameters(), lr=0.01, **extra), range(5))
    saved = through_a_file(before.state_dict())
    new = network("abdce")
    new.load_state_dict(old.state_dict(), strict=False)
    for p in new.a.parameters():
        p.requires_grad_(False)
    after = getattr(ao.torch, name)(unfrozen(new), lr=0.5, **extra)
    report = after.load_state_dict(saved, strict=False)
    assert report.restored == [f"{x}.{y}" for x in "bdc" for y in ("weight", "bias")]
    assert report.missing == ["e.weight", "e.bias"]
    assert report.unexpected == ["a.weight", "a.bias"]
    assert report.misshapen == []
    assert "group 0: lr: 0.01 from the state, was 0.5" in report.changed
    whole = network("abcd")
    whole.load_state_dict(old.state_dict())
    reference = getattr(ao.torch, name)(whole.named_parameters(), lr=0.5, **extra)
    reference.load_state_dict(saved)
    trained(whole, reference, range(5, 9))
    trained(new, after, range(5, 9))
    require_same(entries(new, after), entries(whole, reference), "bcd")
    assert torch.equal(new.a.weight, old.a.weight)
    # The new layer began with its own first step.
    fresh = network("e")
    begun = trained(
        fresh, getattr(ao.torch, name)(fresh.named_parameters(), lr=0.01, **extra), range(5, 9)
    )
    require_same(entries(new, after), entries(fresh, begun), "e")


def test_differences_are_errors_unless_said_otherwise() -> None:
    """By default all that differs is listed, and nothing has changed."""
    old = network("ab")
    saved = trained(old, ao.torch.Adam(old.named_parameters()), range(2)).state_dict()
    new = network("bc")
    optimizer = trained(new, ao.torch.Adam(new.named_parameters(), lr=0.3), range(1))
    before = entries(new, optimizer)
    said = "missing: c.weight, c.bias; unexpected: a.weight, a.bias. strict=False"
    with pytest.raises(ValueError, match=re.escape(said)):
        optimizer.load_state_dict(saved)
    require_same(entries(new, optimizer), before, "bc")
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_another_order_is_no_difference() -> None:
    """The order of parameters and groups is free where names are known."""
    old = network("abc")
    groups = [
        {"params": list(old.a.named_parameters("a")), "lr": 0.1},
        {"params": list(old.b.named_parameters("b")) + list(old.c.named_parameters("c"))},
    ]
    before = trained(old, ao.torch.Adam(groups, lr=0.2), range(3))
    new = network("abc")
    new.load_state_dict(old.state_dict())
    groups = [
        {"params": list(new.c.named_parameters("c"))},
        {"params": list(new.b.named_parameters("b"))},
        {"params": list(new.a.named_parameters("a"))},
    ]
    after = ao.torch.Adam(groups, lr=0.7)
    report = after.load_state_dict(before.state_dict())
    assert [group["lr"] for group in after.param_groups] == [0.2, 0.2, 0.1]
    assert report.missing == report.unexpected == []
    trained(new, after, range(3, 5))
    trained(old, before, range(3, 5))
    require_same(entries(new, after), entries(old, before), "abc")


def test_groups_that_were_saved_apart() -> None:
    """One group can't have the settings of two."""
    old, new = network("ab"), network("ab")
    groups = [{"params": list(old.a.named_parameters("a")), "lr": 0.1}]
    groups += [{"params": list(old.b.named_parameters("b")), "lr": 0.2}]
    saved = trained(old, ao.torch.Adam(groups, eps=0.5), range(1)).state_dict()
    optimizer = ao.torch.Adam(new.named_parameters(), lr=0.7)
    with pytest.raises(ValueError, match="saved groups 0, 1, which differ in lr; put them into"):
        optimizer.load_state_dict(saved)
    report = optimizer.load_state_dict(saved, strict=False)
    assert any("differ in lr; these were not loaded" in note for note in report.notes)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["eps"]) == (0.7, 0.5)
    kept = ao.torch.Adam(network("ab").named_parameters(), lr=0.7)
    kept.load_state_dict(saved, hyperparameters=False)
    assert (kept.param_groups[0]["lr"], kept.param_groups[0]["eps"]) == (0.7, 1e-8)


def test_another_shape() -> None:
    """A parameter of another shape begins anew, and is listed."""
    old, new = network("ab"), network("ab")
    saved = trained(old, ao.torch.Adam(old.named_parameters()), range(2)).state_dict()
    new.b = torch.nn.Linear(WIDTH, 7)
    optimizer = ao.torch.Adam(new.named_parameters())
    with pytest.raises(ValueError, match="does not fit"):
        optimizer.load_state_dict(saved)
    report = optimizer.load_state_dict(saved, strict=False)
    assert report.restored == ["a.weight", "a.bias"]
    assert [said.split()[0] for said in report.misshapen] == ["b.weight", "b.bias"]
    assert "wanted (7, 4)" in report.misshapen[0]
    trained(new, optimizer, range(1))
    assert int(optimizer.state[new.b.weight]["step"]) == 1
    assert int(optimizer.state[new.a.weight]["step"]) == 3


def test_without_names_others_are_refused() -> None:
    """By their order only the same parameters can be meant; both sides are named."""
    old, new = network("ab"), network("abc")
    saved = trained(old, torch.optim.Adam(old.parameters()), range(1)).state_dict()
    said = r"found groups of 4 parameters \(0 \[4, 4\].*wanted 6 \(a.weight \[4, 4\].*names="
    for strict in (True, False):
        with pytest.raises(ValueError, match=said):
            ao.torch.Adam(new.named_parameters()).load_state_dict(saved, strict=strict)
    named = trained(old, torch.optim.Adam(old.named_parameters()), range(1)).state_dict()
    with pytest.raises(ValueError, match=r"\(a\.weight.*model\.named_parameters"):
        ao.torch.Adam(new.parameters()).load_state_dict(named)


def test_names_given() -> None:
    """A state without names gets them; names of another model are translated."""
    old, new = network("ab"), network("bca")
    unnamed = trained(old, torch.optim.Adam(old.parameters()), range(2)).state_dict()
    optimizer = ao.torch.Adam(new.named_parameters())
    names = [name for name, _ in old.named_parameters()]
    report = optimizer.load_state_dict(unnamed, strict=False, names=names)
    assert report.missing == ["c.weight", "c.bias"]
    first = next(iter(unnamed["state"].values()))["exp_avg"]
    assert torch.equal(optimizer.state[new.a.weight]["exp_avg"], first)
    wrapped = [(f"module.{name}", p) for name, p in old.named_parameters()]
    saved = trained(old, ao.torch.Adam(wrapped), range(2)).state_dict()
    same = ao.torch.Adam(old.named_parameters())
    with pytest.raises(ValueError, match=r"names=lambda n: n.removeprefix\('module.'\)"):
        same.load_state_dict(saved)
    assert not same.load_state_dict(saved, names=lambda n: n.removeprefix("module.")).missing
    into = {name: f"module.{name}" for name, _ in old.named_parameters()}
    assert not ao.torch.Adam(wrapped).load_state_dict(same.state_dict(), names=into).missing


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (["a"], ValueError, "found 1, wanted 4"),
        ("a", TypeError, "names: found 'a'"),
        (3, TypeError, "names: found 3"),
        ({}, ValueError, "the state has no names"),
        (["x"] * 4, ValueError, "found x more than once"),
    ],
)
def test_wrong_names(names: Any, error: type[Exception], said: str) -> None:
    """What names can't be is said."""
    net = network("ab")
    saved = torch.optim.Adam(net.parameters()).state_dict()
    with pytest.raises(error, match=said):
        ao.torch.Adam(net.named_parameters()).load_state_dict(saved, names=names)


def test_names_on_one_side_only() -> None:
    """The order then says which is which, as in torch, and a warning says so."""
    net = network("ab")
    saved = trained(net, torch.optim.Adam(net.parameters()), range(2)).state_dict()
    optimizer = ao.torch.Adam(net.named_parameters())
    with pytest.warns(UserWarning, match="the optimizer has parameter names, the state") as w:
        optimizer.load_state_dict(saved)
    assert w[0].filename == __file__
    assert int(optimizer.state[net.a.weight]["step"]) == 2
    with pytest.warns(UserWarning, match="the state has parameter names, the optimizer"):
        ao.torch.Adam(net.parameters()).load_state_dict(optimizer.state_dict())


def test_into_this_library_s_own_form() -> None:
    """`load_state` matches nested dicts of any arrays by torch's names."""
    old = network("abc")
    native = trained(old, torch.optim.Adam(old.named_parameters()), range(3))
    params = {
        layer: {
            kind: p.detach().numpy().copy() for kind, p in getattr(old, layer).named_parameters()
        }
        for layer in "cb"
    }
    params["e"] = {"weight": np.zeros((4, 4), np.float32)}
    optimizer = ao.Adam(preset="torch")
    with pytest.raises(ValueError, match="missing: momentum of e/weight"):
        ao.torch.load_state(optimizer, native.state_dict(), params)
    report = ao.torch.load_state(optimizer, native.state_dict(), params, strict=False)
    assert "momentum of a.weight" in report.unexpected
    assert "momentum of c/bias" in report.restored
    trained(old, native, range(3, 4))
    grads = {
        layer: {kind: p.grad.numpy() for kind, p in getattr(old, layer).named_parameters()}
        for layer in "cb"
    }
    optimizer.apply({**grads, "e": {"weight": None}}, params)
    for layer in "cb":
        wanted = getattr(old, layer).weight.detach().numpy()
        np.testing.assert_allclose(params[layer]["weight"], wanted, rtol=1e-6, atol=1e-8)
