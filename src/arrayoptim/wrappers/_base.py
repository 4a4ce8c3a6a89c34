"""The base of wrappers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._typing import Namespace, Scalar, Tree
from ..arrays.libraries import backend_of
from ..config.declared import Declared
from ..config.hyper import Hyper
from ..config.registry import described, made, refuse_base, require_one_model
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import Rule
from ..step.journal import Journal, carried_through
from ..step.restore import LoadReport, blaming
from ..step.session import Session, session_of
from ..step.shared_methods import Surface
from ..step.state import State
from ..step.summary import Summary, joined

if TYPE_CHECKING:
    from ..persistence import Record

INNER = "inner."
"""Prefix of the names of the inner optimizer's state."""


class _Inner(Hyper):
    """A hyperparameter whose value is an optimizer or a wrapper."""

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return "an optimizer, or the name or configuration of one"

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return the optimizer."""
        value = made(value)
        if not isinstance(value, Surface):
            raise TypeError(f"{owner.__name__}.{self.name} must be {self.wanted}, got {value!r}")
        if not owner.many:
            reason = f"{owner.__name__} takes all arrays for parts of one"
            require_one_model(value, f"{owner.__name__}.{self.name}", reason)
        return value

    def to_config(self, value: Any) -> dict[str, Any]:
        """Return class and configuration."""
        return described(value)


class Keeper(Optimizer):
    """The part of a wrapper that holds its own rule, slots and scalars."""

    rule: ClassVar[Rule]

    results_count = False
    scalars: ClassVar[dict[str, float]] = {}
    starts: ClassVar[dict[str, Start]] = {}

    def initial_scalars(self) -> dict[str, float]:
        """Return the wrapper's scalars."""
        return dict(self.scalars)

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial values of the wrapper's slots."""
        return dict(self.starts)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Return the coefficients that the wrapper set."""
        return {**scalars, **self._given}


class Wrapper(Surface, Declared):
    """Base of the wrappers around an optimizer, which are used like optimizers.

    Hyperparameters and attributes of the inner optimizer are read and set through the wrapper:
    ``lr``, ``iterations``, ``skipped``. The pure form, `init_state` and `stateless_apply`,
    and `get_updates` are not available.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer, its name, or its configuration.
    """

    keeper: ClassVar[type[Keeper]]

    many: ClassVar[bool] = True
    """Whether the inner optimizer may have many models."""

    inner: Any = _Inner(None, doc="The optimizer inside.")

    def _set(self, values: dict[str, Any]) -> None:
        refuse_base(type(self), "keeper", "arrayoptim.Lookahead")
        super()._set(values)
        self._keeper = self.keeper(master=False)
        self._keeper._given = {}

    # ---- stepping

    def init(self, params: Tree) -> None:
        """Create the state for a tree of parameters; `build` is an alias."""
        with self._lock:
            self.inner.init(params)
            self._keeper.init(params)

    build = init

    def apply(self, grads: Tree, params: Tree) -> Tree:
        """Take one step, or a part of one; see `Optimizer.apply`."""
        with self._lock:
            step = partial(self._advance, grads, params, 1.0)
            return carried_through(step, self._sessions(), params)

    def _sessions(self) -> Iterator[Session]:
        """Yield the sessions of the wrapper's own part and of the inner optimizer."""
        yield session_of(self._keeper)
        if isinstance(self.inner, Wrapper):
            yield from self.inner._sessions()
        elif isinstance(self.inner, Optimizer):
            yield session_of(self.inner)

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        """Carry out one call of `apply`.

        After an interruption it is called again from the start; see `Journal`.
        """
        raise NotImplementedError

    def _step_inside(self, journal: Journal, grads: Tree, params: Tree, unscale: float) -> Tree:
        """Step the inner optimizer."""
        if isinstance(self.inner, Wrapper):
            return self.inner._advance(grads, params, unscale, journal)
        if isinstance(self.inner, Optimizer):
            return journal.step(session_of(self.inner), grads, params, unscale)
        # A foreign optimizer cannot be resumed halfway: it counts as done once it returns.
        new = journal.once(self.inner._apply, grads, params, unscale)
        journal.begun = True
        return new

    def _keep(self, journal: Journal, grads: Tree, params: Tree, **given: float) -> Tree:
        """Step the wrapper's own part with the given coefficients."""
        self._keeper._given = given
        return journal.step(session_of(self._keeper), grads, params)

    def _copied(self) -> Callable[[], None]:
        """Return a function that restores the wrapper's own part after its arrays were written."""
        restore, state = session_of(self._keeper).snapshot(), self._own_state()
        copies = [{k: backend_of(x).copy(x) for k, x in own.items()} for own in state.slots]

        def put_back() -> None:
            restore()
            for own, before in zip(self._own_state().slots, copies, strict=True):
                for name, value in before.items():
                    if backend_of(own[name]).writable(own[name]):
                        backend_of(own[name]).store(own[name], value)

        return put_back

    def _counts(self) -> list[tuple[int, int]]:
        """Return the numbers of steps that the inner optimizer took and skipped."""
        states = [s.state for s in self._sessions()][1:]
        return [(int(s.iterations), int(s.skipped)) for s in states if s is not None]

    def _at(self, name: str, iterations: int) -> Any:
        """Return the value of a hyperparameter at a future step.

        A failing schedule must raise before anything has changed.
        """
        value = self._hyper[name]
        return (
            type(self).hyperparameters[name].at(value, iterations, {}) if callable(value) else value
        )

    def _number(self, name: str) -> float:
        session = session_of(self._keeper)
        if session.state is not None:
            return float(session.state.scalars[name])
        pending = session.pending
        loaded = {} if pending is None or isinstance(pending, list) else pending.scalars
        return float(loaded.get(name, self._keeper.initial_scalars()[name]))

    def _put_number(self, name: str, value: float) -> None:
        self._own_state().scalars[name] = value

    def _own_state(self) -> State:
        """Return the state of the wrapper's own part."""
        state = session_of(self._keeper).state
        assert state is not None
        return state

    def _moment(self) -> tuple[int, Mapping[str, Scalar]]:
        return self.iterations, {}

    def tell_loss(self, loss: Any) -> None:
        """Pass the loss of the next call's gradients; see `Optimizer.tell_loss`."""
        self.inner.tell_loss(loss)

    def _hear(self, value: Scalar) -> None:
        self.inner._hear(value)

    def averages(self, params: Tree) -> Tree:
        """Return the averages of the inner optimizer; see `Optimizer.averages`."""
        return self.inner.averages(params)

    # ---- attributes of the inner optimizer

    @property
    def _lock(self) -> Any:
        return self.inner._lock

    @property
    def built(self) -> bool:
        """Whether the state has been made."""
        return bool(self.inner.built and self._keeper.built)

    @property
    def iterations(self) -> int:
        """Steps that the inner optimizer has taken; may be set."""
        return int(self.inner.iterations)

    @iterations.setter
    def iterations(self, value: int) -> None:
        self.inner.iterations = value

    def __getattr__(self, name: str) -> Any:
        """Return a hyperparameter or another attribute of the inner optimizer."""
        if not name.startswith("_") and name not in self.hyperparameters:
            value = getattr(self.inner, name)
            if not callable(value):
                return value
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a hyperparameter of this wrapper or of the inner optimizer."""
        own = name.startswith("_") or hasattr(type(self), name)
        super().__setattr__(name, value) if own else setattr(self.inner, name, value)

    # ---- state

    def summary(self, params: Tree) -> Summary:
        """Return the state of the wrapper and of the inner optimizer; see `Optimizer.summary`."""
        own = self._keeper.summary(params)
        return joined(repr(self), own, self.inner.summary(params), prefix=INNER)

    def reset(self) -> None:
        """Discard all state; the hyperparameters stay."""
        self._keeper.reset()
        self.inner.reset()

    @property
    def weights(self) -> list[Any]:
        """The state's own arrays, in the order of `get_weights`; empty before `init`."""
        return [*self._keeper.weights, *self.inner.weights]

    def get_weights(self) -> list[np.ndarray]:
        """Return the state as host arrays: the wrapper's, then the inner optimizer's."""
        with self._lock:
            return [*self._keeper.get_weights(), *self.inner.get_weights()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the state with what `get_weights` returned.

        Parameters
        ----------
        weights : sequence of array
            As from `get_weights`.

        Raises
        ------
        ValueError
            Before `init`, or if the number of arrays, or the shape or kind of one, is wrong.
            Nothing has been changed.
        """
        with self._lock, self._unless_it_fails():
            if not self.built:
                raise ValueError(f"{self!r} has no state yet; call init(params) first")
            own = len(self._keeper.weights)
            self._keeper.set_weights(weights[:own])
            self.inner.set_weights(weights[own:])

    @contextmanager
    def _unless_it_fails(self) -> Iterator[None]:
        """Undo changes to the wrapper and everything inside it if the body raises."""
        before = [(s, dict(vars(s)), s.formula._hyper) for s in self._sessions()]
        own = self._hyper
        try:
            yield
        except BaseException:
            for session, state, hyper in before:
                vars(session).update(state)
                session.formula._hyper = hyper
            self._hyper = own
            raise

    def _record(self) -> Record:
        inner, own = self.inner._record(), self._keeper._record()
        numbers = {"iterations": inner.iterations or 0, "skipped": inner.skipped, **inner.scalars}
        paths = {**(own.paths or {}), **_prefixed(inner.paths or {})}
        return replace(
            own,
            class_name=type(self).__name__,
            config=self.get_config(),
            scalars={**own.scalars, **_prefixed(numbers)},
            slots={**own.slots, **_prefixed(inner.slots)},
            paths=paths,
        )

    def _load(self, record: Record, strict: bool, hyperparameters: bool) -> LoadReport:
        name, config = type(self).__name__, dict(record.config or {})
        with self._lock, self._unless_it_fails(), blaming(record):
            if record.class_name != name or not isinstance(config.get("inner"), Mapping):
                raise ValueError(
                    f"found the state of {record.class_name}, wanted {name}; arrayoptim.load() "
                    "makes the optimizer that a file describes"
                )
            inside = config.pop("inner")
            declared = {k: h for k, h in self.hyperparameters.items() if k != "inner"}
            found = {
                k: h.checked(config.get(k, h.default), type(self)) for k, h in declared.items()
            }
            own = replace(
                record,
                class_name=None,
                config=None,
                scalars=_without(record.scalars),
                slots=_without(record.slots),
                paths=_without(record.paths or {}),
            )
            scalars = _prefixed(record.scalars, back=True)
            count, skipped = scalars.pop("iterations", 0.0), scalars.pop("skipped", 0.0)
            inner = replace(
                own,
                class_name=inside["class_name"],
                config=dict(inside["config"]),
                iterations=int(count),
                skipped=int(skipped),
                scalars=scalars,
                slots=_prefixed(record.slots, back=True),
                paths=_prefixed(record.paths or {}, back=True),
                notes=list(record.notes),
            )
            first = self._keeper._load(own, strict, False)
            report = self.inner._load(inner, strict, hyperparameters)
            if hyperparameters:
                self._hyper = {**self._hyper, **found}
            for kind in ("restored", "missing", "unexpected", "misshapen"):
                names = [INNER + entry for entry in getattr(report, kind)]
                setattr(report, kind, [*getattr(first, kind), *names])
            return LoadReport(**vars(report))


def _prefixed(named: Mapping[str, Any], back: bool = False) -> dict[str, Any]:
    """Add the inner optimizer's prefix to names; `back` selects names with it and removes it."""
    if back:
        return {k.removeprefix(INNER): v for k, v in named.items() if k.startswith(INNER)}
    return {INNER + k: v for k, v in named.items()}


def _without(named: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in named.items() if not k.startswith(INNER)}
