"""The text of a kernel that computes per-step scalars as a formula's coefficients do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...rules.scalars import Symbol
from .program import Program, named
from .sums import SUMS

__all__ = ["Written", "derived_program", "written"]

_SIGNS = {"&": "&&", "|": "||"}


@dataclass
class Written:
    """What a kernel computes.

    Attributes
    ----------
    lines : list of str
        Statements that compute scalars out of ``totals``, ``state`` and ``given``.
    given : list of float
        What the host gives.
    results : list of str
        Names of the scalars that other tables want.
    targets : list of (numpy.ndarray of int, Symbol)
        The addresses at which each of them is wanted.
    state : dict of int to str
        What becomes of entries of the state.
    runs : tuple of int
        How many totals there are, and how many of them, the first ones, are norms.
    """

    lines: list[str]
    given: list[float]
    results: list[str]
    targets: Sequence[tuple[Any, Symbol]]
    state: dict[int, str]
    runs: tuple[int, int]

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """What differs between kernels."""
        state = tuple(self.state.items())
        return tuple(self.lines), tuple(self.results), state, self.runs

    @cached_property
    def tables(self) -> tuple[Any, Any]:
        """What the host gives; how many targets there are, then the address and scalar of each."""
        at = np.concatenate([np.zeros(0, np.int64), *(where for where, _ in self.targets)])
        which = np.repeat(np.arange(len(self.targets)), [len(x) for x, _ in self.targets])
        told = np.concatenate([[len(at)], np.stack([at, which], axis=1).reshape(-1)])
        return np.array([*self.given, 0.0]), told.astype(np.int64)


def written(
    targets: Sequence[tuple[Any, Symbol]],
    state: Mapping[int, Any],
    places: Mapping[Any, str],
    runs: tuple[int, int],
) -> Written:
    """Write the statements that compute scalars, each once.

    Parameters
    ----------
    targets : sequence of (numpy.ndarray of int, Symbol)
        Scalars, and the addresses at which each is wanted.
    state : mapping of int to Symbol or float
        What becomes of entries of the state.
    places : mapping of tuple to str
        Where the inputs of symbols stand.
    runs : tuple of int
        See `Written`.
    """
    lines: list[str] = []
    given: list[float] = []
    names: dict[Symbol, str] = {}

    def name(value: Any) -> str:
        if type(value) is not Symbol:
            given.append(float(value))
            return f"given[{len(given) - 1}]"
        if value not in names:
            text = f"(double){places[value.args]}" if value.op == "input" else computed(value)
            names[value] = f"x{len(names)}"
            lines.append(f"const auto {names[value]} = {text};")
        return names[value]

    def computed(value: Symbol) -> str:
        args = [name(each) for each in value.args]
        if value.op.isidentifier():
            return f"xp_{value.op}({', '.join(args)})"
        sign = _SIGNS.get(value.op, value.op)
        return f" {sign} ".join(args) if len(args) > 1 else f"{sign}{args[0]}"

    results = [name(symbol) for _, symbol in targets]
    after = {k: name(value) for k, value in state.items()}
    return Written(lines, given, results, targets, after, runs)


def derived_program(text: Written) -> Program:
    """Write the kernel, which one block carries out.

    Parameters
    ----------
    text : Written
        What it computes.
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
        # The first number says how many pairs follow: an address, and which result belongs there.
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
