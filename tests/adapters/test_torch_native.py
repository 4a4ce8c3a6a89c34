"""Changing between torch's own optimizers and these in the middle of a training."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import arrayoptim as ao
from arrayoptim.config.torch import TABLE
from torch_models import halves, loss, model, of, train

DOUBLE = torch.float64

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {"weight_decay": 0.1}),
    ("Adam", {"eps": 0.0, "betas": (0.8, 0.9)}),
    ("Adam", {"eps": 0.0, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {"eps": 0.0}),
    ("Adamax", {"eps": 0.0, "weight_decay": 0.1}),
    ("NAdam", {"momentum_decay": 0.02, "weight_decay": 0.1}),
    ("RAdam", {"eps": 0.0, "weight_decay": 0.1}),
    ("ASGD", {"lambd": 0.1, "t0": 2.0}),
    ("Rprop", {"etas": (0.4, 1.5)}),
]
IDS = ["-".join([name, *settings]) for name, settings in CASES]


def start(name: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Return a model with an optimizer of torch, two groups and three steps."""
    net = model(DOUBLE)
    optimizer = getattr(torch.optim, name)(halves(net, lr=0.02), lr=0.01, **settings)
    train(net, optimizer, range(3), DOUBLE)
    return net, optimizer


def quietly(change: Any, *arguments: Any) -> Any:
    """Call without warnings of differing formulas."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return change(*arguments)


def close(one: Any, other: Any, tolerance: float) -> None:
    """Assert that two models agree."""
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_there_and_back(name: str, settings: dict[str, Any]) -> None:
    """The training goes on as if nothing had changed, and so it does when it changes back."""
    net, native = start(name, settings)
    other, before = start(name, settings)
    ours = quietly(ao.torch.from_torch, before, None)
    assert type(ours) is of(name)
    # torch keeps NAdam's product of momenta and ASGD's step sizes in float32.
    tolerance = 1e-7 if name in {"NAdam", "ASGD"} else 1e-13
    train(net, native, range(3, 6), DOUBLE)
    train(other, ours, range(3, 6), DOUBLE)
    close(net, other, tolerance)
    back = quietly(ao.torch.to_torch, ours)
    assert type(back) is type(native)
    for mine, theirs in zip(back.param_groups, native.param_groups, strict=True):
        extra = {"params"}
        assert {k: v for k, v in mine.items() if k not in extra} == {
            k: v for k, v in theirs.items() if k not in extra
        }
    for p, q in zip(other.parameters(), net.parameters(), strict=True):
        wanted = {k: x for k, x in native.state[q].items() if x is not None}
        found = {k: x for k, x in back.state[p].items() if x is not None}
        assert set(found) == set(wanted)
        for key, x in wanted.items():
            assert found[key].dtype == x.dtype and found[key].shape == x.shape
            torch.testing.assert_close(found[key], x, rtol=max(tolerance, 1e-12), atol=tolerance)
    train(net, native, range(6, 9), DOUBLE)
    train(other, back, range(6, 9), DOUBLE)
    close(net, other, tolerance)


def test_differences_are_said() -> None:
    """Where the formulas part, a warning says in what."""
    for name, settings, words in (
        ("Adam", {}, "after it in torch; with epsilon=0 they agree"),
        ("Adamax", {}, "magnitude in torch"),
        ("SGD", {"momentum": 0.9}, "at constant lr they agree"),
        ("RMSprop", {"momentum": 0.9}, "at constant lr they agree"),
    ):
        native = start(name, settings)[1]
        with pytest.warns(UserWarning, match=words):
            ours = ao.torch.from_torch(native, preset=None)
        with pytest.warns(UserWarning, match=words):
            ao.torch.to_torch(ours)
    for name in ("SGD", "Adagrad", "Adadelta", "NAdam"):
        ao.torch.to_torch(ao.torch.from_torch(start(name, {})[1], preset=None))


def test_counts_per_parameter() -> None:
    """Torch counts for each parameter, and so it goes on, there and back."""
    net, other = model(), model()
    native, again = torch.optim.Adam(net.parameters()), torch.optim.Adam(other.parameters())
    for n, o in ((net, native), (other, again)):
        n[0].weight.requires_grad_(False)
        train(n, o, range(2))
        n[0].weight.requires_grad_(True)
        train(n, o, range(2, 3))
    ours = ao.torch.from_torch(native)
    train(net, ours, range(3, 4))
    train(other, again, range(3, 4))
    close(net, other, 1e-6)
    back = ao.torch.to_torch(ours)
    assert [float(back.state[p]["step"]) for p in net.parameters()] == [2.0, 4.0, 4.0, 4.0]


def test_schedules_and_names_go_along() -> None:
    """A scheduler's own words and the parameters' names stay."""
    net = model()
    native = torch.optim.Adagrad(net.named_parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(native, 1)
    ours = ao.torch.from_torch(native)
    assert ours.param_groups[0]["initial_lr"] == 0.1
    assert ours.param_groups[0]["param_names"] == [name for name, _ in net.named_parameters()]
    back = ao.torch.to_torch(ours)
    assert back.param_groups[0]["param_names"] == ours.param_groups[0]["param_names"]


def test_before_the_first_step(name: str) -> None:
    """An optimizer without state gives one without; one that torch lacks is refused."""
    ours = of(name)([p for p in model().parameters() if p.ndim == 2])
    if ours.spelling.row is None:
        with pytest.raises(TypeError, match=rf"torch\.{name}, wanted one of arrayoptim.torch"):
            ao.torch.to_torch(ours)
        return
    native = quietly(ao.torch.to_torch, ours)
    assert not native.state
    back = ao.torch.from_torch(native)
    assert type(back).__name__ == ("NAdam" if name == "NadamW" else type(ours).__name__)
    assert back.param_groups[0]["weight_decay"] == ours.param_groups[0]["weight_decay"]
    decoupled = "decoupled_weight_decay"
    assert back.param_groups[0][decoupled] == ours.param_groups[0][decoupled]


def test_half_precision_is_rounded() -> None:
    """Torch has no float32 masters: what is lost is said."""
    net = model(torch.bfloat16)
    ours = of("Adagrad")(net.parameters())
    train(net, ours, range(2), torch.bfloat16)
    with pytest.warns(UserWarning, match=r"torch.bfloat16; float32 masters"):
        native = ao.torch.to_torch(ours)
    assert native.state[net[0].bias]["sum"].dtype == torch.bfloat16


def bad(name: str, **settings: Any) -> Any:
    """Return an optimizer of this library after a step."""
    net = model()
    optimizer = of(name)(net.parameters(), **settings)
    loss(net).backward()
    optimizer.step()
    return optimizer


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    ("from_torch", lambda: bad("Adam"), TypeError, "found a Adam, wanted one of ASGD, "),
    ("to_torch", lambda: ao.Adam(), TypeError, "arrayoptim.optimizers.adam.Adam, wanted"),
    ("to_torch", lambda: bad("Adam", clipnorm=1.0), ValueError, "no counterpart for clipnorm=1.0"),
    ("to_torch", lambda: bad("Adam", decay=0.1), ValueError, "no counterpart for decay=0.1"),
    ("to_torch", lambda: bad("AdamW", l2=0.1), ValueError, "AdamW has no counterpart for l2=0.1"),
    (
        "to_torch",
        lambda: bad("SGD", weight_decay=0.1, decoupled_weight_decay=True),
        ValueError,
        "SGD has no counterpart for decoupled_weight_decay=True",
    ),
    (
        "to_torch",
        lambda: bad("SGD", momentum=0.9, lr=0.0, preset="keras2"),
        ValueError,
        "at lr=0",
    ),
]


@pytest.mark.parametrize(("way", "given", "kind", "words"), BAD, ids=[row[3][:20] for row in BAD])
def test_what_cannot_be_changed(way: str, given: Any, kind: type[Exception], words: str) -> None:
    """It is said, with what was found."""
    with pytest.raises(kind, match=words):
        quietly(getattr(ao.torch, way), given())


# torch's Muon takes no vectors, which this model has.
WHOLE = sorted({row.theirs for row in TABLE if row.formula == "torch"} - {"Muon"})


@pytest.mark.parametrize("name", WHOLE)
def test_with_the_preset(name: str) -> None:
    """Nothing is different, and so nothing said; a new learning rate goes on alike too."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    try:
        momentum = {"momentum": 0.9} if name in {"SGD", "RMSprop"} else {}
        net, native = start(name, momentum)
        other, before = start(name, momentum)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours = ao.torch.from_torch(before)
        for steps in (range(3, 6), range(6, 9)):
            train(net, native, steps, DOUBLE)
            train(other, ours, steps, DOUBLE)
            for optimizer in (native, ours):
                optimizer.param_groups[0]["lr"] *= 0.5
        close(net, other, 1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            back = ao.torch.to_torch(ours)
        train(net, native, range(9, 12), DOUBLE)
        train(other, back, range(9, 12), DOUBLE)
        close(net, other, 1e-12)
    finally:
        torch.set_default_dtype(default)


def test_another_preset() -> None:
    """It is refused."""
    with pytest.raises(ValueError, match="found preset='optax', wanted 'torch' or None"):
        ao.torch.from_torch(start("Adam", {})[1], preset="optax")
