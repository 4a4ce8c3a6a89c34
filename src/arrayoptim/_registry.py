"""The table of optimizer classes by name."""

from __future__ import annotations

from typing import Any, TypeVar

Class = TypeVar("Class", bound=type[Any])

ALIASES = {"learning_rate": "lr"}
"""Other names of hyperparameters."""

_CLASSES: dict[str, type[Any]] = {}
_WRAPPERS: dict[str, type[Any]] = {}


def register(cls: Class) -> Class:
    """Make a class known by its name to `get`, files, tests, documentation and benchmarks.

    Parameters
    ----------
    cls : type
        A subclass of `arrayoptim.Optimizer`.

    Returns
    -------
    type
        The same class, so that this serves as a decorator.

    Raises
    ------
    ValueError
        If another class of that name, in any case, is registered. A class from the same place
        replaces itself, as it does when a notebook cell is run again.
    """
    key = cls.__name__.lower()
    known = _CLASSES.get(key)
    place = (cls.__module__, cls.__qualname__)
    if known is not None and (known.__module__, known.__qualname__) != place:
        raise ValueError(
            f"an optimizer named {known.__name__!r} is registered already ({known.__module__}); "
            f"{cls.__module__}.{cls.__qualname__} needs another name"
        )
    _CLASSES[key] = cls
    return cls


def register_wrapper(cls: Class) -> Class:
    """Make a class known to `get` and to files that takes an optimizer: it is not in `names`."""
    _WRAPPERS[cls.__name__.lower()] = cls
    return cls


def names() -> list[str]:
    """Names of all registered optimizers, in alphabetical order."""
    return sorted(cls.__name__ for cls in _CLASSES.values())


def lookup(name: str) -> type[Any]:
    """Give the class registered under a name, in any case.

    Raises
    ------
    ValueError
        If there is none; the message names the nearest.
    """
    try:
        return (_WRAPPERS | _CLASSES)[name.lower()]
    except KeyError:
        raise ValueError(
            f"unknown optimizer {name!r}{nearest(name, names())}; known: {', '.join(names())}"
        ) from None


def nearest(word: str, words: list[str]) -> str:
    """Give ``", did you mean 'x'?"`` for a misspelt word, or nothing."""
    import difflib

    lower = {w.lower(): w for w in words}
    found = difflib.get_close_matches(word.lower(), list(lower), n=1)
    return f", did you mean {lower[found[0]]!r}?" if found else ""
