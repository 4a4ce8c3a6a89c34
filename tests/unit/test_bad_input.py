"""What callers get wrong: every mistake is named, and changes neither parameters nor state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import cls_of, draw, make, numeric, same, snapshot, together, unchanged

DTYPE = "float32"


def tree_of(backend: TestBackend, seed: int, dtype: str = DTYPE) -> dict[str, Any]:
    """Return a nested tree of fresh arrays."""
    a, b, c = backend.tree(draw(seed), dtype)
    return {"layers": [{"kernel": a, "offset": b}, {"kernel": c}]}


def leaves_of(tree: dict[str, Any]) -> list[Any]:
    """Return the arrays of such a tree."""
    first, second = tree["layers"]
    return [first["kernel"], first["offset"], second["kernel"]]


def trained(name: str, backend: TestBackend, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Return an optimizer after one step, and its parameters."""
    opt = make(name, **kwargs)
    return opt, opt.apply(tree_of(backend, 2), tree_of(backend, 1))


@pytest.fixture
def forced(engine: str) -> Iterator[None]:
    """Run the test on one engine after the other."""
    with ao.engine(engine):
        yield


@contextmanager
def refused(
    kind: type[Exception], words: list[str], opt: Any, tree: Any, backend: TestBackend
) -> Iterator[None]:
    """Assert that the block raises, says all the words and changes nothing."""
    before, values = snapshot(opt), backend.read(leaves_of(tree))
    with pytest.raises(kind) as caught:
        yield
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{caught.value} does not say {missing}"
    same(backend.read(leaves_of(tree)), values)
    unchanged(opt, before)


@pytest.mark.parametrize("shape", [(3, 2), (1, 3), (6,), (2, 3, 1), ()])
def test_gradient_of_another_shape(
    name: str, backend: TestBackend, forced: None, shape: tuple[int, ...]
) -> None:
    """Transposed, broadcastable and raveled gradients are refused alike."""
    opt, params = trained(name, backend, clipnorm=1.0)
    grads = tree_of(backend, 3)
    grads["layers"][0]["kernel"] = backend.asarray(np.ones(shape), DTYPE)
    with refused(ValueError, ["layers/0/kernel", str(shape), "(2, 3)"], opt, params, backend):
        opt.apply(grads, params)


def _drop(grads: dict[str, Any]) -> None:
    del grads["layers"][0]["offset"]


def _add(grads: dict[str, Any]) -> None:
    grads["layers"][0]["offset"] = [grads["layers"][0]["offset"]] * 2


def _shorten(grads: dict[str, Any]) -> None:
    grads["layers"] = grads["layers"][1:]


def _rename(grads: dict[str, Any]) -> None:
    grads["layers"][0]["bias"] = grads["layers"][0].pop("offset")


@pytest.mark.parametrize("spoil", [_drop, _add, _shorten, _rename])
def test_gradient_tree_of_another_structure(
    name: str, backend: TestBackend, forced: None, spoil: Any
) -> None:
    """The message names the path that is missing."""
    opt, params = trained(name, backend)
    grads = tree_of(backend, 3)
    spoil(grads)
    with refused(ValueError, ["layers/0/offset"], opt, params, backend):
        opt.apply(grads, params)


def test_gradient_on_another_device(name: str, backend: TestBackend, forced: None) -> None:
    """The message names the parameter; a library with one device has nothing to refuse."""
    opt, params = trained(name, backend)
    grads = tree_of(backend, 3)
    if backend.elsewhere is None:
        opt.apply(grads, params)
        return
    grads["layers"][1]["kernel"] = backend.elsewhere(np.ones(4, DTYPE))
    with refused(ValueError, ["layers/1/kernel", "device"], opt, params, backend):
        opt.apply(grads, params)


@pytest.mark.parametrize("kind", ["int32", "int64", "bool", "uint8"])
def test_integer_parameters(name: str, backend: TestBackend, kind: str) -> None:
    """Integers cannot be stepped, and the message says which parameter it is."""
    params = tree_of(backend, 1)
    params["layers"][0]["kernel"] = backend.asarray(np.ones((2, 3)), kind)
    before, opt = backend.read(leaves_of(params)), make(name)
    for call in (lambda: opt.init(params), lambda: opt.apply(tree_of(backend, 2), params)):
        with pytest.raises(TypeError, match="layers/0/kernel") as caught:
            call()
        assert kind in str(caught.value)
    same(backend.read(leaves_of(params)), before)
    assert not opt.built
    assert opt.iterations == 0


@pytest.mark.parametrize("width", ["float64", "float32"])
def test_gradient_of_another_width(
    name: str, backend: TestBackend, forced: None, width: str
) -> None:
    """It is cast to the type that the parameter is computed in; the parameter keeps its own."""
    other = "float32" if width == "float64" else "float64"
    values = [g.astype("float32") for g in draw(3)]
    results = []
    for kind in (width, other):
        opt, params = make(name, clipnorm=0.5), backend.tree(draw(1), other)
        for _ in range(2):
            params = opt.apply(backend.tree(values, kind), params)
        results.append((backend.read(params), opt.get_weights()))
    assert all(p.dtype == other for p in results[0][0])
    for a, b in zip(results[0][0] + results[0][1], results[1][0] + results[1][1], strict=True):
        assert a.dtype == b.dtype
        # A norm may be taken before the cast. Eigenvectors of near values make much of that last
        # bit; so do NorMuon's polynomials, whose rows in float32 are off by 1e-6 to 1e-5 anyway.
        rtol = {"SOAP": 2e-2, "Shampoo": 1e-4, "NorMuon": 2e-5}.get(name, 1e-6)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol if rtol > 1e-6 else 0.0)


def test_read_only_arrays(name: str) -> None:
    """A new array comes back; the one that may not be written keeps its values."""
    params, twins = draw(1), draw(1)
    for p in params:
        p.flags.writeable = False
    opt, other = make(name), make(name)
    new = opt.apply(draw(2), params)
    same(params, draw(1))
    assert not any(np.shares_memory(a, b) for a, b in zip(new, params, strict=True))
    same(new, other.apply(draw(2), twins))


def test_the_same_array_twice(name: str, backend: TestBackend) -> None:
    """An array under two paths would be stepped twice; one that cannot be written is not."""
    opt, p = make(name), backend.asarray(np.ones(3), DTYPE)
    params, grads = {"tied": p, "weights": p}, dict.fromkeys(("tied", "weights"), p + 0)
    if not backend.in_place:
        new = opt.apply(grads, params)
        alone = make(name).apply(p + 0, p)
        wanted = new["tied"] if together(name) else alone
        same(backend.read(new.values()), backend.read([wanted, wanted]))
        return
    for call in (lambda: opt.init(params), lambda: opt.apply(grads, params)):
        with pytest.raises(ValueError, match="'tied' and 'weights'"):
            call()
    same(backend.read([p]), [np.ones(3, DTYPE)])
    assert not opt.built


def test_overlapping_memory(name: str, viewing: TestBackend) -> None:
    """Views that share entries are found, views that only share a buffer are not refused."""
    whole = viewing.asarray(np.arange(12.0), DTYPE)
    grad = viewing.asarray(np.ones(6), DTYPE)
    opt = make(name)
    with pytest.raises(ValueError, match="share memory"):
        opt.apply([grad, grad], [whole[:6], whole[5:11]])
    same(viewing.read([whole]), [np.arange(12, dtype=DTYPE)])
    assert not opt.built
    for _ in range(2):  # the first step of some rules only starts their state
        opt.apply([grad, grad], [whole[::2], whole[1::2]])
    assert not np.any(viewing.read([whole])[0] == np.arange(12))


def test_another_parameter_tree(name: str, backend: TestBackend) -> None:
    """The message lists what is new, what is missing and what has another shape."""
    opt, params = trained(name, backend)
    other = tree_of(backend, 1)
    other["new"] = other["layers"][0].pop("offset")
    other["layers"][1]["kernel"] = backend.asarray(np.ones(5), DTYPE)
    words = ["added", "new", "missing", "layers/0/offset", "misshapen", "layers/1/kernel"]
    with refused(ValueError, words, opt, params, backend):
        opt.apply(other, other)
    opt.apply(tree_of(backend, 3), params)


def test_a_pure_step_on_another_tree(name: str, backend: TestBackend) -> None:
    """A state of other shapes, broadcastable ones too, is refused."""
    opt = make(name)
    state = opt.init_state({"w": backend.asarray(np.ones(1), DTYPE)})
    for shape in ((3,), (1, 1), ()):
        params, grads = ({"w": backend.asarray(np.ones(shape), DTYPE)} for _ in range(2))
        with pytest.raises(ValueError, match="w"):
            opt.stateless_apply(state, grads, params)
    params, grads = ({"v": backend.asarray(np.ones(1), DTYPE)} for _ in range(2))
    with pytest.raises(ValueError, match="v"):
        opt.stateless_apply(state, grads, params)


def outside(interval: Any) -> list[float]:
    """Return numbers that an interval excludes."""
    tried = [-1.0, -1e-12, 1.0, 2.0, float("inf"), float("-inf"), float("nan")]
    return [value for value in tried if value not in interval]


def test_hyperparameters_outside_their_interval(name: str) -> None:
    """At construction and at assignment; the message has field, interval and value."""
    opt = make(name)
    for key in numeric(name):
        interval, config = cls_of(name).hyperparameters[key].interval, opt.get_config()
        assert any(np.isnan(outside(interval)))
        for value in outside(interval):
            words = [key, interval.text, repr(value)]
            for attempt in (
                lambda key=key, value=value: make(name, **{key: value}),
                lambda key=key, value=value: setattr(opt, key, value),
            ):
                with pytest.raises(ValueError, match=f"(?s){re.escape(key)}") as caught:
                    attempt()
                assert all(word in str(caught.value) for word in words), caught.value
        assert opt.get_config() == config


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("lr", -0.1, False),
        ("lr", float("nan"), False),
        ("lr", 0.0, True),
        ("beta_1", 1.0, False),
        ("beta_2", 1.0, False),
        ("beta_1", 0.0, True),
        ("clipnorm", -1.0, False),
        ("clipvalue", -1.0, False),
        ("clipnorm", 0.0, True),
        ("clipvalue", 0.0, True),
    ],
)
def test_the_intervals_are_these(name: str, key: str, value: float, allowed: bool) -> None:
    """Whatever the declarations say, these hold for every class that has the field."""
    if key not in cls_of(name).hyperparameters:
        assert key.startswith("beta")
        return
    if key == "lr" and cls_of(name).hyperparameters[key].interval.text.startswith("("):
        allowed = False  # a class whose formula divides by it says so
    if (name, key) == ("Lion", "beta_1"):
        allowed = True  # it divides by nothing
    if allowed:
        assert getattr(make(name, **{key: value}), key) == value
        return
    with pytest.raises(ValueError, match=key):
        make(name, **{key: value})


@pytest.mark.parametrize("value", ["0.1", True, [0.1], 1j])
def test_hyperparameters_of_another_kind(name: str, value: Any) -> None:
    """A word, a truth value or a list is no number."""
    opt = make(name)
    before = opt.lr
    with pytest.raises(TypeError, match="lr"):
        make(name, lr=value)
    with pytest.raises(TypeError, match="lr"):
        opt.lr = value
    assert opt.lr == before


@pytest.mark.parametrize(
    ("word", "meant"), [("clipnorn", "clipnorm"), ("learning_rat", "learning_rate"), ("Lr", "lr")]
)
def test_unknown_keyword(name: str, word: str, meant: str) -> None:
    """The message names the nearest known one."""
    with pytest.raises(TypeError, match=rf"(?s){word}.*'{meant}'"):
        make(name, **{word: 0.1})


def _crossed(buffer: Any) -> tuple[list[Any], list[Any]]:
    """Return parameters, and gradients that are the other parameters or parts of several."""
    params = [buffer[:4], buffer[4:8], buffer[8:12], buffer[12:]]
    return params, [params[1], params[0], buffer[6:10], buffer[11:15]]


def test_gradients_in_the_memory_of_parameters(viewing: TestBackend) -> None:
    """They are read as they were before the step."""
    for name, kwargs in (("SGD", {}), ("Adam", {"clipnorm": 1.0})):
        for engine in viewing.engines:
            params, grads = _crossed(viewing.asarray(np.arange(1.0, 17.0), DTYPE))
            copies = viewing.tree(viewing.read(params))
            opt, other = make(name, lr=0.5, **kwargs), make(name, lr=0.5, **kwargs)
            with ao.engine(engine):
                for _ in range(3):
                    other.apply(viewing.tree(viewing.read(grads)), copies)
                    opt.apply(grads, params)
                    same(viewing.read(params), viewing.read(copies))


def test_a_gradient_may_be_a_parameter_of_another_type(viewing: TestBackend) -> None:
    """One that another loop, or the other engine, steps first."""
    wide = viewing.tree([np.ones(3), np.full(3, 2.0)], "float64")
    narrow = viewing.asarray(np.full(3, 4.0), "float32")
    strided = viewing.asarray(np.full(6, 3.0), "float32")[::2]
    params = [*wide, narrow, strided]
    ao.SGD(lr=0.5).apply([narrow, strided, wide[0], narrow], params)
    for found, wanted in zip(viewing.read(params), (-1.0, 0.5, 3.5, 1.0), strict=True):
        assert (found == wanted).all()


def test_misspelt_attributes(name: str) -> None:
    """They are refused, and the nearest one is named; what a class declares can be set."""
    opt = make(name)
    with pytest.raises(AttributeError, match="'learning_rat' to set, did you mean 'learning_rate'"):
        opt.learning_rat = 0.5
    with pytest.raises(AttributeError, match="'note'"):
        opt.note = "mine"
    opt._note = "mine"
    opt.learning_rate = 0.25
    assert (opt.lr, vars(opt).get("learning_rat")) == (0.25, None)


@pytest.mark.parametrize(
    ("name", "kwargs", "scalar"),
    [("Nadam", {}, "m_schedule"), ("SGD", {"schedule_decay": 0.1}, "ramped_momentum")],
)
def test_scalar_state_can_be_set(name: str, kwargs: dict[str, Any], scalar: str) -> None:
    """It is the state that changes, and a bad value changes nothing."""
    opt, params = make(name, **kwargs), [np.ones(3)]
    with pytest.raises(ValueError, match="init"):
        setattr(opt, scalar, 0.5)
    opt.apply([np.ones(3)], params)
    before = snapshot(opt)
    for bad in (float("nan"), "half", [0.5], None):
        with pytest.raises(ValueError, match=f"{name}.{scalar}: found"):
            setattr(opt, scalar, bad)
    unchanged(opt, before)
    setattr(opt, scalar, 0.5)
    assert float(opt.get_weights()[1]) == getattr(opt, scalar) == 0.5


@pytest.mark.needs("jax")
def test_a_step_with_state_inside_of_a_compiled_function_is_refused() -> None:
    """It would keep what the compiler has in place of values; nothing is kept."""
    import jax
    import jax.numpy as jnp

    opt = ao.SGD(lr=0.5, momentum=0.5)
    for _ in range(2):
        with pytest.raises(TypeError, match="there, call stateless_apply"):
            jax.jit(lambda g, p: opt.apply(g, p))(jnp.ones(1), jnp.zeros(1))
        assert opt.apply(jnp.ones(1), jnp.zeros(1)).tolist() == [-0.5]
        opt.reset()


@pytest.mark.parametrize("change", [(None, "bfloat16"), ("bfloat16", None), (None, "int8")])
def test_another_form_of_state_is_refused(change: tuple[Any, Any]) -> None:
    """A file would say that the state has it, and it had not."""
    before, after = change
    opt, p = ao.Adam(state_dtype=before), np.ones(8, np.float32)
    opt.apply(np.ones(8, np.float32), p)
    kept, opt.state_dtype = p.copy(), after
    with pytest.raises(ValueError, match="Set them before the first step, or reset"):
        opt.apply(np.ones(8, np.float32), p)
    same([p], [kept])
    opt.state_dtype = before
    opt.apply(np.ones(8, np.float32), p)
    assert opt.iterations == 2


def nested(kind: type, depth: int) -> Any:
    """Return a number within that many lists or dicts."""
    found: Any = 0.1
    for _ in range(depth):
        found = {"a": found} if kind is dict else kind([found])
    return found


def around_itself() -> list[Any]:
    """Return a list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "given", [nested(kind, 5000) for kind in (list, tuple, dict)] + [around_itself()]
)
def test_what_is_nested_too_deeply_is_refused(given: Any) -> None:
    """In one line, wherever it is given, in place of an error of Python's own about recursion."""
    optimizer = ao.Adam()
    for attempt in (
        lambda: ao.Adam(lr=given),
        lambda: ao.Adam(exclude=given),
        lambda: ao.Adam(groups=[given]),
        lambda: ao.Adam(constraint=given),
        lambda: ao.Adam.from_config({"lr": given}),
        lambda: ao.get(given),
        lambda: setattr(optimizer, "lr", given),
        lambda: ao.schedules.ExponentialDecay(given, 1, 0.5),
        lambda: ao.schedules.PiecewiseConstantDecay(given, [0.1]),
        lambda: optimizer.apply(given, given),
        lambda: optimizer.init(given),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            attempt()
        text = str(caught.value)
        assert len(text) < 200 and "\n" not in text and not isinstance(caught.value, RecursionError)
    assert optimizer.lr == 0.001 and not optimizer.built


def test_what_stands_in_many_places_is_read_once() -> None:
    """There are 2**90 ways to the innermost dict."""
    found: Any = {}
    for _ in range(90):
        found = {"a": found, "b": found}
    with pytest.raises(TypeError, match="no argument 'a'"):
        ao.SGD.from_config(found)
