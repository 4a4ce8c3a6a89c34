"""A whole minimization: a loop with a history, a progress bar, early stopping and checkpoints."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._typing import Scalar, Tree
from ..arrays.calls import mismatch
from ..arrays.derivatives import value_and_gradients
from ..config.validation import whole
from ..finding import get
from .checkpoints import load_checkpoint, save_checkpoint
from .result import Minimization


def minimize(
    loss: Callable[[Tree], Any],
    params: Tree,
    optimizer: Any,
    steps: int = 1000,
    *,
    callback: Callable[[Minimization], Any] | None = None,
    progress: bool = False,
    patience: int | None = None,
    tolerance: float = 0.0,
    checkpoint: str | bytes | os.PathLike[str] | None = None,
    every: int = 100,
) -> Minimization:
    """Minimize a loss until a stopping criterion is met.

    Parameters
    ----------
    loss : callable
        A function of the parameters, differentiated like in `Optimizer.get_gradients`.
    params : tree of arrays
        The initial parameters. Writeable arrays are updated in place: pass copies to keep them.
    optimizer : Optimizer, wrapper, str, dict or native optimizer
        Anything that `get` accepts.
    steps : int in [0, inf)
        Maximum number of steps, including those of a checkpoint.
    callback : callable, optional
        Called after each step with the `Minimization` so far; StopIteration ends the run.
    progress : bool
        Whether to show a progress bar; needs ``tqdm``.
    patience : int in [1, inf), optional
        Steps without a new lowest loss after which the run stops; never if None.
    tolerance : float in [0, inf)
        Minimum decrease for a loss to count as a new lowest one.
    checkpoint : str, bytes or Path, optional
        A file for parameters, history and the optimizer's state. If it exists, the run resumes from
        it exactly: its parameters, hyperparameters and step count take precedence over those passed
        here.
    every : int in [1, inf)
        Steps between two checkpoints. The last step is saved too, unless its loss is not finite:
        then the previous checkpoint is kept.

    Returns
    -------
    Minimization
        Parameters, history, the number of steps and why it stopped.

    Raises
    ------
    TypeError
        If `loss` or `callback` is not callable, or the loss does not return a number.
    ValueError
        If a number is outside its interval, the loss does not depend on a parameter, or the
        checkpoint does not match parameters and optimizer. No parameter has been changed.
    OSError
        If `checkpoint` cannot be written; a bad path raises before the first step.
    ModuleNotFoundError
        If `progress` is True and tqdm is not installed.

    Notes
    -----
    A nonfinite loss ends the run before the step. An interrupt, such as Ctrl-C, ends it between two
    steps, and the progress so far is saved and returned. A loss that depends on the step may read
    ``optimizer.iterations``, which a checkpoint restores.

    A loss of JAX arrays is not compiled; ``jax.jit(loss)`` compiles it. With `LossScale`, the loss
    must already be multiplied by its ``loss_scale``.

    With `LBFGS` a step is one evaluation of the loss, and the final parameters are the best ones
    found; a checkpoint holds those to be tried next.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> def loss(x):
    ...     return np.sum((x - 3.0) ** 2), 2.0 * (x - 3.0)
    >>> found = ao.minimize(loss, np.zeros(2), ao.SGD(lr=0.1), steps=500, patience=20)
    >>> found.params.round(3), found.reason
    (array([3., 3.]), 'patience')
    """
    if not callable(loss):
        raise TypeError(
            f"loss: found {type(loss).__qualname__}, wanted a function of the parameters, which is "
            "called at every step"
        )
    steps, every = whole(steps, "steps", 0), whole(every, "every", 1)
    patience = None if patience is None else whole(patience, "patience", 1)
    margin: Any = tolerance
    if not (isinstance(margin, int | float | np.number) and 0 <= margin < math.inf):
        raise ValueError(f"tolerance: found {tolerance!r}, wanted a number in [0, inf)")
    _require_callback(callback, params)
    if checkpoint is not None:
        from .. import persistence

        checkpoint = persistence.path_of(checkpoint)
        # An error raised only after the last step would waste all of them.
        persistence.require_target(checkpoint)
    limits = _Limits(steps, patience, tolerance)
    made = get(optimizer)
    run = _Run(loss, Minimization(params, optimizer=made), made, limits)
    if checkpoint is not None and Path(checkpoint).exists():
        run.restore(checkpoint)
    taken = run.so_far.steps
    with _bar(progress, taken, max(taken, steps)) as show, run.whole.told():
        run.go(callback, show, None if checkpoint is None else partial(run.save, checkpoint), every)
    return run.so_far


def _require_callback(callback: Any, params: Tree) -> None:
    """Raise if a callback cannot be called with the progress of a run."""
    fault = "it is no function" if callback is not None and not callable(callback) else ""
    if callable(callback):
        fault = mismatch(callback, Minimization(params))
    if fault:
        raise TypeError(
            f"callback: found {callback!r}, wanted a function of the Minimization so far ({fault})"
        )


@dataclass
class _Limits:
    """The stopping criteria."""

    steps: int
    patience: int | None
    tolerance: float
    lowest: float = math.inf
    since: int = 0

    def take(self, loss: float) -> None:
        """Record the loss of one more step."""
        better = loss < self.lowest - self.tolerance
        self.lowest, self.since = (loss, 0) if better else (self.lowest, self.since + 1)

    def reached(self, taken: int) -> tuple[str, str]:
        """Return the reason to stop, and the same in words; empty if there is none."""
        if taken > self.steps:
            more = f"The checkpoint has {taken} steps already, more than the {self.steps} wanted."
            return "steps", more
        if taken == self.steps:
            return "steps", f"All {self.steps} steps have been taken."
        if self.patience is not None and self.since >= self.patience:
            return "patience", f"No loss was below {self.lowest:g} for {self.since} steps."
        return "", ""


class _Run:
    """A loss, an optimizer and their progress."""

    def __init__(
        self, loss: Callable[[Tree], Any], so_far: Minimization, optimizer: Any, limits: _Limits
    ) -> None:
        self.loss, self.so_far, self.optimizer, self.limits = loss, so_far, optimizer, limits
        self.whole = _Whole()

    def go(
        self,
        callback: Callable[[Minimization], Any] | None,
        show: Callable[[float], Any],
        save: Callable[[], None] | None,
        every: int,
    ) -> None:
        """Step until there is a reason to stop."""
        found, first = self.so_far, self.so_far.steps
        try:
            while not found.reason:
                found.reason, found.message = self._reached()
                if found.reason or not self._step():
                    break
                show(found.history[-1])
                if callback is not None and _ends(callback, found):
                    found.reason, found.message = "callback", "The callback raised StopIteration."
                if save is not None and found.steps % every == 0:
                    save()
        except KeyboardInterrupt:
            found.reason = "interrupted"
            found.message = f"It was interrupted after {found.steps} steps."
        if save is not None and found.steps > first and found.reason != "nonfinite":
            save()
        if found.steps > first:
            found.params = self.optimizer._best(found.params)

    def _reached(self) -> tuple[str, str]:
        """Return the reason to stop, and the same in words; empty if there is none."""
        reason, message = self.optimizer._over()
        return (reason, message) if reason else self.limits.reached(self.so_far.steps)

    def _step(self) -> bool:
        """Take a step, unless the loss is not finite."""
        found = self.so_far
        value, gradients, _, structure = value_and_gradients(self.loss, found.params)
        number = number_of(value)
        shortened = self.optimizer._searches and self.optimizer.iterations > 0
        if not math.isfinite(number) and not shortened:
            found.reason = "nonfinite"
            found.message = (
                f"The loss is {number} after {found.steps} steps, at the parameters given back; a "
                "smaller learning rate or clipnorm may help."
            )
            return False
        with self.whole:
            found.params = self.optimizer._descend(
                self.loss, value, structure.build(gradients), found.params
            )
            found.history.append(number)
            found.steps += 1
            self.limits.take(number)
        return True

    # ---- checkpoints

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, history and the optimizer's state to one file, atomically."""
        history = np.array(self.so_far.history, np.float64)
        save_checkpoint(path, self.so_far.params, self.optimizer, history=history)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint; everything is checked before anything changes."""
        found = load_checkpoint(path, self.so_far.params, self.optimizer)
        history = found.extra.get("history")
        if history is None:
            raise ValueError(
                f"{path}: found a checkpoint without history, wanted one of minimize; give another "
                "file"
            )
        self.so_far.params = found.params
        self.so_far.history = [float(x) for x in history]
        self.so_far.steps = len(history)
        for loss in self.so_far.history:
            self.limits.take(loss)


def _ends(callback: Callable[[Minimization], Any], so_far: Minimization) -> bool:
    try:
        callback(so_far)
    except StopIteration:
        return True
    return False


def number_of(value: Scalar) -> float:
    """Return a loss as a float, or raise a TypeError that names what it is."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the loss returned {value!r}, wanted one real number ({error})") from None


class _Whole:
    """A context that defers interrupts to the end of a step."""

    def __init__(self) -> None:
        self._inside = self._came = False

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Install one handler for all steps: installing it takes as long as a small step."""
        usual = signal.default_int_handler
        here = threading.current_thread() is threading.main_thread()
        if not here or signal.getsignal(signal.SIGINT) is not usual:
            yield
            return
        handler = self._interrupted
        signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            # A callback may have installed another handler.
            if signal.getsignal(signal.SIGINT) == handler:
                signal.signal(signal.SIGINT, usual)

    def _interrupted(self, number: int, frame: Any) -> None:
        if not self._inside:
            signal.default_int_handler(number, frame)
        self._came = True

    def __enter__(self) -> None:
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside, came, self._came = False, self._came, False
        if came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _bar(progress: bool, first: int, total: int) -> Iterator[Callable[[float], Any]]:
    """Yield a function that shows the loss of one more step."""
    if not progress:
        yield lambda loss: None
        return
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'a progress bar needs the tqdm package (pip install "arrayoptim[progress]"); without '
            "one, progress=False"
        ) from None

    def show(loss: float) -> None:
        bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        bar.update()

    with tqdm(total=total, initial=first, unit="step") as bar:
        yield show
