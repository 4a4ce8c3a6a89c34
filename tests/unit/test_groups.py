"""Groups of parameters: their own numbers, their own optimizer, or none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import NAMES, cls_of, draw, make, same, snapshot, unchanged

NAMED = ["kernel", "scale", "bias"]


def tree(backend: TestBackend, seed: int, dtype: str = "float32") -> dict[str, Any]:
    """Return arrays by name."""
    return dict(zip(NAMED, backend.tree(draw(seed), dtype), strict=True))


def trained(opt: Any, backend: TestBackend, only: list[str], dtype: str = "float32") -> list[Any]:
    """Return some of the parameters after three steps with all that are given."""
    params = {k: v for k, v in tree(backend, 1, dtype).items() if k in only}
    for step in range(3):
        grads = {k: v for k, v in tree(backend, 2 + step, dtype).items() if k in only}
        params = opt.apply(grads, params)
    return backend.read([params[k] for k in only])


def test_numbers_of_their_own(name: str, backend: TestBackend, engine: str) -> None:
    """Each group moves as if it were alone with an optimizer of its own."""
    decay = {"weight_decay": 0.1}
    groups = [ao.group("bias", lr=0.3, weight_decay=0.0), ao.group("sc*", learning_rate=0.2)]
    with ao.engine(engine):
        found = trained(make(name, lr=0.1, **decay, groups=groups), backend, NAMED)
        alone = [
            *trained(make(name, lr=0.1, **decay), backend, ["kernel"]),
            *trained(make(name, lr=0.2, **decay), backend, ["scale"]),
            *trained(make(name, lr=0.3, weight_decay=0.0), backend, ["bias"]),
        ]
    same(found, alone)


def test_an_optimizer_of_its_own(name: str, backend: TestBackend, engine: str) -> None:
    """Two rules in one step, with scalar state of both, and one norm over all."""
    other = NAMES[(NAMES.index(name) + 1) % len(NAMES)]
    with ao.engine(engine):
        opt = make(name, groups=[ao.group("*/bias", optimizer=make(other, lr=0.05))])
        found = trained(opt, backend, NAMED)
        alone = [
            *trained(make(name), backend, ["kernel", "scale"]),
            *trained(make(other, lr=0.05), backend, ["bias"]),
        ]
        same(found, alone)
        again = make(name, groups=[ao.group("*/bias", optimizer=make(other, lr=0.05))])
        again.init(tree(backend, 1))
        again.set_weights(opt.get_weights())
    same(again.get_weights(), opt.get_weights())


def test_frozen(backend: TestBackend, engine: str) -> None:
    """They stay, and their gradients do not count in the norm."""
    with ao.engine(engine):
        opt = make("Adam", clipnorm=0.5, groups=[ao.group("kernel", freeze=True)])
        found = trained(opt, backend, NAMED)
        alone = trained(make("Adam", clipnorm=0.5), backend, ["scale", "bias"])
    same(found, [*backend.read([tree(backend, 1)["kernel"]]), *alone])


def test_the_pure_form_agrees(name: str, backend: TestBackend) -> None:
    """The numbers of groups are in the state, where they can be changed."""
    groups = [ao.group("bias", lr=0.3), ao.group("scale", optimizer=ao.Nadam(lr=0.02))]
    opt, pure = make(name, groups=groups), make(name, groups=groups)
    wanted = trained(opt, backend, NAMED)
    params = tree(backend, 1)
    state = pure.init_state(params)
    assert float(state["hyper"]["1.lr"]) == pytest.approx(0.3)
    for step in range(3):
        params, state = pure.stateless_apply(state, tree(backend, 2 + step), params)
    for a, b in zip(backend.read([params[k] for k in NAMED]), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)
    if 0.0 in cls_of(name).hyperparameters["lr"].interval:
        params = tree(backend, 1)
        state = pure.init_state(params)
        state["hyper"]["1.lr"] = 0 * state["hyper"]["1.lr"]
        after, _ = pure.stateless_apply(state, tree(backend, 9), params)
        same(backend.read([after["bias"]]), backend.read([tree(backend, 1)["bias"]]))


def test_config_and_file(name: str, tmp_path: Path) -> None:
    """Groups survive both, with the optimizers in them."""
    groups = [
        ao.group("bias", lr=0.3),
        ao.group("scale", optimizer=ao.Nadam(lr=0.02)),
        ao.group("x*", freeze=True, allow_unmatched=True),
    ]
    opt = make(name, groups=groups)
    config = opt.get_config()
    again = cls_of(name).from_config(config)
    assert again.get_config() == config
    assert repr(again) == repr(opt)
    rng = np.random.default_rng(0)
    params = {k: rng.standard_normal(3) for k in NAMED}
    grads = {k: rng.standard_normal(3) for k in NAMED}
    opt.apply(grads, params)
    opt.save_weights(tmp_path / "w.h5")
    loaded, copies = ao.load(tmp_path / "w.h5"), {k: v.copy() for k, v in params.items()}
    opt.apply(grads, params), loaded.apply(grads, copies)
    same(list(copies.values()), list(params.values()))
    same(loaded.get_weights(), opt.get_weights())


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: ao.group(), TypeError, "at least one pattern"),
    (lambda: ao.group(3), TypeError, "pattern 3"),
    (lambda: ao.group("a", freeze="no"), TypeError, "freeze must be True or False, got 'no'"),
    (lambda: ao.group("a", allow_unmatched=1), TypeError, "allow_unmatched must be .* got 1"),
    (
        lambda: ao.SGD(groups=[{"params": [np.ones(2)], "lr": 0.1}]),
        TypeError,
        r"found a dict with 'params'; use arrayoptim.group\(pattern, ...\)",
    ),
    (
        lambda: ao.group("a", optimizer=ao.SGD(), lr=0.1),
        TypeError,
        "settings belong to that optimizer.*lr",
    ),
    (lambda: ao.Adam(groups=[ao.group("a", lr_=0.1)]), TypeError, "'lr_', did you mean 'lr'"),
    (lambda: ao.Adam(groups=[ao.group("a", clipnorm=1.0)]), TypeError, "cannot set 'clipnorm'"),
    (lambda: ao.Adam(groups=[ao.group("a", amsgrad=True)]), TypeError, "cannot set 'amsgrad'"),
    (
        lambda: ao.Yogi(groups=[ao.group("a", initial_accumulator_value=1.0)]),
        TypeError,
        "cannot set 'initial_accumulator_value'",
    ),
    (lambda: ao.Adam(groups=[ao.group("a", beta_1=1.0)]), ValueError, r"beta_1.*\[0, 1\).*1.0"),
    (lambda: ao.Adam(groups=["a"]), TypeError, "arrayoptim.group"),
    (lambda: ao.Adam(groups=3), TypeError, "list of arrayoptim.group"),
    (lambda: ao.Adam(groups=[ao.group("a", optimizer=3)]), TypeError, "found 3"),
    (lambda: ao.Adam(groups=[ao.group("a", optimizer="adamm")]), ValueError, "'adamm'"),
    (
        lambda: ao.Adam(groups=[ao.group("a", optimizer=ao.SGD(clipnorm=1.0))]),
        ValueError,
        "sets clipnorm",
    ),
]


@pytest.mark.parametrize(("call", "kind", "words"), BAD, ids=[row[2][:20] for row in BAD])
def test_bad_groups(call: Any, kind: type[Exception], words: str) -> None:
    """What is wrong is said at construction."""
    with pytest.raises(kind, match=words):
        call()


def test_unmatched_and_late_groups() -> None:
    """A pattern without parameters is an error, and so are other slots after the first step."""
    params, grads = {"a": np.zeros(2), "b": np.zeros(2)}, {"a": np.ones(2), "b": np.ones(2)}
    with pytest.raises(ValueError, match=r"groups: the pattern 'c\*' matches none of a, b"):
        ao.SGD(groups=[ao.group("c*", lr=0.1)]).apply(grads, params)
    opt = ao.SGD(groups=[ao.group("c*", lr=0.1, allow_unmatched=True)])
    opt.apply(grads, params)
    before = snapshot(opt)
    opt.groups = [ao.group("a", optimizer=ao.Adam())]
    with pytest.raises(ValueError, match=r"the state of a float64.*has the slots momentum"):
        opt.apply(grads, params)
    opt.groups = []
    before[1].pop("groups")
    unchanged(opt, before)


def test_a_group_that_comes_too_late() -> None:
    """A pattern is an error too if an earlier group has all that it matches; not if it has some."""
    params = {"a": {"bias": np.ones(1), "kernel": np.ones(1)}, "b": {"bias": np.ones(1)}}
    late = [ao.group("*", lr=0.1), ao.group("*/bias", freeze=True)]
    words = r"the pattern '\*/bias' matches only .* are in the group group\('\*', lr=0.1\)"
    with pytest.raises(ValueError, match=words):
        ao.SGD(groups=late).init(params)
    ao.SGD(groups=late[::-1]).init(params)
    ao.SGD(groups=[late[0], ao.group("*/bias", lr=0.2, allow_unmatched=True)]).init(params)
    opt = ao.SGD(lr=0.5, groups=[ao.group("a/*", freeze=True), ao.group("*/bias", "b/*", lr=0.1)])
    opt.apply({"a": {"bias": np.ones(1), "kernel": np.ones(1)}, "b": {"bias": np.ones(1)}}, params)
    assert (params["a"]["bias"], params["b"]["bias"]) == (1.0, 0.9)


def test_a_schedule_and_a_function_of_paths() -> None:
    """Both are called when they are needed."""
    seen: list[str] = []

    def short(path: str) -> bool:
        seen.append(path)
        return len(path) == 1

    opt = ao.SGD(lr=0.5, groups=[ao.group(short, lr=lambda step: 0.1 * (step + 1))])
    params = {"a": np.zeros(1), "long": np.zeros(1)}
    for _ in range(2):
        opt.apply({"a": np.ones(1), "long": np.ones(1)}, params)
    assert (params["a"], params["long"]) == (pytest.approx(-0.3), -1.0)
    assert set(seen) == {"a", "long"}
