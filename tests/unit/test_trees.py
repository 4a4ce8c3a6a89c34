"""Trees that people bring: mappings of every kind, and what is no array."""

from __future__ import annotations

import dataclasses
from collections import ChainMap, OrderedDict, UserDict, defaultdict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.trees import flatten

CONTAINERS = {
    "dict": dict,
    "ordered": OrderedDict,
    "reversed": lambda d: OrderedDict(reversed(list(d.items()))),
    "defaultdict": lambda d: defaultdict(list, d),
    "own": UserDict,
    "chain": ChainMap,
    "proxy": MappingProxyType,
}


def nested(make: Any, scale: float) -> Any:
    """Return a tree of mappings of one kind, in a list."""
    inner = make({"weight": scale * np.ones(2), "bias": scale * np.arange(3.0)})
    return [make({"second": inner, "first": scale * np.ones(1)}), scale * np.ones(4)]


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("other", CONTAINERS)
def test_mappings_match_by_key(kind: str, other: str) -> None:
    """The order of the keys tells no trees apart, in any way of stepping, at any call."""
    opt, params = ao.SGD(lr=0.5, momentum=0.9), nested(CONTAINERS[kind], 1.0)
    state = opt.init_state(params)
    new, state = opt.stateless_apply(state, nested(CONTAINERS[other], 2.0), params)
    assert list(new[0]) == list(params[0])
    assert type(new[0]) is type(params[0])
    opt.apply(nested(CONTAINERS[other], 2.0), params)
    wanted = nested(dict, 1.0 - 0.5 * 2.0)
    for found in (params, new):
        assert np.array_equal(found[0]["second"]["bias"], wanted[0]["second"]["bias"])
        assert np.array_equal(found[0]["second"]["weight"], wanted[0]["second"]["weight"])
    # The state was made for parameters of one kind, and goes on with those of another.
    opt.apply(nested(CONTAINERS[kind], 1.0), nested(CONTAINERS[other], 1.0))
    opt.stateless_apply(state, nested(CONTAINERS[kind], 1.0), nested(CONTAINERS[other], 1.0))
    assert opt.iterations == 2


class Archive(Mapping[str, Any]):
    """A mapping that cannot be made from a dict, such as an open file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getitem__(self, key: str) -> Any:
        """Return an array."""
        return np.ones(2)

    def __iter__(self) -> Iterator[str]:
        """Return the keys."""
        return iter(["w"])

    def __len__(self) -> int:
        """Return how many there are."""
        return 1


def test_a_mapping_that_cannot_be_made_anew() -> None:
    with pytest.raises(TypeError, match=r"parameters: found .*Archive, .*; pass dict\(...\) of it"):
        ao.SGD().apply({"w": np.ones(2)}, Archive("x"))


def test_a_loss_may_answer_in_another_mapping() -> None:
    """Gradients by hand are matched by key too."""
    params = OrderedDict(w=np.ones(2), b=np.zeros(1))
    grads = {"b": np.ones(1), "w": 2.0 * np.ones(2)}
    ao.SGD(lr=0.5).minimize(lambda p: (1.0, grads), params)
    assert params["w"].tolist() == [0.0, 0.0]
    assert params["b"].tolist() == [-0.5]


def test_the_order_of_keys_of_several_types() -> None:
    """It is that of a dict, which optree sorts by type first."""
    keys = [10, "x", 9, "a", (1,)]
    plain = flatten({k: np.ones(1) for k in keys})[1].paths
    assert flatten(OrderedDict((k, np.ones(1)) for k in reversed(keys)))[1].paths == plain


MASKED = np.ma.masked_array([1.0, 1e20], mask=[False, True])


def test_masked_arrays() -> None:
    """A mask is neither kept nor forgotten in silence."""
    for grads, params in ((MASKED, np.ones(2)), (np.ones(2), MASKED)):
        for way in (ao.SGD().apply, lambda g, p: ao.Adam().apply([g], {0: p})):
            with pytest.raises(TypeError, match=r"MaskedArray.*Masks are not supported"):
                way(grads, params)
    with pytest.raises(TypeError, match="MaskedArray"):
        ao.SGD().apply_gradients([(MASKED, np.ones(2))])
    with pytest.raises(TypeError, match="MaskedArray"):
        ao.SGD().minimize(lambda p: (1.0, MASKED), np.ones(2))
    ao.SGD(lr=0.5).apply(MASKED.filled(0.0), params := np.ones(2))
    assert params.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("engine", ["array", "cpu"])
@pytest.mark.parametrize("name", ["Adam", "LAMB", "Shampoo"])
def test_matrices_are_arrays(name: str, engine: str) -> None:
    """Of NumPy's matrix class ``*`` is the product of matrices, and not so in a rule."""
    grads = np.array([[1.0, 2.0], [3.0, 4.0]])
    with ao.engine(engine):
        wanted = ao.get(name).apply(grads, np.ones((2, 2)))
        found = ao.get(name).apply(grads.view(np.matrix), np.ones((2, 2)).view(np.matrix))
    assert np.array_equal(np.asarray(found), wanted)


def test_what_is_no_array() -> None:
    """The message names its place, what it is and the way out."""

    class Model:
        def named_parameters(self) -> None:
            pass

    def activation(x: Any) -> Any:
        return x

    for leaf, said in (
        (activation, r"activation\).* replace it by None"),
        ("relu", "replace it by None"),
        (1.0, r"numpy\.asarray"),
        (Model(), r"dict\(model\.named_parameters\(\)\)"),
        (iter([np.ones(2)]), "pass a list of them"),
    ):
        with pytest.raises(TypeError, match=rf"^parameters at 'layer/0'.*{said}"):
            ao.SGD().init({"layer": [leaf]})


@pytest.mark.needs("jax")
def test_what_is_no_array_in_a_container_of_jax() -> None:
    """The field is named, and not the container, which JAX knows."""
    import jax

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Layer:
        weight: Any
        activation: Any

    with pytest.raises(TypeError, match=r"^parameters at '0/activation': .*relu"):
        ao.SGD().init([Layer(jax.numpy.ones(2), jax.nn.relu)])
    with pytest.raises(TypeError, match=r"^gradients at '0/activation': .*str"):
        ao.SGD().apply(
            [Layer(jax.numpy.ones(2), "relu")],
            [Layer(jax.numpy.ones(2), None)],
        )
