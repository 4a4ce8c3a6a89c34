"""GPU kernels without a GPU: the printed source behind the host's C++ compiler.

A launch is a loop over the blocks, and each phase of a kernel a loop over its threads. What this
cannot find are races inside a phase and between blocks; the order of the threads can be turned
round, which changes nothing in a kernel without races.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from arrayoptim.engines.gpu import arrays as gpu_arrays
from arrayoptim.engines.gpu import walks as gpu_walks
from arrayoptim.engines.gpu.copies import Copies
from arrayoptim.engines.gpu.device import Launch, Table
from arrayoptim.engines.gpu.prelude import PRELUDE, THREADS
from arrayoptim.engines.gpu.program import Program

SHIM = r"""
#include <cmath>
#include <cstring>
struct Index { unsigned x; };
static Index blockIdx, gridDim;
extern "C" void at_block(unsigned block, unsigned blocks) {
    blockIdx.x = block;
    gridDim.x = blocks;
}
static inline float __uint_as_float(unsigned x) { float y; std::memcpy(&y, &x, 4); return y; }
static inline unsigned __float_as_uint(float x) { unsigned y; std::memcpy(&y, &x, 4); return y; }
static inline int atomicAdd(int *at, int more) { int before = *at; *at += more; return before; }
static inline unsigned atomicMax(unsigned *at, unsigned x) {
    unsigned before = *at;
    *at = x > before ? x : before;
    return before;
}
static inline void __threadfence() {}
#ifdef FLUSH
// What -ftz=true asks of a GPU.
#ifdef __SSE2__
#include <immintrin.h>
extern "C" void flush(int on) { _mm_setcsr(on ? _mm_getcsr() | 0x8040 : _mm_getcsr() & ~0x8040); }
#else
extern "C" void flush(int on) {
    unsigned long long state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    state = on ? state | 1ull << 24 : state & ~(1ull << 24);
    __asm__ volatile("msr fpcr, %0" : : "r"(state));
}
#endif
#else
extern "C" void flush(int) {}
#endif
static inline void __syncthreads() {}
#define __shared__ static
#define FUNCTION inline
#define KERNEL extern "C" void
#ifdef BACKWARDS
#define EACH_THREAD(t) for (int t = THREADS; t-- > 0;)
#else
#define EACH_THREAD(t) for (int t = 0; t < THREADS; ++t)
#endif
"""


def compiler() -> str | None:
    """Return the host's C++ compiler: the one Python was built with, or a usual one."""
    words = (sysconfig.get_config_var("CXX") or "").split()
    candidates = [*words[:1], "g++", "clang++", "c++"]
    return next((found for name in candidates if (found := shutil.which(name))), None)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="arrayoptim-kernels-"))


class LateStream:
    """A stream that does nothing before it must: a wait that is missing then changes results."""

    def __init__(self, non_blocking: bool = True) -> None:
        self.ptr, self._todo, self._done = id(self), [], 0  # type: ignore[var-annotated]
        _STREAMS[self.ptr] = self

    def add(self, work: Any) -> None:
        self._todo.append(work)

    def wait_event(self, event: Any) -> None:
        self.add(event.synchronize)

    def record(self) -> Any:
        end = len(self._todo)
        return SimpleNamespace(synchronize=lambda: self._reach(end))

    def _reach(self, end: int) -> None:
        while self._done < end:
            self._done += 1
            self._todo[self._done - 1]()


def _copy_late(target: int, source: int, size: int, way: int, stream: int) -> None:
    copied.append(way)
    _STREAMS[stream].add(lambda: ctypes.memmove(target, source, size))


_STREAMS: dict[int, LateStream] = {}

copied: list[int] = []
"""The copies asked for: 2 for one to the host, 1 for one to the device."""

_RUNTIME = {"memcpyAsync": _copy_late, "memcpyDeviceToHost": 2, "memcpyHostToDevice": 1}
_CUDA = {"Stream": LateStream, "get_current_stream": LateStream}


class HostDevice:
    """The host in the place of a GPU. It counts what is asked of it."""

    def __init__(self, number: int = 0, backwards: bool = False) -> None:
        self.number, self._backwards = number, backwards
        self.launches: list[str] = []
        self.tables = 0
        self.sent: list[int] = []
        self.waits = 0
        self.rooms: list[np.ndarray] = []
        self.streams: list[int | None] = []
        self.recorded: list[Callable[[], None]] | None = None
        self._kernels: dict[str, Launch] = {}
        self._active = 0

    @contextlib.contextmanager
    def active(self, stream: int | None) -> Iterator[None]:
        self.streams.append(stream)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    def _awake(self) -> bool:
        """Whether what a device refuses while a graph is captured may be asked of it."""
        return self._active > 0 and self.recorded is None

    def table(self, values: np.ndarray) -> Table:
        assert self._awake()
        memory = np.array(values).reshape(-1)
        self.tables += 1
        return Table(memory.ctypes.data, memory)

    def write(self, table: Table, values: np.ndarray) -> None:
        assert self._awake() and table.memory.dtype == values.dtype
        table.memory[: values.size] = values.reshape(-1)
        self.tables += 1
        self.sent.append(values.nbytes)

    def read(self, table: Table) -> np.ndarray:
        assert self._awake()
        self.waits += 1
        return table.memory.copy()

    def pinned(self, size: int) -> np.ndarray:
        assert self._awake()
        self.rooms.append(np.full(size, 0xFF, np.uint8))
        return self.rooms[-1]

    def copies(self) -> Copies:
        assert self._active
        cuda = SimpleNamespace(runtime=SimpleNamespace(**_RUNTIME), **_CUDA)
        return Copies(SimpleNamespace(cuda=cuda))

    def kernel(self, program: Program) -> Launch:
        if program.name not in self._kernels:
            assert self.recorded is None
            self.compile([program])
        return self._kernels[program.name]

    def compile(self, programs: Iterable[Program]) -> None:
        """Compile several kernels at once, which takes hardly longer than one."""
        programs = [program for program in programs if program.name not in self._kernels]
        unique = {program.name: program for program in programs}
        text = SHIM + PRELUDE + "".join(program.body for program in unique.values())
        library = _built(text, self._backwards)
        for name in unique:
            self._kernels[name] = self._launch(library, name)

    def _launch(self, library: ctypes.CDLL, name: str) -> Launch:
        function = getattr(library, name)
        function.restype = None

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            (blocks,) = grid
            assert self._active and blocks > 0 and block == (THREADS,)
            self.launches.append(name)

            def run() -> None:
                called(library, function, blocks, arguments)

            run() if self.recorded is None else self.recorded.append(run)

        return launch


def called(library: ctypes.CDLL, function: Any, blocks: int, arguments: Sequence[Any]) -> None:
    """Run a kernel, block after block."""
    kinds = {int: ctypes.c_int64, float: ctypes.c_double}
    given = [kinds[type(argument)](argument) for argument in arguments]
    library.flush(1)
    for block in range(blocks):
        library.at_block(block, blocks)
        function(*given)
    library.flush(0)


def library_of_text(source: str, flush: bool = False) -> ctypes.CDLL:
    """Compile the whole text of a kernel; subnormal float32 become zero where that is wanted."""
    return _built("#define FLUSH\n" * flush + SHIM + source, False)


@cache
def _built(text: str, backwards: bool) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    source, target = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(text, encoding="utf-8")
    # No contraction: the bits of the device, which is asked for the same.
    flags = ["-std=c++17", "-O0", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC"]
    flags += ["-DBACKWARDS"] if backwards else []
    command = [str(compiler()), *flags, str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return ctypes.CDLL(str(target))


class HostGraph:
    """Launches that are repeated as they were, as a CUDA graph does."""

    def __init__(self) -> None:
        self.launches: list[Callable[[], None]] = []

    def launch(self) -> None:
        for run in self.launches:
            run()


class NumPyOnHost(gpu_arrays.CuPyLibrary):
    """NumPy arrays as if they lay on GPUs; those in `numbers` on another than the first."""

    def __init__(self, backwards: bool = False) -> None:
        self.devices = [HostDevice(number, backwards) for number in range(2)]
        self.second: list[Any] = []
        self.capturing = False

    @contextlib.contextmanager
    def captured(self) -> Iterator[HostGraph]:
        """Capture a graph."""
        graph, self.capturing = HostGraph(), True
        for device in self.devices:
            device.recorded = graph.launches
        try:
            yield graph
        finally:
            self.capturing = False
            for device in self.devices:
                device.recorded = None

    def refusal(self, array: Any) -> str | None:
        return None if array.dtype.isnative else "its bytes are swapped"

    def device(self, number: int) -> Any:
        return self.devices[number]

    def captures(self, number: int) -> bool:
        return self.capturing

    def facts(self, arrays: Any) -> list[Any] | None:
        if any(x is not None and type(x) is not np.ndarray for x in arrays):
            return None
        return [x if x is None else (self.number(x), x.shape, x.strides, x.dtype) for x in arrays]

    def places(self, arrays: Any) -> list[int]:
        return gpu_arrays.Library.places(self, arrays)

    def number(self, array: Any) -> int:
        return int(any(np.shares_memory(array, other) for other in self.second if array.size))

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def conform(self, array: Any, like: Any, dtype: str) -> Any:
        from backends import np_dtype

        copy = np.empty_like(like, dtype=np_dtype(dtype))
        copy[...] = array
        return copy


class WalkOnHost(gpu_walks.TorchWalk):
    """A walk through tensors of the CPU."""

    kind = 1


class TorchOnHost(gpu_arrays.TorchLibrary):
    """Torch tensors of the CPU as if they lay on a GPU."""

    walking = WalkOnHost

    def __init__(self) -> None:
        self.only, self.capturing = HostDevice(), False

    def holds(self, array: Any) -> bool:
        return True

    def device(self, number: int) -> Any:
        return self.only

    def number(self, array: Any) -> int:
        return 0

    def stream(self, number: int) -> int | None:
        return 77

    def captures(self, number: int) -> bool:
        return self.capturing

    def refusal(self, array: Any) -> str | None:
        found = super().refusal(array)
        return None if found is not None and "CuPy" in found else found


class TorchAsOnGPU(gpu_arrays.TorchLibrary):
    """Torch tensors of the CPU as if they lay on a GPU, all else through CuPy."""

    def holds(self, array: Any) -> bool:
        return True

    def number(self, array: Any) -> int:
        return 0

    def address(self, array: Any) -> int:
        from cupy_on_host import machine

        low, size = array.untyped_storage().data_ptr(), array.untyped_storage().nbytes()
        machine().foreign[low] = low + size
        return super().address(array)

    def places(self, arrays: Any) -> list[int]:
        return gpu_arrays.Library.places(self, arrays)

    def stream(self, number: int) -> int | None:
        return 1 << 40

    def captures(self, number: int) -> bool:
        return False


def off_by_one(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins one element after an address that 64 divides."""
    room = np.empty(array.size * array.itemsize + 64 + array.itemsize, np.uint8)
    skip = -room.ctypes.data % 64 + array.itemsize
    copy = room[skip : skip + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def launched(devices: Sequence[HostDevice]) -> list[str]:
    """Return the names of all kernels launched since the last call."""
    names = [name for device in devices for name in device.launches]
    for device in devices:
        device.launches.clear()
    return names
