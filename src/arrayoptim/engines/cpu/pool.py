"""The source of the machine code in which threads wait for and receive work.

All communication is through one record of int64 cells, at the address of the pool. A helper first
counts itself in, then checks whether work is still open; the leader first closes the work, then
waits until nobody is inside. So no helper touches a job whose leader has moved on.
"""

from __future__ import annotations

from functools import cache

from .calls import CALLS, entry
from .source import CELLS, Program

_GROUPS = (("wake",), ("open", "kernel", "job"), ("inside",), ("asleep",), ("busy",), ("calls",))
POOL = {name: 8 * k + i for k, group in enumerate(_GROUPS) for i, name in enumerate(group)}
POOL["cells"] = 8 * len(_GROUPS)
"""Cells of the record; those written by several threads have separate cache lines."""

_SPINS = 2000
"""How often a thread polls before it sleeps: some tens of microseconds."""

_WAIT, _WAKE = 128, 129

ROUSE = f"""
fetch_add(pool, {POOL["wake"]}, 1)
if fetch_add(pool, {POOL["asleep"]}, 0) > 0:
    system = peek(pool, {POOL["calls"]})
    futex(peek(system, {CALLS["syscall"]}), peek(system, {CALLS["futex"]}), pool, {_WAKE}, 1024)
"""
"""Lines that wake all threads of a pool, which then poll for work for a while."""

_SERVE = f"""
def kernel(self, arguments):
    {{entry}}
    pool = record
    calls = peek(pool, {POOL["calls"]})
    void = peek(calls, {CALLS["void"]})
    state = ask0(peek(calls, {CALLS["save"]}))
    while True:
        seen = fetch_add(pool, {POOL["wake"]}, 0)
        if fetch_add(pool, {POOL["open"]}, 0) > 0:
            if fetch_add(pool, {POOL["inside"]}, 1) < fetch_add(pool, {POOL["open"]}, 0):
                work = peek(pool, {POOL["kernel"]})
                call_kernel(work, void, peek(pool, {POOL["job"]}), 0)
            fetch_add(pool, {POOL["inside"]}, -1)
        spins = 0
        while spins < {_SPINS} and arrived(pool, {POOL["wake"]}) == seen:
            pause(0)
            spins += 1
        if spins == {_SPINS}:
            call = peek(calls, {CALLS["syscall"]})
            if not call:
                break
            fetch_add(pool, {POOL["asleep"]}, 1)
            futex(call, peek(calls, {CALLS["futex"]}), pool, {_WAIT}, seen)
            fetch_add(pool, {POOL["asleep"]}, -1)
    ask1(peek(calls, {CALLS["restore"]}), state)
    return ask1(peek(calls, {CALLS["long"]}), 0)
"""

_RUN = f"""
def kernel(self, arguments):
    {{entry}}
    job = record
    calls = peek(job, {CELLS["calls"]})
    void = peek(calls, {CALLS["void"]})
    work = peek(job, {CELLS["kernel"]})
    if peek(job, {CELLS["brief"]}):
        call_kernel(work, void, job, 1)
        return ask1(peek(calls, {CALLS["long"]}), 0)
    state = ask0(peek(calls, {CALLS["save"]}))
    helpers = peek(job, {CELLS["helpers"]})
    pool = peek(job, {CELLS["pool"]})
    mine = False
    if helpers > 0:
        mine = exchange(pool, {POOL["busy"]}, 1) == 0
    if mine:
        poke(pool, {POOL["kernel"]}, work)
        poke(pool, {POOL["job"]}, job)
        exchange(pool, {POOL["open"]}, helpers)
{{rouse}}
    call_kernel(work, void, job, 1)
    if mine:
        exchange(pool, {POOL["open"]}, 0)
        spins = 0
        while fetch_add(pool, {POOL["inside"]}, 0) > 0:
            pause(0)
            spins += 1
            if spins > 1000:
                relax(peek(calls, {CALLS["yield_"]}))
        exchange(pool, {POOL["busy"]}, 0)
    ask1(peek(calls, {CALLS["restore"]}), state)
    return ask1(peek(calls, {CALLS["long"]}), 0)
"""


@cache
def serve_program() -> Program:
    """Write the program of a helper thread, from its start to the end of the process.

    Returns
    -------
    Program
        A function of the pool's record; it returns only if the system cannot put it to sleep.
    """
    return Program(_SERVE.format(entry=entry()), (), (), "float64", answers=True)


@cache
def run_program() -> Program:
    """Write the program of the leading thread: it runs all unclaimed tasks.

    Returns
    -------
    Program
        A function of the job's record.
    """
    rouse = "\n".join(f"        {line}" for line in ROUSE.strip().splitlines())
    return Program(_RUN.format(entry=entry(), rouse=rouse), (), (), "float64", answers=True)
