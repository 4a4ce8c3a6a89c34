"""What a step costs in several processes: bytes stored, bytes sent, and its time.

``python asv_benchmarks/processes.py --output docs/benchmarks`` starts 2 and 4 processes, by torch
and by MPI, on this machine, and writes ``processes.md``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

WIDTH, LAYERS, ROUNDS = 128, 4, 15
WORLDS = (2, 4)
NAMES = ("Adam", "LAMB", "Adafactor", "Muon", "SOAP")


def shapes() -> list[tuple[int, ...]]:
    """Return the shapes of a small transformer's layers."""
    layer = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]
    return [shape for _ in range(LAYERS) for shape in [*layer, (WIDTH,), (4 * WIDTH,)]]


def elements() -> int:
    """Return the number of parameters."""
    return sum(s[0] * (s[1] if len(s) > 1 else 1) for s in shapes())


class Counter:
    """Counts what leaves this process, by the payload of each call."""

    def __init__(self, world: int) -> None:
        self.sent, self.calls, self._world = 0.0, 0, world

    def add(self, size: float) -> None:
        """Count one call."""
        self.sent, self.calls = self.sent + size, self.calls + 1

    def ring(self, size: float, rounds: int = 1) -> None:
        """Count a collective that goes around: an all-reduce goes twice."""
        self.add(rounds * size * (self._world - 1) / self._world)


def timed(
    steps: dict[str, Callable[[], Any]], counter: Counter, meet: Callable[[], Any]
) -> dict[str, Any]:
    """Take steps in turn, and return the median time and the bytes sent of each."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    sent = {}
    for turn in range(ROUNDS + 2):
        for name, step in steps.items():
            meet()
            counter.sent, counter.calls, start = 0.0, 0, time.perf_counter()
            step()
            spent = time.perf_counter() - start
            sent[name] = counter.sent, counter.calls
            if turn > 1:
                times[name].append(spent)
    return {
        name: {"seconds": statistics.median(times[name]), "sent": sent[name][0]} for name in steps
    }


def torch_process(rank: int, world: int, meeting: str) -> list[dict[str, Any]]:
    """Step by torch's and our optimizers, and return what each process has counted."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    import arrayoptim as ao

    warnings.simplefilter("ignore")
    from torch.distributed.optim import ZeroRedundancyOptimizer

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    store = dist.FileStore(meeting, world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    mesh, counter = init_device_mesh("cpu", (world,)), Counter(world)

    plain = {n: getattr(dist, n) for n in ("all_reduce", "all_to_all_single", "broadcast")}

    def all_reduce(x: Any, *more: Any, **words: Any) -> Any:
        counter.ring(x.nbytes, 2)
        return plain["all_reduce"](x, *more, **words)

    def all_to_all_single(got: Any, given: Any, sizes: Any, lengths: Any, *more: Any) -> Any:
        counter.add(given.nbytes - lengths[rank] * given.itemsize)
        return plain["all_to_all_single"](got, given, sizes, lengths, *more)

    def broadcast(tensor: Any, *more: Any, **words: Any) -> Any:
        # On the average over processes: all but one of them receive it.
        counter.ring(tensor.nbytes)
        return plain["broadcast"](tensor, *more, **words)

    dist.all_reduce, dist.all_to_all_single = all_reduce, all_to_all_single
    dist.broadcast = broadcast

    def parameters(sharded: bool) -> list[Any]:
        torch.manual_seed(0)
        found = []
        for shape in shapes():
            p, g = torch.randn(shape), torch.randn(shape)
            if sharded:
                p, g = (distribute_tensor(x, mesh, [Shard(0)]) for x in (p, g))
            found.append(torch.nn.Parameter(p))
            found[-1].grad = g
        return found

    made: dict[str, Any] = {
        "torch.optim.Adam, sharded": torch.optim.Adam(parameters(True), lr=1e-3),
        "torch.optim.Adam, replicated (DDP)": torch.optim.Adam(parameters(False), lr=1e-3),
        "ZeroRedundancyOptimizer(Adam)": ZeroRedundancyOptimizer(
            parameters(False), optimizer_class=torch.optim.Adam, lr=1e-3
        ),
    }
    made |= {f"ao.torch.{n}, sharded": getattr(ao.torch, n)(parameters(True)) for n in NAMES}
    found = timed({name: o.step for name, o in made.items()}, counter, dist.barrier)
    for name, optimizer in made.items():
        inner = getattr(optimizer, "optim", optimizer)
        held = [x for entry in inner.state.values() for x in entry.values()]
        found[name]["stored"] = sum(
            (x.to_local() if hasattr(x, "to_local") else x).nbytes for x in held if x.ndim
        )
    every: list[Any] = [None] * world
    dist.all_gather_object(every, found)
    dist.barrier()
    dist.destroy_process_group()
    return every


def mpi_process() -> list[dict[str, Any]]:
    """Step NumPy arrays over MPI, and return what each process has counted."""
    import numpy as np
    from mpi4py import MPI

    import arrayoptim as ao

    world = MPI.COMM_WORLD
    counter = Counter(world.size)
    rng = np.random.default_rng(0)

    def parameters() -> list[Any]:
        return [rng.standard_normal(shape).astype(np.float32) for shape in shapes()]

    grads = parameters()
    plain, params = ao.Adam(), parameters()

    def replicated() -> None:
        for g in grads:
            total = np.empty_like(g)
            counter.ring(g.nbytes, 2)
            world.Allreduce(g, total)
        plain.apply([g / np.float32(world.size) for g in grads], params)

    steps: dict[str, Callable[[], Any]] = {"Allreduce and ao.Adam": replicated}
    made = {f"ao.mpi.{name}": ao.mpi.wrap(name) for name in NAMES}
    for name, optimizer in made.items():
        links = optimizer._links
        reduced, gathered, added = links.reduced, links.gathered, links.added

        def counted(flat: Any, mine: Any, counts: Any, of: Any = reduced) -> None:
            counter.ring(flat.nbytes)
            of(flat, mine, counts)

        def shared(mine: Any, flat: Any, counts: Any, of: Any = gathered) -> None:
            counter.add(mine.nbytes * (world.size - 1))
            of(mine, flat, counts)

        def summed(numbers: Any, of: Any = added) -> Any:
            counter.ring(numbers.nbytes, 2)
            return of(numbers)

        links.reduced, links.gathered, links.added = counted, shared, summed
        steps[name] = partial(optimizer.apply, grads, parameters())
    found = timed(steps, counter, world.Barrier)
    found["Allreduce and ao.Adam"]["stored"] = sum(x.nbytes for x in plain.weights[1:])
    for name, optimizer in made.items():
        found[name]["stored"] = optimizer.state_bytes
    return world.allgather(found)


def started(kind: str, world: int) -> list[dict[str, Any]]:
    """Start processes, and return what each of them has counted."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        program = [sys.executable, __file__, "--process", kind, "--found", str(out)]
        env = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        if kind == "mpi":
            mpiexec = Path(sys.executable).parent / "mpiexec"
            call = str(mpiexec) if mpiexec.exists() else "mpiexec"
            subprocess.run([call, "-n", str(world), *program], env=env, check=True)
        else:
            meeting = str(Path(folder) / "meeting")
            more = [["--rank", str(k), "--world", str(world)] for k in range(world)]
            running = [
                subprocess.Popen([*program, *each, "--meeting", meeting], env=env) for each in more
            ]
            ends = [each.wait() for each in running]
            if any(ends):
                raise SystemExit("a process failed")
        found: list[dict[str, Any]] = json.loads(out.read_text())
        return found


def table(found: list[dict[str, Any]], first: str) -> list[str]:
    """Return a table of what the processes counted, times in multiples of the first's."""
    size = 4 * elements()
    rows = [
        "| optimizer | stored, fullest process | stored, emptiest | sent, each (mean) | time |",
        "|---|---|---|---|---|",
    ]
    unit = max(each[first]["seconds"] for each in found)
    for name in found[0]:
        stored = [each[name]["stored"] / size for each in found]
        sent = statistics.mean(each[name]["sent"] for each in found) / size
        spent = max(each[name]["seconds"] for each in found) / unit
        rows.append(
            f"| {name} | {max(stored):.3f} | {min(stored):.3f} | {sent:.4f} | {spent:.1f} |"
        )
    return rows


def report(note: str) -> str:
    """Start all processes, and return the report."""
    lines = [
        "# Several processes",
        "",
        "Made by `python asv_benchmarks/processes.py --output docs/benchmarks`: "
        f"{datetime.date.today().isoformat()}, {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, all processes on one machine, one thread each. "
        f"{len(shapes())} arrays of {elements():,} float32 parameters in all. {note}".rstrip(),
        "",
        "Stored: the state that a process keeps, in multiples of the parameters' bytes. Sent: the "
        "payload that leaves a process in a step of the optimizer, on the average, in the same "
        "multiples; counted at the calls, an all-reduce as a ring sends it. What brings gradients "
        "and parameters together outside of the optimizer is not in it: DDP's all-reduce sends "
        "2 (N - 1) / N, FSDP's three exchanges 3 (N - 1) / N. "
        "Time: the median of the slowest process, in multiples of the first row's. Processes "
        "outnumber cores where there are four of them, so that times say little of a cluster.",
        "",
    ]
    first = {"torch": "torch.optim.Adam, sharded", "mpi": "Allreduce and ao.Adam"}
    said = {"torch": "torch, gloo on loopback", "mpi": "MPI, NumPy arrays"}
    for kind in first:
        for world in WORLDS:
            lines += [f"## {said[kind]}: {world} processes", ""]
            lines += [*table(started(kind, world), first[kind]), ""]
    return "\n".join(lines)


def main() -> None:
    """Be one of the processes, or start them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", help="folder for processes.md; it is shown otherwise")
    parser.add_argument("--note", default="", help="what else the report is to say of the machine")
    parser.add_argument("--process", choices=("torch", "mpi"), help=argparse.SUPPRESS)
    for name in ("--found", "--meeting"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--rank", "--world"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process is None:
        text = report(given.note)
        if given.output:
            Path(given.output, "processes.md").write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
        return
    if given.process == "torch":
        found, rank = torch_process(given.rank, given.world, given.meeting), given.rank
    else:
        from mpi4py import MPI

        found, rank = mpi_process(), MPI.COMM_WORLD.rank
    if rank == 0:
        Path(given.found).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
