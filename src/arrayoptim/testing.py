"""Conformance checks for optimizers, both this library's and your own.

`check_optimizer` verifies what every user relies on: that the rule conforms to the grammar that all
engines share, that configuration and state survive a round trip, that a resumed run equals an
uninterrupted one, that the pure form agrees with `apply`, and that steps lower a loss.

Examples
--------
>>> import arrayoptim as ao
>>> from arrayoptim.testing import check_optimizer
>>> check_optimizer(ao.Adam)
"""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .optimizer import Optimizer
from .rules.grammar import grammar_errors
from .rules.rule import Rule
from .step.session import session_of

__all__ = ["CHECKS", "check_optimizer"]

Make = Callable[[], Optimizer]

_MANY = 60
"""Steps after which even rarely updated slots must have changed."""

_SHAPES: dict[str, tuple[int, ...]] = {
    "kernel": (3, 4),
    "bias": (4,),
    "scale": (),
    "none": (0, 2),
    "filters": (2, 3, 2),
    "second": (3, 4),
}


def check_optimizer(cls: type[Optimizer], **hyperparameters: Any) -> None:
    """Run all checks of this module on an optimizer class.

    Parameters
    ----------
    cls : type
        A subclass of `arrayoptim.Optimizer`.
    **hyperparameters
        Arguments of the constructor.

    Raises
    ------
    AssertionError
        If a check fails; the message names the check and what was found.
    """

    def make() -> Optimizer:
        return cls(**hyperparameters)

    for check in CHECKS:
        try:
            check(make)
        except Exception as error:
            raise AssertionError(f"{cls.__name__}: {check.__name__}: {error}") from error


def rule_keeps_to_the_grammar(make: Make) -> None:
    """Each rule is straight-line, without literals, in the exact vocabulary; see `rule`."""
    errors = [fault for rule in _rules(make()) for fault in grammar_errors(rule)]
    _require(not errors, "; ".join(errors))


def coefficients_are_complete(make: Make) -> None:
    """Every coefficient of each rule is computed, and is a finite number at the first steps."""
    optimizer = make()
    for it in (0, 1, 1000):
        optimizer.iterations = it
        totals = optimizer.rule.totals
        found, other = (_coefficients(optimizer, it, total) for total in (0.0, 1.0))
        early = {*optimizer.rule.direction_names, *optimizer.rule.measure_names} if totals else ()
        changed = sorted(name for name in early if found[name] != other[name])
        _require(not changed, f"{changed} depend on totals, and are wanted before these are known")
        given = {name for rule in _rules(optimizer) for name in rule.given}
        wanted = {*given, *optimizer.initial_scalars()}
        missing = wanted - set(found)
        _require(not missing, f"coefficients lack {sorted(missing)}")
        _require(
            all(np.isfinite(float(value)) for value in found.values()), f"{found} at step {it}"
        )


def coefficients_are_taken(make: Make) -> None:
    """Some rule of the class takes every coefficient; none is named like a stage's number."""
    optimizer = make()
    found = _coefficients(optimizer, 0, 0.0)
    surplus = sorted(set(found) - _taken(optimizer) - set(optimizer.initial_scalars()))
    _require(not surplus, f"no rule found of the class takes {', '.join(surplus)}")


def config_survives(make: Make) -> None:
    """`from_config` undoes `get_config`, and unknown keywords are rejected."""
    optimizer = make()
    config = optimizer.get_config()
    before = dict(config)
    again = type(optimizer).from_config(config)
    _require(again.get_config() == before == config, f"{again.get_config()} is not {before}")
    try:
        type(optimizer).from_config({"no_such_hyperparameter": 1})
    except TypeError:
        return
    raise AssertionError("an unknown keyword was accepted")


def steps_keep_shape_and_dtype(make: Make) -> None:
    """Two steps change parameters in place and keep their shape and dtype."""
    for dtype in ("float16", "float32", "float64", "complex64", "complex128"):
        optimizer, params = make(), _tree(0, dtype)
        before = copy.deepcopy(params)
        with np.errstate(over="ignore"):
            result = optimizer.apply(_tree(1, dtype), params)
            # The first step of some rules only initializes their state.
            result = optimizer.apply(_tree(2, dtype), result)
        _require(result is params, "NumPy parameters were not updated in place")
        for path, p in params.items():
            _require(p.dtype == dtype, f"{path} became {p.dtype}")
            _require(p.shape == before[path].shape, f"{path} became {p.shape}")
            _require(np.all(np.isfinite(p)), f"{path} in {dtype} is not finite after two steps")
        moved = any(np.any(p != before[path]) for path, p in params.items())
        _require(moved or dtype == "float16", f"no parameter of {dtype} moved")


def missing_gradients_change_nothing(make: Make) -> None:
    """A gradient of None leaves its parameter and the parameter's slots unchanged."""
    optimizer, params = make(), _tree(0)
    optimizer.apply(_tree(1), params)
    kept, weights = copy.deepcopy(params), _slots(optimizer)
    optimizer.apply(dict.fromkeys(params), params)
    _equal(params, kept)
    _equal(_slots(optimizer), weights)


def zero_gradients_change_nothing(make: Make) -> None:
    """A first gradient of zero, without decay, moves nothing if `rests` is True."""
    optimizer, params = _bare(make), _tree(0)
    kept = copy.deepcopy(params)
    optimizer.apply({path: np.zeros_like(p) for path, p in params.items()}, params)
    if optimizer.rests:
        _equal(params, kept)


def slots_are_updated(make: Make) -> None:
    """Each slot changes within some steps, except initial values and what the caller supplies."""
    optimizer, params = _bare(make), _tree(0)
    starts, state = optimizer.initial_slots(), optimizer.init_state(params)
    first = state["slots"]
    names = {name for rule in _rules(optimizer) for name in rule.slots}
    still = {name for name in names if starts.get(name) != "parameter"} - {*optimizer.supplied}
    for step in range(_MANY):
        params, state = optimizer.stateless_apply(state, _tree(1 + step), params)
        for name in sorted(still):
            pairs = [(state["slots"][name][path], x) for path, x in first[name].items()]
            if any(x is not None and np.any(new != x) for new, x in pairs):
                still.remove(name)
        if not still:
            return
    slots = f"the slot {min(still, default='')} is what it was"
    _require(not still, f"{slots} after {_MANY} steps")


def loss_goes_down(make: Make) -> None:
    """Ten steps reduce the distance to a point, for parameters of each shape."""
    optimizer, params, goal = _bare(make), _tree(0), _tree(1)
    # From zero, where some rules must start; a distant, flat loss, so few step sizes are too large.
    params = {path: np.zeros_like(p) for path, p in params.items()}
    for _ in range(10):
        grads = {path: 0.01 * p - goal[path] for path, p in params.items()}
        optimizer.apply(grads, params)
    for path, p in params.items():
        start, end = (np.sum((0.01 * x - goal[path]) ** 2) for x in (0.0 * p, p))
        lower = f"the squared distance of {path} went from {start} to {end} in ten steps"
        _require(end < start or not p.size, f"{lower}; wanted less, with this lr")


def resume_is_exact(make: Make) -> None:
    """A run resumed at any step, from list or file, equals the uninterrupted one bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.h5"
        for stop in range(1, 5):
            whole, params = make(), _tree(0)
            for step in range(1, stop + 1):
                whole.apply(_tree(step), params)
            whole.save_weights(file)
            listed, loaded = make(), make()
            listed.init(params)
            listed.set_weights(whole.get_weights())
            loaded.load_weights(file)
            resumed = [copy.deepcopy(params) for _ in range(2)]
            for step in range(stop + 1, 7):
                whole.apply(_tree(step), params)
                listed.apply(_tree(step), resumed[0])
                loaded.apply(_tree(step), resumed[1])
            for other, copied in zip((listed, loaded), resumed, strict=True):
                _equal(copied, params)
                _equal(other.get_weights(), whole.get_weights())


def copies_are_independent(make: Make) -> None:
    """`pickle` and `copy.deepcopy` make independent optimizers that continue alike."""
    optimizer, params = make(), _tree(0)
    optimizer.apply(_tree(1), params)
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        own = copy.deepcopy(params)
        other.apply(_tree(2), own)
        _require(other.iterations == optimizer.iterations + 1, "the copy shares its counter")


def pure_form_agrees(make: Make) -> None:
    """`stateless_apply` agrees with `apply`, and changes none of its arguments."""
    optimizer, params = make(), _tree(0)
    pure, state = copy.deepcopy(params), make().init_state(params)
    for step in range(1, 4):
        kept = copy.deepcopy((pure, state))
        new_pure, new_state = make().stateless_apply(state, _tree(step), pure)
        _equal(pure, kept[0])
        _equal(state["slots"], kept[1]["slots"])
        pure, state = new_pure, new_state
        optimizer.apply(_tree(step), params)
    _equal(pure, params)


CHECKS: tuple[Callable[[Make], None], ...] = (
    rule_keeps_to_the_grammar,
    coefficients_are_complete,
    coefficients_are_taken,
    config_survives,
    steps_keep_shape_and_dtype,
    missing_gradients_change_nothing,
    zero_gradients_change_nothing,
    slots_are_updated,
    loss_goes_down,
    resume_is_exact,
    copies_are_independent,
    pure_form_agrees,
)
"""The checks, each a function of an optimizer factory."""


def _require(condition: Any, message: str) -> None:
    # Not an assert statement: these checks must work under `python -O` too.
    if not condition:
        raise AssertionError(message)


def _rules(optimizer: Optimizer) -> list[Rule]:
    """Return the rules of parameters of all shapes, each once."""
    found = [optimizer.rule_for(path, shape) for path, shape in _SHAPES.items()]
    return list(dict.fromkeys([optimizer.rule, *found]))


def _bare(make: Make) -> Optimizer:
    """Make the optimizer without options that move parameters besides their gradients."""
    optimizer = make()
    off: dict[str, Any] = {"l2": None, "constraint": None, "groups": ()}
    # Some parameters may have their own decay.
    off |= {name: 0.0 for name in optimizer.hyperparameters if name.endswith("weight_decay")}
    for name, nothing in off.items():
        if session_of(optimizer).settings.whole[name]:
            setattr(optimizer, name, nothing)
    return optimizer


def _coefficients(optimizer: Optimizer, it: int, total: float) -> dict[str, Any]:
    """Compute the coefficients of a step, with the same value for all totals."""
    settings = session_of(optimizer).settings
    # As in a step: schedules are evaluated, and None is replaced by its value in the compute dtype.
    exact = settings.effective(settings.at(it, settings.initial_scalars()), it)[0]
    values = settings.rounded(0, exact, "float64", np)
    scalars = optimizer.initial_scalars() | dict.fromkeys(optimizer.rule.totals, total)
    return optimizer.coefficients(SimpleNamespace(**values), it, scalars, np)


def _taken(optimizer: Optimizer) -> set[str]:
    """Return the names that a class's rules take, over all rules that it can choose from."""
    rules = set(_rules(optimizer))
    for base in type(optimizer).__mro__:
        own = vars(base)
        if isinstance(own.get("rule"), Rule):
            rules.add(own["rule"])
        if isinstance(own.get("rule"), property) or "rule_for" in own:
            chosen = own.get("rule_for"), getattr(own.get("rule"), "fget", None)
            rules.update(rule for function in chosen for rule in _seen(function))
    return {name for rule in rules for name in rule.given}


def _seen(function: Any) -> list[Rule]:
    """Return the rules in a function's globals and closure."""
    if function is None:
        return []
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [x for x in [*function.__globals__.values(), *cells] if isinstance(x, Rule)]


def _tree(seed: int, dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tree = {}
    for path, shape in _SHAPES.items():
        values = rng.normal(size=shape)
        if dtype.startswith("complex"):
            values = values + 1j * rng.normal(size=shape)
        tree[path] = np.asarray(values).astype(dtype)
    return tree


def _slots(optimizer: Optimizer) -> list[np.ndarray]:
    return optimizer.get_weights()[1 + len(session_of(optimizer).scalars) :]


def _equal(found: Any, wanted: Any) -> None:
    pairs = (
        [(path, found[path], wanted[path]) for path in wanted]
        if isinstance(wanted, dict)
        else [(str(i), *pair) for i, pair in enumerate(zip(found, wanted, strict=True))]
    )
    for path, a, b in pairs:
        if isinstance(b, dict):
            _equal(a, b)
        elif b is None:  # the rule of this parameter lacks the slot
            _require(a is None, f"{path}: found {a!r}, wanted None")
        else:
            same = np.array_equal(a, b, equal_nan=True)
            _require(same, f"{path}: found {a!r}, wanted {b!r}")
