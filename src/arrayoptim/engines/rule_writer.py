"""Source lines that compute the values of a rule for matrices, in each engine's language."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from ..rules.symbols import Value

__all__ = ["Words", "Writer"]


class Words(ABC):
    """The language of an engine's source."""

    @abstractmethod
    def loaded(self, label: str, place: str) -> str:
        """Write the load of an entry.

        Parameters
        ----------
        label : str
            The label of the values: ``p``, ``g``, ``s0`` for a slot, ``v0`` for a value kept during
            a step; anything else is a number of the step.
        place : str
            Which entry to load: ``"i"`` for an element, ``"y"`` and ``"x"`` for a row and a column.
        """

    @abstractmethod
    def number(self, text: str) -> str:
        """Write a constant of the rule."""

    @abstractmethod
    def called(self, name: str, arguments: str) -> str:
        """Write the call of a function of ``xp``."""

    @abstractmethod
    def named(self, name: str, text: str) -> str:
        """Write the definition of a variable."""


class Writer:
    """Writes the lines that compute values, each once, in the innermost loop that it needs.

    Parameters
    ----------
    words : Words
        The language.
    inputs : mapping of str to str
        The labels of the rule's inputs.
    kept : mapping of Value to str
        The kept values, with their labels.
    numbers : iterator of int
        Numbers for variable names.
    within : bool
        Whether per-column values are recomputed for each element.

    Attributes
    ----------
    lines : dict of str to list of str
        The lines for one entry, and for each row, column and element.
    """

    def __init__(
        self,
        words: Words,
        inputs: Mapping[str, str],
        kept: Mapping[Value, str],
        numbers: Iterator[int],
        within: bool = False,
    ) -> None:
        self.lines: dict[str, list[str]] = {"one": [], "rows": [], "columns": [], "full": []}
        if within:
            self.lines["columns"] = self.lines["full"]
        self._words, self._inputs, self._kept, self._numbers = words, inputs, kept, numbers
        self._names: dict[Value, str] = {}

    def name(self, value: Value) -> str:
        """Return the name of a variable with a value."""
        if value.op == "view":
            return self.name(value.args[0])
        if value not in self._names:
            text = self._text(value)
            if text.isidentifier():
                return text
            name = f"x{next(self._numbers)}"
            self.lines[value.space].append(self._words.named(name, text))
            self._names[value] = name
        return self._names[value]

    def _text(self, value: Value) -> str:
        place = {"one": "0", "rows": "y", "columns": "x", "full": "i"}[value.space]
        if value in self._kept:
            return self._words.loaded(self._kept[value], place)
        if value.op == "number":
            return self._words.number(value.name)
        if value.op == "input":
            return self._words.loaded(self._inputs[value.name], place)
        names = [self.name(each) for each in value.args]
        if value.op.isidentifier():
            return self._words.called(value.op, ", ".join(names))
        return f" {value.op} ".join(names) if len(names) > 1 else f"{value.op}{names[0]}"
