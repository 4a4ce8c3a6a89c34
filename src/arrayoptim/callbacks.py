"""Callbacks that record a run: in memory, in TensorBoard, in MLflow, in Weights & Biases.

Each works as the ``callback`` of `arrayoptim.minimize`, in a custom loop through `Callback.log`,
and in Keras's ``fit`` through `Callback.keras`. The packages are imported when a callback is
created.
"""

from __future__ import annotations

import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config.validation import whole
from .training.curves import pyplot_axes
from .training.result import Minimization

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Callback", "History", "MLflow", "TensorBoard", "WandB", "numbers_of"]

NAMED = 12
"""Maximum number of curves that the legend of a plot names."""


def numbers_of(optimizer: Any) -> dict[str, float]:
    """Return the numbers to record of an optimizer's last step.

    Parameters
    ----------
    optimizer : Optimizer, wrapper, or one of ``ao.torch`` or ``ao.keras``
        The optimizer.

    Returns
    -------
    dict of str to float
        ``lr``, ``gradient_norm``, ``clip_factor``, ``skipped``, ``spikes``, and the norms that
        `measure` selects, as ``gradient/path``, ``update/path`` and ``weight/path``; unknown ones
        are omitted. With several torch parameter groups, the names start with ``group0/`` and so
        on.
    """
    last = getattr(optimizer, "last_step", None)
    reports = last if isinstance(last, list) else [last]
    found: dict[str, float] = {}
    for k, report in enumerate(reports):
        if report is None:
            continue
        prefix = f"group{k}/" if len(reports) > 1 else ""
        rows = {name: x for name, x in report.hyperparameters.items() if _is_rate(name)}
        rows |= {"gradient_norm": report.global_norm, "clip_factor": report.clip_factor}
        for word, norms in report.norms.items():
            rows |= {f"{word}/{path}" if path else word: x for path, x in norms.items()}
        found |= {prefix + name: float(x) for name, x in rows.items() if x is not None}
    for name in ("skipped", "spikes"):
        count = getattr(optimizer, name, None)
        if isinstance(count, int | float) and (count or name == "spikes"):
            found[name] = float(count)
    return found


def _is_rate(name: str) -> bool:
    return name.rpartition(".")[2] == "lr"


class Callback(ABC):
    """Base of the callbacks.

    Parameters
    ----------
    every : int in [1, inf)
        Interval of the recorded steps; only these wait for numbers from a GPU.
    """

    def __init__(self, every: int = 1) -> None:
        self.every, self._calls = whole(every, "every", 1), 0

    @abstractmethod
    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Record numbers by name.

        Parameters
        ----------
        numbers : mapping of str to float
            The numbers.
        step : int
            Their step, counted from 1.
        """

    def close(self) -> None:  # noqa: B027 (optional in subclasses)
        """Close, and write what is buffered."""

    def log(self, optimizer: Any, loss: Any = None, step: int | None = None, **more: float) -> None:
        """Record the last step of a custom loop.

        Parameters
        ----------
        optimizer : Optimizer, wrapper, or one of ``ao.torch``
            The optimizer, after its step.
        loss : number, optional
            The loss; a GPU tensor is read only if the step is recorded.
        step : int, optional
            The number of the step; by default the number of calls.
        **more : float
            Additional numbers, such as an accuracy.
        """
        self._calls += 1
        number = self._calls if step is None else int(step)
        if number % self.every and self.every > 1:
            return
        given = more if loss is None else {"loss": loss, **more}
        numbers = {name: float(value) for name, value in given.items()}
        self.write({**numbers, **numbers_of(optimizer)}, number)

    def __call__(self, so_far: Minimization) -> None:
        """Record a step of `arrayoptim.minimize`."""
        self.log(so_far.optimizer, so_far.history[-1], so_far.steps)

    def keras(self) -> Any:
        """Return a callback for ``model.fit(callbacks=[...])``, which closes this one at the end.

        Returns
        -------
        keras.callbacks.Callback
            It records the logs of each batch, and those of each epoch under ``epoch/``.
        """
        return _for_keras(self)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class History(Callback):
    """Keep the recorded numbers in memory, for plots.

    Parameters
    ----------
    every : int in [1, inf)
        Interval of the recorded steps.

    Attributes
    ----------
    numbers : dict of str to list
        For each name, its pairs of step and number.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> def loss(x):
    ...     return np.sum(x**2), 2.0 * x
    >>> history = ao.callbacks.History()
    >>> _ = ao.minimize(loss, np.ones(4), ao.SGD(0.25, measure="update"), 3, callback=history)
    >>> history.numbers["loss"], history.numbers["update"]
    ([(1, 4.0), (2, 1.0), (3, 0.25)], [(1, 1.0), (2, 0.5), (3, 0.25)])
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__(every)
        self.numbers: dict[str, list[tuple[int, float]]] = {}

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Keep numbers; see `Callback`."""
        for name, value in numbers.items():
            self.numbers.setdefault(name, []).append((step, value))

    def plot(self, *names: str, axes: Any = None) -> Any:
        """Draw numbers over the steps.

        Of more than twelve the highest at the end are named, beside the axes; the others are grey.

        Parameters
        ----------
        *names : str
            Which; ``"update"`` stands for those of all paths too. The loss by default.
        axes : matplotlib.axes.Axes, optional
            Where to draw; new axes of pyplot if None.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        KeyError
            If nothing of that name was recorded.
        ModuleNotFoundError
            If Matplotlib is not installed.
        """
        chosen: dict[str, list[tuple[int, float]]] = {}
        for name in names or ("loss",):
            rows = {k: v for k, v in self.numbers.items() if k == name or k.startswith(f"{name}/")}
            if not rows:
                known = ", ".join(self.numbers) or "nothing"
                raise KeyError(f"found no {name!r}; what was recorded is {known}")
            chosen |= rows
        axes = pyplot_axes(axes)
        highest = sorted(chosen, key=lambda name: -chosen[name][-1][1])[:NAMED]
        for name, pairs in chosen.items():
            look = {"label": name} if name in highest else {"color": "0.85", "zorder": 1.0}
            axes.plot([k for k, _ in pairs], [x for _, x in pairs], **look)
        values = [x for pairs in chosen.values() for _, x in pairs if math.isfinite(x)]
        if values and min(values) > 0.0 and max(values) > 10.0 * min(values):
            axes.set_yscale("log")
        axes.set_xlabel("step")
        if len(chosen) > 1:
            title = f"the highest of {len(chosen)}" if len(chosen) > NAMED else None
            beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
            axes.legend(title=title, fontsize="small", **beside)
        else:
            axes.set_ylabel(next(iter(chosen)))
        return axes


class TensorBoard(Callback):
    """Write event files for TensorBoard.

    Parameters
    ----------
    directory : str or Path
        The directory of the files; pass it, or one above it, to ``tensorboard --logdir``.
    every : int in [1, inf)
        Interval of the recorded steps.

    Raises
    ------
    ModuleNotFoundError
        If the package tensorboard is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str], every: int = 1) -> None:
        super().__init__(every)
        name = "tensorboard.summary.writer.event_file_writer"
        self._events = _needed("tensorboard.compat.proto.event_pb2", "tensorboard")
        self._summaries = _needed("tensorboard.compat.proto.summary_pb2", "tensorboard")
        self._writer = _needed(name, "tensorboard").EventFileWriter(os.fspath(directory))

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Write an event; see `Callback`."""
        values = [
            self._summaries.Summary.Value(tag=name, simple_value=value)
            for name, value in numbers.items()
        ]
        summary = self._summaries.Summary(value=values)
        event = self._events.Event(wall_time=time.time(), step=step, summary=summary)
        self._writer.add_event(event)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


class MLflow(Callback):
    """Log metrics to an MLflow run.

    Parameters
    ----------
    run_id : str, optional
        An existing run. By default the active one, or else a new one, which `close` ends.
    every : int in [1, inf)
        Interval of the recorded steps.
    **options
        Arguments of ``mlflow.start_run``, for a new run.

    Raises
    ------
    ModuleNotFoundError
        If the package mlflow is not installed.
    """

    def __init__(self, run_id: str | None = None, every: int = 1, **options: Any) -> None:
        super().__init__(every)
        self._mlflow = _needed("mlflow", "mlflow")
        active = self._mlflow.active_run()
        self._started = run_id is None and active is None
        if run_id is None:
            run = self._mlflow.start_run(**options) if active is None else active
            run_id = run.info.run_id
        self.run_id = run_id

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Log metrics; see `Callback`. Characters that MLflow forbids become ``_``."""
        named = {re.sub(r"[^\w\-. /:]", "_", name): value for name, value in numbers.items()}
        self._mlflow.log_metrics(named, step=step, run_id=self.run_id)

    def close(self) -> None:
        """End the run if this callback started it."""
        if self._started:
            self._mlflow.end_run()
            self._started = False


class WandB(Callback):
    """Log to a Weights & Biases run.

    Parameters
    ----------
    run : wandb.Run, optional
        An existing run; by default a new one, which `close` ends.
    every : int in [1, inf)
        Interval of the recorded steps.
    **options
        Arguments of ``wandb.init``, for a new run, such as ``project=`` and ``mode="offline"``.

    Raises
    ------
    ModuleNotFoundError
        If the package wandb is not installed.
    """

    def __init__(self, run: Any = None, every: int = 1, **options: Any) -> None:
        super().__init__(every)
        self._started = run is None
        self.run = _needed("wandb", "wandb").init(**options) if run is None else run

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Log numbers; see `Callback`."""
        self.run.log(dict(numbers), step=step)

    def close(self) -> None:
        """End the run if this callback started it."""
        if self._started:
            self.run.finish()
            self._started = False


def _needed(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this callback needs the package {package} (pip install {package})"
        ) from error


def _for_keras(callback: Callback) -> Any:
    keras = _needed("keras", "keras")

    class Recorded(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        """Record the logs of ``fit``."""

        steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            """Record a batch."""
            self.steps += 1
            callback.log(self.model.optimizer, step=self.steps, **(logs or {}))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            """Record an epoch, whatever `every` is."""
            rows = {f"epoch/{name}": float(x) for name, x in (logs or {}).items()}
            callback.write(rows, max(self.steps, 1))

        def on_train_end(self, logs: Any = None) -> None:
            """Close the callback."""
            callback.close()

    return Recorded()
