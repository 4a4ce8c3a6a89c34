"""Optimizers of torch made from the registry: what a user of ``torch.optim`` relies on."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import arrayoptim as ao
from arrayoptim.config import registry as _registry
from arrayoptim.step.session import session_of
from optimizers_under_test import cls_of, fused, same
from torch_models import (
    agree,
    core_of,
    halves,
    loss,
    model,
    of,
    slots,
    through_a_file,
    train,
    values,
    words_of,
)

HALF = torch.bfloat16


def test_every_registered_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a subclass of torch's base, found by name; a new one appears by itself."""
    cls = of(name)
    assert issubclass(cls, torch.optim.Optimizer)
    assert cls.__name__ == name or of(cls.__name__) is cls
    assert name in ao.torch.names() and name in dir(ao.torch)
    assert pickle.loads(pickle.dumps(cls)) is cls is of(name)
    new = type(f"New{name}", (cls_of(name),), {})
    monkeypatch.setitem(_registry.OPTIMIZERS._classes, new.__name__.lower(), new)
    assert of(new.__name__).core is new
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        of("Nothing")


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.1, "weight_decay": 0.01}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
def test_equals_the_optimizer(name: str, options: dict[str, Any], dtype: Any) -> None:
    """Two groups step as one optimizer with a group, to the last bit, under one norm."""
    net, other = model(dtype), model(dtype)
    optimizer = of(name)(halves(net, lr=0.05), lr=0.02, **options)
    train(net, optimizer, range(4), dtype)
    plain = core_of(optimizer, groups=[ao.group("2", "3", lr=0.05)])
    words = words_of(optimizer)
    params = list(other.parameters())
    for step in range(4):
        plain.apply(list(torch.autograd.grad(loss(other, step, dtype), params)), params)
    same(values(net), values(other))
    for p, held in zip(net.parameters(), session_of(plain).state.slots, strict=True):
        entry = optimizer.state[p]
        assert entry["step"] == 4
        assert {words.get(k, k) for k in (*held, *plain.initial_scalars(), "step")} == set(entry)
        for slot, x in held.items():
            assert entry[words.get(slot, slot)].dtype == x.dtype
            assert torch.equal(entry[words.get(slot, slot)], x)


def slot_of_all(optimizer: Any, net: Any) -> str:
    """Return a slot that all parameters have; the average where they have different rules."""
    held = [set(optimizer.state[p]) for p in net.parameters()]
    slots = [words_of(optimizer).get(slot, slot) for slot in core_of(optimizer).rule.slots]
    return next((slot for slot in slots if all(slot in row for row in held)), "average")


def given_slots(name: str) -> dict[str, Any]:
    """Return settings with which all parameters have a slot in common."""
    return {} if fused(name) and name != "SGD" else {"ema_momentum": 0.9}


def test_the_state_is_the_slots(name: str) -> None:
    """Who changes or replaces a tensor of the state changes the next step, as in torch."""
    net, other = model(), model()
    given = given_slots(name)
    optimizer, reference = (of(name)(m.parameters(), **given) for m in (net, other))
    train(net, optimizer, range(2))
    train(other, reference, range(2))
    slot = slot_of_all(optimizer, net)
    for p in net.parameters():
        optimizer.state[p][slot].mul_(0.5)
    for p in other.parameters():
        reference.state[p][slot] = 0.5 * reference.state[p][slot]
    before = [optimizer.state[p][slot].data_ptr() for p in net.parameters()]
    train(net, optimizer, range(2, 4))
    train(other, reference, range(2, 4))
    agree((net, optimizer), (other, reference))
    if fused(name):  # products of matrices are new arrays
        assert before == [optimizer.state[p][slot].data_ptr() for p in net.parameters()]
    optimizer.state[net[0].bias]["step"].fill_(0)
    train(net, optimizer, range(4, 5))
    assert optimizer.state[net[0].bias]["step"] == 1


@pytest.mark.parametrize("engine", ["array", "cpu"])
def test_resume(name: str, engine: str) -> None:
    """Two groups, a scheduler and a checkpoint: as if it had never stopped."""

    def start(dtype: Any) -> tuple[Any, Any, Any]:
        net = model(dtype)
        optimizer = of(name)(halves(net, lr=0.05), lr=0.02)
        return net, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    def course(net: Any, optimizer: Any, scheduler: Any, steps: range, dtype: Any) -> None:
        for step in steps:
            train(net, optimizer, range(step, step + 1), dtype)
            scheduler.step()

    for dtype in (torch.float32, HALF):
        with ao.engine(engine):
            first, again = start(dtype), start(dtype)
            course(*first, range(3), dtype)
            saved = through_a_file(
                {str(i): part.state_dict() for i, part in enumerate(first)},
            )
            for i, part in enumerate(again):
                part.load_state_dict(saved[str(i)])
            course(*first, range(3, 6), dtype)
            course(*again, range(3, 6), dtype)
        agree(first[:2], again[:2])
        assert again[1].param_groups[1]["lr"] == 0.05 / 8
        assert again[1].param_groups[0]["initial_lr"] == 0.02


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(name: str, duplicate: Any) -> None:
    """A copy goes on like the original and leaves it alone."""
    net = model()
    optimizer = of(name)(halves(net, lr=0.05))
    train(net, optimizer, range(2))
    other, copied = duplicate((net, optimizer))
    kept = values(net), slots(net, optimizer)
    train(other, copied, range(2, 4))
    same([*values(net), *slots(net, optimizer)], [*kept[0], *kept[1]])
    train(net, optimizer, range(2, 4))
    agree((net, optimizer), (other, copied))


def test_loading_copies(name: str) -> None:
    """Two optimizers with one state dict do not share their state."""
    net, other = model(), model()
    optimizer, again = of(name)(net.parameters()), of(name)(other.parameters())
    train(net, optimizer, range(2))
    other.load_state_dict(net.state_dict())
    again.load_state_dict(optimizer.state_dict())
    kept = slots(net, optimizer)
    train(other, again, range(2, 3))
    same(slots(net, optimizer), kept)


@pytest.mark.parametrize("options", [{"state_dtype": "int8"}, {"kahan": True}], ids=str)
def test_small_state_survives(options: dict[str, Any]) -> None:
    """Codes, their exponents and remainders are loaded as they were, in their types."""
    net, other = model(HALF), model(HALF)
    optimizer = of("Adam")(net.parameters(), **options)
    train(net, optimizer, range(3), HALF)
    other.load_state_dict(net.state_dict())
    again = of("Adam")(other.parameters(), **options)
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    kinds = [{k: x.dtype for k, x in o.state[next(n.parameters())].items()}
             for n, o in ((net, optimizer), (other, again))]  # fmt: skip
    assert kinds[0] == kinds[1]
    train(net, optimizer, range(3, 5), HALF)
    train(other, again, range(3, 5), HALF)
    agree((net, optimizer), (other, again))


def test_stages_of_the_base_in_groups() -> None:
    """Clip modes, decay and constraints step as in the plain form, and files hold plain values."""
    box, ball = ao.constraints.Box(-0.25, 0.25), ao.constraints.MaxNorm(0.5)
    options = {"clipnorm": 2.0, "clipnorm_per_tensor": 0.5, "agc": 0.1, "agc_units": "first"}
    options |= {"weight_decay": 0.1, "peak_lr": 0.5, "constraint": box}
    options |= {"decoupled_weight_decay": True}
    net, other, third = model(), model(), model()
    optimizer = of("Adam")(halves(net, constraint=ball), lr=0.05, **options)
    train(net, optimizer, range(3))
    plain = core_of(optimizer, groups=[ao.group("2", "3", constraint=ball)])
    params = list(other.parameters())
    for step in range(3):
        plain.apply(list(torch.autograd.grad(loss(other, step), params)), params)
    same(values(net), values(other))
    assert [r.global_norm for r in optimizer.last_step] == [plain.last_step.global_norm] * 2
    third.load_state_dict(net.state_dict())
    again = of("Adam")(halves(third), lr=0.01)
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    train(net, optimizer, range(3, 5))
    train(third, again, range(3, 5))
    agree((net, optimizer), (third, again))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
    train(net, optimizer, range(5, 6))
    scheduler.step()
    assert optimizer.param_groups[0]["peak_lr"] == 0.5


def test_parameters_without_gradients(name: str) -> None:
    """They stay, get no state, and start when they get a gradient; a group without any waits."""
    net = model()
    optimizer = of(name)(halves(net))
    net[0].weight.requires_grad_(False)
    net[2].requires_grad_(False)
    before = values(net)
    train(net, optimizer, range(2))
    moved = [not np.array_equal(a, b) for a, b in zip(before, values(net), strict=True)]
    assert moved == [False, True, False, False]
    assert set(optimizer.state) == {net[0].bias}
    net.requires_grad_(True)
    train(net, optimizer, range(2, 3))
    assert set(optimizer.state) == set(net.parameters())
    together = bool(core_of(optimizer).rule.totals)
    assert optimizer.state[net[0].weight]["step"] == (3 if together else 1)
    assert optimizer.state[net[2].weight]["step"] == 1


def test_closures_hooks_and_gradients_of_zero(name: str) -> None:
    """The closure's loss comes back; hooks run around the step; zero_grad does as in torch."""
    net = model()
    optimizer = of(name)(net.parameters())
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure() -> torch.Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        found = loss(net)
        found.backward()
        return found

    assert optimizer.step(closure) == loss(model())
    now = loss(net)
    assert optimizer.step(closure) == now
    assert seen == ["before", "after"] * 2
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad.count_nonzero() == 0 for p in net.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert optimizer.step() is None


def test_groups_that_come_later(name: str) -> None:
    """Added parameters have the settings given, or else the constructor's."""
    net, other = model(), model()
    optimizer = of(name)(net[0].parameters(), lr=0.02)
    optimizer.add_param_group({"params": list(net[2].parameters()), "learning_rate": 0.05})
    whole = of(name)(halves(other, lr=0.05), lr=0.02)
    train(net, optimizer, range(2))
    train(other, whole, range(2))
    agree((net, optimizer), (other, whole))
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": net[0].weight})
    with pytest.raises(ValueError, match=rf"{name}.lr must be a number in .0, inf\), got -1"):
        optimizer.add_param_group({"params": torch.nn.Parameter(torch.ones(2)), "lr": -1.0})
    assert len(optimizer.param_groups) == 2


def test_maximize(name: str) -> None:
    """It is a descent of the negated loss."""
    net, other = model(), model()
    up, down = of(name)(net.parameters(), maximize=True), of(name)(other.parameters())
    for step in range(3):
        for n, o, sign in ((net, up, 1), (other, down, -1)):
            o.zero_grad()
            (sign * loss(n, step)).backward()
            o.step()
    agree((net, up), (other, down))
    assert loss(net) > loss(model())


def test_norm_and_nonfinite_gradients_hold_for_all_groups() -> None:
    """A bad gradient in the last group leaves every group as it was; the count is saved."""
    for word in ("skip", "raise"):
        net = model()
        optimizer = of("Adam")(halves(net, lr=0.05), nonfinite=word)
        train(net, optimizer, range(2))
        kept = values(net), slots(net, optimizer)
        loss(net, 2).backward()
        net[2].bias.grad[0] = torch.nan
        if word == "raise":
            with pytest.raises(ValueError, match="NaN or infinite entry at step 2"):
                optimizer.step()
            same(slots(net, optimizer), kept[1])
        else:
            optimizer.step()
            assert optimizer.state[net[0].bias]["skipped"] == 1
            assert optimizer.state[net[0].bias]["step"] == 2
            again = of("Adam")(halves(net), nonfinite=word)
            again.load_state_dict(optimizer.state_dict())
            again.step()
            assert again.state[net[0].bias]["skipped"] == 2
        same(values(net), kept[0])
    optimizer.param_groups[0]["nonfinite"] = "ignore"
    with pytest.raises(ValueError, match="hold for a step as a whole"):
        optimizer.step()


def test_kinds_of_parameters(name: str) -> None:
    """Scalars, empty ones, complex ones, channels last and views in other orders."""
    start = [torch.ones(()), torch.ones(0, 3), torch.ones(3, dtype=torch.complex64),
             torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
             torch.randn(4, 3).t(), torch.randn(3, dtype=torch.float64)]  # fmt: skip
    params = [torch.nn.Parameter(x.clone()) for x in start]
    copies = [x.clone() for x in start]
    optimizer = of(name)(params)
    plain = core_of(optimizer)
    for step in range(3):
        grads = [torch.cos(x + step) for x in start]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        plain.apply(grads, copies)
    assert all(map(torch.equal, params, copies))


def test_names_of_parameters() -> None:
    """With names, patterns of excluded parameters are theirs, and errors name them."""
    net, other = model(), model()
    optimizer = of("SGD")(net.named_parameters(), momentum=0.9, weight_decay=0.5, exclude="*.bias")
    train(net, optimizer, range(2))
    plain = of("SGD")(
        [{"params": [other[0].weight, other[2].weight], "weight_decay": 0.5},
         {"params": [other[0].bias, other[2].bias]}],
        momentum=0.9,
    )  # fmt: skip
    train(other, plain, range(2))
    same(values(net), values(other))
    optimizer.state[net[2].bias]["momentum_buffer"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"state of 2.bias float32\[2\].*momentum_buffer \(5,\)"):
        optimizer.step()


def test_compiled_model(name: str) -> None:
    """A compiled model's parameters are its module's."""
    net, other = model(), model()
    compiled = torch.compile(net, backend="eager")
    optimizer, plain = of(name)(compiled.parameters()), of(name)(other.parameters())
    train(compiled, optimizer, range(2))
    train(other, plain, range(2))
    same(values(net), values(other))


def test_wrap_takes_settings_and_state(tmp_path: Path) -> None:
    """An instance goes on as an optimizer of torch, from memory and from a file."""
    net, third = model(), model()
    plain = ao.Nadam(lr=0.01, clipnorm=1.0)
    params = dict(net.named_parameters())
    for step in range(2):
        grads = torch.autograd.grad(loss(net, step), params.values())
        plain.apply(dict(zip(params, grads, strict=True)), params)
    plain.save_weights(tmp_path / "nadam.h5")
    third.load_state_dict(net.state_dict())
    wrapped = ao.torch.wrap(plain, net.named_parameters())
    loaded = ao.torch.wrap(ao.load(tmp_path / "nadam.h5"), third.named_parameters())
    assert isinstance(wrapped, of("Nadam")) and wrapped.param_groups[0]["clipnorm"] == 1.0
    train(net, wrapped, range(2, 4))
    train(third, loaded, range(2, 4))
    agree((net, wrapped), (third, loaded))
    assert wrapped.state[net[0].bias]["step"] == 4
    with pytest.raises(ValueError, match="does not fit these parameters"):
        ao.torch.wrap(ao.load(tmp_path / "nadam.h5"), net.parameters()).step()


def test_wrap_of_what_is_not_registered() -> None:
    """Any class will do; its instances cannot be pickled, and say so."""
    local = type("Local", (ao.SGD,), {})
    net = model()
    wrapped = ao.torch.wrap(local(lr=0.5), net.parameters())
    train(net, wrapped, range(1))
    assert type(wrapped).__name__ == "Local"
    with pytest.raises(pickle.PicklingError, match="Local"):
        pickle.dumps(wrapped)


class OnlyData(torch.nn.Module):
    """An embedding with sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 2, sparse=True)


def test_sparse_gradients_are_refused(name: str) -> None:
    """Before anything of any group changes, but for the classes of which torch's take them."""
    if name in {"SGD", "Adagrad"}:
        return
    net, embedding = model(), OnlyData()
    optimizer = of(name)([*halves(net), {"params": embedding.parameters()}])
    before = values(net)
    loss(net).backward()
    embedding.table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()
    same(values(net), before)
    assert not optimizer.state


def test_hooks_of_state_dicts(name: str) -> None:
    """They run as in torch, and what they change is what is loaded, in its own data type."""
    net, other = model(HALF), model(HALF)
    given = given_slots(name)
    optimizer, again = (of(name)(m.parameters(), **given) for m in (net, other))
    train(net, optimizer, range(2), HALF)
    slot, seen = slot_of_all(optimizer, net), []

    def doubled(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        seen.append("pre")
        rows = {k: {**row, slot: 2 * row[slot]} for k, row in state["state"].items()}
        return {**state, "state": rows}

    again.register_load_state_dict_pre_hook(doubled)
    again.register_load_state_dict_post_hook(lambda _: seen.append("post"))
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("saving"))
    again.load_state_dict(optimizer.state_dict())
    assert seen == ["saving", "pre", "post"]
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert again.state[q][slot].dtype == torch.float32
        assert torch.equal(again.state[q][slot], 2 * optimizer.state[p][slot])


def test_older_and_empty_state_dicts(name: str) -> None:
    """Settings that a state dict lacks keep their defaults; steps may be plain numbers."""
    net, other = model(), model()
    optimizer, again = of(name)(net.parameters()), of(name)(other.parameters())
    again.load_state_dict(through_a_file(of(name)(net.parameters()).state_dict()))
    train(net, optimizer, range(2))
    saved = optimizer.state_dict()
    for word in ("maximize", "clipnorm", "nonfinite"):
        del saved["param_groups"][0][word]
    saved["state"] = {k: {**row, "step": 2} for k, row in saved["state"].items()}
    other.load_state_dict(net.state_dict())
    again.load_state_dict(saved)
    train(net, optimizer, range(2, 4))
    train(other, again, range(2, 4))
    agree((net, optimizer), (other, again))


def test_gradients_stay_and_gaps_are_left(name: str) -> None:
    """A step writes no gradient, and between the elements of a view nothing."""
    memory = torch.ones(4, 3, 2)
    view = torch.nn.Parameter(memory[..., 0])
    plain = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = of(name)([view, plain])
    for step in range(2):
        for p in (view, plain):
            p.grad = torch.linspace(-1.0, 1.0, 12).reshape(4, 3) + step
        kept = [(p.grad, p.grad._version, p.grad.clone()) for p in (view, plain)]
        optimizer.step()
        for g, version, copied in kept:
            assert g._version == version and torch.equal(g, copied)
    # Two engines step them, which differ in the last place where a rule has powers.
    torch.testing.assert_close(view, plain)
    assert torch.equal(memory[..., 1], torch.ones(4, 3))
    assert torch.equal(memory[..., 0], view)


def test_gradients_of_zero(name: str) -> None:
    """They are gradients: state is made, and the step counts."""
    net, other = model(), model()
    optimizer = of(name)(net.parameters(), lr=0.1)
    plain = core_of(optimizer)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    plain.apply([torch.zeros_like(p) for p in other.parameters()], list(other.parameters()))
    same(values(net), values(other))
    assert optimizer.state[p]["step"] == 1


def test_a_rate_of_0(name: str) -> None:
    """It is a step of nothing, as in a warm-up; but Rprop has a least step, as in torch."""
    net = model()
    optimizer = of(name)(net.parameters(), lr=0.0, **({"preset": None} if name == "Rprop" else {}))
    before = values(net)
    train(net, optimizer, range(3))
    same(values(net), before)
