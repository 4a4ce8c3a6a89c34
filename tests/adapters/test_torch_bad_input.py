"""What the optimizers of torch refuse, and what they take in torch's own words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

import arrayoptim as ao
from optimizers_under_test import same
from torch_models import halves, loss, model, of, slots, through_a_file, train, values


def one() -> list[torch.nn.Parameter]:
    """Return one parameter."""
    return [torch.nn.Parameter(torch.ones(2))]


def adam(**settings: Any) -> Any:
    """Return an Adam over one parameter."""
    return of("Adam")(one(), **settings)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: of("TorchOptimizer")(one()), TypeError, "use a subclass, such as arrayoptim.torch"),
    (lambda: of("Adam")(torch.ones(2)), TypeError, "iterable of Tensors"),
    (lambda: of("Adam")([]), ValueError, "empty parameter list"),
    (lambda: of("Adam")([{"params": set(one())}]), TypeError, "ordered collections"),
    (lambda: of("Adam")([torch.ones(2, requires_grad=True) * 2]), ValueError, "non-leaf"),
    (lambda: of("Adam")([{"lr": 0.1}]), ValueError, "found lr, wanted also 'params'"),
    (lambda: of("Adam")([3]), TypeError, "can only optimize Tensors"),
    (lambda: adam(lr=-1.0), ValueError, r"Adam.lr must be a number in \[0, inf\), got -1.0"),
    (lambda: adam(lr="a"), TypeError, "Adam.lr must be a number"),
    (lambda: adam(lr=0.1, learning_rate=0.1), TypeError, "both 'learning_rate' and 'lr'"),
    (lambda: adam(epsilon=1.0, eps=1.0), TypeError, "both 'epsilon' and 'eps'"),
    (lambda: adam(betas=(0.9, 0.99), beta_1=0.5), TypeError, "both 'beta_1' and 'betas'"),
    (lambda: adam(betas=(0.9,)), ValueError, "Adam.betas: found .0.9,., wanted 2 numbers"),
    (lambda: adam(betas=(0.9, 1.0)), ValueError, r"Adam.beta_2 must be a number in \[0, 1\)"),
    (lambda: adam(learning_rat=1.0), TypeError, "'learning_rat', did you mean 'learning_rate'"),
    (lambda: adam(lr=lambda step: 0.1), TypeError, "found the schedule.*LambdaLR"),
    (lambda: adam(lr={"class_name": "x", "config": {}}), TypeError, "found the schedule {"),
    (lambda: adam(groups=[ao.group("a", lr=0.1)]), TypeError, "pass torch's parameter groups"),
    (
        lambda: adam(differentiable=True, nonfinite="skip"),
        ValueError,
        "differentiable=True with nonfinite='skip'",
    ),
    (lambda: adam(maximize=0.9), TypeError, "Adam.maximize must be True or False, got 0.9"),
    (lambda: adam(maximize=2), TypeError, "Adam.maximize must be True or False, got 2"),
    (lambda: adam(eps=-1.0), ValueError, r"Adam.epsilon must be .* \(torch: Invalid epsilon value"),
    (lambda: adam(l2=0.1, weight_decay=0.1), ValueError, "like l2=0.1; pass one, or decoupled"),
    (lambda: adam(decoupled_weight_decay=2), TypeError, "must be True or False, got 2"),
    (lambda: of("SGD")(one(), nesterov=True), ValueError, "requires a momentum"),
    (
        lambda: of("Adam")(one(), 0.1, (0.9, 0.99), 1e-8, 0.1, False, None),
        TypeError,
        "at most 6 .*eps, weight_decay, amsgrad.*, got 7; pass others by keyword: ",
    ),
    (
        lambda: of("Lion")(one(), 0.1, (0.9, 0.99), 0.1, 0.9),
        TypeError,
        r"\(params, lr, betas, weight_decay\), got 5; pass others",
    ),
    (lambda: of("SGD")(one(), 0.1, 0.9, momentum=0.8), TypeError, "'momentum' twice: 0.9, 0.8"),
    (lambda: of("Adam")(one(), 0.1, (0.9, 0.99), beta_1=0.8), TypeError, "both 'beta_1' and"),
    (
        lambda: of("Adam")([{"params": one(), "weight_deacy": 0.1}]),
        TypeError,
        "mean 'weight_decay'",
    ),
    (lambda: of("Adam")([{"params": one(), "LR": 0.1}]), TypeError, "did you mean 'lr'"),
    (lambda: of("Adam")([{"params": one(), "beta1": 0.1}]), TypeError, "did you mean 'beta_1'"),
    (lambda: of("SGD")([{"params": one(), "dampenning": 0.1}]), TypeError, "mean 'dampening'"),
    (
        lambda: of("SGD")(one()).add_param_group({"params": one(), "momentun": 0.1}),
        TypeError,
        "mean",
    ),
    (lambda: ao.torch.wrap(3, one()), TypeError, "found int, wanted an optimizer"),
    (
        lambda: ao.torch.wrap(ao.Adam(groups=[ao.group("a", lr=0.1)]), one()),
        ValueError,
        "has groups",
    ),
    (lambda: ao.torch.wrap(ao.Adam(lr=lambda step: 0.1), one()), TypeError, "the schedule"),
]


@pytest.mark.parametrize(("call", "kind", "words"), BAD, ids=[row[2][:20] for row in BAD])
def test_construction(call: Callable[[], Any], kind: type[Exception], words: str) -> None:
    """What is wrong is said at once."""
    with pytest.raises(kind, match=words):
        call()


def test_words_of_torch() -> None:
    """Torch's spelling and the library's are the same; there is one key for each."""
    group = adam(betas=(0.8, 0.9), eps=1e-3)
    other = adam(beta_1=0.8, beta_2=0.9, epsilon=1e-3).param_groups[0]
    found = group.param_groups[0]
    assert {k: v for k, v in found.items() if k != "params"} == {
        k: v for k, v in other.items() if k != "params"
    }
    assert found["betas"] == (0.8, 0.9) and found["eps"] == 1e-3
    assert not {"beta_1", "beta_2", "epsilon"} & set(found)
    single = of("Adam")([{"params": one(), "beta_2": 0.5, "fused": True}], beta_1=0.8)
    assert single.param_groups[0]["betas"] == (0.8, 0.5)


BY_POSITION: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("SGD", (0.1, 0.9), {"lr": 0.1, "momentum": 0.9}),
    ("Adam", (0.1, (0.9, 0.99), 1e-3), {"betas": (0.9, 0.99), "eps": 1e-3}),
    ("AdamW", (0.1, (0.9, 0.99), 1e-3, 0.3, True), {"weight_decay": 0.3, "amsgrad": True}),
    ("RMSprop", (0.1, 0.5), {"alpha": 0.5, "momentum": 0.0}),
    ("Adagrad", (0.1, 0.2), {"lr_decay": 0.2}),
    ("SGD", (0.1, 0.9, 0.2, 0.3), {"dampening": 0.2, "weight_decay": 0.3}),
    ("LAMB", (0.1, (0.8, 0.9), 1e-3, 0.3), {"eps": 1e-3, "weight_decay": 0.3}),
    ("ASGD", (0.1, 0.2, 0.5, 3.0), {"lambd": 0.2, "alpha": 0.5, "t0": 3.0}),
    ("Nadam", (0.1, (0.8, 0.9)), {"betas": (0.8, 0.9)}),
]


@pytest.mark.parametrize(("name", "given", "wanted"), BY_POSITION)
def test_arguments_by_position(name: str, given: tuple[Any, ...], wanted: dict[str, Any]) -> None:
    """They are those that torch's class of that name has there, and none is `maximize`."""
    group = of(name)(one(), *given).param_groups[0]
    assert {key: group[key] for key in wanted} == wanted
    assert group["maximize"] is False


def test_the_signature_is_what_holds(name: str) -> None:
    """Each argument may be given as it says, and none more by position."""
    params = list(inspect.signature(of(name)).parameters.values())[1:]
    places = [p.default for p in params if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = {p.name: p.default for p in params}
    made = [of(name)(one(), *places), of(name)(one(), **keywords), of(name)(one())]
    groups = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in made]
    assert groups[0] == groups[1] == groups[2]
    cls = of(name)
    with pytest.raises(TypeError, match=f"{cls.__name__} takes at most {len(places) + 1} position"):
        cls(one(), *places, 0.9)


BAD_WRITES = [
    ("weigth_decay", 3, TypeError, "'weigth_decay' in a parameter group, .* mean 'weight_decay'"),
    ("maximize", 0.9, TypeError, "Adam.maximize must be True or False, got 0.9"),
    ("lr", -1.0, ValueError, r"Adam.lr must be a number in \[0, inf\), got -1.0"),
    ("betas", (0.9,), ValueError, "wanted 2 numbers"),
    ("epsilon", 1e-3, ValueError, r"write group\['eps'\]"),
    ("beta_1", 0.5, ValueError, r"write group\['betas'\]"),
    ("learning_rate", 0.5, ValueError, r"write group\['lr'\]"),
    ("amsgrad", True, ValueError, "missing: max_exp_avg_sq"),
]


@pytest.mark.parametrize(("key", "value", "kind", "words"), BAD_WRITES)
def test_what_is_written_into_a_group(
    key: str, value: Any, kind: type[Exception], words: str
) -> None:
    """A wrong value in the last group is an error before the first group moves."""
    net = model()
    optimizer = of("Adam")(halves(net))
    train(net, optimizer, range(2))
    kept = values(net), slots(net, optimizer)
    optimizer.param_groups[1][key] = value
    with pytest.raises(kind, match=words):
        optimizer.step()
    same([*values(net), *slots(net, optimizer)], [*kept[0], *kept[1]])


OWN_WORDS = [
    *("initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"),
    *("foreach", "fused", "capturable", "differentiable"),
    *(
        "lr_scale",
        "lr_mult",
        "wd",
        "no_weight_decay",
        "decay_mult",
        "layer_name",
        "tag",
        "use_muon",
    ),
]


def test_own_words_in_groups(name: str) -> None:
    """Keys of torch and of users that mean no hyperparameter stay, whenever they come."""
    net = model()
    given = dict.fromkeys(OWN_WORDS, 0)
    optimizer = of(name)(halves(net, **given))
    train(net, optimizer, range(1))
    optimizer.param_groups[0].update(given)
    train(net, optimizer, range(1, 2))
    optimizer.load_state_dict(optimizer.state_dict())
    assert {key: optimizer.param_groups[0][key] for key in OWN_WORDS} == given


def test_attributes() -> None:
    """A hyperparameter set there would have no effect; torch's ways and a user's words are free."""
    optimizer = adam()
    for word, words in {
        "lr": r"in param_groups, in each group as group\['lr'\]",
        "learning_rate": r"group\['lr'\]",
        "clipnorm": r"group\['clipnorm'\]",
        "beta_1": r"group\['betas'\]",
        "maximize": r"group\['maximize'\]",
        "wieght_decay": "no hyperparameter 'wieght_decay', did you mean 'weight_decay'",
    }.items():
        with pytest.raises(AttributeError, match=f"Adam.*{words}"):
            setattr(optimizer, word, 0.5)
    for word in ("name", "scheduler", "grad_scale", "found_inf", "_opt_called", "step", "defaults"):
        setattr(optimizer, word, getattr(optimizer, word, 0.5))


def test_learning_rate_as_a_tensor(name: str) -> None:
    """It stays the tensor that schedulers fill, and its value counts."""
    net, other = model(), model()
    optimizer = of(name)(net.parameters(), lr=torch.tensor(0.5, dtype=torch.float64))
    plain = of(name)(other.parameters(), lr=0.5)
    for lr in (0.5, 0.25):
        optimizer.param_groups[0]["lr"].fill_(lr)
        plain.param_groups[0]["lr"] = lr
        train(net, optimizer, range(2))
        train(other, plain, range(2))
    same(values(net), values(other))
    assert isinstance(optimizer.state_dict()["param_groups"][0]["lr"], torch.Tensor)


def unmarked(given: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict as older versions gave it."""
    for group in given["param_groups"]:
        group.pop("class_name", None)
    return given


OTHERS = [
    ("SGD", "Lion"),
    ("Adam", "RAdam"),
    ("Adam", "Yogi"),
    ("Adam", "LAMB"),
    ("Lion", "Signum"),
    ("SGD", "Signum"),
    ("AdamW", "Adam"),
    ("Adam", "AdamW"),
    ("NadamW", "NAdam"),
]


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(("found", "wanted"), OTHERS)
def test_states_of_other_classes(found: str, wanted: str, steps: int) -> None:
    """Slots of the same names are no excuse, nor is a state without any."""
    net, other = model(), model()
    optimizer, again = of(found)(net.parameters(), lr=0.25), of(wanted)(other.parameters())
    train(net, optimizer, range(steps))
    train(other, again, range(2))
    kept = values(other), slots(other, again), dict(again.param_groups[0])
    saved = through_a_file(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"{wanted}: found .* of '{found}', wanted .* '{wanted}'"):
        again.load_state_dict(saved)
    if "W" not in found + wanted:  # those differ in a default only
        with pytest.raises(ValueError, match=f"{wanted}: found a state .* not those of {wanted}"):
            again.load_state_dict(unmarked(saved))
    same([*values(other), *slots(other, again)], [*kept[0], *kept[1]])
    assert again.param_groups[0] == kept[2]
    with pytest.raises(ValueError, match=f"{wanted}: found .* of '{found}'"):
        of(wanted)(optimizer.param_groups)
    again.param_groups[0]["class_name"] = found  # as ZeroRedundancyOptimizer writes what it loads
    with pytest.raises(ValueError, match=f"{wanted}: found .* of '{found}'"):
        again.step()


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "ASGD", "Adagrad", "Rprop"])
def test_settings_of_another_class_of_torch(name: str) -> None:
    """They are told by their names, before the first step too."""
    saved = torch.optim.Adam(model().parameters()).state_dict()
    with pytest.raises(ValueError, match=r"missing: .*; unexpected: betas.*"):
        of(name)(model().parameters()).load_state_dict(saved)


def test_older_states(name: str) -> None:
    """Without the class's name they load where the settings are those of the class."""
    net, other = model(), model()
    optimizer, again = of(name)(net.parameters(), lr=0.25), of(name)(other.parameters())
    train(net, optimizer, range(2))
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(2):  # torch adds a key of its own when it loads
        again.load_state_dict(unmarked(optimizer.state_dict()))
        again.load_state_dict(unmarked(again.state_dict()))
    assert again.param_groups[0]["class_name"] == type(again).__name__
    assert again.param_groups[0]["lr"] == 0.25
    same(slots(net, optimizer), slots(other, again))
    copied = of(name)([{**again.param_groups[0], "params": one()}])
    assert copied.param_groups[0]["initial_lr"] == 0.25
    of(name)(one(), **copied.defaults)


def trained(name: str, **settings: Any) -> tuple[Any, Any]:
    """Return a model and its optimizer after two steps."""
    net = model()
    optimizer = of(name)(halves(net), **settings)
    train(net, optimizer, range(2))
    return net, optimizer


def spoilt(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return an Adam's state dict that was changed."""
    found: dict[str, Any] = trained("Adam")[1].state_dict()
    change(found)
    return found


def native() -> dict[str, Any]:
    """Return the state dict of torch's RMSprop."""
    net = model()
    optimizer = torch.optim.RMSprop(halves(net))
    train(net, optimizer, range(2))
    return optimizer.state_dict()


BAD_STATES: list[tuple[Callable[[], dict[str, Any]], str]] = [
    (native, "missing: betas; unexpected: .*alpha"),
    (lambda: trained("SGD")[1].state_dict(), "Adam: found settings or state of 'SGD', wanted"),
    (
        lambda: spoilt(lambda d: d["state"][1].update(exp_inf=d["state"][1].pop("exp_avg"))),
        "missing: exp_avg; unexpected: exp_inf",
    ),
    (lambda: spoilt(lambda d: d["param_groups"].pop()), "different number of parameter groups"),
    (lambda: spoilt(lambda d: d["param_groups"][0]["params"].pop()), "match the size"),
    (lambda: spoilt(lambda d: d["param_groups"][1].update(lr=-1)), "Adam.lr must be"),
    (lambda: spoilt(lambda d: d["state"][1].pop("exp_avg")), "missing: exp_avg; unexp"),
    (
        lambda: spoilt(lambda d: d["state"][1].update(exp_avg_sq=3)),
        r"misshapen: exp_avg_sq int, wanted \(5,\)",
    ),
    (lambda: spoilt(lambda d: d["state"][1].pop("step")), "missing: step"),
    (
        lambda: spoilt(lambda d: d["state"][1].update(exp_avg_sq=torch.ones(3))),
        r"misshapen: exp_avg_sq \(3,\), wanted \(5,\)",
    ),
]


@pytest.mark.parametrize(("given", "words"), BAD_STATES, ids=[row[1][:20] for row in BAD_STATES])
def test_states_that_do_not_fit(given: Callable[[], dict[str, Any]], words: str) -> None:
    """Nothing has changed then."""
    net, optimizer = trained("Adam", lr=0.125)
    kept = values(net), slots(net, optimizer)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(given())
    assert optimizer.param_groups[1]["lr"] == 0.125
    same([*values(net), *slots(net, optimizer)], [*kept[0], *kept[1]])
    loss(net).backward()
    optimizer.step()


@pytest.mark.parametrize("place", ["another group", "the same group"])
def test_a_parameter_that_is_state(place: str) -> None:
    """What the optimizer keeps for itself is no parameter; without it the next step works."""
    p = torch.zeros(4, requires_grad=True)
    optimizer = ao.torch.Adam([p])
    p.grad = torch.ones(4)
    optimizer.step()
    held = optimizer.state[p]["exp_avg"]
    held.grad, before = torch.ones(4), [p.detach().clone(), held.clone()]
    if place == "another group":
        optimizer.add_param_group({"params": [held]})
    else:
        optimizer.param_groups[0]["params"].append(held)
    with pytest.raises(ValueError, match="shares memory with an array of the optimizer's own"):
        optimizer.step()
    same([p.detach().numpy(), held.numpy()], [x.numpy() for x in before])
    del optimizer.param_groups[1:], optimizer.param_groups[0]["params"][1:]
    optimizer.step()
