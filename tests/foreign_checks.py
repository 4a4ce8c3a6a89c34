"""What holds for an optimizer of another library behind our surface, whichever library it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import draw, same

STEPS = 5
Native = Callable[[list[np.ndarray], list[list[np.ndarray]]], list[np.ndarray]]
"""From parameters and the gradients of each step to the parameters after, all on the host."""


def arrays(seed: int, dtype: str) -> list[np.ndarray]:
    """Return three random arrays."""
    return [np.asarray(a, dtype) for a in draw(seed)]


def tree(backend: TestBackend, seed: int, dtype: str = "float32") -> Any:
    """Return a nested tree with a hole."""
    w, scale, b = backend.tree(arrays(seed, dtype))
    return {"b": [b, None], "layer/w": w, "scale": scale}


def leaves(params: Any) -> list[Any]:
    return [params["b"][0], params["layer/w"], params["scale"]]


def equals_native(
    make: Callable[[], Any], native: Native, backend: TestBackend, dtype: str
) -> None:
    """Assert that each step is the native one, on the arrays that were given."""
    start, grads = arrays(0, dtype), [arrays(1 + t, dtype) for t in range(STEPS)]
    order = [2, 0, 1]
    opt, params = make(), tree(backend, 0, dtype)
    first = params
    for t in range(STEPS):
        params = opt.apply(tree(backend, 1 + t, dtype), params)
    assert (params is first) == backend.in_place
    assert opt.iterations == STEPS
    wanted = native([start[i] for i in order], [[g[i] for i in order] for g in grads])
    same(backend.read(leaves(params)), wanted)


def goes_on_exactly(make: Callable[[], Any], backend: TestBackend, folder: Path) -> None:
    """Assert that a file, a list and never having stopped are the same, before `init` and after."""
    opt, params = make(), tree(backend, 0)
    for t in range(3):
        params = opt.apply(tree(backend, 1 + t), params)
    opt.save_weights(folder / "state.h5")
    weights, kept = opt.get_weights(), backend.read(leaves(params))
    others = []
    for restore in (
        lambda o: o.load_weights(folder / "state.h5"),
        lambda o: o.set_weights(weights),
    ):
        for early in (False, True):
            other = make()
            copy = rebuilt(backend, kept)
            if early:
                restore(other)
                assert not other.built
            other.init(copy)
            if not early:
                restore(other)
            assert other.iterations == 3
            same(other.get_weights(), weights)
            others.append((other, copy))
    for t in range(3):
        params = opt.apply(tree(backend, 11 + t), params)
        others = [(o, o.apply(tree(backend, 11 + t), p)) for o, p in others]
    for other, copy in others:
        same(backend.read(leaves(copy)), backend.read(leaves(params)))
        same(other.get_weights(), opt.get_weights())
    opt.reset()
    assert (opt.built, opt.iterations, opt.weights, opt.get_weights()) == (False, 0, [], [])
    opt.init(tree(backend, 7))


def rebuilt(backend: TestBackend, kept: list[np.ndarray]) -> Any:
    b, w, scale = backend.tree(kept)
    return {"b": [b, None], "layer/w": w, "scale": scale}


def updates_are_a_step(make: Callable[[], Any], backend: TestBackend) -> None:
    """Assert that computing updates changes nothing and carrying them out is a step."""
    one, two = make(), make()
    params, twins = tree(backend, 0), tree(backend, 0)
    one.init(params)
    for t in range(3):
        grads = tree(backend, 1 + t)
        before, values = one.get_weights(), backend.read(leaves(params))
        # Keras's order, and natural_bm's.
        pair = (params, lambda _, g=grads: (0.0, g))
        updates = one.get_updates(*(pair if t else pair[::-1]))
        same(one.get_weights(), before)
        same(backend.read(leaves(params)), values)
        b, w, scale = one.apply_updates(updates)
        params = {"b": [b, None], "layer/w": w, "scale": scale}
        twins = two.minimize(lambda _, g=grads: (0.0, g), twins)
        same(backend.read(leaves(params)), backend.read(leaves(twins)))
        same(one.get_weights(), two.get_weights())
    same(backend.read(leaves(one.get_gradients(lambda _: (0.0, grads), params))),
         backend.read(leaves(grads)))  # fmt: skip
    with pytest.raises(ValueError, match="another optimizer"):
        two.apply_updates(updates)


def refuses(make: Callable[[], Any], backend: TestBackend, folder: Path) -> None:
    """Assert that what does not fit is an error that says so, and changes nothing."""
    opt, params = make(), tree(backend, 0)
    with pytest.raises(ValueError, match="no state yet"):
        opt.save_weights(folder / "early.h5")
    opt.apply(tree(backend, 1), params)
    params = tree(backend, 0)
    before, values = opt.get_weights(), backend.read(leaves(params))
    short = {**params, "scale": None}
    with pytest.raises(ValueError, match="missing: scale"):
        opt.apply({**tree(backend, 1), "scale": None}, short)
    with pytest.raises(ValueError, match="tree differs"):
        opt.apply({"b": None}, params)
    wrong = {**tree(backend, 1), "scale": backend.asarray(np.ones(2, "float32"))}
    with pytest.raises(ValueError, match=r"'scale': found shape \(2,\)"):
        opt.apply(wrong, params)
    with pytest.raises(ValueError, match="weights"):
        opt.set_weights(before[:-1] if len(before) > 2 else [*before, np.ones(1)])
    with pytest.raises(AttributeError, match="no attribute 'lr' to set"):
        opt.lr = 0.1
    ao.Adam().init(params)
    other = ao.Adam()
    other.init(params)
    other.save_weights(folder / "other.h5")
    with pytest.raises(ValueError, match=r"state of Adam\(\), wanted"):
        opt.load_weights(folder / "other.h5")
    same(opt.get_weights(), before)
    same(backend.read(leaves(params)), values)
