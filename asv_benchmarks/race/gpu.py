"""The race on a GPU: events of the device around each step, and the time with Python.

All peers run in one process, one after another, on float32 arrays; JAX, whose streams are its own,
is timed by the clock alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib import import_module
from importlib.util import find_spec
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

from .machine import versions
from .report import table
from .running import say
from .shapes import SHAPES, Shapes

LISTS: dict[str, Shapes] = {
    SHAPES["S1"][0]: SHAPES["S1"][1],
    SHAPES["S5"][0]: SHAPES["S5"][1],
    "1 of 100,000,000": [(100_000_000,)],
}
OTHERS = ("Adam", "Muon", "Adafactor", "SOAP", "Shampoo", "DoG", "Prodigy", "SM3")
"""What is timed on matrices alone."""
MOST_COMPILED = 300
"""Tensors up to which torch's compiler is asked: it took 23 s for as many."""
FUSED = {
    "Apex, FusedAdam": "apex.optimizers",
    "Transformer Engine, FusedAdam": "transformer_engine.pytorch.optimizers",
}
"""Other packages with a fused Adam for torch, timed where they are installed."""
COMPOSITE: dict[str, Any] = {"clipnorm": 1.0, "weight_decay": 0.01, "ema_momentum": 0.999}
Step = Callable[[], object]
Contest = tuple[str, Shapes, int, dict[str, Callable[[Shapes], Step]]]


def ours(library: str, name: str = "Adam", **options: Any) -> Callable[[Shapes], Step]:
    """Return what makes a step of one of this library's optimizers."""

    def make(shapes: Shapes) -> Step:
        import arrayoptim as ao

        params, grads = arrays(library, shapes, 0.02), arrays(library, shapes, 0.01)
        optimizer = getattr(ao, name)(**options)
        # No other engine is to take the place of the one that is timed.
        with ao.engine("gpu" if name == "Adam" and "offload" not in options else "auto"):
            optimizer.apply(grads, params)
        return lambda: optimizer.apply(grads, params)

    return make


def as_torch(name: str = "Adam") -> Callable[[Shapes], Step]:
    """Return what makes a step of one of this library's optimizers with torch's interface."""

    def make(shapes: Shapes) -> Step:
        import arrayoptim as ao

        step: Step = getattr(ao.torch, name)(parameters(shapes)).step
        return step

    return make


def fused_elsewhere(package: str) -> Callable[[Shapes], Step]:
    """Return what makes a step of another package's fused Adam for torch."""

    def make(shapes: Shapes) -> Step:
        step: Step = import_module(package).FusedAdam(parameters(shapes), lr=1e-3).step
        return step

    return make


def in_graph(shapes: Shapes) -> Step:
    """Make a step of this library's Adam in a CUDA graph."""
    import torch

    import arrayoptim as ao

    params, grads = arrays("torch", shapes, 0.02), arrays("torch", shapes, 0.01)
    step, graph = ao.Adam().capture(params), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.apply(grads)
    return lambda: step.replay(graph)


def arrays(library: str, shapes: Shapes, scale: float) -> list[Any]:
    """Make arrays of normal numbers on the GPU."""
    if library == "cupy":
        import cupy

        random = cupy.random.default_rng(0)
        return [scale * random.standard_normal(shape, cupy.float32) for shape in shapes]
    import torch

    generator = torch.Generator("cuda").manual_seed(0)
    return [scale * torch.randn(shape, device="cuda", generator=generator) for shape in shapes]


def parameters(shapes: Shapes) -> list[Any]:
    """Make torch's parameters, with gradients."""
    import torch

    params = [torch.nn.Parameter(p) for p in arrays("torch", shapes, 0.02)]
    for p, g in zip(params, arrays("torch", shapes, 0.01), strict=True):
        p.grad = g
    return params


def torch_adam(form: str) -> Callable[[Shapes], Step]:
    """Return what makes a step of torch's Adam."""
    from .peers import torch_forms

    return lambda shapes: torch_forms.optimizer("adam", form, parameters(shapes)).step


def torch_of(name: str) -> Callable[[Shapes], Step]:
    """Return what makes a step of another of torch's optimizers."""
    from .peers import torch_forms

    return lambda shapes: torch_forms.optimizer(name, "foreach", parameters(shapes)).step


def capturable(module: str, **options: Any) -> Callable[[Shapes], Step]:
    """Return what makes a step of an Adam with torch's interface in one of torch's CUDA graphs."""

    def make(shapes: Shapes) -> Step:
        import torch

        adam = import_module(module).Adam
        optimizer = adam(parameters(shapes), lr=1e-3, capturable=True, **options)
        # The state is made outside of the graph, on another stream as torch wants it.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            optimizer.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            optimizer.step()

        # Who keeps the graph has to keep the optimizer, whose tables it reads.
        def replay(kept: Any = optimizer) -> None:
            graph.replay()

        return replay

    return make


def torch_compiled(shapes: Shapes) -> Step:
    """Make a step of torch's Adam that its compiler has fused."""
    import torch

    rate = torch.tensor(1e-3, device="cuda")
    optimizer = torch.optim.Adam(parameters(shapes), lr=rate, foreach=True, capturable=True)
    step: Step = torch.compile(optimizer.step)
    return step


def copied(shapes: Shapes) -> Step:
    """Copy to the host and back what travels where the state is there."""
    import torch

    params, grads = arrays("torch", shapes, 0.02), arrays("torch", shapes, 0.01)
    rooms = [torch.empty_like(x, device="cpu", pin_memory=True) for x in (*params, *grads)]

    def step() -> None:
        for room, x in zip(rooms, (*params, *grads), strict=True):
            room.copy_(x, non_blocking=True)
        for room, p in zip(rooms, params, strict=False):
            p.copy_(room, non_blocking=True)
        torch.cuda.synchronize()

    return step


def torch_composite(form: str) -> Callable[[Shapes], Step]:
    """Return what makes a step of torch with clipping, decay and average."""
    from .peers import torch_forms

    return lambda shapes: torch_forms.composite(form, parameters(shapes))


def naive(shapes: Shapes) -> Step:
    """Make a step of Adam in CuPy, as a user writes it."""
    import cupy

    params, grads = arrays("cupy", shapes, 0.02), arrays("cupy", shapes, 0.01)
    moments, squares = arrays("cupy", shapes, 0.0), arrays("cupy", shapes, 0.0)
    steps = iter(range(1, 1 << 60))

    def step() -> None:
        t = next(steps)
        for p, g, m, v in zip(params, grads, moments, squares, strict=True):
            m[...] = 0.9 * m + 0.1 * g
            v[...] = 0.999 * v + 0.001 * g * g
            p -= 1e-3 * (m / (1 - 0.9**t)) / (cupy.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return step


def optax_adam(shapes: Shapes) -> Step:
    """Make a step of optax, compiled, its buffers given away."""
    import jax
    import optax

    adam = optax.adam(1e-3)
    keys = jax.random.split(jax.random.key(0), 2)
    params, grads = (
        [scale * jax.random.normal(key, shape) for shape in shapes]
        for key, scale in zip(keys, (0.02, 0.01), strict=True)
    )

    def update(held: Any, given: Any) -> Any:
        updates, state = adam.update(given, held[1])
        return optax.apply_updates(held[0], updates), state

    compiled, held = jax.jit(update, donate_argnums=0), [(params, adam.init(params))]

    def step() -> None:
        held[0] = jax.block_until_ready(compiled(held[0], grads))

    return step


def contests() -> Iterator[Contest]:
    """Yield title, shapes, bytes per element and peers."""
    ready = {name: bool(find_spec(name)) for name in ("torch", "jax", "optax")}
    for name, shapes in LISTS.items():
        peers = {"this library, CuPy arrays": ours("cupy"), "plain CuPy": naive}
        if ready["torch"]:
            peers["this library, torch tensors"] = ours("torch")
            peers["this library, ao.torch"] = as_torch()
            peers["this library, torch tensors, in a CUDA graph"] = in_graph
            peers["this library, ao.torch, capturable, in a CUDA graph"] = capturable(
                "arrayoptim.torch"
            )
            peers |= {f"torch, {form}": torch_adam(form) for form in ("fused", "foreach")}
            peers["torch, fused, capturable, in a CUDA graph"] = capturable(
                "torch.optim", fused=True
            )
            for label, package in FUSED.items():
                if find_spec(package.partition(".")[0]):
                    peers[label] = fused_elsewhere(package)
            if len(shapes) <= MOST_COMPILED:
                peers["torch, foreach, torch.compile"] = torch_compiled
        if ready["jax"] and ready["optax"]:
            peers["optax, jax.jit, donated"] = optax_adam
        yield f"Adam, {name}", shapes, 28, peers
    name, shapes = SHAPES["S5"]
    large, entries = list(LISTS.items())[-1]
    for title, arrays_of in ((name, shapes), (large, entries)):
        peers = {"this library, CuPy arrays": ours("cupy", **COMPOSITE)}
        if ready["torch"]:
            peers["this library, torch tensors"] = ours("torch", **COMPOSITE)
            peers |= {f"torch, {form}": torch_composite(form) for form in ("lerp", "averaged")}
        yield f"Adam, clipped, decayed and averaged, {title}", arrays_of, 40, peers
    if ready["torch"]:
        small = "bfloat16", "int8"
        for title, arrays_of in ((name, shapes), (large, entries)):
            peers = {f"this library, state in {d}": ours("torch", state_dtype=d) for d in small}
            peers["this library, state in float32"] = ours("torch")
            yield f"Adam, state in fewer bits, {title}", arrays_of, 0, peers
        peers = {"this library, torch tensors": ours("torch", offload=True)}
        peers["the copies of it alone"] = copied
        yield f"Adam, state in host memory, {name}", shapes, 0, peers
    name, shapes = SHAPES["S6"]
    peers = {}
    for kind in OTHERS:
        libraries = {"CuPy arrays": "cupy"} | ({"torch tensors": "torch"} if ready["torch"] else {})
        for words, library in libraries.items():
            peers[f"this library, {kind}, {words}"] = ours(library, kind)
        if ready["torch"] and kind in ("Muon", "Adafactor"):
            peers[f"this library, ao.torch, {kind}"] = as_torch(kind)
            peers[f"torch, {kind}"] = torch_of(kind.lower())
    yield f"Other optimizers, {name}", shapes, 0, peers


def timed(step: Step, repeats: int) -> tuple[float, float]:
    """Return the median of the device's events, and the mean time with Python, in seconds."""
    import cupy

    found = []
    for _ in range(3):
        step()
    for _ in range(repeats):
        before, after = cupy.cuda.Event(), cupy.cuda.Event()
        before.record()
        step()
        after.record()
        after.synchronize()
        found.append(cupy.cuda.get_elapsed_time(before, after) / 1e3)
    start = perf_counter()
    for _ in range(repeats):
        step()
    cupy.cuda.Device().synchronize()
    return median(found), (perf_counter() - start) / repeats


def bandwidth(repeats: int) -> float:
    """Return the bytes a second that a copy on the device reads and writes."""
    source, target = arrays("cupy", [(100_000_000,)] * 2, 1.0)
    seconds, _ = timed(
        lambda: target.data.copy_from_device_async(source.data, source.nbytes), repeats
    )
    return float(2 * source.nbytes / seconds)


def measured(repeats: int) -> Iterator[str]:
    """Measure all contests; give the parts of the report."""
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    today, copy = datetime.now(timezone.utc).date().isoformat(), bandwidth(repeats)
    found = ", ".join(f"{package} {number}" for package, number in versions().items())
    yield f"# Race on a GPU\n\nMeasured on {today} on {name}; a copy: {copy / 1e9:,.0f} GB/s.\n"
    yield f"{found}, cupy {cupy.__version__}.\n"
    for title, shapes, moved, peers in contests():
        rows = []
        for label, make in peers.items():
            say(f"{title}: {label}")
            try:
                device, whole = timed(make(shapes), repeats)
            except Exception as error:  # a peer may fail in its own way
                yield f"{label} is left out: {type(error).__name__}: {error}\n"
                continue
            share = moved * sum(map(prod, shapes)) / device / copy
            last = f"{share:.2f}" if moved else "-"
            rows.append([label, f"{1e3 * device:.3f}", f"{1e3 * whole:.3f}", last])
            cupy.get_default_memory_pool().free_all_blocks()
        headers = ["peer", "device, ms", "with Python, ms", "share of a copy's bandwidth"]
        yield f"## {title}\n\n{table(headers, rows)}"
