"""The printed kernels compile for GPUs, with the rounding that is wanted; no GPU is needed."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrayoptim.arrays.trees import flatten
from arrayoptim.engines.gpu.cubin import OPTIONS
from arrayoptim.engines.gpu.norm import NORM
from arrayoptim.engines.gpu.prelude import PRELUDE
from arrayoptim.engines.gpu.units import factors, result, squares
from arrayoptim.step.counted import Counted
from arrayoptim.step.session import session_of
from gpu_cases import matrix_programs, programs, rules
from gpu_on_host import NumPyOnHost
from matrix_cases import RULES as MATRIX_RULES
from optimizers_under_test import fused, make

ARCHITECTURES = ["compute_80", pytest.param("compute_90", marks=pytest.mark.slow)]


def nvrtc() -> ctypes.CDLL | None:
    """Return NVIDIA's run-time compiler, of its wheel or of the system."""
    places: list[str] = []
    for name in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        for folder in found.submodule_search_locations or [] if found else []:
            places += map(str, sorted(Path(folder).rglob("libnvrtc.so.1?")))
    system = ctypes.util.find_library("nvrtc")
    places += [system] if system else []
    return ctypes.CDLL(places[0]) if places else None


LIBRARY = nvrtc()
if LIBRARY is None:
    pytest.skip("NVRTC is not installed (nvidia-cuda-nvrtc-cu12)", allow_module_level=True)


def compiled(source: str, architecture: str, options: tuple[str, ...] = OPTIONS) -> str:
    """Return the PTX of a source."""
    library: Any = LIBRARY
    program = ctypes.c_void_p()
    text = source.encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text, b"k.cu", 0, None, None) == 0
    words = [*options, f"--gpu-architecture={architecture}"]
    given = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
    failed = library.nvrtcCompileProgram(program, len(words), given)
    log = _text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
    assert not failed and "error" not in log, log
    ptx = _text(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx


def _text(size_of: Any, text_of: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    room = ctypes.create_string_buffer(size.value)
    assert text_of(program, room) == 0
    return room.value.decode()


def exact(ptx: str) -> None:
    """Assert that nothing is contracted, approximated or flushed to zero."""
    for word in ("fma.", ".approx", ".ftz", ".full"):
        assert word not in ptx


@rules
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_rule_compiles(rule: Any, architecture: str) -> None:
    """In every form and with every stage: exact, in registers alone, 16 bytes at a time."""
    found = {program.name: program for program in programs(rule)}
    ptx = compiled(PRELUDE + "".join(program.body for program in found.values()), architecture)
    entries = ptx.split(".entry ")[1:]
    assert {entry.split("(")[0] for entry in entries} == set(found)
    exact(ptx)
    assert ".local" not in ptx
    for entry in entries:
        if entry.startswith("measure_"):
            assert "sqrt.rn.f64" in entry or not (rule.norms and rule.ratio)
            continue
        loads = [word for word in entry.split() if word.startswith("ld.") and ".v" in word]
        stores = [word for word in entry.split() if word.startswith("st.") and ".v" in word]
        assert loads and stores


@pytest.mark.parametrize("rule", MATRIX_RULES.values(), ids=MATRIX_RULES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_rule_for_matrices_compiles(rule: Any, architecture: str) -> None:
    """Its passes are exact, in registers alone, add in double, and store 16 bytes at a time."""
    some = matrix_programs(rule)[:: 3 if architecture == "compute_80" else 1]
    found = {program.name: program for program in some}
    ptx = compiled(PRELUDE + "".join(program.body for program in found.values()), architecture)
    entries = {entry.split("(")[0]: entry for entry in ptx.split(".entry ")[1:]}
    assert entries.keys() == found.keys()
    exact(ptx)
    assert ".local" not in ptx
    for name, entry in entries.items():
        words = [word.partition(";")[0] for word in entry.split()]
        if name.startswith("stored_"):
            assert any(word.startswith("st.") and ".v" in word for word in words)
            assert any(word.startswith("ld.") and ".v" in word for word in words)
        elif name.startswith("totals"):
            assert "st.global.f64" in words and "bar.sync" in words
            assert "add.f64" in words or "add.rn.f64" in words or rule.name in ("largest", "sm3")


def test_every_counter_compiles(name: str, host: NumPyOnHost) -> None:
    """What computes the numbers of a step does so in double precision, in registers alone."""
    optimizer, found = make(name, weight_decay=0.1, clipvalue=1.0), dict[str, Any]()

    def kernel(program: Any) -> Any:
        found[program.name] = program
        return lambda *_: None

    host.devices[0].kernel = kernel  # type: ignore[method-assign]
    leaves, structure = flatten([np.zeros((3, 2), np.float32), np.zeros(2, np.float32)])
    state = session_of(optimizer).ready(leaves, structure)
    held = [[np.array(x) for x in (0.0, *state.scalars.values())] for _ in leaves]
    if not fused(name, "gpu") or optimizer.rule.totals:
        return
    Counted(session_of(optimizer), leaves, structure, held).step(leaves, {})
    some = [program for name, program in found.items() if name.startswith(("counted", "put"))]
    assert len(some) >= 2
    ptx = compiled(PRELUDE + "".join(program.body for program in some), "compute_80")
    assert "st.global.f64" in ptx and ".approx" not in ptx.replace("approx.ftz.f64", "")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_norm_compiles(architecture: str) -> None:
    """It adds in double precision, and rounds each product."""
    ptx = compiled(NORM.source, architecture)
    exact(ptx)
    assert ("sqrt.rn.f64" in ptx and "mul.rn.f64" in ptx) or "mul.f64" in ptx
    assert ptx.count("bar.sync") >= 5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_clipping_by_units_compiles(architecture: str) -> None:
    """Sums are in double precision, and all is exact and in registers alone."""
    found = []
    for kinds in (
        ("float32", "float32", "float32", False),
        ("bfloat16", "float16", "float32", False),
        ("float64", "float64", "float64", True),
        ("float32", "float64", "float32", True),
    ):
        names = "lr", "last_units", "tensor_bound", "scale", "bound"
        found += [squares(*kinds, 3), factors(*kinds, names, "last_units"), result(*kinds)]
    ptx = compiled(PRELUDE + "".join(program.body for program in found), architecture)
    assert {entry.split("(")[0] for entry in ptx.split(".entry ")[1:]} == {p.name for p in found}
    exact(ptx)
    assert ".local" not in ptx and "sqrt.rn.f64" in ptx and "div.rn.f64" in ptx


def test_contraction_is_an_option_that_matters() -> None:
    """Without it the compiler contracts, and the bits of the CPU are lost."""
    program = programs(make("Adam").rule)[0]
    assert "fma.rn.f32" in compiled(program.source, "compute_80", ("--std=c++17",))


def test_flushing_is_an_option_that_matters() -> None:
    """With it, which CuPy's own compiler adds, subnormal numbers are taken for zero."""
    program = programs(make("Adam").rule)[0]
    flushed = compiled(program.source, "compute_80", (*OPTIONS[:2], "-ftz=true"))
    assert ".ftz" in flushed and ".ftz" not in compiled(program.source, "compute_80")


def test_a_fault_is_an_error() -> None:
    """The compiler is really asked."""
    program = programs(make("Adam").rule)[0]
    with pytest.raises(AssertionError, match="error"):
        compiled(program.source.replace("stepped<1>", "skipped<1>"), "compute_80")
