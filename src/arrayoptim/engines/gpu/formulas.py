"""The source of a kernel that computes per-step scalars from a formula's symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...numerics.formulas import CONDITIONS, Number, number, ordered
from .program import Program, named
from .sums import SUMS

__all__ = ["FormulaWriter", "Written", "derived_program", "literal", "written"]

_OWN = frozenset({"abs", "copysign", "maximum", "minimum", "sign", "sqrt", "square", "where"})
"""Functions that the prelude of every kernel defines; the others are the compiler's."""

_LITERALS = {"inf": "1.0 / 0.0", "-inf": "-1.0 / 0.0", "nan": "0.0 / 0.0"}

_TEXTS = {
    **{op: f"({{0}} {op} {{1}})" for op in (*"+-*/", "<", "<=", ">", ">=", "==", "!=")},
    "&": "({0} && {1})",
    "|": "({0} || {1})",
    "not": "(!{0})",
    "neg": "(-{0})",
    "**": "pow({0}, {1})",
    "%": "modulo({0}, {1})",
    "//": "floor(({0} - modulo({0}, {1})) / {1})",
    "float32": "(double)(float){0}",
}


class FormulaWriter:
    """Writes formulas in C++, computing each subexpression once.

    Parameters
    ----------
    leaf : callable
        Writes an input of a formula.
    plain : tuple of str
        Operators whose results need no variable.

    Attributes
    ----------
    texts : dict of object to str
        The expression for each symbol computed so far, by its key.
    """

    def __init__(self, leaf: Callable[[Number], str], plain: tuple[str, ...]) -> None:
        self._leaf, self._plain = leaf, plain
        self.texts: dict[object, str] = {}

    def branch(self) -> FormulaWriter:
        """Return a copy of the writer as it is, for the inside of a branch."""
        found = FormulaWriter(self._leaf, self._plain)
        found.texts = dict(self.texts)
        return found

    def computed(self, values: Iterable[Number]) -> list[str]:
        """Return the statements that compute symbols, and enter their names in `texts`."""
        lines = []
        for value in ordered(values):
            if value.key in self.texts:
                continue
            text = self._text(value)
            if value.op not in self._plain:
                name = f"x{len(self.texts)}"
                kind = "bool" if value.op in CONDITIONS else "double"
                lines.append(f"const {kind} {name} = {text};")
                text = name
            self.texts[value.key] = text
        return lines

    def _text(self, value: Number) -> str:
        if value.op in ("number", "state", "total", "input"):
            return self._leaf(value)
        arguments = [self.texts[each.key] for each in value.args]
        if value.op in _TEXTS:
            return _TEXTS[value.op].format(*arguments)
        return f"{'xp_' if value.op in _OWN else ''}{value.op}({', '.join(arguments)})"


def literal(value: Number) -> str:
    """Write a number known when the kernel is generated."""
    return f"({_LITERALS.get(value.name, value.name)})"


@dataclass
class Written:
    """The statements of a kernel of scalars, and its inputs and outputs.

    Attributes
    ----------
    lines : list of str
        Statements that compute scalars from ``totals``, ``state`` and ``given``.
    given : list of float
        The numbers that the host passes.
    results : list of str
        Names of the scalars to be written to other tables.
    targets : list of (numpy.ndarray of int, Number)
        The addresses to which each of them is written.
    state : dict of int to str
        New values for entries of the state.
    runs : tuple of int
        The number of totals, and how many of them, which come first, are norms.
    """

    lines: list[str]
    given: list[float]
    results: list[str]
    targets: Sequence[tuple[Any, Number]]
    state: dict[int, str]
    runs: tuple[int, int]

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """All that the kernel's source depends on."""
        state = tuple(self.state.items())
        return tuple(self.lines), tuple(self.results), state, self.runs

    @cached_property
    def tables(self) -> tuple[Any, Any]:
        """The host's numbers; the number of targets, then the address and index of each."""
        at = np.concatenate([np.zeros(0, np.int64), *(where for where, _ in self.targets)])
        which = np.repeat(np.arange(len(self.targets)), [len(x) for x, _ in self.targets])
        told = np.concatenate([[len(at)], np.stack([at, which], axis=1).reshape(-1)])
        return np.array([*self.given, 0.0]), told.astype(np.int64)


def written(
    targets: Sequence[tuple[Any, Number]],
    state: Mapping[int, Any],
    places: Mapping[Any, str],
    runs: tuple[int, int],
) -> Written:
    """Write the statements that compute scalars, each subexpression once.

    Parameters
    ----------
    targets : sequence of (numpy.ndarray of int, Number)
        Scalars, and the addresses to which each is written.
    state : mapping of int to Number or float
        New values for entries of the state.
    places : mapping of tuple to str
        The expressions for inputs: totals and scalar state.
    runs : tuple of int
        See `Written`.
    """
    given: list[float] = []

    def leaf(value: Number) -> str:
        if value.op != "number":
            return places[value.op, value.name]
        given.append(float(value.name))
        return f"given[{len(given) - 1}]"

    writer = FormulaWriter(leaf, plain=("number",))
    symbols = [symbol for _, symbol in targets]
    after = {k: number(value) for k, value in state.items()}
    lines = writer.computed([*symbols, *after.values()])
    results = [writer.texts[symbol.key] for symbol in symbols]
    put = {k: writer.texts[value.key] for k, value in after.items()}
    return Written(lines, given, results, targets, put, runs)


def derived_program(text: Written) -> Program:
    """Write the kernel, which is launched with one block.

    Parameters
    ----------
    text : Written
        Its statements, inputs and outputs.
    """
    (runs, norms), count = text.runs, max(len(text.results), 1)
    gathered = [
        "EACH_THREAD(u) {",
        "    for (whole j = u; j < count; j += THREADS) {",
        "        const double x = *(const double *)sources[j];",
        "        const double norm = xp_sqrt(x);",
        f"        work[j] = j < first[{norms}] ? norm * norm : x;",
        "    }",
        "}",
        f"sum_runs(room, work, count, first, {runs}, totals);",
    ]
    body = [
        "__shared__ Room room;",
        f"__shared__ double totals[{max(runs, 1)}], results[{count}];",
        *(gathered if runs else []),
        "EACH_THREAD(u) {",
        "    if (u == 0) {",
        *(f"        totals[{k}] = xp_sqrt(totals[{k}]);" for k in range(norms)),
        *(f"        {line}" for line in text.lines),
        *(f"        results[{k}] = {name};" for k, name in enumerate(text.results)),
        *(f"        state[{k}] = {name};" for k, name in text.state.items()),
        "    }",
        "}",
        "__syncthreads();",
        # The first entry is the number of pairs that follow: an address, and the index of a result.
        "EACH_THREAD(u) {",
        "    for (whole j = u; j < targets[0]; j += THREADS)",
        "        *(double *)targets[1 + 2 * j] = results[targets[2 + 2 * j]];",
        "}",
    ]
    kernel = [
        "KERNEL @NAME@(",
        "    const whole *sources, const whole *first, double *work, whole count,",
        "    const double *given, double *state, const whole *targets) {",
        *(f"    {line}" for line in body),
        "}",
    ]
    return named("derived", [SUMS, "\n".join(kernel)])
