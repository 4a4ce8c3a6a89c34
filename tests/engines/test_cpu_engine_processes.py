"""The CPU engine in real programs: threads, forks, interrupts, and kernels kept on disk."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from arrayoptim.engines import store
from arrayoptim.engines.cpu import calls as _cpu_calls
from arrayoptim.engines.cpu import llvm as _cpu_llvm
from arrayoptim.engines.cpu import native as _cpu_native
from arrayoptim.engines.cpu import objects as _cpu_objects
from arrayoptim.engines.cpu import threads as _cpu_threads
from arrayoptim.engines.cpu.engine import Plan
from arrayoptim.engines.cpu.jobs import _Help
from arrayoptim.engines.cpu.source import CELLS
from engine_cases import adam, by_arrays, coefficients, column, draw, state_of, typed
from optimizers_under_test import make, same

LARGE = [(300_000,), (50, 60), (150_000, 2)]

PROGRAM = """
import sys, time
import numpy as np
import arrayoptim as ao
from arrayoptim.engines.cpu.engine import Plan

rule = ao.Adam().rule
params = [np.linspace(-1, 1, 900_000, dtype=np.float32)]
slots = [{name: np.ones(900_000, np.float32) for name in rule.slots}]
values = {"float32": dict(zip(rule.coefficients, (0.1, 0.9, 0.1, 0.8, 0.2, 0.01)))}

def step():
    Plan(rule, params, slots, threads=2).sweep([params[0][::-1].copy()], values)
    return float(params[0][1234])

"""


def run(program: str, **environment: str) -> str:
    """Return what a program of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def steps(seed: int, count: int, threads: int) -> list[Any]:
    """Return parameters and slots after some steps."""
    rule = adam()
    params, slots = draw(seed, LARGE, "float32"), state_of(rule, LARGE, "float32")
    plan = Plan(rule, params, slots, threads=threads)
    for step in range(count):
        plan.sweep(draw(seed + step, LARGE, "float32"), typed(coefficients(rule, step)))
    return [*params, *column(slots)]


def test_many_python_threads_at_once() -> None:
    """Each thread steps its own parameters, on two threads each."""
    found: dict[int, list[Any]] = {}

    def work(seed: int) -> None:
        found[seed] = steps(seed, 3, threads=2)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    for seed in range(5):
        same(found[seed], steps(seed, 3, threads=1))


def test_one_plan_from_many_threads() -> None:
    """Steps of one plan come one after another, none is lost."""
    rule, shapes = make("SGD").rule, [(300_000,)]
    params, slots = [np.zeros(300_000)], [{"momentum": np.zeros(300_000)}]
    plan = Plan(rule, params, slots, threads=2)
    values = dict(zip(rule.coefficients, np.ones(len(rule.coefficients)), strict=True))
    grads = [np.full(shapes[0], 0.5)]
    workers = [
        threading.Thread(target=lambda: [plan.sweep(grads, typed(values)) for _ in range(10)])
        for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    one, state = [np.zeros(1)], [{"momentum": np.zeros(1)}]
    for _ in range(60):
        one, state = by_arrays(rule, values, one, [np.full(1, 0.5)], state)
    assert np.all(params[0] == one[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_in_a_forked_child() -> None:
    """After the parent has used its threads, the child starts its own."""
    program = """
import os, warnings
warnings.simplefilter("ignore")
first = step()
child = os.fork()
if child == 0:
    value = step()
    os._exit(0 if np.isfinite(value) and value != first else 3)
assert os.waitpid(child, 0)[1] == 0
step()
print("done")
"""
    assert run(program) == "done"


@pytest.mark.slow
def test_in_spawned_processes(tmp_path: Path) -> None:
    """Processes that start together, with no kernel on disk yet, all get one."""
    environment = {**os.environ, store.VARIABLE: str(tmp_path / "kernels")}
    command = [sys.executable, "-c", PROGRAM + "print(step())"]
    workers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert len({worker.communicate(timeout=120)[0] for worker in workers}) == 1
    assert all(worker.returncode == 0 for worker in workers)
    files = list((tmp_path / "kernels").iterdir())
    assert files and all(file.suffix == ".kernel" for file in files)


@pytest.mark.slow
def test_second_process_needs_no_compiler(tmp_path: Path) -> None:
    """Kernels come from disk without Numba, unless they are damaged or not to be kept."""
    place = tmp_path / "kernels"
    program = "step(); print('numba' in sys.modules)"

    def numba_was_needed(folder: str) -> bool:
        return run(program, **{store.VARIABLE: folder}) == "True"

    assert numba_was_needed(str(place))
    assert not numba_was_needed(str(place))
    for file in place.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert numba_was_needed(str(place))
    assert not numba_was_needed(str(place))
    assert numba_was_needed("")
    if hasattr(os, "getuid"):
        place.chmod(0o777)
        told = "import warnings; warnings.simplefilter('ignore');"
        assert run(told + program, **{store.VARIABLE: str(place)}) == "True"


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="LLVM loads kernels here"
)
def test_second_process_does_without_llvm() -> None:
    """Kernels that are on disk are loaded without importing LLVM, which takes longer than they."""
    program = "step(); print('llvmlite' in sys.modules)"
    run(program)
    assert run(program) == "False"


def test_kernels_loaded_by_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this library's loader does not know the files, LLVM's gives the same machine code."""
    wanted = steps(4, 2, threads=2)
    monkeypatch.setattr(_cpu_objects, "load", lambda content, function: None)
    _cpu_native._address.cache_clear()
    try:
        same(steps(4, 2, threads=2), wanted)
    finally:
        _cpu_native._address.cache_clear()


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="LLVM loads kernels here"
)
def test_files_that_the_loader_leaves_alone() -> None:
    """It puts nothing into memory that it does not know to the last relocation."""
    text = """
    declare double @nobody_has_this(double)
    define double @f(double %x) {
      %y = fadd double %x, 0.5
      ret double %y
    }
    define double @g(double %x) {
      %y = call double @nobody_has_this(double %x)
      ret double %y
    }
    """
    module = llvm.parse_assembly(text)
    content = bytes(_cpu_llvm._machine(3).emit_object(module))
    assert _cpu_objects.load(content, "f") is None
    alone = text[: text.index("define double @g")].replace("declare double", "; ", 1)
    content = bytes(_cpu_llvm._machine(3).emit_object(llvm.parse_assembly(alone)))
    place = _cpu_objects.load(content, "f")
    assert place is not None
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(place)(1.25) == 1.75
    assert _cpu_objects.load(content, "h") is None
    assert _cpu_objects.load(content[:100], "f") is None
    assert _cpu_objects.load(b"something else", "f") is None


def test_no_folder_for_kernels(tmp_path: Path) -> None:
    """Where nothing can be written, the step is taken all the same."""
    (tmp_path / "file").write_text("")
    run("step()", **{store.VARIABLE: str(tmp_path / "file" / "kernels")})


def test_rules_that_use_more_than_their_arguments_are_not_kept() -> None:
    """The name of a kernel says all that it depends on."""
    factor = np.float32(2.0)

    def closure(p, g, lr, xp):  # type: ignore[no-untyped-def]
        return (p - lr * factor * g,)

    assert _cpu_native._fingerprint(closure) is None
    assert _cpu_native._fingerprint(adam().function) is not None
    assert _cpu_native._fingerprint(adam().function) != _cpu_native._fingerprint(
        make("SGD").rule.function
    )


@pytest.mark.slow
def test_the_end_of_a_process_whose_threads_step() -> None:
    """Threads that are in the middle of steps do not disturb it."""
    program = """
import threading

def busy(size):
    optimizer, p, g = ao.Adam(threads=2), [np.zeros(size)], [np.ones(size)]
    while True:
        optimizer.apply(g, p)

for size in (10, 50_000, 500_000):
    threading.Thread(target=busy, args=(size,), daemon=True).start()
step()
time.sleep(0.3)
print("done")
"""
    assert run(program) == "done"


def test_an_interrupt_waits_for_the_step() -> None:
    """Ctrl-C during a long sweep is raised when it is over; all elements have moved."""
    program = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
n = 20_000_000
params = [np.zeros(n, np.float32)]
slots = [{name: np.ones(n, np.float32) for name in rule.slots}]
plan = Plan(rule, params, slots, threads=2)
grads = [np.ones(n, np.float32)]
for attempt in range(5):
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            plan.sweep(grads, values)
    except KeyboardInterrupt:
        assert np.all(params[0] == params[0][0])
print("done")
"""
    assert run(program) == "done"


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a limit of threads the caller does all of the work, step after step."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(_cpu_threads, "_POOL", {})
    same(steps(3, 2, threads=4), steps(3, 2, threads=1))


def test_the_first_step_as_the_process_ends() -> None:
    """Threads that wait in machine code do not outlive the code."""
    for _ in range(3):
        assert run("import atexit\natexit.register(step)\nprint('done')") == "done"


def test_asleep_and_awake() -> None:
    """Threads that have gone to sleep between steps are woken; each takes part sooner or later."""
    rule, shapes = adam(), [(2_000_000,)]
    params, slots = draw(1, shapes, "float32"), state_of(rule, shapes, "float32")
    plan, values, grads = (
        Plan(rule, params, slots, threads=2),
        coefficients(rule),
        draw(2, shapes, "float32"),
    )
    (batch,) = plan._batches
    helped = 0
    for _ in range(200):
        time.sleep(0.005)
        plan.sweep(grads, typed(values))
        helped += batch._jobs[0].record[CELLS["behind"]]
        if helped:
            break
    assert helped


def wants_help(helped: float, alone: float, after: int) -> float:
    """Return for which share of 2000 steps help is wanted, after some where it was fast."""
    help_ = _Help()
    for _ in range(after):
        help_.noted(1.0 if help_.wanted else 2.0)
    wanted = 0
    for _ in range(2000):
        wanted += help_.wanted
        help_.noted(helped if help_.wanted else alone)
    return wanted / 2000


def test_help_is_asked_for_where_it_is_worth_it() -> None:
    """On a busy machine threads that help make a step slower; that is noticed, and its end too."""
    assert wants_help(1.0, 2.0, after=0) > 0.97
    assert wants_help(9.0, 2.0, after=0) < 0.06
    assert wants_help(9.0, 2.0, after=1000) < 0.5
    help_ = _Help()
    for _ in range(1000):
        help_.noted(9.0 if help_.wanted else 2.0)
    assert not help_.wanted
    for _ in range(1100):
        help_.noted(1.0 if help_.wanted else 2.0)
    assert help_.wanted


def test_without_a_way_to_sleep_in_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no futex threads sleep in Python, and give the same results."""
    monkeypatch.setattr(_cpu_threads, "sleeping", lambda: (0, 0))
    monkeypatch.setattr(_cpu_calls, "sleeping", lambda: (0, 0))
    _cpu_calls.calls.cache_clear()
    monkeypatch.setattr(_cpu_threads, "_POOL", {})
    same(steps(3, 3, threads=3), steps(3, 3, threads=1))
    _cpu_calls.calls.cache_clear()


def test_a_step_is_taken_once() -> None:
    """What was carried out is not carried out again, and its gradients are forgotten."""
    rule = make("SGD").rule
    params, slots = [np.zeros(300_000)], [{"momentum": np.zeros(300_000)}]
    plan = Plan(rule, params, slots)
    values = dict(zip(rule.coefficients, np.ones(len(rule.coefficients)).tolist(), strict=True))
    grads = [np.full(300_000, 0.5)]
    alive = weakref.ref(grads[0])
    assert plan.look(params, grads)
    plan.load(typed(values))
    plan.run()
    once = params[0].copy()
    plan.run()
    same(params, [once])
    grads.clear()
    assert alive() is None


def test_number_of_threads() -> None:
    """Numba's variable and mask are honoured; asking does not start Numba's threads."""
    ask = "from arrayoptim.engines.cpu.threads import available\nprint(available())"
    # In a process of its own: once Numba is loaded, its own number counts, not the variable.
    assert run(ask, NUMBA_NUM_THREADS="3") == "3"
    assert int(run(ask, NUMBA_NUM_THREADS="")) >= 1
    program = """
import numba
from arrayoptim.engines.cpu.threads import available
print(available())
from numba.np.ufunc import parallel
print(parallel._is_initialized)
numba.set_num_threads(1)
print(available())
"""
    assert run(program, NUMBA_NUM_THREADS="2").split() == ["2", "False", "1"]
