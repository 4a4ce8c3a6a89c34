"""Presets compute the formulas of other libraries; the whole course is in ``docs/parity.rst``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import BACKENDS
from golden_peers.parity import CASES, PACKAGES, RUNS, Case, apart, of_ours
from optimizers_under_test import NAMES, cls_of, make
from places import ROOT

TABLE = ROOT / "docs" / "parity_table.rst"
CHOSEN = {b.name for b in BACKENDS}
NEEDED = {"torch": {"torch"}, "optax": {"jax"}, "keras3": {"torch", "jax"}}
FORMS = [(name, preset) for name in NAMES for preset in cls_of(name).presets]

OF_SHAPES = {("Adafactor", "keras3"), ("SGD", "keras3"), ("Signum", "optax")}
"""What differs only in arrays of more than two axes, or in slots that are kept for nothing."""


def runs_here(case: Case) -> bool:
    """Whether the peer is installed, and the suite is about its library."""
    # Keras on TensorFlow, which it takes unless told otherwise, computes in float32.
    if case.preset == "keras3" and os.environ.get("KERAS_BACKEND") not in NEEDED["keras3"]:
        return False
    # On torch Keras 3.15 reads the base of this one only after it has written to it.
    if case.theirs == "ScheduleFreeAdamW" and os.environ.get("KERAS_BACKEND") != "jax":
        return False
    return bool(NEEDED[case.preset] & CHOSEN) and find_spec(PACKAGES[case.preset]) is not None


# Where nothing is installed, what nothing needs takes the place of a test that pytest would skip.
NONE = [pytest.param(None, marks=pytest.mark.needs("none"))]


@pytest.mark.parametrize("case", list(filter(runs_here, CASES)) or NONE, ids=str)
def test_the_peers_formula(case: Case) -> None:
    """The course is the peer's, with a learning rate that changes midway."""
    with ao.engine("array"):
        found = of_ours(case, 12, preset=case.preset)
    assert apart(found, RUNS[case.preset](case, 12)) < case.target


def test_every_preset_of_a_library_is_compared() -> None:
    """A new one needs a case."""
    compared = {(case.ours, case.preset) for case in CASES}
    assert compared == {pair for pair in FORMS if pair[1] in RUNS}


def test_the_table_is_of_these_cases() -> None:
    """It has a row for each, and none is off the target."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("   * - `")]
    assert rows == [f"   * - `{case.ours}`" for case in CASES]
    heads = [i for i, line in enumerate(lines) if line.startswith("   * - `")]
    for i, case in zip(heads, CASES, strict=True):
        assert float(lines[i + 1].split("- ")[1]) < case.target


@pytest.mark.parametrize(("name", "preset"), FORMS)
def test_a_form_is_another_formula(name: str, preset: str) -> None:
    """A preset with a form of its own changes the numbers, and one without changes none."""
    flag = {"amsgrad": True} if name == "Adam" else {}
    own = {"weight_decay": 0.1, "momentum": 0.5, "l2_regularization_strength": 0.1, **flag}
    # The defaults of no preset, so that only formulas are left to differ.
    usual = {k: h.default for k, h in cls_of(name).hyperparameters.items() if h.elsewhere}
    words = usual | {k: v for k, v in own.items() if k in cls_of(name).hyperparameters}
    words.pop("lr", None)
    found = []
    for chosen in (preset, None):
        opt, params = (
            make(name, preset=chosen, lr=lambda t: 0.1 / (1 + t), **words),
            np.ones((2, 3)),
        )
        with ao.engine("array"):
            for t in range(8):
                params = opt.apply(np.cos(np.arange(6.0) + t).reshape(2, 3), params)
        found.append(params)
    same = cls_of(name).presets[preset] == "" or (name, preset) in OF_SHAPES
    assert np.array_equal(*found) == same


def test_what_a_preset_leaves() -> None:
    """Names of hyperparameters stay, and what is set later; a config says so."""
    plain, opt = ao.RMSprop(), ao.RMSprop(preset="keras3")
    assert opt.get_config() == plain.get_config() | {"preset": "keras3", "epsilon": 1e-7}
    assert repr(opt).endswith("decay=0.0, preset='keras3')")
    assert ao.RMSprop.from_config(opt.get_config()).preset == "keras3"
    plain.preset = "torch"
    assert (plain.lr, plain.rho) == (0.001, 0.9)


@pytest.mark.parametrize("preset", ["keras3", "optax", "torch"])
def test_defaults_come_along(name: str, preset: str) -> None:
    """A configuration gives them back; those that differ only there are named where they do not."""
    if preset not in cls_of(name).presets:
        return
    opt = cls_of(name)(preset=preset)
    wanted = {k: h.default_under(preset) for k, h in cls_of(name).hyperparameters.items()}
    assert opt._hyper == wanted | {"preset": preset}
    again = cls_of(name).from_config(opt.get_config())
    assert again._hyper == opt._hyper
    bare = cls_of(name)()
    bare.preset = preset
    assert cls_of(name).from_config(bare.get_config())._hyper == bare._hyper


def test_a_preset_that_a_class_lacks(name: str) -> None:
    """It is refused by name, and nothing has changed."""
    for preset in {"keras2", "keras3", "optax", "paper", "torch"} - set(cls_of(name).presets):
        with pytest.raises(ValueError, match=f"^{name} has no preset {preset!r}; it has "):
            make(name, preset=preset)
    opt = make(name)
    with pytest.raises(ValueError, match=r"preset must be 'keras2' or .* or None, got 'mxnet'"):
        opt.preset = "mxnet"
    assert opt.preset is None


def test_a_form_of_a_group() -> None:
    """The optimizer of a group has a preset of its own; numbers of a group reach the form."""
    outer = ao.SGD(lr=0.1, groups=[ao.group("b", optimizer=ao.Adagrad(preset="keras3"))])
    alone = ao.Adagrad(preset="keras3")
    params = outer.apply({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
    assert np.array_equal(params["b"], alone.apply(np.ones(2), np.ones(2)))
    for name in ("Rprop", "ASGD"):
        opt = make(name, lr=0.5, preset="torch", groups=[ao.group("b", lr=0.25)])
        params = opt.apply({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
        assert np.all(params["b"] >= 0.75 - 1e-4)
        assert np.all(params["b"] <= 0.75)


def test_a_state_of_another_form(tmp_path: Any) -> None:
    """Where the slots mean something else they have another name, so that none is mistaken."""
    opt, params = ao.SGD(momentum=0.9, preset="torch"), np.ones(3)
    opt.apply(np.ones(3), params)
    opt.save_weights(tmp_path / "state.h5")
    again = ao.load(tmp_path / "state.h5")
    assert again.preset == "torch"
    other = ao.SGD(momentum=0.9)
    other.init(params)
    with pytest.raises(ValueError, match="momentum_buffer"):
        other.load_weights(tmp_path / "state.h5", hyperparameters=False)
    opt.preset = None
    with pytest.raises(ValueError, match="momentum_buffer"):
        opt.apply(np.ones(3), params)


def test_a_file_keeps_defaults_of_a_preset(tmp_path: Any) -> None:
    """A file leaves out what is the default, which is that of its preset."""
    opt, params = ao.Adagrad(preset="optax"), np.ones(3)
    opt.apply(np.ones(3), params)
    opt.save_weights(tmp_path / "state.h5")
    again = ao.Adagrad(initial_accumulator_value=0.5)
    again.load_weights(tmp_path / "state.h5")
    assert again._hyper == opt._hyper
