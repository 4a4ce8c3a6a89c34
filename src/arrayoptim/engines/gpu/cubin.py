"""Kernel binaries (cubins) for one GPU architecture: compiled once, then cached on disk."""

from __future__ import annotations

import hashlib
from typing import Any

from .. import store
from .program import Program

__all__ = ["OPTIONS", "loaded"]

OPTIONS = ("--std=c++17", "--fmad=false", "-ftz=false")
"""Without the second, FMA contraction rounds a product and sum once, unlike the CPU; without the
third, denormals (float32 below 1.2e-38, float16 below 6.1e-5) may be flushed to zero."""


def loaded(cupy: Any, program: Program) -> Any:
    """Return a program as a kernel loaded on the current device.

    CuPy's public ways to compile, such as ``RawModule``, append ``-ftz=true`` to all options. The
    function beneath them does not, and does not cache.

    Parameters
    ----------
    cupy : module
        CuPy.
    program : Program
        The program.

    Returns
    -------
    callable
        Launches the kernel, given grid, block and arguments.

    Raises
    ------
    Exception
        If it cannot be compiled or loaded here: an error of CuPy.
    """
    key = _key(cupy, program)
    code = store.read(key)
    if code is not None:
        try:
            return _function(cupy, program, code)
        except Exception:
            pass
    code, _ = cupy.cuda.compiler.compile_using_nvrtc(
        program.source, OPTIONS, None, f"{program.name}.cu"
    )
    function = _function(cupy, program, code)
    store.write(key, code)
    return function


def _function(cupy: Any, program: Program, code: bytes) -> Any:
    module = cupy.cuda.function.Module()
    module.load(code)
    return module.get_function(program.name)


def _key(cupy: Any, program: Program) -> str:
    """Return a cache key of everything that the cubin depends on."""
    cuda = cupy.cuda
    surroundings = cupy.__version__, cuda.nvrtc.getVersion(), cuda.Device().compute_capability
    text = repr((OPTIONS, surroundings, program.source))
    return f"gpu-{hashlib.sha256(text.encode()).hexdigest()}"
