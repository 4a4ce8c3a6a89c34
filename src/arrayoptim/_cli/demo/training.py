"""The training loop, and the whole course of one optimizer through the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..._arrays import Backend
from ..backends import from_host, to_host
from . import checkpoint, settings
from .data import Floats, Indices, Parameters, Problem
from .network import loss_and_gradients, predict

Tick = Callable[[], object]

TOLERANCE = 1e-4
"""Largest deviation allowed between array libraries, relative to the largest parameter."""


@dataclass
class Resumed:
    """How a resumed run compares with the uninterrupted one.

    Parameters
    ----------
    backend : str
        Where it was resumed.
    exact : bool
        Whether it is held to equality bit for bit, as on the same backend.
    losses : ndarray of float32, shape (steps after the checkpoint,)
        The loss of each step.
    identical : bool
        Whether all parameters at the end and all losses are the same bits.
    deviation : float
        The largest difference of any parameter at the end, relative to the largest parameter.
    """

    backend: str
    exact: bool
    losses: Floats
    identical: bool
    deviation: float

    @property
    def agrees(self) -> bool:
        """Whether the run agrees as it should; a deviation of NaN does not."""
        return self.identical or (not self.exact and self.deviation <= TOLERANCE)


@dataclass
class Course:
    """What became of one optimizer.

    Parameters
    ----------
    name, settings : str
        The optimizer, and its hyperparameters in words.
    losses : ndarray of float32, shape (steps,)
        The loss of each step of the uninterrupted run.
    final_loss : float
        The mean over the last epoch.
    params : dict
        Its last parameters, on the host.
    accuracy : float
        The share of test samples that they classify correctly.
    speed : float
        Steps per second, gradients included, the first step left out.
    resumed : list of Resumed
        The runs that went on from its checkpoint.
    rivals : dict
        Test accuracy of other libraries' counterparts, by library.
    """

    name: str
    settings: str
    losses: Floats
    final_loss: float
    params: Parameters
    accuracy: float
    speed: float
    resumed: list[Resumed] = field(default_factory=list)
    rivals: dict[str, float] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every resumed run agrees."""
        return all(run.agrees for run in self.resumed)


@dataclass(frozen=True)
class Plan:
    """What the command line asks for, ready for use.

    Parameters
    ----------
    problem : Problem
        Data, batches and start values.
    backend : Backend
        Where the uninterrupted run takes place.
    elsewhere : Backend
        Where it is resumed besides.
    lr : float or None
        The learning rate, if one was asked for.
    output : Path
        The directory of the checkpoints.
    tick : callable
        Called after each step.
    """

    problem: Problem
    backend: Backend
    elsewhere: Backend
    lr: float | None
    output: Path
    tick: Tick


def run(name: str, plan: Plan) -> Course:
    """Train with one optimizer, write its checkpoint half-way, and resume it.

    Parameters
    ----------
    name : str
        A registered optimizer.
    plan : Plan
        What to do, and where.

    Returns
    -------
    Course
        What became of it.
    """
    problem, backend = plan.problem, plan.backend
    optimizer = settings.build(name, plan.lr)
    words = settings.described(name, optimizer)
    params = from_host(problem.start, backend)
    # The first step compiles; it is not part of the speed.
    params, first = train(optimizer, params, problem.batches[:1], problem, backend, plan.tick)
    began = time.perf_counter()
    early = problem.batches[1 : problem.half]
    params, before = train(optimizer, params, early, problem, backend, plan.tick)
    took = time.perf_counter() - began
    file = plan.output / f"{name.lower()}.h5"
    checkpoint.write(file, optimizer, params)
    began = time.perf_counter()
    late = problem.batches[problem.half :]
    params, after = train(optimizer, params, late, problem, backend, plan.tick)
    took += time.perf_counter() - began
    losses = np.concatenate([first, before, after])
    course = Course(
        name=name,
        settings=words,
        losses=losses,
        final_loss=float(losses[-problem.steps_per_epoch :].mean()),
        params=to_host(params),
        accuracy=accuracy(params, problem, backend),
        speed=(len(problem.batches) - 1) / took,
    )
    for place in dict.fromkeys((backend, plan.elsewhere)):
        course.resumed.append(resume(file, course, place, plan))
    return course


def resume(file: Path, course: Course, backend: Backend, plan: Plan) -> Resumed:
    """Go on from a checkpoint and compare with the run that was never interrupted.

    Parameters
    ----------
    file : Path
        The checkpoint.
    course : Course
        The uninterrupted run.
    backend : Backend
        Where to go on.
    plan : Plan
        Data and batches.

    Returns
    -------
    Resumed
        The comparison. The place in the sequence of batches is the file's step count.
    """
    optimizer, start = checkpoint.read(file, plan.problem.start)
    params = from_host(start, backend)
    # A loaded state is put in its place, and checked, when the parameters are first seen.
    optimizer.init(params)
    batches = plan.problem.batches[optimizer.iterations :]
    params, losses = train(optimizer, params, batches, plan.problem, backend, plan.tick)
    end = to_host(params)
    return Resumed(
        backend=backend.name,
        exact=backend is plan.backend,
        losses=losses,
        identical=_bits(end, losses) == _bits(course.params, course.losses[plan.problem.half :]),
        deviation=deviation(end, course.params),
    )


def _bits(params: Parameters, losses: Floats) -> list[bytes]:
    """Give everything that must be equal as bytes: signed zeros and NaN count."""
    arrays = [params[layer][name] for layer in sorted(params) for name in sorted(params[layer])]
    return [array.tobytes() for array in (*arrays, losses)]


def train(
    optimizer: Any,
    params: Any,
    batches: list[Indices],
    problem: Problem,
    backend: Backend,
    tick: Tick,
) -> tuple[Any, Floats]:
    """Take one step per batch.

    Parameters
    ----------
    optimizer : Optimizer
        Takes the steps.
    params : dict
        The parameters, in the backend's arrays.
    batches : list of ndarray
        The rows that each step uses.
    problem : Problem
        The data.
    backend : Backend
        The array library.
    tick : callable
        Called after each step.

    Returns
    -------
    params : dict
        The new parameters.
    losses : ndarray of float32
        The loss before each step.
    """
    asarray, gradients_of = backend.xp.asarray, _gradients_of(backend)
    losses = []
    # A run that diverges shows in its losses; the guard keeps NumPy from warning of each step.
    with backend.guard():
        for rows in batches:
            x, classes = asarray(problem.train[rows]), asarray(problem.train_classes[rows])
            loss, gradients = gradients_of(params, x, classes)
            params = optimizer.apply(gradients, params)
            # Converted at the end only: reading a loss now would make a GPU wait.
            losses.append(loss)
            tick()
    return params, np.array([float(loss) for loss in losses], np.float32)


@cache
def _gradients_of(backend: Backend) -> Callable[..., Any]:
    """Compile the gradients, once, where the library has a compiler for array code."""
    return backend.compile(loss_and_gradients)


def accuracy(params: Any, problem: Problem, backend: Backend) -> float:
    """Return the share of test samples classified correctly.

    Parameters
    ----------
    params : dict
        The parameters, in the backend's arrays.
    problem : Problem
        The data.
    backend : Backend
        The array library.

    Returns
    -------
    float
        In [0, 1].
    """
    with backend.guard():
        guess = to_host(predict(params, backend.xp.asarray(problem.test)))
    return float(np.mean(guess == problem.test_labels))


def deviation(found: Parameters, wanted: Parameters) -> float:
    """Return the largest difference between two sets of parameters.

    Parameters
    ----------
    found, wanted : dict
        Parameters on the host.

    Returns
    -------
    float
        Relative to the largest parameter wanted; NaN if any is.
    """
    pairs = [
        (found[layer][name], wanted[layer][name]) for layer in wanted for name in wanted[layer]
    ]
    largest = max(float(np.max(np.abs(b))) for _, b in pairs)
    return float(np.max([np.max(np.abs(a - b)) for a, b in pairs])) / largest
