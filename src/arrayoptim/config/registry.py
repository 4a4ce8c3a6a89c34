"""Registries of optimizer and schedule classes by name; schedules as configurations."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from .._locks import IMPORTING

Class = TypeVar("Class", bound=type[Any])

ALIASES = {"learning_rate": "lr"}
"""Aliases of hyperparameters."""


class Registry:
    """Classes of one kind by case-insensitive name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[Any]] = {}
        self._expected: dict[str, str] = {}

    def expect(self, modules: Mapping[str, str]) -> None:
        """Record which modules register classes when imported, by the classes' lower-case names."""
        self._expected.update(modules)

    def _found(self, key: str, asking: str = "") -> type[Any] | None:
        """Return the class with a lower-case name; import its module, unless that is the caller."""
        module = self._expected.get(key)
        if key not in self._classes and module and not asking.startswith(module):
            with IMPORTING:
                import_module(module)
        return self._classes.get(key)

    def register(self, cls: Class) -> Class:
        """Add a class and return it; a redefinition in the same place replaces the old class."""
        key = cls.__name__.lower()
        known = self._found(key, asking=cls.__module__)
        place = (cls.__module__, cls.__qualname__)
        if known is not None and (known.__module__, known.__qualname__) != place:
            raise ValueError(
                f"{self.kind} named {known.__name__!r} is already registered "
                f"({known.__module__}); {cls.__module__}.{cls.__qualname__} needs another name"
            )
        self._classes[key] = cls
        return cls

    def names(self) -> list[str]:
        """Return all names in alphabetical order."""
        for key in self._expected:
            self._found(key)
        return sorted(cls.__name__ for cls in self._classes.values())

    def lookup(self, name: str) -> type[Any]:
        """Return the class with that name; otherwise raise an error that suggests the nearest."""
        if not isinstance(name, str):
            raise ValueError(f"found {name!r}, wanted the name of {self.kind}")
        found = self._found(name.lower())
        if found is None:
            names = self.names()
            raise ValueError(
                f"unknown {self.kind.split()[-1]} {name!r}{nearest(name, names)}; "
                f"known: {', '.join(names)}"
            )
        return found

    def holds(self, cls: type[Any]) -> bool:
        """Whether this class itself is registered."""
        return self._classes.get(cls.__name__.lower()) is cls

    def knows(self, name: Any) -> bool:
        """Whether a class with that name is registered."""
        return isinstance(name, str) and (
            name.lower() in self._classes or name.lower() in self._expected
        )


def refuse_base(cls: type[Any], attribute: str, instead: str) -> None:
    """Refuse to instantiate an abstract base, which lacks an attribute that its subclasses have.

    Raises
    ------
    TypeError
        If the class has no such attribute.
    """
    if not hasattr(cls, attribute):
        raise TypeError(f"{cls.__name__} is an abstract base; use a subclass, such as {instead}")


def require_one_model(optimizer: Any, where: str, reason: str) -> None:
    """Refuse an optimizer of many models.

    Raises
    ------
    ValueError
        If its ``models`` is set.
    """
    if getattr(optimizer, "models", None) is not None:
        raise ValueError(
            f"{where}: found {optimizer!r}, wanted an optimizer of one model; {reason}"
        )


OPTIMIZERS = Registry("an optimizer")
SCHEDULES = Registry("a schedule")
CONSTRAINTS = Registry("a constraint")
WRAPPERS = Registry("an optimizer")


DEEPEST = 100
"""Greatest nesting depth of dicts and lists in a configuration."""


def refuse_nested(found: Any, what: str) -> None:
    """Refuse a configuration that is nested too deeply for recursion.

    Raises
    ------
    ValueError
        If it is nested too deeply.
    """
    level = [found]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                inner += item.values()
            elif isinstance(item, list | tuple):
                inner += item
        if not inner:
            return
        # Shared objects are visited once per level: there may be 2**100 paths to one.
        level = list({id(item): item for item in inner}.values())
    raise ValueError(f"{what}: found dicts and lists nested {DEEPEST} deep or more, wanted less")


def register(cls: Class) -> Class:
    """Register a class by name for `get`, files, tests, documentation and benchmarks.

    Parameters
    ----------
    cls : type
        A subclass of `arrayoptim.Optimizer`.

    Returns
    -------
    type
        The same class, so this can be used as a decorator.

    Raises
    ------
    ValueError
        If another class is registered under that name, in any case. A class from the same place
        is replaced, as when a notebook cell is run again.
    """
    return OPTIMIZERS.register(cls)


def register_wrapper(cls: Class) -> Class:
    """Register a wrapper class by name for `get` and files; `names` does not list it."""
    return WRAPPERS.register(cls)


def names() -> list[str]:
    """Return the names of all registered optimizers, in alphabetical order."""
    return OPTIMIZERS.names()


def lookup(name: str) -> type[Any]:
    """Return the class registered under a name, in any case.

    Raises
    ------
    ValueError
        If there is none; the message suggests the nearest name.
    """
    return (WRAPPERS if WRAPPERS.knows(name) else OPTIMIZERS).lookup(name)


def described(value: Any) -> dict[str, Any]:
    """Return the class name and configuration of an optimizer, wrapper or schedule."""
    return {"class_name": type(value).__name__, "config": value.get_config()}


def made(found: Any) -> Any:
    """Return the optimizer made from a name or configuration; anything else unchanged."""
    if isinstance(found, str):
        return lookup(found).from_config({})
    if isinstance(found, Mapping) and {"class_name", "config"} <= set(found):
        refuse_nested(found, "a configuration")
        return lookup(found["class_name"]).from_config(found["config"])
    return found


def describe(value: Any) -> Any:
    """Return the class name and configuration of a registered schedule or constraint."""
    if isinstance(value, tuple) and hasattr(value, "get_config"):
        return value.get_config()  # one value per model
    known = SCHEDULES.holds(type(value)) or CONSTRAINTS.holds(type(value))
    return described(value) if known else value


def revive(found: Any, what: str, registry: Registry = SCHEDULES) -> Any:
    """Return the schedule made from a description by `describe` or Keras; anything else unchanged.

    Raises
    ------
    TypeError
        If it is a dict that is not such a description.
    ValueError
        If the class is not registered.
    """
    if not isinstance(found, Mapping):
        return found
    if not isinstance(found.get("class_name"), str) or not isinstance(found.get("config"), Mapping):
        raise TypeError(
            f'{what}: found {found!r}; a dict must be {{"class_name": ..., "config": {{...}}}} of '
            f"{registry.kind}"
        )
    refuse_nested(found, what)
    return registry.lookup(found["class_name"]).from_config(dict(found["config"]))


def revivable(found: Any) -> bool:
    """Whether a description of a schedule or constraint names registered classes only."""
    if isinstance(found, Mapping):
        if not isinstance(found.get("config"), Mapping):
            return False
        inner = [v for v in found["config"].values() if isinstance(v, Mapping | list)]
        known = any(kind.knows(found.get("class_name")) for kind in (SCHEDULES, CONSTRAINTS))
        return known and all(map(revivable, inner))
    return not isinstance(found, list) or all(map(revivable, found))


def mistyped(word: str, words: list[str]) -> str:
    """Return the result of `nearest`, if at most two letters of the word are wrong."""
    # No word is a misspelling of a one-letter name.
    longer = [name for name in words if len(name) > 1]
    return nearest(word, longer, most=max(1, len(word) // 4))


def nearest(word: str, words: list[str], most: int | None = None) -> str:
    """Return ``", did you mean 'x'?"``, or ``""`` if no word is within `most` edits."""
    import difflib

    lower = {w.lower(): w for w in words}
    found = difflib.get_close_matches(word.lower(), list(lower), n=5)
    edits = {near: _edits(word.lower(), near) for near in found}

    def rank(near: str) -> tuple[bool, int]:
        # An abbreviation of a name is not a misspelling, unless it is one letter from another name.
        return edits[near] > 1 and not near.startswith(word.lower()), edits[near]

    best = min(edits, key=rank, default=None)
    if best is None or (most is not None and edits[best] > most):
        return ""
    return f", did you mean {lower[best]!r}?"


def _edits(a: str, b: str) -> int:
    """Return the edit distance, with insertions, deletions, substitutions and transpositions."""
    last, before, row = [0], [0], list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
            if i > 1 and j > 1 and (x, y) == (b[j - 2], a[i - 2]):
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]
