"""Errors where a class stands in place of another library's: caught as its, with its words."""

from __future__ import annotations

from typing import Any


def both(ours: BaseException, theirs: BaseException, library: str = "") -> Exception:
    """Return an error which is caught as either of two.

    Parameters
    ----------
    ours, theirs : exception
        What this library's class raised, and what the other library's did.
    library : str
        The name of the other, whose message is added to ours. Without it the message is theirs.
    """
    text = f"{ours} ({library}: {theirs})" if library else str(theirs)
    return _kind(_plain(type(ours)), _plain(type(theirs)))(text)


def _plain(kind: Any) -> type[Exception]:
    """Return the built-in type that an exception is one of; others take other arguments."""
    found: type[Exception] = next(x for x in kind.__mro__ if x.__module__ == "builtins")
    return found


def _kind(ours: type[Exception], theirs: type[Exception]) -> type[Exception]:
    if issubclass(ours, theirs):
        return ours
    if issubclass(theirs, ours):
        return theirs
    return type("RefusedError", (ours, theirs), {"__module__": __name__})
