"""The registered optimizers and their variants, found and never listed."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayoptim as ao
from arrayoptim.engines.gpu.engine import unprintable
from backends import TestBackend

NAMES = ao.names()


def cls_of(name: str) -> type[Any]:
    """Return the class registered under a name."""
    return type(ao.get(name))


def make(name: str, /, **hyper: Any) -> Any:
    """Return a new optimizer."""
    return cls_of(name)(**hyper)


def numeric(name: str) -> list[str]:
    """Return the names of the hyperparameters that are numbers, but for one.

    With ``skip_loss_spikes`` each step has to be told a loss: see `test_loss_guard`.
    """
    declared = cls_of(name).hyperparameters.items()
    return [key for key, hyper in declared if hyper.numeric and key != "skip_loss_spikes"]


def together(name: str) -> bool:
    """Return whether a parameter's step depends on all parameters."""
    return bool(make(name).rule.totals)


EXTRA = {
    "schedule_decay": 0.02,
    "mom_iter_max": 6,
    "momentum": 0.7,
    "alpha_warmup": 4,
    "beta_3_warmup": 4,
}
"""Values under which an optional hyperparameter shows: those whose default turns something off."""


def variants(name: str) -> list[dict[str, Any]]:
    """Return keyword arguments that reach every rule of a class: its own flags and options."""
    every = cls_of(name).hyperparameters
    own = {key: hyper for key, hyper in every.items() if key not in OPTIONS}
    flags = [
        {key: not hyper.default} for key, hyper in own.items() if isinstance(hyper.default, bool)
    ]
    off = [{key: EXTRA[key]} for key, hyper in own.items() if key in EXTRA and not hyper.default]
    found: list[dict[str, Any]] = [{}, *flags, *off]
    return found + [kwargs for preset in forms(name) for kwargs in _reaching(name, preset, found)]


def forms(name: str) -> list[str]:
    """Return one preset for each form of a class that is not the one without a preset."""
    return list({form: preset for preset, form in cls_of(name).presets.items() if form}.values())


def _reaching(name: str, preset: str, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the preset by itself, and with what else reaches further rules."""
    reached = {make(name, **kwargs).rule for kwargs in known}
    found = [{**kwargs, "preset": preset} for kwargs in known]
    return [kw for kw in found if kw == found[0] or make(name, **kw).rule not in reached]


USUAL = ("SGD", "RMSprop", "Adam", "Nadam", "LAMB", "Adafactor")
"""What quick tests try: some of Keras 2, and one of each other kind; recordings are of all."""

OPTIONS = ao.Optimizer.hyperparameters
"""What every class inherits."""
CASES = [(name, kwargs) for name in NAMES for kwargs in variants(name)]


def rules_of(cases: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Return the rules of classes with keyword arguments, for all shapes of parameters."""
    opts = [make(name, **kwargs) for name, kwargs in cases]
    return list(dict.fromkeys(opt.rule_for("", shape) for opt in opts for shape in SHAPES))


def fused(name: str, engine: str = "cpu") -> bool:
    """Return whether a fused engine serves parameters of all shapes."""
    rules = rules_of([(name, {})])
    if engine == "gpu":
        return all(unprintable(rule) is None for rule in rules)
    return all(rule.kind != "matrix" for rule in rules)


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Assert that two lists of arrays agree to the last bit, dtypes and NaN included."""
    assert len(found) == len(wanted)
    for place, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.dtype == b.dtype and a.shape == b.shape
        # A bare assertion would have pytest compare the bytes line by line, for minutes.
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            raise AssertionError(f"array {place}: found {a!r}, wanted {b!r}")


def snapshot(opt: Any) -> tuple[list[np.ndarray], dict[str, Any], int, int]:
    """Return all that an optimizer holds, copied."""
    weights = [np.array(weight) for weight in opt.get_weights()] if opt.built else []
    return weights, opt.get_config(), opt.iterations, opt.skipped


def unchanged(opt: Any, before: tuple[list[np.ndarray], dict[str, Any], int, int]) -> None:
    """Assert that an optimizer holds what it held."""
    after = snapshot(opt)
    same(after[0], before[0])
    assert after[1:] == before[1:]


SHAPES = [(2, 3), (), (4,)]


def draw(
    seed: int, shapes: list[tuple[int, ...]] | None = None, scale: float = 1.0
) -> list[np.ndarray]:
    """Return one random float64 array per shape."""
    rng = np.random.default_rng(seed)
    return [np.asarray(scale * rng.standard_normal(shape)) for shape in shapes or SHAPES]


def draw_for(seed: int, dtype: str, scale: float = 1.0) -> list[np.ndarray]:
    """Return random arrays fit for a dtype: complex values for a complex one."""
    real = draw(seed, scale=scale)
    if not dtype.startswith("complex"):
        return real
    return [a + 1j * b for a, b in zip(real, draw(seed + 1000, scale=scale), strict=True)]


def mixed(backend: TestBackend, seed: int) -> list[Any]:
    """Return one array of each dtype of a backend, for trees that compile once for all of them."""
    drawn = [draw_for(seed + i, dtype)[i % len(SHAPES)] for i, dtype in enumerate(backend.dtypes)]
    return [backend.asarray(a, dtype) for a, dtype in zip(drawn, backend.dtypes, strict=True)]


def train(
    opt: Any, backend: TestBackend, params: Any, steps: range, dtype: str, scale: float = 1.0
) -> Any:
    """Return the parameters after steps with gradients that depend on the step number only."""
    for step in steps:
        params = opt.apply(backend.tree(draw_for(100 + step, dtype, scale), dtype), params)
    return params
