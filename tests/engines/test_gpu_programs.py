"""Programs as people run them on a GPU: there where one is chosen, else on all of it but that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import BACKENDS, emulated
from gpu_on_host import compiler
from optimizers_under_test import make

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

Tree = dict[str, Any]
CHOSEN = {backend.name for backend in BACKENDS}
INPUTS, HIDDEN, CLASSES, BATCH = 16, 24, 4, 64

_RNG = np.random.default_rng(5)
_CENTRES = _RNG.normal(size=(CLASSES, INPUTS)) * 1.5
LABELS = _RNG.integers(CLASSES, size=8 * BATCH)
SAMPLES = (_CENTRES[LABELS] + _RNG.normal(size=(len(LABELS), INPUTS))).astype(np.float32)


@pytest.fixture
def cupy() -> Iterator[Any]:
    """Yield CuPy, of a GPU or of the host."""
    if "cupy" in CHOSEN:
        yield pytest.importorskip("cupy")
        return
    with emulated("cupy_on_host"):
        import cupy

        yield cupy


@pytest.fixture
def device() -> Iterator[str]:
    """Yield the device of torch tensors that the GPU engine serves."""
    if "torch_cuda" in CHOSEN:
        yield "cuda"
        return
    if "torch" not in CHOSEN:
        pytest.skip("torch is not chosen")
    with emulated("torch_on_host"):
        yield "cpu"


def beginning() -> Tree:
    """Return the parameters of a network."""
    rng = np.random.default_rng(1)
    shapes = {"w1": (INPUTS, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES), "b2": (CLASSES,)}
    scale = {name: 0.2 if name[0] == "w" else 0.0 for name in shapes}
    return {k: (rng.normal(size=s) * scale[k]).astype("f4") for k, s in shapes.items()}


def gradients(xp: Any, p: Tree, x: Any, labels: Any) -> tuple[Any, Tree]:
    """Return the loss of a batch, and the gradients of the network written by hand."""
    hidden = xp.tanh(x @ p["w1"] + p["b1"])
    z = hidden @ p["w2"] + p["b2"]
    e = xp.exp(z - z.max(axis=1, keepdims=True))
    q = e / e.sum(axis=1, keepdims=True)
    d = (q - labels) / x.shape[0]
    back = (d @ p["w2"].T) * (1 - hidden * hidden)
    loss = -(labels * xp.log(q + 1e-9)).sum() / x.shape[0]
    found = {"w1": x.T @ back, "b1": back.sum(axis=0), "w2": hidden.T @ d, "b2": d.sum(axis=0)}
    return loss, found


def train(xp: Any, optimizer: Any, params: Tree, first: int, last: int) -> float:
    """Train from one step to another; return the last loss."""
    x, labels = xp.asarray(SAMPLES), xp.asarray(np.eye(CLASSES, dtype=np.float32)[LABELS])
    loss: Any = np.nan
    for step in range(first, last):
        rows = slice(step * BATCH % len(SAMPLES), step * BATCH % len(SAMPLES) + BATCH)
        loss, grads = gradients(xp, params, x[rows], labels[rows])
        optimizer.apply(grads, params)
    return float(loss)


def adamw() -> Any:
    """Return an optimizer as a program makes one."""
    lr = ao.schedules.CosineDecay(0.02, 80)
    options = {"weight_decay": 0.01, "exclude": "b*", "clipnorm": 1.0, "ema_momentum": 0.99}
    return ao.AdamW(lr=lr, **options)


def test_a_loop_is_resumed_anywhere(cupy: Any, tmp_path: Path) -> None:
    """From the file of a loop on CuPy arrays another goes on exactly, and one on NumPy's too."""
    optimizer, file = adamw(), tmp_path / "optimizer.h5"
    params = {k: cupy.asarray(v) for k, v in beginning().items()}
    train(cupy, optimizer, params, 0, 40)
    optimizer.save_weights(file)
    kept = {k: v.get() for k, v in params.items()}
    last = train(cupy, optimizer, params, 40, 80)
    assert last < 0.2
    again = {k: cupy.asarray(v) for k, v in kept.items()}
    train(cupy, ao.load(file), again, 40, 80)
    for name, p in params.items():
        np.testing.assert_array_equal(again[name].get(), p.get())
    host = {k: v.copy() for k, v in kept.items()}
    resumed = ao.load(file)
    assert train(np, resumed, host, 40, 80) == pytest.approx(last, abs=1e-3)
    for name, p in params.items():
        np.testing.assert_allclose(host[name], p.get(), rtol=1e-3, atol=1e-4)
    averages = optimizer.averages(params), resumed.averages(host)
    np.testing.assert_allclose(averages[0]["w1"].get(), averages[1]["w1"], rtol=1e-3, atol=1e-4)


def test_every_optimizer(name: str, cupy: Any, tmp_path: Path) -> None:
    """Steps as on NumPy arrays; weights and files go there and back."""
    shapes = [(7,), (8, 6), (5, 3, 2), (900,), (16, 16)]
    rng = np.random.default_rng(3)
    here = [rng.normal(size=s).astype(np.float32) for s in shapes]
    there, one, two = [cupy.asarray(p) for p in here], make(name), make(name)
    for _ in range(5):
        grads = [rng.normal(size=s).astype(np.float32) for s in shapes]
        one.apply([g.copy() for g in grads], here)
        two.apply([cupy.asarray(g) for g in grads], there)
    if name != "SOAP":  # its basis is not unique
        for a, b in zip(here, there, strict=True):
            np.testing.assert_allclose(b.get(), a, rtol=1e-3, atol=1e-5)
    three = make(name)
    three.init(there)
    three.set_weights(two.get_weights())
    two.save_weights(tmp_path / "w.h5")
    four = ao.load(tmp_path / "w.h5")
    four.init(there)
    for other in (three, four):
        for a, b in zip(two.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


OPTIONS: list[dict[str, Any]] = [
    {"clipnorm_per_tensor": 0.5},
    {"agc": 0.1},
    {"clipvalue": 0.1},
    {"l2": 0.1},
    {"nonfinite": "skip"},
    {"nonfinite": "raise"},
    {"kahan": True},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "stochastic_rounding": True},
    {"cautious": True},
    {"constraint": ao.constraints.MaxNorm(1.0)},
    {"constraint": ao.constraints.NonNeg()},
    {"groups": [ao.group("0", lr=0.1)]},
    {"offload": True},
    {"offload": True, "state_dtype": "int8"},
]


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_every_option(options: dict[str, Any], cupy: Any) -> None:
    """The same numbers as on NumPy arrays."""
    here = [np.ones((4, 4), np.float32), np.ones(4, np.float32)]
    there = [cupy.asarray(p) for p in here]
    one = ao.Adam(lr=0.1, **{k: v for k, v in options.items() if k != "offload"})
    two = ao.Adam(lr=0.1, **options)
    for step in range(4):
        g = np.full((4, 4), 0.3 * step - 0.2, np.float32)
        one.apply([g, g[0].copy()], here)
        two.apply([cupy.asarray(g), cupy.asarray(g[0])], there)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b.get(), a, rtol=1e-5, atol=1e-6)


LAYOUTS: list[Callable[[Any], Any]] = [
    lambda x: x,
    lambda x: x.transpose(2, 1, 0),
    lambda x: x.transpose(1, 2, 0),
]


@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["C", "F", "permuted"])
def test_small_state_in_every_layout(
    layout: Callable[[Any], Any], state_dtype: str, cupy: Any
) -> None:
    """Groups and random bits follow memory, on either engine; the numbers are NumPy's."""
    whole = np.random.default_rng(6).normal(size=(9, 10, 11)).astype(np.float32)
    optimizers = [ao.Adam(state_dtype=state_dtype, stochastic_rounding=True) for _ in range(3)]
    places = [(np, "array"), (cupy, "array"), (cupy, "gpu")]
    found: list[Any] = []
    for optimizer, (xp, engine) in zip(optimizers, places, strict=True):
        p = layout(xp.asarray(whole.copy()))
        with ao.engine(engine):
            for step in range(3):
                g = np.random.default_rng(step).normal(size=p.shape).astype(np.float32)
                optimizer.apply(xp.asarray(g), p)
        found.append([p if xp is np else p.get(), *optimizer.get_weights()])
    for weights in found[1:]:
        for a, b in zip(found[0], weights, strict=True):
            np.testing.assert_array_equal(b, a)


@pytest.mark.parametrize("sparse", ["exact", "lazy"])
def test_rows_of_codes(sparse: str, cupy: Any) -> None:
    """A row that is whole groups of codes is stepped by itself."""
    found = []
    for xp in (np, cupy):
        p, optimizer = (
            [xp.asarray(np.ones((10, 256), "f4"))],
            ao.Adam(state_dtype="int8", sparse=sparse),
        )
        for step in range(3):
            rows = np.random.default_rng(step).normal(size=(3, 256)).astype(np.float32)
            g = ao.Rows(xp.asarray(np.array([1, 3, 3])), xp.asarray(rows), (10, 256))
            optimizer.apply([g], p)
        found.append([p[0] if xp is np else p[0].get(), *optimizer.get_weights()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(b, a)


WRAPPERS: list[Callable[[], Any]] = [
    lambda: ao.Lookahead(ao.Adam(lr=0.1)),
    lambda: ao.GradientAccumulation(ao.Adam(lr=0.1), every=2),
    lambda: ao.LossScale(ao.Adam(lr=0.1)),
]


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=["lookahead", "accumulation", "scale"])
def test_wrappers(wrapper: Callable[[], Any], cupy: Any, tmp_path: Path) -> None:
    """They step and save."""
    one, two = wrapper(), wrapper()
    here, there = [np.ones(4, np.float32)], [cupy.asarray(np.ones(4, np.float32))]
    for _ in range(8):
        one.apply([np.ones(4, np.float32)], here)
        two.apply([cupy.asarray(np.ones(4, np.float32))], there)
    np.testing.assert_allclose(there[0].get(), here[0], rtol=1e-6)
    two.save_weights(tmp_path / "w.h5")


def test_a_stream(cupy: Any) -> None:
    """Ten steps on a stream of the program's own."""
    stream = cupy.cuda.Stream(non_blocking=True)
    p, g = [cupy.zeros(1 << 20, np.float32)], [cupy.asarray(np.ones(1 << 20, np.float32))]
    cupy.cuda.Device().synchronize()
    optimizer = ao.SGD(lr=1.0)
    with stream:
        for _ in range(10):
            optimizer.apply(g, p)
    stream.synchronize()
    assert float(p[0].min()) == float(p[0].max()) == -10.0


def test_a_graph(cupy: Any) -> None:
    """A step that is captured once, and taken four times."""
    p = [cupy.asarray(np.ones(1000, np.float32))]
    g = [cupy.asarray(np.ones(1000, np.float32))]
    step = ao.SGD(lr=0.5).capture(p)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        step.apply(g)
        graph = stream.end_capture()
    for _ in range(4):
        step.replay(graph)
    cupy.cuda.Device().synchronize()
    assert float(p[0][0]) == -1.0


def test_minimize_and_explain(cupy: Any) -> None:
    """A loss with its gradient by hand; and who would step what."""
    start = cupy.asarray(np.zeros(5, np.float32))
    found = ao.minimize(
        lambda p: (((p - 3.0) ** 2).sum(), 2.0 * (p - 3.0)), start, ao.Adam(lr=0.1), steps=300
    )
    np.testing.assert_allclose(found.params.get(), np.full(5, 3.0), atol=0.05)
    kinds = [np.ones(3, np.float32), np.ones((2, 2), np.float64)]
    explained = ao.explain([cupy.asarray(x) for x in kinds])
    assert [group.engine for group in explained.groups] == ["gpu", "gpu"]


# ---- torch


def network(device: str) -> Any:
    """Return a small network of convolutions, the same each time."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Unflatten(1, (1, 4, 4)), torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU()]
    layers += [torch.nn.Flatten(), torch.nn.Linear(32, CLASSES)]
    return torch.nn.Sequential(*layers).to(device)


def amp(model: Any, device: str) -> tuple[Any, Any, Any]:
    """Return an optimizer with groups, a scheduler and a scaler."""
    torch = pytest.importorskip("torch")
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if "bias" not in n], "weight_decay": 0.01},
        {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0},
    ]
    optimizer = ao.torch.AdamW(groups, lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=60)
    return optimizer, scheduler, torch.amp.GradScaler(device)


def test_mixed_precision_is_resumed(device: str, tmp_path: Path) -> None:
    """Groups, scheduler and loss scaler go on from a checkpoint of torch's."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(SAMPLES).to(device)
    labels = torch.from_numpy(LABELS).to(device)
    half = torch.float16 if device == "cuda" else torch.bfloat16

    def run(model: Any, parts: Any, first: int, last: int) -> float:
        optimizer, scheduler, scaler = parts
        loss: Any = None
        for step in range(first, last):
            rows = slice(step * BATCH % len(SAMPLES), step * BATCH % len(SAMPLES) + BATCH)
            optimizer.zero_grad()
            with torch.autocast(device, dtype=half):
                loss = torch.nn.functional.cross_entropy(model(x[rows]), labels[rows])
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
        return float(loss.detach())

    model = network(device)
    parts = amp(model, device)
    run(model, parts, 0, 30)
    file = tmp_path / "checkpoint.pt"
    torch.save([each.state_dict() for each in (model, *parts)], file)
    last = run(model, parts, 30, 60)
    other = network(device)
    again = amp(other, device)
    for each, state in zip((other, *again), torch.load(file, weights_only=True), strict=True):
        each.load_state_dict(state)
    run(other, again, 30, 60)
    assert last < 0.3
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["Ftrl", "Rprop", "Yogi", "Adagrad", "Adam", "Muon"])
def test_channels_last(kind: str, device: str) -> None:
    """Weights of convolutions in the order that GPUs like are stepped as others."""
    torch = pytest.importorskip("torch")
    found = []
    for form in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        # In single precision a GPU's convolution differs by the order in memory.
        model = torch.nn.Conv2d(8, 16, 3).double().to(device).to(memory_format=form)
        x = torch.randn(4, 8, 8, 8).double().to(device).to(memory_format=form)
        optimizer = getattr(ao.torch, kind)(model.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        found.append(model.weight.detach())
    # Muon multiplies in bfloat16.
    torch.testing.assert_close(*found, rtol=1e-4, atol=2e-4 if kind == "Muon" else 1e-9)


@pytest.mark.parametrize(
    "kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adamax", "Adadelta"]
)
def test_against_torch(kind: str, device: str) -> None:
    """With torch's numerics the same parameters after thirty steps."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    mine = [torch.nn.Parameter(torch.randn(s).to(device)) for s in ((30, 4), (7,))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    one = getattr(ao.torch, kind)(mine, lr=1e-2, preset="torch")
    two = getattr(torch.optim, kind)(theirs, lr=1e-2)
    for _ in range(30):
        for p, q in zip(mine, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        one.step()
        two.step()
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=2e-5)


@pytest.mark.needs("torch_cuda")
def test_a_side_stream_of_torch() -> None:
    """Steps on another stream than the first."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(64, 64).cuda()
    optimizer, stream = ao.torch.Adam(model.parameters(), lr=1e-3), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(64, 64, device="cuda")).square().mean().backward()
            optimizer.step()
    torch.cuda.synchronize()
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.needs("torch_cuda")
def test_state_of_a_network_in_host_memory() -> None:
    """The optimizers of ``ao.torch`` take offload too."""
    torch = pytest.importorskip("torch")
    found = []
    for offload in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh()).cuda()
        optimizer = ao.torch.AdamW(model.parameters(), lr=1e-3, offload=offload)
        for step in range(5):
            optimizer.zero_grad()
            x = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 64))).float().cuda()
            model(x).square().mean().backward()
            optimizer.step()
        found.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(*found)


# ---- JAX


@pytest.mark.needs("jax")
def test_a_compiled_step_of_jax(tmp_path: Path) -> None:
    """The pure form inside of ``jax.jit``, on whatever device JAX has, and its state in a file."""
    jax = pytest.importorskip("jax")
    jnp, optimizer = jax.numpy, adamw()
    params = {k: jnp.asarray(v) for k, v in beginning().items()}
    state = optimizer.init_state(params)
    x, labels = jnp.asarray(SAMPLES), jnp.asarray(np.eye(CLASSES, dtype=np.float32)[LABELS])

    @jax.jit
    def step(state: Any, params: Any, x: Any, labels: Any) -> Any:
        loss, grads = gradients(jnp, params, x, labels)
        params, state = optimizer.stateless_apply(state, grads, params)
        return params, state, loss

    loss = np.nan
    for k in range(80):
        rows = slice(k * BATCH % len(SAMPLES), k * BATCH % len(SAMPLES) + BATCH)
        params, state, loss = step(state, params, x[rows], labels[rows])
    optimizer.load_state(state, params)
    optimizer.save_weights(tmp_path / "j.h5")
    assert float(loss) < 0.2 and optimizer.iterations == 80
