"""The GPU engine on a GPU, and where there is none on all of it but that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend, np_dtype
from engine_cases import draw
from gpu_cases import SHAPES
from gpu_options import OPTIONS
from offload_options import OPTIONS as OFFLOADED
from optimizers_under_test import fused, make, same


def trained(
    engine: str, backend: TestBackend, optimizer: Any, dtypes: tuple[str, ...]
) -> list[np.ndarray]:
    """Return parameters and weights after four steps."""
    kinds = [dtypes[k % len(dtypes)] for k in range(len(SHAPES))]
    rows = list(zip(SHAPES, kinds, strict=True))
    params = [backend.asarray(draw(k, [s], d)[0]) for k, (s, d) in enumerate(rows)]
    with ao.engine(engine):
        for step in range(4):
            seed = 50 + 9 * step
            drawn = [draw(seed + k, [s], d)[0] for k, (s, d) in enumerate(rows)]
            optimizer.apply([backend.asarray(g) for g in drawn], params)
    return [*backend.read(params), *optimizer.get_weights()]


def test_every_optimizer_has_the_bits_of_the_cpu(name: str, on_gpu: TestBackend) -> None:
    """In each data type, with clipping by norm, decay and average."""
    options = {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
    if not fused(name, "gpu"):
        return
    for dtype in on_gpu.dtypes:
        found = trained("gpu", on_gpu, make(name, **options), (dtype,))
        same(found, trained("array", NUMPY, make(name, **options), (dtype,)))


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_every_option_has_the_bits_of_the_cpu(options: dict[str, Any], on_gpu: TestBackend) -> None:
    """On a tree of several data types."""
    if "state_dtype" in options and "bfloat16" not in on_gpu.dtypes:
        return
    dtypes = tuple(d for d in on_gpu.dtypes if np_dtype(d).kind != "c")
    found = trained("gpu", on_gpu, make("Adam", **options), dtypes)
    same(found, trained("array", NUMPY, make("Adam", **options), dtypes))


@pytest.mark.parametrize("options", OFFLOADED, ids="-".join)
def test_state_in_host_memory(options: dict[str, Any], on_gpu: TestBackend) -> None:
    """The same bits again, on a tree of several data types."""
    if not on_gpu.offload:
        return
    dtypes = tuple(d for d in on_gpu.dtypes if np_dtype(d).kind != "c")
    found = trained("auto", on_gpu, make("Adam", offload=True, **options), dtypes)
    same(found, trained("cpu", NUMPY, make("Adam", **options), dtypes))


ORDERS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((5, 8, 3, 4), (0, 3, 1, 2)),
    ((6, 9), (1, 0)),
    ((0, 4), (1, 0)),
    ((1, 7, 1), (2, 0, 1)),
    ((33,), (0,)),
]
"""Shapes in memory, and the order in which the axes of that are the array's."""


def in_order(backend: TestBackend, seed: int) -> tuple[list[Any], list[np.ndarray]]:
    """Return arrays without gaps in other orders than C's, and NumPy arrays like them."""
    drawn = draw(seed, [shape for shape, _ in ORDERS], "float32")
    found = []
    for x, (_, axes) in zip(drawn, ORDERS, strict=True):
        array = backend.asarray(x)
        found.append(getattr(array, "permute", array.transpose)(axes))
    return found, [x.transpose(axes) for x, (_, axes) in zip(drawn, ORDERS, strict=True)]


@pytest.mark.parametrize(
    "options",
    [{}, {"state_dtype": "bfloat16"}, {"ema_momentum": 0.9}, {"offload": True},
     {"offload": True, "state_dtype": "bfloat16"}, {"offload": True, "state_dtype": "int8"}],
    ids="-".join,
)  # fmt: skip
def test_other_orders_in_memory(name: str, options: dict[str, Any], on_gpu: TestBackend) -> None:
    """Slots lie as their parameters, such as those of channels_last: also slots of a number."""
    here = {key: value for key, value in options.items() if key != "offload"}
    away = "offload" in options
    # Rows of matrices are to be one after another.
    if not (fused(name) and fused(name, "gpu")):
        return
    if away and (not on_gpu.offload or make(name).rule.totals):
        return
    optimizer, plain = make(name, clipnorm=0.5, **options), make(name, clipnorm=0.5, **here)
    params, mine = in_order(on_gpu, 1)
    for step in range(3):
        grads, other = in_order(on_gpu, 7 + step)
        with ao.engine("auto" if away else "gpu"):
            optimizer.apply(grads, params)
        with ao.engine("array"):
            plain.apply(other, mine)
    same(on_gpu.read(params), [np.array(p) for p in mine])


def captured(backend: TestBackend, step: Any, grads: list[Any]) -> Any:
    """Return a graph of the library with a step in it."""
    if backend.name != "torch_cuda":
        cupy = pytest.importorskip("cupy")
        with cupy.cuda.Stream(non_blocking=True) as stream:
            stream.begin_capture()
            step.apply(grads)
            return stream.end_capture()
    torch = pytest.importorskip("torch")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.apply(grads)
    return graph


@pytest.mark.parametrize("name", ["SGD", "Adam", "LAMB"])
def test_steps_in_a_graph(name: str, on_gpu: TestBackend) -> None:
    """The same bits, from buffers of gradients that are filled anew."""
    options = {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
    if on_gpu.name == "torch_on_host":
        return
    arrays = draw(1, SHAPES, "float32")
    params, buffers = on_gpu.tree(arrays), on_gpu.tree(arrays)
    optimizer, other = make(name, **options), make(name, **options)
    step = optimizer.capture(params)
    graph = captured(on_gpu, step, buffers)
    for seed in range(4):
        drawn = draw(50 + 9 * seed, SHAPES, "float32")
        for room, g in zip(buffers, on_gpu.tree(drawn), strict=True):
            room[...] = g
        step.replay(graph)
        with ao.engine("array"):
            other.apply(drawn, arrays)
    same([*on_gpu.read(params), *optimizer.get_weights()], [*arrays, *other.get_weights()])


def test_the_engine_serves_by_itself(on_gpu: TestBackend) -> None:
    """Nobody has to ask for it."""
    assert ao.explain(on_gpu.tree(draw(1, SHAPES, "float32"))).groups[0].engine == "gpu"
