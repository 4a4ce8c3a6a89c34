"""Machine code of kernels: compiled once per machine, then read from disk without Numba."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from types import CodeType
from typing import Any

import llvmlite.binding as llvm

from ..._locks import lock
from .. import store
from .source import Program

_SOURCES = tuple(f"{name}.py" for name in ("coded", "compile", "memory", "numbers", "vocabulary"))
_LOCK = lock(awaited=True)


def code_address(program: Program) -> int:
    """Return where the machine code of a program begins.

    Parameters
    ----------
    program : Program
        The program.

    Returns
    -------
    int
        The address, which holds until the process ends.

    Raises
    ------
    RuntimeError
        If the machine code cannot be loaded here.
    """
    with _LOCK:
        return _address(program)


@cache
def _address(program: Program) -> int:
    key = _key(program)
    code = store.read(key) if key else None
    if code is None:
        code = _machine_code(program)
        if key:
            store.write(key, code)
    name, _, content = code.partition(b"\n")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(0))
    engine.add_object_file(llvm.ObjectFileRef.from_data(content))
    engine.finalize_object()
    place = int(engine.get_function_address(name.decode()))
    # Threads may be in the code until the process has ended: LLVM must not free it before.
    engine.detach()
    return place


def _machine_code(program: Program) -> bytes:
    """Compile a program to the name of its function, a line feed, and an object file."""
    from .compile import ENTRY, compiled, wrapped

    name, text = compiled(program)
    module = llvm.parse_assembly(text)
    if program.answers:
        module.link_in(llvm.parse_assembly(wrapped(name)))
        name = ENTRY
    _check_symbols(module)
    return name.encode() + b"\n" + bytes(_machine(3).emit_object(module))


def _check_symbols(module: Any) -> None:
    """Refuse what this process lacks: the loader would end it, not raise."""
    for function in module.functions:
        name = function.name
        known = not function.is_declaration or name.startswith("llvm.")
        if not known and not llvm.address_of_symbol(name):
            raise RuntimeError(f"compiled code calls {name}, which this process does not have")


@cache
def _machine(level: int) -> Any:
    _initialize()
    triple = llvm.get_process_triple()
    cpu, features = _host()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=level, jit=True, codemodel="jitdefault"
    )


@cache
def _initialize() -> None:
    # Needed once, an error since llvmlite 0.45.
    with contextlib.suppress(RuntimeError):
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def refusal(dtypes: Iterable[str]) -> str | None:
    """Say why kernels cannot be used on this machine.

    Parameters
    ----------
    dtypes : iterable of str
        The dtypes of the arrays.

    Returns
    -------
    str or None
        The reason; None where there is none.
    """
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "kernels want addresses of 64 bits"
    # Loading code that calls a missing conversion function would end the process.
    if "float16" in dtypes and not llvm.get_host_cpu_features().get("f16c", True):
        return "the processor has no instructions for float16"
    return None


@cache
def _host() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _key(program: Program) -> str | None:
    """Name what the machine code depends on; None where a function depends on more than itself."""
    digest = hashlib.sha256(repr(_surroundings()).encode())
    digest.update(
        repr((program.source, program.streams, program.compute, program.answers)).encode()
    )
    for name, function in program.functions:
        fingerprint = _fingerprint(function)
        if fingerprint is None:
            return None
        digest.update(f"{name} {fingerprint}".encode())
    return digest.hexdigest()


def _fingerprint(function: Callable[..., Any]) -> str | None:
    code: CodeType = function.__code__
    names = set(code.co_names) - {"abs"}
    if code.co_freevars or names & set(function.__globals__):
        return None
    parts = (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_argcount)
    return repr(parts)


@cache
def _surroundings() -> tuple[Any, ...]:
    sources = [pkgutil.get_data(__package__, name) for name in _SOURCES]
    return version("numba"), version("llvmlite"), _host(), sources
