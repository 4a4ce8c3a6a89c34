"""What can be read of an optimizer between steps, and set: counters, numbers, the last step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._typing import Scalar
from ..config.elsewhere import argument, method
from ..config.hyper import counter, finite, hyper, keeps_numbers
from ..config.registry import nearest
from ..engines import Prepared
from .assignment import Assignment
from .computing import Computing
from .report import Last, StepReport, report
from .state import State

if TYPE_CHECKING:
    from ..config.typed import Number


class Counting(Computing):
    """The part of `arrayoptim.Optimizer` that has counters and scalar state."""

    @property
    def built(self) -> bool:
        """Whether the state has been made."""
        return self._state is not None

    @property
    def iterations(self) -> int:
        """Steps taken; it always counts, and may be set."""
        return int(self._state.iterations if self._state else self._first_iteration)

    @iterations.setter
    def iterations(self, value: int) -> None:
        number = counter(value, f"{type(self).__name__}.iterations")
        if self._state:
            self._state.iterations = number
        else:
            self._first_iteration = number

    @property
    def skipped(self) -> int:
        """Steps left out because a gradient was not finite."""
        return int(self._state.skipped) if self._state else 0

    @property
    def last_step(self) -> StepReport | None:
        """What the last call of `apply` has done; None before the first.

        It is put together when it is read, which is when a norm is fetched from a GPU.
        """
        return None if self._last is None else report(self._last)

    if TYPE_CHECKING:
        learning_rate: Number = hyper(default=0.0, kw_only=True)  # an argument too
    else:

        @property
        def learning_rate(self) -> float:
            """Another name of ``lr``."""
            return self.lr

        @learning_rate.setter
        def learning_rate(self, value: Any) -> None:
            self.lr = value

    def __getattr__(self, name: str) -> Any:
        """Give scalar state by its name."""
        if not name.startswith("_"):
            scalars = self._state.scalars if self._state else self._initial_scalars()
            if name in scalars:
                return scalars[name]
        cls = type(self).__name__
        raise AttributeError(f"{cls!r} object has no attribute {name!r}{method(name, cls)}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a hyperparameter or scalar state; refuse what is neither, such as a misspelt one."""
        if name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
            if name in self.hyperparameters and self._state is not None:
                self._begin_schedule(name)
            return
        scalars = self._state.scalars if self._state else self._initial_scalars()
        if name not in scalars:
            known = [*self.hyperparameters, "learning_rate", "iterations", *scalars]
            cls = type(self).__name__
            raise AttributeError(
                f"{cls} has no attribute {name!r} to set"
                f"{argument(name, cls) or method(name, cls) or nearest(name, known)}; "
                "a subclass may declare it, and names with a leading underscore are free"
            )
        if self._state is None:
            raise ValueError(f"{name} belongs to the state; call init(params) first")
        self._state.scalars[name] = finite(value, f"{type(self).__name__}.{name}")

    def _begin_schedule(self, name: str) -> None:
        """Let a schedule that was set keep its numbers in the state, and the one before not."""
        with self._lock:
            assert self._state is not None
            prefix, value = f"{name}.", self._hyper[name]
            old = self._state.scalars
            new = {k: v for k, v in old.items() if not k.startswith(prefix)}
            if keeps_numbers(value):
                new |= {prefix + k: v for k, v in value.initial_scalars().items()}
            if new != old:
                order = [*self._initial_scalars(), *new]
                self._state.scalars = {k: new[k] for k in order if k in new}

    def _present_scalars(self) -> Mapping[str, Scalar]:
        return self._state.scalars if self._state else {}

    def reset(self) -> None:
        """Forget all state; the hyperparameters stay."""
        # Annotated here and not in the class, where type checkers take them for hyperparameters.
        self._state: State | None = None
        self._assignment: Assignment | None = None
        self._prepared: Prepared | None = None
        self._last: Last | None = None
        self._first_iteration = 0
