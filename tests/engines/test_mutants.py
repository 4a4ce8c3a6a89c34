"""Rules broken on purpose: every changed operator and every swap of slots must be noticed."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import Rule
from backends import NUMPY
from golden_cases import GOLDEN, build, replay
from optimizers_under_test import NAMES, cls_of, make
from reference_checks import STEPS, WIDTH, compare
from references import REFERENCES, Reference

CHANGES = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
CALLS = {"maximum": "minimum", "minimum": "maximum", "sqrt": "square", "square": "sqrt"}
HYPER = {
    "lr": 0.1,
    "decay": 0.2,
    "momentum": 0.8,
    "nesterov": True,
    "amsgrad": True,
    "centered": True,
    "mom_iter_max": 4,
    "schedule_decay": 0.5,
    "threshold": 4.0,  # the paper's
    "beta_1": 0.7,
    "beta_2": 0.9,
    "rho": 0.6,
    "epsilon": 1e-3,
    "epsilon_1": 1e-3,
    "epsilon_2": 0.1,
    "clip_threshold": 0.95,
    "beta_2_decay": -0.5,
    "ns_steps": 2,
    "precondition_frequency": 2,
    "update_probability": 0.5,
    "balance_frequency": 2,
    "max_precondition_dim": 3,
    "trust_coefficient": 0.05,
    "lambd": 0.3,
    "t0": 1.0,
    "initial_accumulator_value": 0.5,
    "l1_regularization_strength": 0.2,
    "l2_regularization_strength": 0.3,
    "l2_shrinkage_regularization_strength": 0.4,
    "beta": 0.5,
    "gamma": 0.3,
    "optimize_1d": True,
    "step_min": 0.04,
    "step_max": 0.13,
    "warmup_steps": 2,
    "r": 1.0,
    "weight_decay": 0.3,
}

OWN = {"Sophia": {"epsilon": 0.8}}
"""Where those would hide something, as that every entry is clipped."""


def function_of(rule: Rule, part: str = "function") -> ast.FunctionDef:
    """Return the syntax tree of a part of a rule, without decorators."""
    source = textwrap.dedent(inspect.getsource(getattr(rule, part)))
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef))
    node.decorator_list = []
    return node


def compiled(rule: Rule, node: ast.FunctionDef, label: str, part: str = "function") -> Rule:
    """Return a rule with another body, whose source engines can still read."""
    source = ast.unparse(ast.fix_missing_locations(node)) + "\n"
    filename = f"<mutant of {rule.name}: {label}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    scope = rule.function.__globals__ | inspect.getclosurevars(rule.function).nonlocals
    exec(compile(source, filename, "exec"), scope)
    return replace(rule, **{part: scope[node.name]})


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Yield every mutant of a rule: one operator or one call changed, or two slots swapped."""
    parts = [part for part in ("function", "direction", "ratio") if getattr(rule, part)]
    for part in parts:
        yield from changed(rule, part)
    for i in range(len(rule.slots) - 1):
        body = function_of(rule)
        names = body.args.args
        names[2 + i], names[3 + i] = names[3 + i], names[2 + i]
        label = f"{rule.slots[i]} and {rule.slots[i + 1]} swapped on entry"
        yield label, compiled(rule, body, label)
        body = function_of(rule)
        values = body.body[-1].value.elts
        values[1 + i], values[2 + i] = values[2 + i], values[1 + i]
        label = f"{rule.slots[i]} and {rule.slots[i + 1]} swapped on return"
        yield label, compiled(rule, body, label)


def changed(rule: Rule, part: str) -> Iterator[tuple[str, Rule]]:
    """Yield the mutants in which one operator or call of a part is another one."""
    for index, node in enumerate(ast.walk(function_of(rule, part))):
        body = function_of(rule, part)
        twin = list(ast.walk(body))[index]
        before = ast.unparse(node)
        if isinstance(twin, ast.BinOp) and type(twin.op) in CHANGES:
            twin.op = CHANGES[type(twin.op)]()
        elif isinstance(twin, ast.UnaryOp) and not isinstance(twin.operand, ast.Constant):
            assert isinstance(twin.op, ast.USub)
            twin.op = ast.UAdd()
        elif isinstance(twin, ast.Attribute) and twin.attr in CALLS:
            twin.attr = CALLS[twin.attr]
        else:
            continue
        label = f"{before} -> {ast.unparse(twin)}"
        yield label, compiled(rule, body, label, part)


def survives(check: Any) -> bool:
    """Whether a check passes; warnings of arithmetic on nonsense do not count."""
    try:
        with np.errstate(all="ignore"):
            check()
    except (AssertionError, OverflowError, ZeroDivisionError, ValueError):
        return False
    return True


def table() -> tuple[list[float], list[list[float]]]:
    """Return start values and gradients."""
    rng = np.random.default_rng(11)
    start, grads = rng.normal(size=WIDTH), rng.normal(size=(STEPS, WIDTH))
    grads[0, 0] = 0.0  # only of zero is the sign not its own inverse
    return start.tolist(), grads.tolist()


PAIRS = [(name, ref) for name in NAMES for ref in REFERENCES.get(name, [])]
PAIR_IDS = [f"{name}-{ref}" for name, ref in PAIRS]


@pytest.mark.parametrize(("name", "ref"), PAIRS, ids=PAIR_IDS)
def test_references_notice(name: str, ref: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mutant of any variant's rule agrees with the reference."""
    defaults = cls_of(name).hyperparameters
    known = HYPER | OWN.get(name, {})
    hyper = {key: known.get(key, defaults[key].default) for key in ref.hyper}
    start, grads = table()
    # What a trust ratio cancels shows in a tensor of zeros, which has none.
    starts = [start, [0.0] * WIDTH] if ref.whole and ref.shape is None else [start]

    def check() -> None:
        for each in starts:
            compare(name, ref, NUMPY, hyper, each, grads)

    rule = make(name, **hyper, **ref.words).rule_for("", ref.shape or (WIDTH,))
    with ao.engine("array"):
        check()
        found = list(mutants(rule))
        assert found
        for label, mutant in found:
            monkeypatch.setattr(cls_of(name), "rule_for", lambda *_, mutant=mutant: mutant)
            assert not survives(check), label


def recorded(name: str) -> dict[str, Any] | None:
    """Return a recorded case without clipping, that decays where one does."""
    found = [
        case
        for case in GOLDEN.index["cases"]
        if case["class_name"] == name
        and case["floatx"] == "float64"
        and not case["events"]
        and not case["kwargs"].keys() & {"clipnorm", "clipvalue"}
    ]
    best = max(found, key=lambda case: len(case["kwargs"]), default=None)
    return None if best is None else GOLDEN.case(best["id"])


GOLDEN_NAMES = [name for name in NAMES if recorded(name)]


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_data_notice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mutant agrees with what Keras or natural_bm recorded."""
    case = recorded(name)
    assert case is not None
    with ao.engine("array"):
        replay(case, NUMPY)
        for label, mutant in mutants(build(case).rule):
            monkeypatch.setattr(cls_of(name), "rule", mutant)
            assert not survives(lambda: replay(case, NUMPY)), label
