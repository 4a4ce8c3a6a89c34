"""The training loop, and the whole course of one optimizer through the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from arrayoptim._cli.backends import from_host, to_host
from arrayoptim.arrays.libraries import Backend

from . import checkpoint, settings
from .course import Course, Resumed
from .data import Floats, Indices, Parameters, Problem
from .network import loss_and_gradients, predict

Tick = Callable[[], object]


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
    """Train with one optimizer, write its checkpoint halfway, and resume it.

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
    file = plan.output / f"{name.lower()}.h5"
    params, losses, speed = _uninterrupted(optimizer, file, plan)
    course = Course(
        name=name,
        settings=words,
        losses=losses,
        final_loss=float(losses[-problem.steps_per_epoch :].mean()),
        params=to_host(params),
        accuracy=accuracy(params, problem, backend),
        speed=speed,
    )
    for place in dict.fromkeys((backend, plan.elsewhere)):
        course.resumed.append(resume(file, course, place, plan))
    return course


def _uninterrupted(optimizer: Any, file: Path, plan: Plan) -> tuple[Any, Floats, float]:
    """Train to the end, write the checkpoint in passing; give parameters, losses and speed."""
    batches, half, backend = plan.problem.batches, plan.problem.half, plan.backend
    params, losses, took = from_host(plan.problem.start, backend), [], 0.0
    # The first step compiles; it is not part of the speed. Nor is the writing.
    for part in (slice(0, 1), slice(1, half), slice(half, None)):
        if part.start == half:
            checkpoint.write(file, optimizer, params)
        began = time.perf_counter()
        params, found = train(optimizer, params, batches[part], backend, plan)
        took += time.perf_counter() - began if part.start else 0.0
        losses.append(found)
    return params, np.concatenate(losses), (len(batches) - 1) / took


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
    optimizer, params = checkpoint.read(file, plan.problem.start, backend)
    batches = plan.problem.batches[optimizer.iterations :]
    params, losses = train(optimizer, params, batches, backend, plan)
    end = to_host(params)
    known = course.losses[plan.problem.half :]
    return Resumed(
        backend=backend.name,
        exact=backend is plan.backend,
        losses=losses,
        identical=_bits(end, losses) == _bits(course.params, known),
        deviation=deviation(end, course.params),
        early=float(np.max(np.abs(losses[:3] - known[:3]) / np.abs(known[:3]))),
    )


def _bits(params: Parameters, losses: Floats) -> list[bytes]:
    """Return everything that must be equal as bytes: signed zeros and NaN count."""
    arrays = [params[layer][name] for layer in sorted(params) for name in sorted(params[layer])]
    return [array.tobytes() for array in (*arrays, losses)]


def train(
    optimizer: Any, params: Any, batches: list[Indices], backend: Backend, plan: Plan
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
    backend : Backend
        The array library.
    plan : Plan
        The data, and what to call after each step.

    Returns
    -------
    params : dict
        The new parameters.
    losses : ndarray of float32
        The loss before each step.
    """
    problem = plan.problem
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
            plan.tick()
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
