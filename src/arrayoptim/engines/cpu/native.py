"""Machine code of kernels: compiled once per machine, then read from disk without Numba."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

from ..._locks import lock
from .. import store
from . import objects
from .parts import code, fingerprint
from .source import Program

_SOURCES = (
    *("coded.py", "compile.py", "llvm.py", "memory.py", "numbers.py", "parts.py", "vectors.py"),
    *("vocabulary.py", "words.py"),
)
_TELLING = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
_LOCK = lock(awaited=True)


def code_address(program: Program) -> int:
    """Return the address of a program's machine code.

    Parameters
    ----------
    program : Program
        The program.

    Returns
    -------
    int
        The address, valid until the process ends.

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
    kept = store.read(key) if key else None
    if kept is None:
        from .llvm import object_file

        name, content = object_file(program)
        kept = name.encode() + b"\n" + content
        if key:
            store.write(key, kept)
    function, _, content = kept.partition(b"\n")
    place = objects.load(content, function.decode())
    if place is None:
        from . import llvm

        place = llvm.load(content, function.decode())
    return place


def refusal(dtypes: Iterable[str]) -> str | None:
    """Return why kernels cannot be used on this machine; None if they can.

    Parameters
    ----------
    dtypes : iterable of str
        The dtypes of the arrays.

    Returns
    -------
    str or None
        The reason, or None.
    """
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "kernels want addresses of 64 bits"
    if "float16" in dtypes:
        from .llvm import has_half

        # Loading code that calls a missing conversion function would end the process.
        return None if has_half() else "the processor has no instructions for float16"
    return None


@cache
def _processor() -> object:
    """Return an identifier of the processor."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            lines = [*itertools.takewhile(str.strip, file)]
    except OSError:
        lines = []
    told = [line for line in lines if line.partition(":")[0].strip() in _TELLING]
    if len(told) == len(_TELLING):
        return told
    from .llvm import processor

    return processor()


def _key(program: Program) -> str | None:
    """Return a cache key of the machine code's dependencies; None if they are unknown."""
    digest = hashlib.sha256(repr(_surroundings()).encode())
    digest.update(
        repr((program.source, program.streams, program.compute, program.answers)).encode()
    )
    for name, function in program.functions:
        told = _fingerprint(function)
        if told is None:
            return None
        digest.update(f"{name} {told}".encode())
    if program.parts:
        digest.update(fingerprint((*program.parts, *program.inlined)).encode())
    return digest.hexdigest()


def _fingerprint(function: Callable[..., Any]) -> str | None:
    own: CodeType = function.__code__
    names = set(own.co_names) - {"abs"}
    return None if own.co_freevars or names & set(function.__globals__) else repr(code(function))


@cache
def _surroundings() -> tuple[Any, ...]:
    sources = [pkgutil.get_data(__package__, name) for name in _SOURCES]
    return _release("numba"), _release("llvmlite"), _processor(), sources


def _release(name: str) -> bytes:
    """Return an identifier of a package's version, without importing it."""
    spec = find_spec(name)
    place = spec.origin if spec else None
    try:
        return Path(place or "").with_name("_version.py").read_bytes()
    except (OSError, ValueError):
        # Importing it takes longer than loading a kernel.
        from importlib.metadata import version

        return version(name).encode()
