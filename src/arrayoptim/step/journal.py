"""Several steps as one: all or none are taken, whatever interrupts the program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .._typing import Tree
from ..arrays.trees import flatten
from .session import Session, any_writable
from .take import Leaves

__all__ = ["Journal", "carried_through"]

Found = TypeVar("Found")

_TRIES = 100


class Journal:
    """The progress of several steps that belong together, so that the rest can follow.

    A function that is interrupted is called again, from its beginning. What it asked for with
    `once` and the steps that it took with `step` are not done a second time: they give what they
    gave. All else that it does must come to the same when it is done twice, as putting a number has
    that does not depend on what was there.

    Attributes
    ----------
    begun : bool
        Whether anything has changed, so that the rest has to follow.
    """

    def __init__(self) -> None:
        self.begun = False
        self._place = 0
        self._done: dict[int, Any] = {}

    def again(self) -> None:
        """Start from the beginning."""
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
        return params if all(map(operator.is_, new, leaves)) else structure.build(new)

    def _next(self) -> int:
        self._place += 1
        return self._place


def carried_through(
    function: Callable[[Journal], Found], sessions: Iterable[Session], params: Tree
) -> Found:
    """Call a function that takes steps; where it is interrupted between them, call it to its end.

    Where no parameter can be written the caller never sees those that it makes then, and the state
    is brought back to what it was.

    Parameters
    ----------
    function : callable
        It is given what it takes its steps with.
    sessions : iterable of Session
        The sessions that step.
    params : tree of arrays
        What they step.

    Returns
    -------
    object
        What the function gives.
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
        # Its traceback refers to this frame: a cycle, which would keep the optimizer alive.
        del raised
