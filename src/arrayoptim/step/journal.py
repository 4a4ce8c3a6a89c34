"""Several steps as one transaction: all or none are taken, even under KeyboardInterrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .._typing import Tree
from ..arrays.identity import same_objects
from ..arrays.trees import flatten
from .session import Session, any_writable
from .take import Leaves

__all__ = ["Journal", "carried_through"]

Found = TypeVar("Found")

_TRIES = 100


class Journal:
    """The progress of a transaction of steps, so that it can be completed after an interrupt.

    An interrupted function is called again from its beginning. Calls through `once` and steps
    through `step` are not repeated: they return the recorded results. Everything else that the
    function does must be idempotent, such as assigning a number that does not depend on the
    previous one.

    Attributes
    ----------
    begun : bool
        Whether anything has changed, so that the transaction must be completed.
    """

    def __init__(self) -> None:
        self.begun = False
        self._place = 0
        self._done: dict[int, Any] = {}

    def again(self) -> None:
        """Rewind to the beginning."""
        self._place = 0

    def once(self, ask: Callable[..., Found], *args: Any) -> Found:
        """Return the result of a function without side effects; the same one when called again."""
        place = self._next()
        if place not in self._done:
            self._done[place] = ask(*args)
        found: Found = self._done[place]
        return found

    def step(self, session: Session, grads: Tree, params: Tree, unscale: float = 1.0) -> Tree:
        """Take a step, unless it was taken before; see `Session.step`."""
        place = self._next()
        if place not in self._done:

            def note(leaves: Leaves) -> None:
                self._done[place], self.begun = leaves, True

            return session.step(grads, params, unscale, note)
        new, (leaves, structure) = self._done[place], flatten(params)
        return params if same_objects(new, leaves) else structure.build(new)

    def _next(self) -> int:
        self._place += 1
        return self._place


def carried_through(
    function: Callable[[Journal], Found], sessions: Iterable[Session], params: Tree
) -> Found:
    """Call a function that takes steps; if it is interrupted between them, run it to completion.

    If no parameter can be written in place, the caller never sees the new ones, so the state is
    rolled back instead.

    Parameters
    ----------
    function : callable
        Called with the journal through which it takes its steps.
    sessions : iterable of Session
        The sessions that step.
    params : tree of arrays
        The parameters that they step.

    Returns
    -------
    object
        The function's result.
    """
    journal, tries, sessions = Journal(), 0, list(sessions)
    raised: BaseException | None = None
    try:
        restores = [] if any_writable(flatten(params)[0]) else [s.snapshot() for s in sessions]
        while True:
            try:
                found = function(journal)
                break
            except BaseException as error:
                for restore in restores:
                    restore()
                if restores:
                    raise
                raised, tries = raised or error, tries + 1
                fails = isinstance(error, Exception) and tries > 1
                if not journal.begun or fails or tries > _TRIES:
                    raise raised from None
                journal.again()
        for session in sessions:
            session.told_before = None
        if raised is not None:
            raise raised
        return found
    except BaseException:
        for session in sessions:
            session.untell()
        raise
    finally:
        # Its traceback refers to this frame: a reference cycle that would keep the optimizer alive.
        del raised
