"""How CuPy is used: all of the GPU engine but the GPU, with a CuPy as strict as the real one."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines import store
from arrayoptim.engines.gpu.cubin import OPTIONS, loaded
from arrayoptim.engines.gpu.device import Device, device
from arrayoptim.engines.gpu.norm import NORM
from cupy_on_host import installed, names
from engine_cases import draw
from gpu_cases import SHAPES, programs
from gpu_on_host import compiler
from optimizers_under_test import make, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


@pytest.fixture(params=[True, False], ids=["new", "old"])
def cupy(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Let there be CuPy, of version 14 or before."""
    with installed(request.param) as machine:
        import cupy

        cupy.machine = machine
        yield cupy


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let kernels be kept where there are none yet."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def arrays(cupy: Any, seed: int, dtype: str = "float32") -> list[Any]:
    """Return arrays of some shapes."""
    return [cupy.asarray(x) for x in draw(seed, SHAPES, dtype)]


def on_host(arrays: Any) -> list[np.ndarray]:
    """Return their values."""
    return [x.get() for x in arrays]


def test_the_emulation_refuses_what_cupy_refuses(cupy: Any) -> None:
    """Otherwise it would let faults pass that only a GPU shows."""
    x, host = cupy.asarray(np.ones((2, 3), np.float32)), np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="unhashable"):
        hash(x.device)
    assert x.device == cupy.cuda.Device(0) and x.device is not x.device
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Unsupported type"):
        x + host
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = host
    with pytest.raises(AttributeError):
        cupy.block  # noqa: B018  NumPy has it
    with cupy.cuda.Device(1), pytest.raises(ValueError, match="Peer access"):
        x + 1.0
    assert type(x.sum()) is type(x) and x.sum().shape == ()
    # The results of functions of elements are in the order of C, whatever the operands'.
    assert (x.T + 1.0).flags.c_contiguous and not (x.T + 1.0).flags.f_contiguous
    with cupy.cuda.Device(1):
        assert x.copy().device == cupy.cuda.Device(1)


def test_subnormal_numbers_with_the_compilers(cupy: Any) -> None:
    """CuPy's own compiler takes them for zero, what is beneath it does not."""
    text = "KERNEL halved(float *x) { EACH_THREAD(u) { if (u == 0) x[0] = x[0] * 0.5f; } }\n"
    source = "#define THREADS 256\n" + text
    found = []
    for made in (True, False):
        x = cupy.asarray(np.full(1, 1e-40, np.float32))
        if made:
            kernel = cupy.RawModule(code=source).get_function("halved")
        else:
            module = cupy.cuda.function.Module()
            module.load(cupy.cuda.compiler.compile_using_nvrtc(source, ())[0])
            kernel = module.get_function("halved")
        kernel((1,), (256,), (x.data.ptr,))
        found.append(float(x[0]))
    assert found[0] == 0.0 and found[1] == float(np.float32(1e-40) / 2)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_small_numbers_train(cupy: Any, dtype: str, folder: Path) -> None:
    """Those of which a GPU that flushes knows nothing: the CPU's bits."""
    tiny = 1e-6 if dtype == "float16" else 1e-41
    start, g = np.full(64, tiny, dtype), np.linspace(-tiny, tiny, 64).astype(dtype)
    here, there = start.copy(), cupy.asarray(start)
    for engine, p, grad in (("array", here, g), ("gpu", there, cupy.asarray(g))):
        with ao.engine(engine):
            optimizer = ao.SGD(lr=0.5, momentum=0.9)
            for _ in range(3):
                optimizer.apply(grad, p)
    same([there.get()], [here])
    assert np.any(here != start)
    assert "-ftz=false" in cupy.machine.compiled[0]
    assert all("-ftz=true" not in options for options in cupy.machine.compiled)


def test_streams_and_copies(cupy: Any, folder: Path) -> None:
    """Kernels run on the current stream, and copies out of pinned memory on the same."""
    machine = cupy.machine
    optimizer, plain = make("Adam", clipnorm=0.5), make("Adam", clipnorm=0.5)
    with cupy.cuda.Device(3):
        params, grads = arrays(cupy, 1), arrays(cupy, 2)
        stream = cupy.cuda.Stream(non_blocking=True)
        other = draw(1, SHAPES, "float32")
        optimizer.init(params)
        with stream:
            machine.busy, machine.copies, machine.waits = True, [], 0
            for step in range(4):
                # Gradients move at every step but the second.
                grads = grads if step == 1 else [g.copy() for g in grads]
                optimizer.apply(grads, params)
                with ao.engine("array"):
                    plain.apply(draw(2, SHAPES, "float32"), other)
        assert machine.waits == 0
        same(on_host(params), other)
        assert {(number, at.ptr) for _, number, at in machine.launches} == {(3, stream.ptr)}
        assert len(machine.launches) == 8 and len(machine.compiled) == 2
        # While copies are under way their buffers stay as they are.
        assert machine.copies == [stream] * 2 and len(machine.pinned) == 2
        machine.busy, optimizer.nonfinite = False, "raise"
        machine.waits = 0
        optimizer.apply([g.copy() for g in grads], params)
        assert machine.waits == 1 and len(machine.pinned) == 2


def test_streams_of_others(cupy: Any) -> None:
    """Another library's stream is CuPy's current one while its arrays are stepped; then no more."""
    before = cupy.cuda.get_current_stream()
    with Device(3).active(1 << 33):
        assert cupy.cuda.Device().id == 3
        assert cupy.cuda.get_current_stream().ptr == 1 << 33
    with Device(3).active(None):
        assert cupy.cuda.get_current_stream() == before
    assert cupy.cuda.Device().id == 0 and cupy.cuda.get_current_stream() == before


@pytest.mark.parametrize("engine", ["gpu", "array"])
def test_several_devices(cupy: Any, engine: str) -> None:
    """Each array's step, state and copies are where it is, wherever the program is just now."""
    host, there = draw(1, SHAPES, "float32"), []
    for k, x in enumerate(host):
        with cupy.cuda.Device(k % 3):
            there.append(cupy.asarray(x))
    options = {"clipnorm": 0.5, "ema_momentum": 0.9}
    found, plain = make("Adam", **options), make("Adam", **options)
    for step in range(3):
        drawn, given = draw(7 + step, SHAPES, "float32"), []
        for k, g in enumerate(drawn):
            with cupy.cuda.Device(k % 3):
                given.append(cupy.asarray(g))
        with ao.engine(engine), cupy.cuda.Device(step):
            found.apply(given, there)
        with ao.engine("array"):
            plain.apply(drawn, host)
    homes = [k % 3 for k in range(len(there))]
    assert [p.device.id for p in there] == homes
    assert [x.device.id for x in found.weights[1:]] == homes * 3
    for a, b in zip(on_host(there), host, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    weights = found.get_weights()
    again = make("Adam", **options)
    again.init(there)
    again.set_weights(weights)
    assert [x.device.id for x in again.weights[1:]] == homes * 3
    assert [x.device.id for x in found.averages(there)] == homes


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}, {"ema_momentum": 0.9}])
@pytest.mark.parametrize("name", ["Ftrl", "Adam", "Rprop", "Yogi", "Adagrad"])
def test_arrays_in_fortran_order(
    cupy: Any, name: str, options: dict[str, Any], offload: bool
) -> None:
    """Slots of a number, those that were loaded and those of a step elsewhere follow them."""
    shapes = [(4, 6), (3, 5, 2), (0, 4), (7,)]
    host = [np.asfortranarray(x) for x in draw(1, shapes, "float32")]
    params = [cupy.asarray(x) for x in host]
    grads = [np.asfortranarray(x) for x in draw(2, shapes, "float32")]
    given = [cupy.asarray(g) for g in grads]
    assert params[0].flags.f_contiguous and not params[0].flags.c_contiguous
    more = {"offload": True} if offload else {}
    optimizer, plain = make(name, **options, **more), make(name, **options)

    def step() -> None:
        with ao.engine("auto" if offload else "gpu"):
            optimizer.apply(given, params)
        with ao.engine("array"):
            plain.apply(grads, host)

    step()
    optimizer.set_weights(optimizer.get_weights())
    step()
    if not offload:
        with ao.engine("array"):
            optimizer.apply(given, params)
            plain.apply(grads, host)
    updates = optimizer.get_updates(params, lambda _: (0.0, given))
    optimizer.apply_updates(updates)
    plain.apply_updates(plain.get_updates(host, lambda _: (0.0, grads)))
    step()
    same(on_host(params), host)


def test_kernels_are_kept(cupy: Any, folder: Path) -> None:
    """The next process compiles nothing, but what no device takes."""

    def stepped() -> int:
        device.cache_clear()
        p = cupy.zeros(8, np.float32)
        ao.SGD(lr=0.5).apply(cupy.asarray(np.ones(8, np.float32)), p)
        assert p.get().tolist() == [-0.5] * 8
        return len(cupy.machine.compiled)

    assert [stepped(), stepped()] == [1, 1]
    (file,) = folder.iterdir()
    store.write(file.stem, b"no machine code")
    assert [stepped(), stepped()] == [2, 2]


def test_graphs(cupy: Any) -> None:
    """A whole loop with a graph of CuPy's, on a stream of its own."""
    p, g = [cupy.ones(1000, np.float32)], [cupy.ones(1000, np.float32)]
    optimizer = ao.SGD(lr=ao.schedules.ExponentialDecay(0.5, 1, 0.5))
    step = optimizer.capture(p)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="is being captured"):
            ao.SGD().apply(g, p)
        step.apply(g)
        graph = stream.end_capture()
    assert float(p[0][0]) == 1.0
    for _ in range(3):
        step.replay(graph)
    assert float(p[0][0]) == 1.0 - 0.5 - 0.25 - 0.125 and optimizer.iterations == 3


real = importlib.util.find_spec("cupy")


@pytest.mark.skipif(real is None, reason="CuPy is not installed")
def test_the_emulation_is_like_cupy() -> None:
    """Each name that may be asked for, and each function's parameters, are CuPy's own."""
    real = pytest.importorskip("cupy", exc_type=Exception)
    for name in (*names.UFUNCS, *names.FUNCTIONS, *names.SHARED):
        assert hasattr(real, name), name
    assert all(hasattr(real.linalg, name) for name in names.LINALG)
    compile_ = inspect.signature(real.cuda.compiler.compile_using_nvrtc)
    compile_.bind("text", OPTIONS, None, "kernel.cu")
    with installed():
        import cupy as emulated

        for name in ("array", "asarray", "zeros_like", "empty_like", "full_like", "asnumpy"):
            # What comes first is never called by its name.
            mine = list(inspect.signature(getattr(emulated, name)).parameters)[1:]
            own = inspect.signature(getattr(real, name)).parameters
            assert all(word in own for word in mine if word != "value"), name
    assert real.cuda.Device.__hash__ is None and real.ndarray.__hash__ is None
    for word in ("Module", "Function"):
        assert hasattr(real.cuda.function, word)


@pytest.mark.skipif(real is None, reason="CuPy is not installed")
def test_the_real_compiler_takes_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's binding of NVRTC makes machine code of them, for a GPU that need not be there."""
    real = pytest.importorskip("cupy", exc_type=Exception)
    try:
        real.cuda.nvrtc.getVersion()
    except Exception:  # no compiler is found: CuPy has an error of its own for that
        pytest.skip("NVRTC is not installed")
    taken: list[bytes] = []

    class Module:
        """What the driver would be given."""

        def load(self, code: bytes) -> None:
            taken.append(code)

        def get_function(self, name: str) -> str:
            return name

    monkeypatch.setenv(store.VARIABLE, "")
    # Both ask the driver.
    arch = "_get_arch_for_options_for_nvrtc"
    monkeypatch.setattr(real.cuda.compiler, arch, lambda arch=None: ("-arch=sm_90", "cubin"))
    there = SimpleNamespace(compute_capability="90")
    functions = SimpleNamespace(Module=Module)
    cuda = SimpleNamespace(**{**vars(real.cuda), "Device": lambda: there, "function": functions})
    known = SimpleNamespace(__version__=real.__version__, cuda=cuda)
    for program in (NORM, programs(make("Adam").rule)[0]):
        assert loaded(known, program) == program.name
    assert [code[:4] for code in taken] == [b"\x7fELF"] * 2


def calls_of(optimizer: Any, grads: list[Any], params: list[Any]) -> int:
    """Return how many functions of the library a step calls."""
    root, count = str(Path(ao.__file__).parent), 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        # What runs inside of one call for all arrays is no call of its own.
        inner = frame.f_code.co_name in ("<listcomp>", "<genexpr>")
        count += event == "call" and not inner and frame.f_code.co_filename.startswith(root)

    sys.setprofile(note)
    try:
        optimizer.apply(grads, params)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0, "weight_decay": 0.1}])
def test_what_the_host_does_for_an_array(cupy: Any, options: dict[str, Any]) -> None:
    """Nothing of its own, in a step like the one before: with the same gradients, or others."""
    found = []
    for count in (20, 60):
        rows = draw(1, [(4, 4)] * count, "float32"), draw(2, [(4, 4)] * count, "float32")
        params, grads = ([cupy.asarray(x) for x in row] for row in rows)
        optimizer = ao.Adam(**options)
        optimizer.apply(grads, params)
        again = calls_of(optimizer, grads, params)
        moved = calls_of(optimizer, [g.copy() for g in grads], params)
        found.append((again, moved))
    assert found[0] == found[1]


def test_a_gradient_of_another_kind_is_noticed(cupy: Any) -> None:
    """What was seen of the last ones does not hold for it."""
    p = [cupy.asarray(x) for x in draw(1, [(4, 6), (3,)], "float32")]
    here = [x.get() for x in p]
    g = [cupy.asarray(x) for x in draw(2, [(4, 6), (3,)], "float32")]
    forms = [
        lambda g: g,
        lambda g: g,
        lambda g: [cupy.asarray(np.asfortranarray(g[0].get())), g[1]],
        lambda g: [g[0].astype(np.float64), g[1]],
        lambda g: [g[0], None],
        lambda g: [g[0].astype(np.float16), g[1].astype(np.float16)],
        lambda g: g,
    ]
    one, two = ao.Adam(lr=0.1, clipnorm=0.5), ao.Adam(lr=0.1, clipnorm=0.5)
    for form in forms:
        given = form(g)
        one.apply(given, p)
        with ao.engine("array"):
            two.apply([None if x is None else x.get() for x in given], here)
        same(on_host(p), here)
    with pytest.raises(ValueError, match="shape"):
        one.apply([g[0].T, g[1]], p)
    with pytest.raises(ValueError, match="wanted"):
        one.apply([g[0].get(), g[1]], p)
    one.apply(g, p)
    assert one.iterations == len(forms) + 1
