"""The source of the passes of a rule for matrices: totals along rows and columns, then elements.

A pass that takes totals has blocks for rows, whose threads are lanes as in
`arrayoptim.numerics.sums`, and blocks for columns, with one column per thread. They leave partial
sums, which one block per tensor then reduces in the order that all engines use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...arrays.backend import ITEMSIZE
from ...rules import stages as _stages
from ...rules.symbols import Value
from ..passes import Passes
from .between import FIRST, LINE_SUMS, Between, Labels, all_lines, each_thread, indented, joined
from .element import addressed, before, begun, element, loaded, parameters
from .program import Program, named, numbers_of, opening
from .sums import SUMS
from .tiles import CELLS, Over

__all__ = ["LINES", "Pass", "matrix_passes"]

LINES = ("height", "width", "down", "across")
"""The first columns of the table of matrices: the shape, in elements and in tiles. The addresses of
kept values and of partial sums follow."""


@dataclass(frozen=True)
class Pass:
    """A kernel, and what its blocks iterate over.

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
        As for `arrayoptim.engines.gpu.sweep.sweep_program`; slots with one entry per row or column
        have the compute dtype.
    compute : str
        The compute dtype.

    Returns
    -------
    list of Pass
        Kernels that take the same per-step scalars.
    """
    text = _Text(plan, stages, streams, compute)
    written = {
        "totals": text.totals,
        "stored": lambda _: text.stored(),
        "between": text.between,
    }
    return [written[what](turn) for what, turn in plan.kernels()]


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
        self._labels = Labels(plan)

    def totals(self, turn: int) -> Pass:
        """Write the pass that takes partial sums of totals."""
        totals = self._plan.totals_of(turn)
        down = [v for v in totals if v.space == "columns"]
        across = [v for v in totals if v.space != "columns"]
        functions, bodies = [], []
        over: list[Over] = []
        if across:
            functions.append(self._taken("rows", across))
            bodies += ["if (chunk[0] == 0) {", *indented(self._rows(across)), "}"]
            over.append("rows")
        if down:
            functions.append(self._taken("columns", down))
            bodies += ["if (chunk[0] == 1) {", *indented(self._columns(down)), "}"]
            over.append("columns")
        room = [f"__shared__ double lanes[{len(across)}][THREADS];"] if across else []
        return self._pass(f"totals{turn}", functions, [*room, *bodies], over)

    def stored(self) -> Pass:
        """Write the pass that steps the elements."""
        plan, writer = self._plan, self._labels.writer()
        full = [
            (self._labels.inputs[slot.name], writer.name(value))
            for slot, value in zip(plan.slots, plan.results[1:], strict=True)
            if value.space == "full" and value is not slot
        ]
        parameter = writer.name(plan.results[0])
        middle = [
            "const whole x = at + k;",
            *all_lines(writer),
            # Store no slot early: the new value of one may use the old value of another.
            *(f"const real n_{slot} = {name};" for slot, name in full),
            *(["const real q = p;"] * _stages.recalled(self._stages)),
            f"p = {parameter};",
            *(f"{slot} = n_{slot};" for slot, _ in full),
        ]
        given = ", whole y, whole at, const Lines &l"
        function = element(plan.rule, self._stages, self._full, middle=middle, given=given)
        width = 16 // min(ITEMSIZE[dtype] for _, dtype in self._full)
        addresses = addressed(self._full, " | ", "(whole)")
        pointers = addressed(self._full)

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
            *indented(indented(each(width))),
            "    } else {",
            *indented(indented(each(1))),
            "    }",
            "}",
        ]
        return self._pass("stored", [function], body, ["elements"])

    def between(self, turn: int) -> Pass:
        """Write the pass over the rows and columns of each tensor."""
        body = Between(self._plan, self._labels).body(turn)
        return self._pass(
            f"lines{turn}", [SUMS, LINE_SUMS], ["__shared__ Room room;", *body], ["tensors"]
        )

    def _pass(
        self, name: str, functions: Sequence[str], body: Sequence[str], over: Sequence[Over]
    ) -> Pass:
        rule, told = self._plan.rule, [*self._labels.kept.values(), *self._labels.parts.values()]
        fields = [f"whole {name}" for name in LINES]
        fields += [f"real *{label}" for label in (*self._labels.kept.values(), *self._lines)]
        fields += [f"double *{label}" for label in self._labels.parts.values()]
        arguments = "".join(f", double n_{each}" for each in self._names)
        row = f"lines[{len(LINES) + len(told)} * t + "
        lines = [
            f"const whole *chunk = chunks + {len(CELLS)} * blockIdx.x;",
            "const whole t = chunk[1];",
            *begun(self._streams, self._names),
            "Lines l;",
            *(f"l.{each} = {row}{k}];" for k, each in enumerate(LINES)),
            *(
                f"l.{each} = ({'double' if each in self._labels.parts.values() else 'real'} *)"
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
            f"    const double *norms, const double *table{arguments}) {{",
            *indented(lines),
            "}",
        ]
        parts = [
            *opening(rule, self._stages, self._compute),
            f"struct Lines {{\n{''.join(f'    {field};{chr(10)}' for field in fields)}}};\n",
            *functions,
            "\n".join(kernel),
        ]
        return Pass(named(f"{name}_{rule.name}", parts, self._names), tuple(over))

    def _taken(self, over: str, totals: Sequence[Value]) -> str:
        """Write the function that computes one element's terms of the totals."""
        writer = self._labels.writer()
        last = [f"total{k} = (double){writer.name(v.args[0])};" for k, v in enumerate(totals)]
        body = [
            "const int k = 0;",
            "const whole i = y * l.width + x;",
            *loaded(self._full, 1),
            *before(self._plan.rule, self._stages, self._full),
            *all_lines(writer),
            *last,
        ]
        results = "".join(f", double &total{k}" for k in range(len(totals)))
        given = f"whole y, whole x, {parameters(self._full)}, const Numbers &c, const Lines &l"
        return "\n".join([f"FUNCTION void of_{over}({given}{results}) {{", *indented(body), "}\n"])

    def _added(self, over: str, totals: Sequence[Value]) -> list[str]:
        """Write the accumulation of one element's terms into a thread's sums."""
        count = len(totals)
        pointers = addressed(self._full)
        numbers = ", ".join(f"x{k}" for k in range(count))
        return [
            f"double {numbers};",
            f"of_{over}(y, x, {pointers}, c, l, {numbers});",
            *(joined(v, f"sum{k}", f"x{k}") for k, v in enumerate(totals)),
        ]

    def _rows(self, totals: Sequence[Value]) -> list[str]:
        """Write a block's partial sums of rows: each thread is a lane of a row."""
        sums = [f"double sum{k} = {FIRST[v.op]};" for k, v in enumerate(totals)]
        fold = [joined(v, f"lanes[{k}][u]", f"lanes[{k}][u + half]") for k, v in enumerate(totals)]
        ends = [
            f"l.{self._labels.parts[v]}[chunk[6] * l.height + y] = lanes[{k}][u];"
            for k, v in enumerate(totals)
        ]
        body = [
            "EACH_THREAD(u) {",
            "    const whole y = base + u / LANES;",
            *indented(sums),
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
            *indented(indented(ends)),
            "    }",
            "}",
            "__syncthreads();",
        ]
        loop = "for (whole base = top; base < bottom; base += THREADS / LANES) {"
        return [loop, *indented(body), "}"]

    def _columns(self, totals: Sequence[Value]) -> list[str]:
        """Write a block's partial sums of columns: one column per thread."""
        body = [
            *(f"double sum{k} = {FIRST[v.op]};" for k, v in enumerate(totals)),
            "#pragma unroll 4",
            "for (whole y = top; y < bottom; ++y) {",
            *indented(self._added("columns", totals)),
            "}",
            *(
                f"l.{self._labels.parts[v]}[chunk[6] * l.width + x] = sum{k};"
                for k, v in enumerate(totals)
            ),
        ]
        return each_thread(
            ["for (whole x = left + u; x < right; x += THREADS) {", *indented(body), "}"]
        )
