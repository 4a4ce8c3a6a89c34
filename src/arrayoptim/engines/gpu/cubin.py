"""Machine code of kernels for one kind of GPU: compiled once, then read from disk."""

from __future__ import annotations

import hashlib
from typing import Any

from .. import store
from .program import Program

__all__ = ["OPTIONS", "loaded"]

OPTIONS = ("--std=c++17", "--fmad=false", "-ftz=false")
"""Without the second, a product and a sum are rounded once, and the CPU's bits are lost; without
the third, numbers below 1.2e-38 may be taken for zero, and float16 below 6.1e-5 with them."""


def loaded(cupy: Any, program: Program) -> Any:
    """Return a program as a function on the current device.

    CuPy's own ways to compile, such as ``RawModule``, add ``-ftz=true`` to all options. What is
    beneath them does not, and keeps nothing.

    Parameters
    ----------
    cupy : module
        CuPy.
    program : Program
        The program.

    Returns
    -------
    callable
        Launches it, given a grid, a block and arguments.

    Raises
    ------
    Exception
        If it cannot be compiled or loaded here: an error of CuPy's.
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
    """Return a key of all that the machine code depends on."""
    cuda = cupy.cuda
    surroundings = cupy.__version__, cuda.nvrtc.getVersion(), cuda.Device().compute_capability
    text = repr((OPTIONS, surroundings, program.source))
    return f"gpu-{hashlib.sha256(text.encode()).hexdigest()}"
