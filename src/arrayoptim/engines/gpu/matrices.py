"""The source of the passes of a rule for matrices: totals along rows and columns, then elements.

What has a total is launched in parts: blocks for rows, whose threads are lanes as in
`arrayoptim.numerics.sums`, and blocks for columns, of which each thread has one. A block for each
tensor then brings the parts together, in the order that all engines keep.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...arrays.backend import ITEMSIZE
from ...rules import stages as _stages
from ...rules.symbols import REDUCTIONS, Value
from ..passes import Passes
from ..written import Words, Writer
from .sums import SUMS
from .sweep import (
    Program,
    before,
    element,
    fetched,
    loaded,
    named,
    numbers_of,
    opening,
    parameters,
    scalar,
)

__all__ = ["CELLS", "KINDS", "LINES", "Over", "Pass", "matrix_passes"]

Over = Literal["rows", "columns", "elements", "tensors"]

KINDS: dict[Over, int] = {"rows": 0, "columns": 1, "elements": 2, "tensors": 3}
"""How the table of chunks says what a block goes over."""

CELLS = ("kind", "t", "top", "bottom", "left", "right", "tile")
"""What the table of chunks tells: the tensor, rows and columns, and which tile it is of those that
are beside each other, for rows, or below each other, for columns."""

LINES = ("height", "width", "down", "across")
"""What the table of matrices tells first: the size, and that in tiles. After these come the
addresses of what is kept, and of what parts give to totals."""

_LINE_SUMS = r"""
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


@dataclass(frozen=True)
class Pass:
    """A kernel, and what its blocks go over.

    Attributes
    ----------
    program : Program
        The kernel.
    over : tuple of str
        ``"rows"`` and ``"columns"`` of tiles, ``"elements"`` in any order, or ``"tensors"``.
    """

    program: Program
    over: tuple[Over, ...]


def matrix_passes(
    plan: Passes, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
) -> list[Pass]:
    """Write the kernels of a step, in their order.

    Parameters
    ----------
    plan : Passes
        What each pass computes.
    stages : sequence of str
        The stages to compile in.
    streams : sequence of (str, str)
        As for `arrayoptim.engines.gpu.sweep.sweep_program`; slots of rows and columns are of the
        compute dtype.
    compute : str
        The compute dtype.

    Returns
    -------
    list of Pass
        Kernels that take the same numbers.
    """
    text = _Text(plan, stages, streams, compute)
    found = []
    for turn, whole in plan.turns:
        if whole and plan.totals_of(turn):
            found.append(text.totals(turn))
        if whole and turn == plan.count:
            found.append(text.stored())
        if not whole:
            found.append(text.between(turn))
    return found


class _Words(Words):
    """CUDA C++."""

    def loaded(self, label: str, place: str) -> str:
        """Write how an entry is read; see `Words`."""
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


class _Text:
    """The kernels of a step."""

    def __init__(
        self, plan: Passes, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
    ) -> None:
        self._plan, self._stages, self._streams, self._compute = plan, stages, streams, compute
        self._names = numbers_of(plan.rule, stages)
        lines = {f"s{k}" for k, slot in enumerate(plan.slots) if slot.space != "full"}
        self._full = [pair for pair in streams if pair[0] not in lines]
        self._lines = sorted(lines)
        self._inputs = {name: f"c.{name}_" for name in plan.rule.coefficients}
        self._inputs |= {slot.name: f"s{k}" for k, slot in enumerate(plan.slots)}
        self._inputs |= {"p": "p", "g": "g"}
        self._kept = {value: f"v{k}" for k, value in enumerate(plan.kept)}
        self._parts = {value: f"q{k}" for k, value in enumerate(plan.totals)}
        self._numbers = itertools.count()

    def totals(self, turn: int) -> Pass:
        """Write the pass that takes parts of totals."""
        totals = self._plan.totals_of(turn)
        down = [v for v in totals if v.space == "columns"]
        across = [v for v in totals if v.space != "columns"]
        functions, bodies = [], []
        over: list[Over] = []
        if across:
            functions.append(self._taken("rows", across))
            bodies += ["if (chunk[0] == 0) {", *_indented(self._rows(across)), "}"]
            over.append("rows")
        if down:
            functions.append(self._taken("columns", down))
            bodies += ["if (chunk[0] == 1) {", *_indented(self._columns(down)), "}"]
            over.append("columns")
        room = [f"__shared__ double lanes[{len(across)}][THREADS];"] if across else []
        return self._pass(f"totals{turn}", functions, [*room, *bodies], over)

    def stored(self) -> Pass:
        """Write the pass that steps the elements."""
        plan, writer = self._plan, self._writer()
        full = [
            (self._inputs[slot.name], writer.name(value))
            for slot, value in zip(plan.slots, plan.results[1:], strict=True)
            if value.space == "full" and value is not slot
        ]
        parameter = writer.name(plan.results[0])
        middle = [
            "const whole x = at + k;",
            *_all(writer),
            # What a slot was may be what another one becomes.
            *(f"const real n_{slot} = {name};" for slot, name in full),
            *(["const real q = p;"] * _stages.recalled(self._stages)),
            f"p = {parameter};",
            *(f"{slot} = n_{slot};" for slot, _ in full),
        ]
        given = ", whole y, whole at, const Lines &l"
        function = element(plan.rule, self._stages, self._full, middle=middle, given=given)
        width = 16 // min(ITEMSIZE[dtype] for _, dtype in self._full)
        addresses = " | ".join(f"(whole)a_{name}" for name, _ in self._full)
        pointers = ", ".join(f"a_{name}" for name, _ in self._full)

        def each(pack: int) -> list[str]:
            return [
                f"const int across = (int)(right - left) / {pack};",
                "for (int j = u; j < across * (int)(bottom - top); j += THREADS) {",
                f"    const whole y = top + j / across, x = left + {pack} * (j % across);",
                f"    stepped<{pack}>(y * l.width + x, {pointers}, c, y, x, l);",
                "}",
            ]

        body = [
            f"const bool packed = (({addresses}) & 15) == 0 && l.width % {width} == 0;",
            "EACH_THREAD(u) {",
            "    if (packed) {",
            *_indented(_indented(each(width))),
            "    } else {",
            *_indented(_indented(each(1))),
            "    }",
            "}",
        ]
        return self._pass("stored", [function], body, ["elements"])

    def between(self, turn: int) -> Pass:
        """Write the pass over the rows and columns of each tensor."""
        plan = self._plan
        body = [line for v in plan.totals_of(turn) for line in self._gathered(v)]
        body += [line for v in plan.kept_of(turn) for line in self._computed(v)]
        for slot, value in plan.written_of(turn):
            body += self._put(self._inputs[slot.name], value, self._writer())
        functions = [SUMS, _LINE_SUMS]
        return self._pass(f"lines{turn}", functions, ["__shared__ Room room;", *body], ["tensors"])

    def _pass(
        self, name: str, functions: Sequence[str], body: Sequence[str], over: Sequence[Over]
    ) -> Pass:
        rule, told = self._plan.rule, [*self._kept.values(), *self._parts.values()]
        fields = [f"whole {name}" for name in LINES]
        fields += [f"real *{label}" for label in (*self._kept.values(), *self._lines)]
        fields += [f"double *{label}" for label in self._parts.values()]
        arguments = "".join(f", double n_{each}" for each in self._names)
        row = f"lines[{len(LINES) + len(told)} * t + "
        lines = [
            f"const whole *chunk = chunks + {len(CELLS)} * blockIdx.x;",
            "const whole t = chunk[1];",
            *fetched(self._streams),
            "if (!a_g) return;",
            "const double *own = table ? table + 1 + (whole)table[0] * t : 0;",
            "Numbers c;",
            *(
                scalar(k, each, f"(own ? own[{k}] : n_{each})")
                for k, each in enumerate(self._names)
            ),
            "Lines l;",
            *(f"l.{each} = {row}{k}];" for k, each in enumerate(LINES)),
            *(
                f"l.{each} = ({'double' if each in self._parts.values() else 'real'} *)"
                f"{row}{len(LINES) + k}];"
                for k, each in enumerate(told)
            ),
            *(f"l.{label} = a_{label};" for label in self._lines),
            "const whole top = chunk[2], bottom = chunk[3], left = chunk[4], right = chunk[5];",
            *body,
        ]
        kernel = [
            "KERNEL @NAME@(",
            "    const whole *chunks, const whole *lines, const int *leaves,",
            "    const whole *pointers, const whole *gradients, const double *norm,",
            f"    const double *table{arguments}) {{",
            *_indented(lines),
            "}",
        ]
        parts = [
            *opening(rule, self._stages, self._compute),
            f"struct Lines {{\n{''.join(f'    {field};{chr(10)}' for field in fields)}}};\n",
            *functions,
            "\n".join(kernel),
        ]
        return Pass(named(f"{name}_{rule.name}", parts, self._names), tuple(over))

    def _writer(self, defined: Value | None = None) -> Writer:
        kept = {v: k for v, k in self._kept.items() if v is not defined}
        return Writer(_Words(), self._inputs, kept, self._numbers)

    def _taken(self, over: str, totals: Sequence[Value]) -> str:
        """Write what an element gives to totals."""
        writer = self._writer()
        last = [f"total{k} = (double){writer.name(v.args[0])};" for k, v in enumerate(totals)]
        body = [
            "const int k = 0;",
            "const whole i = y * l.width + x;",
            *loaded(self._full, 1),
            *before(self._plan.rule, self._stages, self._full),
            *_all(writer),
            *last,
        ]
        results = "".join(f", double &total{k}" for k in range(len(totals)))
        given = f"whole y, whole x, {parameters(self._full)}, const Numbers &c, const Lines &l"
        return "\n".join([f"FUNCTION void of_{over}({given}{results}) {{", *_indented(body), "}\n"])

    def _added(self, over: str, totals: Sequence[Value]) -> list[str]:
        """Write how the numbers of one element are added to the sums of a thread."""
        count = len(totals)
        pointers = ", ".join(f"a_{name}" for name, _ in self._full)
        numbers = ", ".join(f"x{k}" for k in range(count))
        return [
            f"double {numbers};",
            f"of_{over}(y, x, {pointers}, c, l, {numbers});",
            *(_joined(v, f"sum{k}", f"x{k}") for k, v in enumerate(totals)),
        ]

    def _rows(self, totals: Sequence[Value]) -> list[str]:
        """Write how a block takes parts of the totals of rows: a thread is a lane of a row."""
        sums = [f"double sum{k} = {_FIRST[v.op]};" for k, v in enumerate(totals)]
        fold = [_joined(v, f"lanes[{k}][u]", f"lanes[{k}][u + half]") for k, v in enumerate(totals)]
        ends = [
            f"l.{self._parts[v]}[chunk[6] * l.height + y] = lanes[{k}][u];"
            for k, v in enumerate(totals)
        ]
        body = [
            "EACH_THREAD(u) {",
            "    const whole y = base + u / LANES;",
            *_indented(sums),
            "    if (y < bottom) {",
            "#pragma unroll 4",
            "        for (whole x = left + u % LANES; x < right; x += LANES) {",
            *(f"            {line}" for line in self._added("rows", totals)),
            "        }",
            "    }",
            *(f"    lanes[{k}][u] = sum{k};" for k in range(len(totals))),
            "}",
            "for (int half = LANES / 2; half; half /= 2) {",
            "    __syncthreads();",
            "    EACH_THREAD(u) {",
            "        if (u % LANES < half) {",
            *(f"            {line}" for line in fold),
            "        }",
            "    }",
            "}",
            "__syncthreads();",
            "EACH_THREAD(u) {",
            "    const whole y = base + u / LANES;",
            "    if (u % LANES == 0 && y < bottom) {",
            *_indented(_indented(ends)),
            "    }",
            "}",
            "__syncthreads();",
        ]
        loop = "for (whole base = top; base < bottom; base += THREADS / LANES) {"
        return [loop, *_indented(body), "}"]

    def _columns(self, totals: Sequence[Value]) -> list[str]:
        """Write how a block takes parts of the totals of columns: a thread has a column."""
        body = [
            *(f"double sum{k} = {_FIRST[v.op]};" for k, v in enumerate(totals)),
            "#pragma unroll 4",
            "for (whole y = top; y < bottom; ++y) {",
            *_indented(self._added("columns", totals)),
            "}",
            *(
                f"l.{self._parts[v]}[chunk[6] * l.width + x] = sum{k};"
                for k, v in enumerate(totals)
            ),
        ]
        return _thread(
            ["for (whole x = left + u; x < right; x += THREADS) {", *_indented(body), "}"]
        )

    def _gathered(self, value: Value) -> list[str]:
        """Write how what tiles gave to a total is brought together."""
        part, (index, length) = self._parts[value], _LOOPS[_along(value)]
        tiles = "l.down" if index == "x" else "l.across"
        body = [
            f"double sum = l.{part}[{index}];",
            "#pragma unroll 8",
            f"for (whole tile = 1; tile < {tiles}; ++tile)",
            f"    {_joined(value, 'sum', f'l.{part}[tile * {length} + {index}]')}",
            f"l.{part}[{index}] = sum;",
        ]
        return _over(index, length, body)

    def _computed(self, value: Value) -> list[str]:
        """Write how what is kept is computed."""
        part = self._parts.get(value)
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
            return _over(index, length, [f"l.{self._kept[value]}[{index}] = {number};"])
        if value.op not in REDUCTIONS:
            return self._put(self._kept[value], value, self._writer(value))
        (each,) = value.args
        while each.op == "view":
            (each,) = each.args
        if value.op == "max":
            writer = self._writer(value)
            number = f"(double){writer.name(each)}"
            return self._highest(value, number, each.space, _all(writer))
        length = _LOOPS[each.space][1]
        name = self._kept.get(each) or self._inputs[each.name]
        sums = f"sum_line(room, l.{name}, {length});"
        return [sums, *self._first(value, _share(value, "room.x[0]", length))]

    def _first(self, value: Value, number: str) -> list[str]:
        return _thread([f"if (u == 0) l.{self._kept[value]}[0] = {number};"])

    def _highest(self, value: Value, number: str, space: str, lines: Sequence[str]) -> list[str]:
        """Write how the largest is found of the numbers of rows or of columns."""
        index, length = _LOOPS[space]
        each = _thread(
            [
                f"double top = {_FIRST[value.op]};",
                f"for (whole {index} = u; {index} < {length}; {index} += THREADS) {{",
                *_indented([*lines, f"top = xp_maximum(top, {number});"]),
                "}",
                "room.x[u] = top;",
            ]
        )
        last = _thread(
            [
                "if (u == 0) {",
                f"    double top = {_FIRST[value.op]};",
                "    for (int j = 0; j < THREADS; ++j) top = xp_maximum(top, room.x[j]);",
                f"    l.{self._kept[value]}[0] = (real)top;",
                "}",
            ]
        )
        return [*each, *last]

    def _put(self, target: str, value: Value, writer: Writer) -> list[str]:
        """Write what has an entry for each row or column, or one."""
        name = writer.name(value)
        if value.space == "one":
            body = [*_all(writer), f"l.{target}[0] = {name};"]
            return _thread(["if (u == 0) {", *_indented(body), "}"])
        index, length = _LOOPS[value.space]
        return _over(index, length, [*_all(writer), f"l.{target}[{index}] = {name};"])


_LOOPS = {"rows": ("y", "l.height"), "columns": ("x", "l.width")}
_FIRST = {"mean": "0.0", "sum": "0.0", "max": "-(double)__uint_as_float(0x7F800000u)"}


def _all(writer: Writer) -> list[str]:
    """Return a writer's lines, those first that the others need."""
    return [line for lines in writer.lines.values() for line in lines]


def _joined(value: Value, total: str, number: str) -> str:
    if value.op == "max":
        return f"{total} = xp_maximum({total}, {number});"
    return f"{total} += {number};"


def _along(value: Value) -> str:
    """Return what the parts of a total are for: one number is made of those of all rows."""
    return "columns" if value.space == "columns" else "rows"


def _share(value: Value, total: str, size: str) -> str:
    return f"(real)({total} / (double){size})" if value.op == "mean" else f"(real){total}"


def _over(index: str, length: str, lines: Sequence[str]) -> list[str]:
    loop = f"for (whole {index} = u; {index} < {length}; {index} += THREADS) {{"
    return _thread([loop, *_indented(lines), "}"])


def _thread(lines: Sequence[str]) -> list[str]:
    """Write what each thread of a block does, after which all see it."""
    return ["EACH_THREAD(u) {", *_indented(lines), "}", "__syncthreads();"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
