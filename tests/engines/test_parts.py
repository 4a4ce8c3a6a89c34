"""Functions of a program that know one another: how they are found, told apart and compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import pytest

from arrayoptim.engines.cpu.native import _key, code_address
from arrayoptim.engines.cpu.parts import constants, fingerprint
from arrayoptim.engines.cpu.source import Program
from arrayoptim.engines.cpu.tables import cells

HALF, TIMES = 0.5, 3


class Pair(NamedTuple):
    x: Any
    y: Any


def outer(ns: Any, x: Any) -> Any:
    pair = within(ns, Pair(x, HALF))
    return ns.where(pair.x > pair.y, pair.x, pair.y) * TIMES


def within(ns: Any, pair: Pair) -> Pair:
    return Pair(ns.magnitude(pair.x), ns.ratio(pair.y, 2.0))


PARTS: tuple[Callable[..., Any], ...] = (outer, within)


def with_globals(function: Any, **names: Any) -> Any:
    return FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)


def test_constants() -> None:
    """Numbers and classes, and neither the parts themselves nor what the source defines."""
    assert constants(PARTS) == {"HALF": 0.5, "TIMES": 3, "Pair": Pair}


def test_equal_code_has_one_fingerprint() -> None:
    """The numbers that a part refers to count; so does what another part does."""
    told = fingerprint(PARTS)
    assert told == fingerprint((with_globals(outer), with_globals(within)))
    assert told != fingerprint((with_globals(outer, HALF=0.25), within))
    assert told != fingerprint((outer, with_globals(outer)))


def test_programs_of_other_parts_have_other_keys() -> None:
    source = "def kernel(job, leader):\n    outer(ns, 1.0)\n"
    keys = {
        _key(Program(source, (), (), "float64", parts=parts, inlined=inlined))
        for parts, inlined in [(PARTS, ()), ((with_globals(outer, TIMES=4), within), ())]
    }
    assert len(keys) == 2 and None not in keys


@pytest.mark.slow
@pytest.mark.parametrize("inlined", [(), (outer,)])
def test_they_are_compiled(inlined: tuple[Any, ...]) -> None:
    source = """
@word
def doubled(x):
    return 2.0 * x

def kernel(job, leader):
    poke_double(job, 1, outer(ns, ns.doubled(peek_double(job, 0))))
"""
    parts = tuple(part for part in PARTS if part not in inlined)
    program = Program(source, (), (), "float64", parts=parts, inlined=inlined)
    job = cells(0, 0)
    numbers = (ctypes.c_double * 2).from_buffer(job)
    numbers[0] = -4.0
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_int64] * 4)(code_address(program))
    room = cells(0, 0)
    function(*[ctypes.addressof(room)] * 2, ctypes.addressof(job), 1)
    assert numbers[1] == 24.0
