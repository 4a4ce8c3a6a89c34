"""Python functions from machine code, and the C functions that it calls.

A call through `ctypes` takes a microsecond. A built-in function takes a twentieth of that: it
receives its arguments as objects, and is bound to a *record*, an array of int64 from `tables.cells`
with everything else. Addresses of C functions and objects are in a separate record, so that machine
code can be cached on disk.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from .native import code_address
from .source import Program
from .tables import cells

_PYTHON = {
    "long": "PyLong_FromLong",
    "get": "PyDict_GetItem",
    "size": "PyDict_Size",
    "next": "PyDict_Next",
    "clear": "PyErr_Clear",
    "save": "PyEval_SaveThread",
    "restore": "PyEval_RestoreThread",
}
_NAMES = (*_PYTHON, "void", "float", "dict", "none", "yield_", "syscall", "futex")
CALLS = {name: k for k, name in enumerate(_NAMES)}
"""Cells of the record of functions and constants used by machine code."""

_FUTEX = {"x86_64": 202, "aarch64": 98}
"""Number of Linux's futex system call, by processor."""

_VOID = ctypes.create_string_buffer(64)
_FASTCALL = 0x80


class _Method(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("text", ctypes.c_char_p),
    )


def bound(program: Program, record: Any) -> Callable[..., int]:
    """Return a Python function that runs a program on a record.

    Parameters
    ----------
    program : Program
        A program with an answer, of the address of the record's object and of its arguments.
    record : ctypes array
        The record.

    Returns
    -------
    callable
        A function of the objects that the program takes; the program's answer is an int.
    """
    function: Callable[..., int] = _new()(ctypes.byref(_method(program)), record, None)
    return function


_METHODS: dict[Program, _Method] = {}


def _method(program: Program) -> _Method:
    # Python functions refer to it, so concurrent threads must get the same one.
    known = _METHODS.get(program)
    new = known or _Method(b"arrayoptim", code_address(program), _FASTCALL, None)
    return _METHODS.setdefault(program, new)


@cache
def _new() -> Any:
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype = ctypes.py_object
    new.argtypes = ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
    return new


@cache
def entry() -> str:
    """Return the line of a program that gets the record of its function."""
    probe = cells(0)
    words = (ctypes.c_int64 * 8).from_address(id(probe))
    return f"record = peek(self, {list(words).index(ctypes.addressof(probe))})"


@cache
def calls() -> int:
    """Return the address of the record of `CALLS`."""
    values = {name: _address(getattr(ctypes.pythonapi, text)) for name, text in _PYTHON.items()}
    values |= {
        "void": ctypes.addressof(_VOID),
        "float": id(float),
        "dict": id(dict),
        "none": id(None),
        "yield_": _named("sched_yield") if os.name == "posix" else 0,
    }
    values["syscall"], values["futex"] = sleeping()
    _KEPT.append(cells(*(values[name] for name in CALLS)))
    return ctypes.addressof(_KEPT[-1])


_KEPT: list[Any] = []


def sleeping() -> tuple[int, int]:
    """Return the address of the C function ``syscall``, and the number of the futex call.

    Returns
    -------
    (int, int)
        Both 0 if machine code cannot put a thread to sleep.
    """
    number = _FUTEX.get(platform.machine(), 0)
    if not sys.platform.startswith("linux") or not number:
        return 0, 0
    return _named("syscall"), number


def _named(name: str) -> int:
    function = getattr(ctypes.CDLL(None), name, None)
    return _address(function) if function else 0


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
