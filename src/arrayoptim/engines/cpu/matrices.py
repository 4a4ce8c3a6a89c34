"""The source of the passes of a rule for matrices: tiles of elements, then rows and columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ...arrays.backend import ITEMSIZE
from ...numerics.rounding import GROUP
from ...numerics.sums import WIDTH
from ...rules import stages as _stages
from ...rules.stages import SWEPT
from ...rules.symbols import REDUCTIONS, Value
from ..passes import Passes
from ..rule_writer import Words, Writer
from .source import Program, framed
from .sweep import AFTER, BEFORE, CONSTRAIN, FUNCTIONS, head, load_line

__all__ = ["LINES", "TILE", "matrix_programs"]

LINES = ("height", "width", "down", "across")
"""The first columns of the table of rows and columns: a tensor's size, in elements and in tiles.
They are followed by the addresses of kept values, and of the tiles' contributions to totals."""

TILE = ("t", "top", "bottom", "left", "right", "y_tile", "x_tile")
"""The columns of the table of tiles: tensor, rows and columns, the tile's index among tiles."""


def matrix_programs(
    plan: Passes, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
) -> list[Program]:
    """Write the passes of a step: alternately over tiles, and over rows and columns.

    Parameters
    ----------
    plan : Passes
        The passes.
    stages : sequence of str
        The stages to compile in, of `SWEPT`.
    streams : sequence of (str, str)
        As for `arrayoptim.engines.cpu.sweep.sweep_program`.
    compute : str
        The compute dtype.

    Returns
    -------
    list of Program
        The programs of `Passes.turns`, which take the same numbers. A chunk of those over elements
        is a tile, as `TILE` has it; of the others, a tensor.
    """
    text = _Text(plan, stages, streams, ITEMSIZE[compute])
    more = [(f"v{k}", compute) for k in range(len(plan.kept))]
    more += [(f"q{k}", "float64") for k in range(len(plan.totals))]
    more += [(f"w{k}", compute) for k in range(len(plan.totals))]
    names = [name for stage in text.used for name in FUNCTIONS.get(stage, (stage,))]
    functions = tuple((name, getattr(_stages, name)) for name in names)
    programs = []
    for turn, whole in plan.turns:
        lines = text.tiles(turn) if whole else text.between(turn)
        source = framed(lines, TILE if whole else ("t",))
        programs.append(Program(source, functions, (*streams, *more), compute))
    return programs


class _Text:
    """The source lines of a step's passes."""

    def __init__(
        self, plan: Passes, stages: Sequence[str], streams: Sequence[tuple[str, str]], item: int
    ) -> None:
        self._plan, self._streams, self._item = plan, streams, item
        self.used = [stage for stage in SWEPT if stage in stages]
        numbers = plan.rule.coefficients
        self._scalars = [f"c{k}" for k in range(len(numbers))]
        self._scalars += [name for stage in self.used for name in SWEPT[stage]]
        self._inputs = {name: f"c{k}" for k, name in enumerate(numbers)} | {"p": "p", "g": "g"}
        self._inputs |= {slot.name: f"s{k}" for k, slot in enumerate(plan.slots)}
        # Numba requires that a variable has a single type.
        self._numbers = itertools.count()
        self._kept = {value: f"v{k}" for k, value in enumerate(plan.kept)}
        self._parts = {value: f"q{k}" for k, value in enumerate(plan.totals)}

    def tiles(self, turn: int) -> list[str]:
        """Return the lines of a pass over the elements of a tile."""
        totals = self._plan.totals_of(turn)
        down = [v for v in totals if v.space == "columns"]
        across = [v for v in totals if v.space != "columns"]
        writer = Writer(_Words(), self._inputs, self._kept, self._numbers, within=True)
        last = [self._added(v, writer.name(v.args[0])) for v in totals]
        last += self._stored(writer) if turn == self._plan.count else []
        before = [*map(load_line, "pg"), *(BEFORE[s] for s in self.used if s in BEFORE)]
        element = ["i = base + x", *before, *writer.lines["full"], *last]
        strip = [
            f"end = min(strip + {GROUP}, right)",
            *_over("x", "strip, end", element),
            *(
                f"{_ADDERS[v.op]}_{w}(l_{w}, {w}, end - strip)"
                for v in across
                for w in [self._room(v)]
            ),
        ]
        row = ["base = y * width", *writer.lines["rows"]]
        row += [
            f"{w}, l_{w} = scratch(0), {_LANES[v.op]}(0)" for v in across for w in [self._room(v)]
        ]
        row += _over("strip", f"left, right, {GROUP}", strip)
        row += [
            f"poke_double(a_{self._parts[v]}, y, {_TOTALS[v.op]}(l_{self._room(v)}))"
            for v in across
        ]
        body = [f"a_{self._parts[v]} += 8 * width * y_tile" for v in down]
        body += [f"a_{self._parts[v]} += 8 * height * x_tile" for v in across]
        clear = [f"poke_double(a_{self._parts[v]}, x, {_FIRST[v.op]})" for v in down]
        body += _over("x", "left, right", clear) if clear else []
        body += [*writer.lines["one"], *_over("y", "top, bottom", row)]
        return [*self._head(), "if a_g:", *_indented(body)]

    def between(self, turn: int) -> list[str]:
        """Return the lines of a pass over the rows and columns of a tensor."""
        body = [line for v in self._plan.totals_of(turn) for line in self._gathered(v)]
        body += [line for v in self._plan.kept_of(turn) for line in self._computed(v)]
        for slot, value in self._plan.written_of(turn):
            body += self._put(self._inputs[slot.name], value, self._writer())
        return [*self._head(), "if a_g and height * width:", *_indented(body)]

    def _head(self) -> list[str]:
        addresses = [f"a_{name}" for name in (*self._kept.values(), *self._parts.values())]
        told = (*LINES, *addresses)
        fetched = (f"{name} = peek(lines, {len(told)} * t + {k})" for k, name in enumerate(told))
        return [*head(self._streams, self._scalars), *fetched]

    def _room(self, value: Value) -> str:
        return self._parts[value].replace("q", "w")

    def _added(self, value: Value, name: str) -> str:
        """Return the line that adds an element to a total."""
        part = self._parts[value]
        if value.space == "columns":
            return f"{_JOINED[value.op]}_{part}(a_{part}, x, double({name}))"
        room = self._room(value)
        return f"store_{room}({room}, x - strip, {name})"

    def _stored(self, writer: Writer) -> list[str]:
        """Return the lines that store an element's parameter and slots."""
        full = [
            (self._inputs[slot.name], writer.name(value))
            for slot, value in zip(self._plan.slots, self._plan.results[1:], strict=True)
            if value.space == "full" and value is not slot
        ]
        # The old value of a slot may be the new value of another.
        lines = [f"n_{slot} = {name}" for slot, name in full]
        return [
            *lines,
            *(["q = p"] * _stages.recalled(self.used)),
            f"p = {writer.name(self._plan.results[0])}",
            *(CONSTRAIN[stage] for stage in self.used if stage in CONSTRAIN),
            "store_p(a_p, i, p)",
            *(f"store_{slot}(a_{slot}, i, n_{slot})" for slot, _ in full),
            *(AFTER[stage] for stage in self.used if stage in AFTER),
        ]

    def _writer(self, defined: Value | None = None) -> Writer:
        kept = {v: k for v, k in self._kept.items() if v is not defined}
        return Writer(_Words(), self._inputs, kept, self._numbers)

    def _gathered(self, value: Value) -> list[str]:
        """Return the lines that reduce the tiles' contributions to a total, in a fixed order."""
        part, (index, length) = self._parts[value], _LOOPS[_along(value)]
        more = f"peek_double(a_{part}, tile * {length} + {index})"
        line = f"{_JOINED[value.op]}_{part}(a_{part}, {index}, {more})"
        tiles = "down" if index == "x" else "across"
        return _over("tile", f"1, {tiles}", _over(index, length, [line]))

    def _computed(self, value: Value) -> list[str]:
        """Return the lines that compute kept values."""
        part = self._parts.get(value)
        if part is not None:
            index, length = _LOOPS[_along(value)]
            number = f"peek_double(a_{part}, {index})"
            if value.space == "one":
                return self._folded(value, number, "height * width", "rows", [])
            size = "height" if index == "x" else "width"
            kept, number = self._kept[value], _share(value, number, size)
            line = f"store_{kept}(a_{kept}, {index}, {number})"
            return _over(index, length, [line])
        if value.op not in REDUCTIONS:
            return self._put(self._kept[value], value, self._writer(value))
        (each,) = value.args
        while each.op == "view":
            (each,) = each.args
        if value.op != "max":
            return self._summed(value, each)
        writer = self._writer(value)
        number = f"double({writer.name(each)})"
        lines = self._folded(value, number, "1", each.space, writer.lines[each.space])
        return [*writer.lines["one"], *lines]

    def _summed(self, value: Value, line: Value) -> list[str]:
        """Return the lines that sum a vector in memory in the same order as rows of elements."""
        length, kept = _LOOPS[line.space][1], self._kept[value]
        name = self._kept.get(line) or self._inputs[line.name]
        count = f"min({WIDTH}, {length} - strip)"
        part = [
            "l_part = lanes(0)",
            f"add_values_{name}(l_part, a_{name} + {self._item} * strip, {count})",
            "total = total + lanes_total(l_part)",
        ]
        return [
            "total = 0.0",
            *_over("strip", f"0, {length}, {WIDTH}", part),
            f"store_{kept}(a_{kept}, 0, {_share(value, 'total', length)})",
        ]

    def _folded(
        self, value: Value, number: str, size: str, space: str, lines: Sequence[str]
    ) -> list[str]:
        """Return the lines that reduce per-row or per-column numbers sequentially."""
        (index, length), kept = _LOOPS[space], self._kept[value]
        join = "xp.maximum(total, number)" if value.op == "max" else "total + number"
        return [
            f"total = {_FIRST[value.op]}",
            *_over(index, length, [*lines, f"number = {number}", f"total = {join}"]),
            f"store_{kept}(a_{kept}, 0, {_share(value, 'total', size)})",
        ]

    def _put(self, target: str, value: Value, writer: Writer) -> list[str]:
        """Return the lines that write a per-row or per-column value."""
        name = writer.name(value)
        if value.space == "one":
            return [*writer.lines["one"], f"store_{target}(a_{target}, 0, {name})"]
        index, length = _LOOPS[value.space]
        each = [*writer.lines[value.space], f"store_{target}(a_{target}, {index}, {name})"]
        return [*writer.lines["one"], *_over(index, length, each)]


class _Words(Words):
    """Python source for Numba."""

    def loaded(self, label: str, place: str) -> str:
        """Write how an entry is read; see `Words`."""
        return f"load_{label}(a_{label}, {place})" if label[0] in "sv" else label

    def number(self, text: str) -> str:
        """Write a number; see `Words`."""
        return f"compute({text})"

    def called(self, name: str, arguments: str) -> str:
        """Write a call; see `Words`."""
        return f"xp.{name}({arguments})"

    def named(self, name: str, text: str) -> str:
        """Write an assignment; see `Words`."""
        return f"{name} = {text}"


_LOOPS = {"rows": ("y", "height"), "columns": ("x", "width")}
_FIRST = {"mean": "0.0", "sum": "0.0", "max": "-infinity"}
_JOINED = {"mean": "sum", "sum": "sum", "max": "max"}
_ADDERS = {"mean": "add_values", "sum": "add_values", "max": "raise"}
_LANES = {"mean": "lanes", "sum": "lanes", "max": "least_lanes"}
_TOTALS = {"mean": "lanes_total", "sum": "lanes_total", "max": "lanes_largest"}


def _along(value: Value) -> str:
    """Return the axis of a total's parts; a single number is reduced from those of all rows."""
    return "columns" if value.space == "columns" else "rows"


def _share(value: Value, total: str, size: str) -> str:
    return f"compute({total} / double({size}))" if value.op == "mean" else f"compute({total})"


def _over(index: str, length: str, lines: Sequence[str]) -> list[str]:
    return [f"for {index} in range({length}):", *_indented(lines)]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
