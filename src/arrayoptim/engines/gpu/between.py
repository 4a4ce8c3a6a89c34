"""The source of a pass over the rows and columns of a tensor, between two over its elements.

One block per tensor reduces the partial totals of the blocks of the pass before, in the order that
all engines use, and computes what has one entry per row or column.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ...rules.symbols import REDUCTIONS, Value
from ..passes import Passes
from ..rule_writer import Words, Writer

__all__ = [
    "FIRST",
    "LINE_SUMS",
    "Between",
    "Labels",
    "all_lines",
    "each_thread",
    "indented",
    "joined",
]

LINE_SUMS = r"""
// Adds up what lies in memory, run after run: the sum is in x[0].
template <typename T> FUNCTION void sum_line(Room &room, const T *line, whole length) {
    EACH_THREAD(u) {
        if (u == 0) room.x[0] = 0.0;
    }
    for (whole start = 0; start < length; start += BLOCK) {
        __syncthreads();
        EACH_THREAD(u) {
            const whole low = start + (whole)RUN * (u / LANES);
            const whole end = low + RUN < length ? low + RUN : length;
            double sum = 0.0;
            for (whole i = low + u % LANES; i < end; i += LANES) sum += (double)line[i];
            room.lanes[0][u] = sum;
        }
        halve_lanes(room, 1);
        EACH_THREAD(u) {
            if (u == 0)
                for (int run = 0; run < THREADS; run += LANES) room.x[0] += room.lanes[0][run];
        }
    }
    __syncthreads();
}

// Adds up numbers one after another: the sum is in lanes[0][0].
FUNCTION void sum_numbers(Room &room, const double *numbers, whole count) {
    EACH_THREAD(u) {
        if (u < 2) room.ends[u] = u * count;
    }
    __syncthreads();
    sum_runs(room, numbers, count, room.ends, 1, room.lanes[0]);
}
"""

_LOOPS = {"rows": ("y", "l.height"), "columns": ("x", "l.width")}
FIRST = {"mean": "0.0", "sum": "0.0", "max": "-(double)__uint_as_float(0x7F800000u)"}
"""The initial value of each reduction."""


class _Words(Words):
    """CUDA C++."""

    def loaded(self, label: str, place: str) -> str:
        """Write the load of an entry; see `Words`."""
        return label if place == "i" or label.startswith("c.") else f"l.{label}[{place}]"

    def number(self, text: str) -> str:
        """Write a number; see `Words`."""
        return f"(real){text}"

    def called(self, name: str, arguments: str) -> str:
        """Write a call; see `Words`."""
        return f"xp_{name}({arguments})"

    def named(self, name: str, text: str) -> str:
        """Write an assignment; see `Words`."""
        return f"const auto {name} = {text};"


class Labels:
    """The names used in the source of a rule's passes.

    Parameters
    ----------
    plan : Passes
        What each pass computes.

    Attributes
    ----------
    inputs : dict of str to str
        The names of the rule's inputs.
    kept, parts : dict of Value to str
        The names of `Passes.kept`, and of the partial sums of `Passes.totals`.
    """

    def __init__(self, plan: Passes) -> None:
        self.inputs = {name: f"c.{name}_" for name in plan.rule.coefficients}
        self.inputs |= {slot.name: f"s{k}" for k, slot in enumerate(plan.slots)}
        self.inputs |= {"p": "p", "g": "g"}
        self.kept = {value: f"v{k}" for k, value in enumerate(plan.kept)}
        self.parts = {value: f"q{k}" for k, value in enumerate(plan.totals)}
        self._numbers = itertools.count()

    def writer(self, defined: Value | None = None) -> Writer:
        """Return a writer of the lines that compute values, `defined` among them if given."""
        kept = {v: k for v, k in self.kept.items() if v is not defined}
        return Writer(_Words(), self.inputs, kept, self._numbers)


class Between:
    """The lines of passes over rows and columns.

    Parameters
    ----------
    plan : Passes
        What each pass computes.
    labels : Labels
        The names.
    """

    def __init__(self, plan: Passes, labels: Labels) -> None:
        self._plan, self._labels = plan, labels

    def body(self, turn: int) -> list[str]:
        """Return the lines of a pass, as one block runs them."""
        plan = self._plan
        lines = [line for v in plan.totals_of(turn) for line in self._gathered(v)]
        lines += [line for v in plan.kept_of(turn) for line in self._computed(v)]
        for slot, value in plan.written_of(turn):
            lines += self._put(self._labels.inputs[slot.name], value, self._labels.writer())
        return lines

    def _gathered(self, value: Value) -> list[str]:
        """Write the reduction of the partial sums that tiles left for a total."""
        part, (index, length) = self._labels.parts[value], _LOOPS[_along(value)]
        tiles = "l.down" if index == "x" else "l.across"
        body = [
            f"double sum = l.{part}[{index}];",
            "#pragma unroll 8",
            f"for (whole tile = 1; tile < {tiles}; ++tile)",
            f"    {joined(value, 'sum', f'l.{part}[tile * {length} + {index}]')}",
            f"l.{part}[{index}] = sum;",
        ]
        return _over(index, length, body)

    def _computed(self, value: Value) -> list[str]:
        """Write the computation of a kept value."""
        part = self._labels.parts.get(value)
        if part is not None and value.space == "one":
            size = "(l.height * l.width)"
            if value.op == "max":
                return self._highest(value, f"l.{part}[y]", "rows", [])
            sums = f"sum_numbers(room, l.{part}, l.height);"
            return [sums, *self._first(value, _share(value, "room.lanes[0][0]", size))]
        if part is not None:
            index, length = _LOOPS[_along(value)]
            size = "l.height" if index == "x" else "l.width"
            number = _share(value, f"l.{part}[{index}]", size)
            return _over(index, length, [f"l.{self._labels.kept[value]}[{index}] = {number};"])
        if value.op not in REDUCTIONS:
            return self._put(self._labels.kept[value], value, self._labels.writer(value))
        (each,) = value.args
        while each.op == "view":
            (each,) = each.args
        if value.op == "max":
            writer = self._labels.writer(value)
            number = f"(double){writer.name(each)}"
            return self._highest(value, number, each.space, all_lines(writer))
        length = _LOOPS[each.space][1]
        name = self._labels.kept.get(each) or self._labels.inputs[each.name]
        sums = f"sum_line(room, l.{name}, {length});"
        return [sums, *self._first(value, _share(value, "room.x[0]", length))]

    def _first(self, value: Value, number: str) -> list[str]:
        return each_thread([f"if (u == 0) l.{self._labels.kept[value]}[0] = {number};"])

    def _highest(self, value: Value, number: str, space: str, lines: Sequence[str]) -> list[str]:
        """Write the maximum over one number per row or per column."""
        index, length = _LOOPS[space]
        each = each_thread(
            [
                f"double top = {FIRST[value.op]};",
                f"for (whole {index} = u; {index} < {length}; {index} += THREADS) {{",
                *indented([*lines, f"top = xp_maximum(top, {number});"]),
                "}",
                "room.x[u] = top;",
            ]
        )
        last = each_thread(
            [
                "if (u == 0) {",
                f"    double top = {FIRST[value.op]};",
                "    for (int j = 0; j < THREADS; ++j) top = xp_maximum(top, room.x[j]);",
                f"    l.{self._labels.kept[value]}[0] = (real)top;",
                "}",
            ]
        )
        return [*each, *last]

    def _put(self, target: str, value: Value, writer: Writer) -> list[str]:
        """Write the store of a value with one entry per row or column, or a single one."""
        name = writer.name(value)
        if value.space == "one":
            body = [*all_lines(writer), f"l.{target}[0] = {name};"]
            return each_thread(["if (u == 0) {", *indented(body), "}"])
        index, length = _LOOPS[value.space]
        return _over(index, length, [*all_lines(writer), f"l.{target}[{index}] = {name};"])


def all_lines(writer: Writer) -> list[str]:
    """Return all lines of a writer, definitions before their uses."""
    return [line for lines in writer.lines.values() for line in lines]


def joined(value: Value, total: str, number: str) -> str:
    """Write the accumulation of a number into a total."""
    if value.op == "max":
        return f"{total} = xp_maximum({total}, {number});"
    return f"{total} += {number};"


def _along(value: Value) -> str:
    """Return the space of a total's partial sums; a single number is reduced from rows."""
    return "columns" if value.space == "columns" else "rows"


def _share(value: Value, total: str, size: str) -> str:
    return f"(real)({total} / (double){size})" if value.op == "mean" else f"(real){total}"


def _over(index: str, length: str, lines: Sequence[str]) -> list[str]:
    loop = f"for (whole {index} = u; {index} < {length}; {index} += THREADS) {{"
    return each_thread([loop, *indented(lines), "}"])


def each_thread(lines: Sequence[str]) -> list[str]:
    """Write a phase of all threads of a block, followed by a barrier."""
    return ["EACH_THREAD(u) {", *indented(lines), "}", "__syncthreads();"]


def indented(lines: Sequence[str]) -> list[str]:
    """Return indented lines."""
    return [f"    {line}" for line in lines]
