"""Parametrisation over backends, dtypes and registered optimizers.

A test that takes `backend`, `dtype` or `name` runs once for each that exists; a backend
that is not chosen, or a dtype that a backend lacks, is not collected. `name` with `kwargs`
goes through the variants of each optimizer, `engine` through the engines of a backend that serve,
`half` stands for the 16-bit dtypes, `complex_dtype` for the complex ones, `viewing` for the
backends whose arrays may be views. `on_gpu` is one whose arrays the GPU engine serves: an emulation
where there is no GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES
from backends import BACKENDS, HALVES, TestBackend, emulated, on_gpus
from gpu_on_host import NumPyOnHost
from optimizers_under_test import CASES, NAMES, USUAL, fused, rules_of

collect_ignore_glob = (
    [] if any(b.name == "torch" for b in BACKENDS) else ["adapters/test_torch_*.py"]
)
# Scripts that record what other packages compute, and need those packages.
collect_ignore = ["golden_peers"]

USUAL_RULES = rules_of([case for case in CASES if case[0] in USUAL and "preset" not in case[1]])

settings.register_profile(
    "suite",
    deadline=None,  # the first example of a backend compiles
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Have what torch draws come the same each time; NumPy's generators have seeds of their own."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(1)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> NumPyOnHost:
    """Take NumPy arrays for arrays on GPUs, and the host for these."""
    library = NumPyOnHost()
    monkeypatch.setitem(LIBRARIES, "numpy", library)
    return library


@pytest.fixture(params=on_gpus() or [pytest.param(None, marks=pytest.mark.needs("none"))], ids=str)
def on_gpu(request: pytest.FixtureRequest) -> Iterator[TestBackend]:
    """Yield arrays that the GPU engine serves."""
    if not isinstance(request.param, str):
        yield request.param
        return
    with emulated(request.param) as backend:
        yield backend


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of tests that are about one backend."""
    config.addinivalue_line("markers", "needs(backend): collected where the backend is chosen")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill in what the test does not choose itself."""
    marks = metafunc.definition.iter_markers("parametrize")
    own = {word.strip() for mark in marks for word in _words(mark.args[0])}
    wanted = set(metafunc.fixturenames) - own
    needs = {mark.args[0] for mark in metafunc.definition.iter_markers("needs")}
    backends = [b for b in BACKENDS if not needs or b.name in needs]
    if {"name", "kwargs", "backend", "dtype"} <= wanted:
        # Variants differ in their rules, not in how arrays are stored: one dtype tries them.
        rows = [
            (*case, b, d) for case in CASES for b in backends for d in b.dtypes
            if not case[1] or d == "float32"
        ]  # fmt: skip
        _parametrize(metafunc, "name,kwargs,backend,dtype", rows)
        return
    if {"name", "kwargs"} <= wanted:
        _parametrize(metafunc, "name,kwargs", CASES)
    elif "name" in wanted:
        _parametrize(metafunc, "name", [(name,) for name in NAMES])
    if "viewing" in wanted:
        _parametrize(metafunc, "viewing", [(b,) for b in backends if b.views])
    if {"backend", "dtype"} <= wanted:
        _parametrize(metafunc, "backend,dtype", [(b, d) for b in backends for d in b.dtypes])
    elif {"backend", "complex_dtype"} <= wanted:
        pairs = [(b, d) for b in backends for d in b.dtypes if d.startswith("complex")]
        _parametrize(metafunc, "backend,complex_dtype", pairs)
    elif {"backend", "half"} <= wanted:
        halves = [(b, d) for b in backends for d in b.dtypes if d in HALVES]
        _parametrize(metafunc, "backend,half", halves)
    elif {"backend", "engine"} <= wanted:
        _parametrize(metafunc, "backend,engine", [(b, e) for b in backends for e in b.engines])
    elif "backend" in wanted:
        _parametrize(metafunc, "backend", [(b,) for b in backends])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests of backends that are not chosen; mark those of most optimizers."""
    names = {backend.name for backend in BACKENDS}
    items[:] = [
        item
        for item in items
        if all(m.args[0] in names for m in item.iter_markers("needs")) and _served(item)
    ]
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters and not _usual(**parameters.params):
            item.add_marker("every")


def _usual(
    name: Any = None, kwargs: Any = None, rule: Any = None, ref: Any = None, **_: Any
) -> bool:
    """Return whether a test is about an optimizer that quick tests try, as Keras 2 had it."""
    if isinstance(rule, ao.Rule):
        return rule in USUAL_RULES
    preset = "preset" in (kwargs or {}) or getattr(ref, "preset", None)
    return name not in NAMES or (name in USUAL and not preset)


def _parametrize(metafunc: pytest.Metafunc, names: str, rows: Sequence[tuple[Any, ...]]) -> None:
    ids = ["-".join(word for value in row for word in _label(value)) for row in rows]
    # pytest would skip a test with no rows: one that nothing needs takes their place.
    none = [pytest.param(*[None] * len(names.split(",")), marks=pytest.mark.needs("none"))]
    metafunc.parametrize(names.split(","), rows or none, ids=ids or ["none"])


def _served(item: pytest.Item) -> bool:
    """Return whether the engine that a test asks for serves what the test is about."""
    parameters = getattr(item, "callspec", None)
    found = parameters.params if parameters else {}
    engine, constraint = found.get("engine"), found.get("constraint")
    name = found.get("name") or (found.get("run") or {}).get("name")
    if engine not in ("cpu", "gpu"):
        return True
    if constraint is not None and constraint.limits is None:
        return False
    return name not in NAMES or fused(name, engine)


def _label(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else [str(value)]


def _words(names: str | Sequence[str]) -> Sequence[str]:
    return names.split(",") if isinstance(names, str) else names
