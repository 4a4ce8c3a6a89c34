"""The text of the machine code through which threads wait for work, and are given it.

All of it goes through one record of int64 cells, at the address of the pool. A thread that helps
first counts itself in, then looks whether work is still open; the one that leads first closes the
work, then waits until nobody is in. So none touches a job whose leader has gone on.
"""

from __future__ import annotations

from .source import CELLS, Program

CALLS = ("void", "yield_", "syscall", "futex")
"""Cells with what machine code calls: room for a status, functions of C, a number of the system."""

_GROUPS = (("wake",), ("open", "kernel", "job"), ("inside",), ("asleep",), ("busy",), CALLS)
POOL = {name: 8 * k + i for k, group in enumerate(_GROUPS) for i, name in enumerate(group)}
POOL["cells"] = 8 * len(_GROUPS)
"""Cells of the record; those that several threads write are in lines of the cache of their own."""

_SPINS = 2000
"""How often a thread looks before it sleeps: some tens of microseconds."""

_WAIT, _WAKE = 128, 129

ROUSE = f"""
fetch_add(pool, {POOL["wake"]}, 1)
if fetch_add(pool, {POOL["asleep"]}, 0) > 0:
    futex(peek(pool, {POOL["syscall"]}), peek(pool, {POOL["futex"]}), pool, {_WAKE}, 1024)
"""
"""Lines that let all threads of a pool look for work, and go on looking for a while."""

_SERVE = f"""
def kernel(pool, leader):
    void = peek(pool, {POOL["void"]})
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
            if not peek(pool, {POOL["syscall"]}):
                return
            fetch_add(pool, {POOL["asleep"]}, 1)
            futex(peek(pool, {POOL["syscall"]}), peek(pool, {POOL["futex"]}), pool, {_WAIT}, seen)
            fetch_add(pool, {POOL["asleep"]}, -1)
"""

_LEAD = f"""
def kernel(job, leader):
    pool = peek(job, {CELLS["pool"]})
    work = peek(job, {CELLS["kernel"]})
    void = peek(pool, {POOL["void"]})
    mine = exchange(pool, {POOL["busy"]}, 1) == 0
    if mine:
        poke(pool, {POOL["kernel"]}, work)
        poke(pool, {POOL["job"]}, job)
        exchange(pool, {POOL["open"]}, peek(job, {CELLS["helpers"]}))
{{rouse}}
    call_kernel(work, void, job, 1)
    if mine:
        exchange(pool, {POOL["open"]}, 0)
        spins = 0
        while fetch_add(pool, {POOL["inside"]}, 0) > 0:
            pause(0)
            spins += 1
            if spins > 1000:
                relax(peek(pool, {POOL["yield_"]}))
        exchange(pool, {POOL["busy"]}, 0)
"""


def serve_program() -> Program:
    """Write what a thread does from its start to the end of the process.

    Returns
    -------
    Program
        The program, of the pool's address; it returns only where the system cannot let it sleep.
    """
    return Program(_SERVE, (), (), "float64")


def lead_program() -> Program:
    """Write what the thread does that wants a job done.

    Returns
    -------
    Program
        The program, of the job's address.
    """
    rouse = "\n".join(f"        {line}" for line in ROUSE.strip().splitlines())
    return Program(_LEAD.format(rouse=rouse), (), (), "float64")
