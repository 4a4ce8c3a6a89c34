"""One process of several that MPI starts; `test_mpi` starts them: ``mpiexec -n 4 python ...``.

Each case compares with what one process comes to that has the gradients of all.
"""

from __future__ import annotations

import copy
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from mpi4py import MPI

import arrayoptim as ao

WORLD = MPI.COMM_WORLD
RANK, SIZE = WORLD.Get_rank(), WORLD.Get_size()
SHAPES: dict[str, tuple[int, ...]] = {
    "kernel": (16, 16),
    "second": (6, 6),
    "bias": (5,),
    "long": (301,),
    "number": (),
    "filter": (6, 3, 2),
    "none": (0, 3),
    "turned": (6, 6),
}
"""Square matrices, whose gradients have full rank: else the first basis of SOAP is not unique."""

OPTIONS: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: ao.get(name) for name in ao.names()},
    "clipped": lambda: ao.Adam(0.01, clipnorm=0.3, weight_decay=0.1, ema_momentum=0.9),
    "each": lambda: ao.LAMB(0.01, clipnorm_per_tensor=0.3),
    "units": lambda: ao.Adam(0.01, agc=0.05, agc_units="first"),
    "kept": lambda: ao.SGD(0.1, momentum=0.9, constraint=ao.constraints.NonNeg()),
    "cautious": lambda: ao.Lion(0.01, cautious=True),
    "groups": lambda: ao.Muon(0.02, groups=[ao.group("bias", "long", optimizer=ao.AdamW(0.01))]),
    "frozen": lambda: ao.Adam(0.01, groups=[ao.group("kernel", freeze=True)]),
    "codes": lambda: ao.Adam(0.01, state_dtype="int8", stochastic_rounding=True),
    "measured": lambda: ao.Adam(0.01, measure=("gradient", "update", "weight")),
    "spikes": lambda: ao.Muon(0.01, skip_spikes=3.0, spike_window=2),
    "decays": lambda: ao.Adam(
        0.01, weight_decay=0.1, cautious_decay=True, corrected_decay=True, peak_lr=0.02
    ),
    "rounded": lambda: ao.Adam(0.01, state_dtype="bfloat16", stochastic_rounding=True),
    "families": lambda: ao.MARS(
        0.01,
        groups=[
            ao.group("kernel", optimizer=ao.NorMuon(0.02)),
            ao.group("second", optimizer=ao.GaLore(0.01, rank=2)),
            ao.group("turned", optimizer=ao.AdamMini(0.01)),
            ao.group("filter", optimizer=ao.CAME(0.01)),
        ],
    ),
    "grokfast": lambda: ao.Grokfast(ao.Adam(0.01, clipnorm=0.3), alpha=0.5),
    "free": lambda: ao.ScheduleFree(ao.SGD(0.1)),
    "lookahead": lambda: ao.Lookahead(ao.Adam(0.01, clipnorm=0.3), k=2),
    "scaled": lambda: ao.LossScale(ao.Adam(0.01, clipnorm=0.3), scale=4.0),
    "gathered": lambda: ao.GradientAccumulation(ao.Adam(0.01, clipnorm=0.3), every=2),
}


def parameters(dtype: str = "float64") -> dict[str, Any]:
    """Return the same parameters in all processes."""
    rng = np.random.default_rng(0)
    params = {name: np.array(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}
    return params | {"turned": np.asfortranarray(params["turned"])}


def gradients(step: int, rank: int = RANK, dtype: str = "float64") -> dict[str, Any]:
    """Return the gradients of one process."""
    rng = np.random.default_rng((1 + step, rank))
    return {name: np.array(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def mean(step: int, dtype: str = "float64") -> dict[str, Any]:
    """Return the mean of the gradients of all processes."""
    every = [gradients(step, rank, dtype) for rank in range(SIZE)]
    return {name: sum(g[name] for g in every) / np.asarray(SIZE, dtype) for name in SHAPES}


def alike(step: int) -> dict[str, Any]:
    """Return gradients that are the same in any number of processes."""
    return gradients(step, 0)


def same(found: Any, wanted: Any, close: float = 1e-12) -> None:
    """Assert that parameters are equal but for the order of sums."""
    for name in SHAPES:
        np.testing.assert_allclose(
            np.asarray(found[name], "complex128"),
            np.asarray(wanted[name], "complex128"),
            rtol=close,
            atol=close,
            err_msg=f"{name} on process {RANK}",
        )


def course(optimizer: Any, params: Any, steps: range, give: Callable[[int], Any]) -> None:
    """Take steps."""
    for step in steps:
        optimizer.apply(give(step), params)


def smoke(folder: Path) -> None:
    """Take a few steps by three rules, and go on from a file with parameters that are known."""
    for name in ("Adam", "LAMB", "Muon"):
        params, alone = parameters(), parameters()
        optimizer, later = ao.mpi.DataParallel(name), ao.mpi.DataParallel(name)
        course(optimizer, params, range(3), gradients)
        course(ao.get(name), alone, range(3), mean)
        same(params, alone)
        optimizer.save_weights(folder / f"{name}.h5")
        later.init(params)
        later.load_weights(folder / f"{name}.h5")
        more = {k: x.copy(order="K") for k, x in params.items()}
        course(optimizer, params, range(3, 5), gradients)
        course(later, more, range(3, 5), gradients)
        same(more, params)


def losses(folder: Path) -> None:
    """Judge the mean of the losses of all processes, told or taken down a loss."""
    params, alone = parameters(), parameters()
    optimizer, one = (ao.SGD(0.1, skip_loss_spikes=6.0, spike_window=4) for _ in range(2))
    spread = ao.mpi.DataParallel(optimizer)
    for step, loss in enumerate((2.0, 1.9, 1.8, 60.0, 1.9, math.inf, 1.8)):
        spread.tell_loss(loss + RANK - (SIZE - 1) / 2)
        one.tell_loss(loss)
        spread.apply(gradients(step), params)
        one.apply(mean(step), alone)
    same(params, alone)
    assert (spread.iterations, optimizer.spikes, one.spikes) == (5, 2.0, 2.0)
    assert optimizer.loss_mean == pytest.approx(one.loss_mean, rel=1e-12)
    spread.minimize(lambda _: (1.5 + RANK, gradients(7)), params)
    assert spread.iterations == 6
    with pytest.raises((RuntimeError, TypeError), match="wanted one real number"):
        spread.tell_loss("much" if RANK == 0 else 1.0)


def curvature(folder: Path) -> None:
    """Take in the mean of all processes' estimates, of which each keeps its pieces."""
    params, alone = parameters(), parameters()
    spread, one = ao.mpi.DataParallel(ao.Sophia(0.05)), ao.Sophia(0.05)
    for step in range(6):
        if step % 2:
            spread.update_hessian({k: g * g for k, g in gradients(step).items()}, params)
            squares = [gradients(step, rank) for rank in range(SIZE)]
            whole = {k: sum(g[k] ** 2 for g in squares) / SIZE for k in SHAPES}
            one.update_hessian(whole, alone)
        spread.apply(gradients(step), params)
        one.apply(mean(step), alone)
        same(params, alone)
    with pytest.raises(ValueError, match="Sophia does"):
        ao.mpi.DataParallel("adam").update_hessian(gradients(0), params)


def every(folder: Path) -> None:
    """Step by every rule and with every option; the state is shared out."""
    for option, made in OPTIONS.items():
        params, alone = parameters(), parameters()
        optimizer, one = ao.mpi.DataParallel(made()), made()
        course(optimizer, params, range(4), gradients)
        course(one, alone, range(4), mean)
        try:
            same(params, alone)
        except AssertionError as error:
            raise AssertionError(f"{option}: {error}") from error
        if option in {"Adam", "LAMB"}:
            whole = sum(x.nbytes for x in one.weights[1:])
            most = max(WORLD.allgather(optimizer.state_bytes))
            assert sum(WORLD.allgather(optimizer.state_bytes)) == whole
            assert most <= whole / SIZE + 2 * 64 * 8
        report, single = optimizer.last_step, one.last_step
        assert (optimizer.iterations, report.applied) == (one.iterations, single.applied), option
        assert report.norms.keys() == single.norms.keys(), option
        for kind, norms in single.norms.items():
            assert report.norms[kind] == pytest.approx(norms, rel=1e-12), option
        if option == "spikes":
            assert report.score == pytest.approx(single.score, rel=1e-9)
        if option in {"clipped", "free"}:
            same(optimizer.averages(params), one.averages(alone))
        if option == "clipped":
            assert optimizer.last_step.global_norm is not None
            np.testing.assert_allclose(
                optimizer.last_step.global_norm, one.last_step.global_norm, rtol=1e-13
            )


def types(folder: Path) -> None:
    """Step narrow arrays, and a tree of several types, of which some gradients are missing."""
    for dtype in ("float32", "float16"):
        params, alone = parameters(dtype), parameters(dtype)
        optimizer = ao.mpi.DataParallel(ao.Adam(0.01, clipnorm=0.3))
        course(optimizer, params, range(3), lambda step, d=dtype: gradients(step, dtype=d))
        course(*(ao.Adam(0.01, clipnorm=0.3), alone, range(3)), lambda step: mean(step, "float32"))
        same(params, alone, 2e-3 if dtype == "float16" else 1e-5)
    mixed = ("float32", "float64", "complex128")
    pairs = [
        {k: x.astype(mixed[i % 3]) for i, (k, x) in enumerate(parameters().items())}
        for _ in range(2)
    ]
    optimizer, one = ao.mpi.DataParallel(ao.Adam(0.01), mean=False), ao.Adam(0.01)
    for step in range(3):
        own = {k: g.astype(pairs[0][k].dtype) for k, g in gradients(step).items()}
        whole = {k: (g * SIZE).astype(pairs[1][k].dtype) for k, g in mean(step).items()}
        last = gradients(step, SIZE - 1)["long"].astype(pairs[1]["long"].dtype)
        # One process alone has a gradient of this one; none has of that.
        own |= {"bias": None, "long": own["long"] if RANK == SIZE - 1 else None}
        optimizer.apply(own, pairs[0])
        one.apply(whole | {"bias": None, "long": last}, pairs[1])
    same(*pairs, 1e-5)


def ascent(folder: Path) -> None:
    """Climb by the norm of all gradients."""
    params, alone = parameters(), parameters()
    optimizer, one = ao.mpi.DataParallel(ao.SAM(ao.SGD(0.1))), ao.SAM(ao.SGD(0.1))
    for step in range(0, 4, 2):
        optimizer.ascend(gradients(step), params)
        one.ascend(mean(step), alone)
        same(params, alone)
        optimizer.apply(gradients(step + 1), params)
        one.apply(mean(step + 1), alone)
    same(params, alone)


FILES: dict[str, Callable[[], Any]] = {
    "adam": lambda: ao.Adam(0.01, clipnorm=0.3, ema_momentum=0.9),
    "soap": lambda: ao.SOAP(0.01),
    "look": lambda: ao.Lookahead(ao.LAMB(0.01), k=2),
}


def save(folder: Path) -> None:
    """Train half-way, and save state and parameters."""
    for name, made in FILES.items():
        params, optimizer = parameters(), ao.mpi.DataParallel(made())
        course(optimizer, params, range(3), alike)
        optimizer.save_weights(folder / f"{name}.h5")
        ao.save_checkpoint(folder / f"{name}.run.h5", params, optimizer, epoch=3)


def resume(folder: Path) -> None:
    """Go on from files that another number of processes wrote, in each of the ways there are."""
    for name, made in FILES.items():
        whole, one = parameters(), made()
        course(one, whole, range(5), alike)

        params, optimizer = parameters(), ao.mpi.DataParallel(made())
        found = ao.load_checkpoint(folder / f"{name}.run.h5", params, optimizer)
        assert found.extra == {"epoch": 3}
        for given in (optimizer, ao.mpi.DataParallel(ao.load(folder / f"{name}.h5"))):
            more = {k: x.copy(order="K") for k, x in params.items()}
            course(given, more, range(3, 5), alike)
            same(more, whole)
        # An optimizer without processes reads the file too.
        alone, single = parameters(), made()
        ao.load_checkpoint(folder / f"{name}.run.h5", alone, single)
        course(single, alone, range(3, 5), alike)
        same(alone, whole)
        later = ao.mpi.DataParallel(made())
        later.init(params)
        later.load_weights(folder / f"{name}.h5")
        course(later, params, range(3, 5), alike)
        same(params, whole)


def raises(kind: type[Exception], words: str, act: Callable[[], Any]) -> None:
    """Assert that something fails in this process, and how."""
    with pytest.raises(kind) as error:
        act()
    assert words in str(error.value), f"process {RANK}: {error.value}"


def faults(folder: Path) -> None:
    """What is wrong in one process is an error in all, and nothing has changed."""
    last = RANK == SIZE - 1
    params = parameters()
    optimizer = ao.mpi.DataParallel(ao.Adam(0.01, nonfinite="raise"))
    optimizer.apply(gradients(0), params)
    before = {k: x.copy() for k, x in params.items()}
    wrong = gradients(1) | ({"bias": np.zeros(4)} if last else {})
    told = "found shape (4,)" if last else f"process {SIZE - 1} could not take part"
    raises(ValueError if last else RuntimeError, told, lambda: optimizer.apply(wrong, params))
    infinite = gradients(1)
    if last:
        infinite["long"][7] = np.inf
    raises(ValueError, "NaN or infinite", lambda: optimizer.apply(infinite, params))
    other = params | ({"more": np.zeros(3)} if last else {})
    raises(ValueError, "the processes have", lambda: optimizer.apply(other, other))
    missing = folder / "nowhere" / "x.h5"
    kind = FileNotFoundError if RANK == 0 else RuntimeError
    raises(kind, "" if RANK == 0 else "could not", lambda: optimizer.save_weights(missing))
    same(params, before, 0.0)
    optimizer.apply(gradients(1), params)
    # What was cut cannot be clipped by its rows any more.
    optimizer.optimizer.agc = 0.1
    raises(ValueError, "set agc and constraints", lambda: optimizer.apply(gradients(2), params))
    taken = ao.Adam(0.01)
    taken.apply(gradients(0, 0), parameters())
    raises(ValueError, "already has state", lambda: ao.mpi.DataParallel(taken).init(params))
    raises(TypeError, "wanted an mpi4py communicator", lambda: ao.mpi.DataParallel("adam", comm=3))
    many = ao.Adam(0.01, models=2)
    raises(ValueError, "an optimizer of one model", lambda: ao.mpi.DataParallel(many))


def differences(folder: Path) -> None:
    """What processes have different from each other is an error in all of them."""
    last, params = RANK == SIZE - 1, parameters()
    optimizer = ao.mpi.DataParallel(ao.Adam(0.01, groups=[ao.group("bias", lr=0.1)]))
    optimizer.apply(gradients(0), params)
    before = {k: x.copy() for k, x in params.items()}
    optimizer.optimizer.lr = 0.02 if last else 0.03
    told = f"lr is 0.03 on process 0 and 0.02 on process {SIZE - 1}"
    raises(ValueError, told, lambda: optimizer.apply(gradients(1), params))
    optimizer.optimizer.lr = 0.01
    optimizer.optimizer.iterations = 7 if last else 1
    raises(ValueError, "'7 steps']", lambda: optimizer.apply(gradients(1), params))
    optimizer.optimizer.iterations = 1
    optimizer.optimizer.models = 2
    raises(ValueError, "of one model", lambda: optimizer.apply(gradients(1), params))
    optimizer.optimizer.models = None
    same(params, before, 0.0)
    wrapped = ao.Grokfast(ao.Adam(0.01), alpha=0.5 if last else 0.6)
    raises(ValueError, "alpha is 0.6", lambda: ao.mpi.DataParallel(wrapped).init(params))
    # Threads, names, and where a function is in memory are each process's own.
    own = ao.Adam(lambda step: 0.01, threads=1 + RANK, name=str(RANK))
    ao.mpi.DataParallel(own).apply(gradients(1), params)


def copies(folder: Path) -> None:
    """A copy goes on by itself; a group of an open file holds what a file does."""
    params, optimizer = parameters(), ao.mpi.DataParallel("adam")
    optimizer.apply(gradients(0), params)
    other, more = copy.copy(optimizer), {k: x.copy(order="K") for k, x in params.items()}
    with h5py.File(folder / f"{RANK}.h5", "w") as file:
        optimizer.save_weights_to_hdf5_group(file)
    third, again = ao.mpi.DataParallel("adam"), {k: x.copy(order="K") for k, x in params.items()}
    WORLD.Barrier()
    third.load_weights(folder / "0.h5")
    course(optimizer, params, range(1, 3), gradients)
    for each, own in ((other, more), (third, again)):
        course(each, own, range(1, 3), gradients)
        same(own, params, 0.0)


class Carrier:
    """What NCCL does, done by MPI: equal parts only, as `cupyx.distributed.NCCLBackend` has it."""

    def reduce_scatter(self, given: Any, into: Any, count: int, op: str) -> None:
        """Add up, and deal out."""
        assert (len(given), len(into), op) == (count * SIZE, count, "sum")
        WORLD.Reduce_scatter_block(given, into)

    def all_gather(self, given: Any, into: Any, count: int) -> None:
        """Bring together."""
        assert (len(given), len(into)) == (count, count * SIZE)
        WORLD.Allgather(given, into)


def carried(folder: Path) -> None:
    """Let something with NCCL's interface carry arrays."""
    params, alone = parameters(), parameters()
    course(ao.mpi.DataParallel("muon", nccl=Carrier()), params, range(3), gradients)
    course(ao.get("muon"), alone, range(3), mean)
    same(params, alone)


def slow(folder: Path) -> None:
    """Wait for a process that is late at each step."""
    params, alone, optimizer = parameters(), parameters(), ao.mpi.DataParallel("adam")
    for step in range(3):
        time.sleep(0.5 * (RANK == SIZE - 1))
        optimizer.apply(gradients(step), params)
    course(ao.get("adam"), alone, range(3), mean)
    same(params, alone)


def killed(folder: Path) -> None:
    """Kill one process in the midst of a training that saves at every step."""
    params, optimizer = parameters(), ao.mpi.DataParallel("adam")
    for step in range(1000):
        optimizer.apply(gradients(step), params)
        ao.save_checkpoint(folder / "run.h5", params, optimizer, step=step)
        if step == 3 and RANK == SIZE - 1:
            os.kill(os.getpid(), signal.SIGKILL)


CASES = (
    *(smoke, losses, curvature, every, types, ascent, save, resume),
    *(faults, differences, copies, carried, slow, killed),
)

if __name__ == "__main__":
    {case.__name__: case for case in CASES}[sys.argv[1]](Path(sys.argv[2]))
