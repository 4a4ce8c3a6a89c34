"""The lines that compute what a rule for matrices computes, in the words of each engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from ..rules.symbols import Value

__all__ = ["Words", "Writer"]


class Words(ABC):
    """The language of an engine's text."""

    @abstractmethod
    def loaded(self, label: str, place: str) -> str:
        """Write how an entry is read.

        Parameters
        ----------
        label : str
            What the values are called: ``p``, ``g``, ``s0`` for a slot, ``v0`` for what is kept
            during a step; something else for a number of the step.
        place : str
            Which entry it is: ``"i"`` for an element, ``"y"`` and ``"x"`` for a row and a column.
        """

    @abstractmethod
    def number(self, text: str) -> str:
        """Write a number of the rule's own."""

    @abstractmethod
    def called(self, name: str, arguments: str) -> str:
        """Write the call of a function of ``xp``."""

    @abstractmethod
    def named(self, name: str, text: str) -> str:
        """Write how a variable is made."""


class Writer:
    """Writes the lines that compute values, each once, in the innermost loop that it needs.

    Parameters
    ----------
    words : Words
        The language.
    inputs : mapping of str to str
        What the rule's inputs are called.
    kept : mapping of Value to str
        What is kept, with its labels.
    numbers : iterator of int
        Numbers for names of variables.
    within : bool
        Whether what has an entry for each column is computed anew for each element.

    Attributes
    ----------
    lines : dict of str to list of str
        The lines for one entry, for each row, each column and each element.
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
        """Return the name of a variable that holds a value."""
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
