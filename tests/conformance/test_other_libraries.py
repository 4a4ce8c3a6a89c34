"""Libraries that their users make known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays import libraries
from optimizers_under_test import cls_of, draw


class Array:
    """An array of a library of its own, which NumPy does not take for one of its own."""

    __array_ufunc__ = None

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    dtype = property(lambda self: self.values.dtype)
    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    device = "here"

    def __array_namespace__(self) -> Any:
        return NAMESPACE

    def __getitem__(self, key: Any) -> Array:
        return Array(self.values[_plain(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.values[_plain(key)] = _plain(value)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __float__(self) -> float:
        return float(self.values)

    def astype(self, dtype: Any, copy: bool = True) -> Array:
        return Array(self.values.astype(dtype, copy=copy))


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, Array) else value


def _function(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("device", None)
        args = tuple([_plain(x) for x in a] if isinstance(a, list) else _plain(a) for a in args)
        found = function(*args, **kwargs)
        return Array(found) if isinstance(found, np.ndarray | np.generic) else found

    return call


FUNCTIONS = (
    *("abs", "asarray", "copysign", "expm1", "finfo", "isfinite", "log", "maximum", "minimum"),
    *("ones_like", "reshape", "sign", "sqrt", "square", "stack", "sum", "where", "zeros"),
    "zeros_like",
)
NAMESPACE = SimpleNamespace(
    float32=np.dtype("float32"),
    float64=np.dtype("float64"),
    **{name: _function(name) for name in FUNCTIONS},
)


def _operator(function: Callable[..., Any], swapped: bool = False) -> Callable[..., Array]:
    def operate(self: Array, other: Any) -> Array:
        pair = (_plain(other), self.values) if swapped else (self.values, _plain(other))
        return Array(function(*pair))

    return operate


for _word, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "gt": np.greater,
    "lt": np.less,
    "ge": np.greater_equal,
    "eq": np.equal,
    "and": np.logical_and,
}.items():
    setattr(Array, f"__{_word}__", _operator(_ufunc))
    setattr(Array, f"__r{_word}__", _operator(_ufunc, swapped=True))
Array.__neg__ = lambda self: Array(-self.values)  # type: ignore[method-assign, assignment]


class Mine(ao.Backend):
    """What the library above is told by."""

    name = "mine"
    xp = NAMESPACE

    def to_host(self, x: Any) -> np.ndarray:
        return np.array(x.values)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mine]:
    """Make the library known for one test."""
    monkeypatch.setattr(libraries, "_BACKENDS", dict(libraries._BACKENDS))
    yield Mine()
    libraries._KINDS.clear()


def test_an_unknown_library_is_told_how_to_be_known() -> None:
    with pytest.raises(
        TypeError, match=r"wanted a NumPy, .*added with arrayoptim\.register_backend"
    ):
        ao.SGD().apply([Array([1.0])], [Array([1.0])])


def test_steps_as_on_numpy(mine: Mine, name: str) -> None:
    """A registered library is served by every rule of elements, in place, with stages."""
    if cls_of(name)().rule.kind == "matrix":
        return
    assert ao.register_backend(mine, root=__name__.partition(".")[0]) is mine
    one, two = (ao.get(name) for _ in range(2))
    one.clipnorm = two.clipnorm = 0.5
    params, plain = [Array(x) for x in draw(1)], [np.array(x) for x in draw(1)]
    for step in range(3):
        found = one.apply([Array(g) for g in draw(10 + step)], params)
        with ao.engine("array"):
            plain = two.apply(draw(10 + step), plain)
        assert all(a is b for a, b in zip(found, params, strict=True))
    for a, b in zip(params, plain, strict=True):
        np.testing.assert_allclose(a.values, b, rtol=1e-12)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)


def test_registering_twice(mine: Mine) -> None:
    """The same class replaces itself; another one is an error, as is what is no backend."""
    ao.register_backend(mine)
    again = Mine()
    assert ao.register_backend(again) is again

    class Other(Mine):
        pass

    with pytest.raises(ValueError, match=r"'mine' already have a backend, .*Mine"):
        ao.register_backend(Other())
    for wrong in (Mine, "mine", ao.Backend()):
        with pytest.raises(TypeError, match="wanted an instance of a Backend with a name"):
            ao.register_backend(wrong)  # type: ignore[arg-type]
