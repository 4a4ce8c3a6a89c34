"""The source of adaptive clipping: sums of squares by units, factors, and clipped gradients.

The sums are in the order of `numerics.sums.sums_of_units`: a block of threads takes those of a
block of a tensor, of some rows, whose threads are lanes, or of some columns, with one per thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...rules.stages import limit
from ..units import SMALLEST
from .element import scaled
from .norm import SQUARES
from .printer import printed
from .program import SEED, TYPES, Program, named
from .tiles import CELLS

__all__ = ["KINDS", "SHAPES", "factors", "result", "squares"]

KINDS = {"rows": 0, "columns": 1, "whole": 2}
"""The codes of how the elements of a unit lie: as rows, as columns, or all together."""

SHAPES = ("kind", "outer", "units", "length", "tiles", "sums", "first", "room", "size")
"""The columns of the table of shapes: how the elements of a unit lie, the numbers of lines of a
unit and of units, the length of a row in memory, the tiles along a line, where the sums, the
factors and the clipped gradient are, and the size of that. All count real numbers."""


def _opening(p: str, g: str, compute: str, complex_numbers: bool) -> list[str]:
    """Write the types of a batch, and the struct of a tensor's shape."""
    fields = "".join(f"    whole {name};\n" for name in SHAPES)
    return [
        f"typedef {TYPES[p]} stored;\ntypedef {TYPES[g]} given;\ntypedef {TYPES[compute]} real;\n",
        f"#define PARTS {1 + complex_numbers}\n#define OF_P {2 * (p == 'float64')}\n"
        f"#define OF_G {2 * (g == 'float64')}\n",
        f"struct Shape {{\n{fields}}};\n",
        "FUNCTION whole lines_of(const Shape &s) { return s.outer * s.units; }\n",
    ]


_UNDEFINED = "#undef PARTS\n#undef OF_P\n#undef OF_G\n"

_SQUARES = r"""
// The numbers of an element, one or two, are added before it is added to others.
template <int SHIFTS, typename T> FUNCTION void add_element(const T *x, double *sums) {
    double own[3] = {0.0, 0.0, 0.0};
    for (int k = 0; k < PARTS; ++k) add_square<SHIFTS>((double)widened(x[k]), own);
    for (int w = 0; w <= SHIFTS; ++w) sums[w] += own[w];
}

template <int SHIFTS, typename T>
FUNCTION void add_rows(Room &room, const T *x, const Shape &s, const whole *chunk, double *sums) {
    const whole lines = lines_of(s), bottom = chunk[3], right = chunk[5];
    for (whole base = chunk[2]; base < bottom; base += THREADS / LANES) {
        EACH_THREAD(u) {
            const whole y = base + u / LANES;
            double own[3] = {0.0, 0.0, 0.0};
            if (y < bottom) {
#pragma unroll 4
                for (whole k = chunk[4] + u % LANES; k < right; k += LANES)
                    add_square<SHIFTS>((double)widened(x[y * s.length + k]), own);
            }
            for (int w = 0; w <= SHIFTS; ++w) room.lanes[w][u] = own[w];
        }
        halve_lanes(room, 1 + SHIFTS);
        EACH_THREAD(u) {
            const whole y = base + u / LANES;
            if (u % LANES == 0 && y < bottom)
                for (int w = 0; w <= SHIFTS; ++w)
                    sums[(w * s.tiles + chunk[6]) * lines + y] = room.lanes[w][u];
        }
        __syncthreads();
    }
}

template <int SHIFTS, typename T>
FUNCTION void add_columns(const T *x, const Shape &s, const whole *chunk, double *sums) {
    EACH_THREAD(u) {
        for (whole k = chunk[4] + u; k < chunk[5]; k += THREADS) {
            double own[3] = {0.0, 0.0, 0.0};
#pragma unroll 4
            for (whole y = chunk[2]; y < chunk[3]; ++y)
                add_element<SHIFTS>(x + y * s.length + PARTS * k, own);
            for (int w = 0; w <= SHIFTS; ++w) sums[(w * s.tiles + chunk[6]) * s.units + k] = own[w];
        }
    }
}

template <int SHIFTS, typename T>
FUNCTION void add_units(Room &room, const T *x, const Shape &s, const whole *chunk, double *sums) {
    if (s.kind == 0) add_rows<SHIFTS>(room, x, s, chunk, sums);
    else if (s.kind == 1) add_columns<SHIFTS>(x, s, chunk, sums);
    else {
        sum_squares<SHIFTS>(room, x, chunk[2], chunk[3]);
        EACH_THREAD(u) {
            if (u == 0)
                for (int w = 0; w <= SHIFTS; ++w)
                    sums[w * s.tiles + chunk[6]] = room.lanes[w][0];
        }
        __syncthreads();
    }
}
"""

_TOTALS = r"""
// The sum of a unit: tile after tile along each of its lines, and line after line.
FUNCTION double total_of(const double *sums, const Shape &s, whole unit) {
    const whole lines = lines_of(s);
    double total = 0.0;
    for (whole y = 0; y < s.outer; ++y) {
        double sum = 0.0;
#pragma unroll 4
        for (whole tile = 0; tile < s.tiles; ++tile)
            sum += sums[tile * lines + y * s.units + unit];
        total += sum;
    }
    return total;
}

template <int SHIFTS> FUNCTION double unit_norm(const double *sums, const Shape &s, whole unit) {
    const whole next = s.tiles * lines_of(s);
    const double total = total_of(sums, s, unit);
    if (!SHIFTS) return xp_sqrt(total);
    const double up = total_of(sums + next, s, unit), down = total_of(sums + 2 * next, s, unit);
    return norm_of(total, up, down, true);
}
"""

_PRODUCT = r"""
FUNCTION real clipped(float x, double factor, float) { return x * (float)factor; }
FUNCTION real clipped(double x, double factor, double) { return (real)(x * factor); }
// Clipped first, as the cast of a wider gradient might overflow.
FUNCTION real clipped(double x, double factor, float) { return (real)(x * factor); }
FUNCTION real clipped(float x, double factor, double) { return (real)x * factor; }
"""


def squares(p: str, g: str, compute: str, complex_numbers: bool, columns: int) -> Program:
    """Write the pass that sums the squares of parameters and gradients.

    Parameters
    ----------
    p, g, compute : str
        The dtypes of the numbers of parameters and gradients in memory, and the compute dtype.
    complex_numbers : bool
        Whether a parameter's element has two numbers.
    columns : int
        The columns of the table of pointers; the first has the parameters.
    """
    body = r"""
KERNEL @NAME@(
    const whole *chunks, const Shape *shapes, const int *leaves, const whole *pointers,
    const whole *gradients, double *sums) {
    __shared__ Room room;
    const whole *chunk = chunks + @CELLS@ * blockIdx.x;
    const whole t = chunk[1];
    const given *g = (const given *)gradients[leaves[t]];
    if (!g) return;
    const Shape s = shapes[t];
    double *own = sums + s.sums;
    add_units<OF_P>(room, (const stored *)pointers[@COLUMNS@ * t], s, chunk, own);
    add_units<OF_G>(room, g, s, chunk, own + (1 + OF_P) * s.tiles * lines_of(s));
}
"""
    body = body.replace("@COLUMNS@", str(columns)).replace("@CELLS@", str(len(CELLS)))
    parts = [SQUARES, *_opening(p, g, compute, complex_numbers), _SQUARES, body, _UNDEFINED]
    return named("unit_squares", parts)


def factors(
    p: str, g: str, compute: str, complex_numbers: bool, names: Sequence[str], stage: str
) -> Program:
    """Write the pass that computes the factor of each unit.

    Parameters
    ----------
    p, g, compute, complex_numbers
        As for `squares`.
    names : sequence of str
        Names of the per-step scalars, in the order of the sweep's kernel.
    stage : str
        The stage, whose scalar is the bound.
    """
    values = {
        name: f"(own ? own[{k}] : n_{name})" for k, name in enumerate(names) if name not in SEED
    }
    scale = scaled(values) if "scale" in values else "1.0"
    arguments = "".join(f", double n_{name}" for name in names)
    body = f"""
KERNEL @NAME@(
    const whole *chunks, const Shape *shapes, const int *leaves, const whole *gradients,
    const double *norm, const double *norms, const double *table, const double *sums,
    double *factors, whole *clipped{arguments}) {{
    const whole *chunk = chunks + {len(CELLS)} * blockIdx.x;
    const whole t = chunk[1], at = gradients[leaves[t]];
    const Shape s = shapes[t];
    EACH_THREAD(u) {{
        // The sweep reads clipped gradients, where there are any.
        if (u == 0 && chunk[2] == 0) clipped[leaves[t]] = at ? s.room : 0;
    }}
    if (!at) return;
    const double *own = table ? table + 1 + (whole)table[0] * t : 0;
    const double *of_g = sums + s.sums + (1 + OF_P) * s.tiles * lines_of(s);
    const double bound = {values[stage]};
    const double scale = {scale};
    EACH_THREAD(u) {{
        const whole unit = chunk[2] + u;
        if (unit < chunk[3]) {{
            const double large = unit_norm<OF_P>(sums + s.sums, s, unit);
            const double small = unit_norm<OF_G>(of_g, s, unit);
            double factor;
            limit(large, small, bound, scale, {SMALLEST.hex()}, 1.0, factor);
            factors[s.first + unit] = factor;
        }}
    }}
}}
"""
    parts = [
        SQUARES,
        *_opening(p, g, compute, complex_numbers),
        printed(limit, "limit", "double"),
        _TOTALS,
        body,
        _UNDEFINED,
    ]
    return named("unit_factors", parts, tuple(names))


def result(p: str, g: str, compute: str, complex_numbers: bool) -> Program:
    """Write the pass that multiplies gradients by their units' factors.

    Parameters
    ----------
    p, g, compute, complex_numbers
        As for `squares`.
    """
    wide = "double" if g == "float64" else "float"
    body = f"""
KERNEL @NAME@(
    const int *chunks, const Shape *shapes, const int *leaves, const whole *gradients,
    const double *factors) {{
    const int t = chunks[2 * blockIdx.x];
    const given *g = (const given *)gradients[leaves[t]];
    if (!g) return;
    const Shape s = shapes[t];
    real *room = (real *)s.room;
    const double *own = factors + s.first;
    const whole start = (whole)CHUNK * chunks[2 * blockIdx.x + 1];
    const int count = (int)(s.size - start < CHUNK ? s.size - start : CHUNK);
    // The row and the column of the first number; a later row begins after the rest of that one.
    const whole row = start / s.length, column = start - row * s.length;
    const int rest = s.length - column < CHUNK ? (int)(s.length - column) : CHUNK;
    const unsigned length = s.length < CHUNK ? (unsigned)s.length : CHUNK;
    EACH_THREAD(u) {{
#pragma unroll 4
        for (int k = u; k < count; k += THREADS) {{
            const unsigned further = k < rest ? 0u : (unsigned)(k - rest);
            const whole y = k < rest ? row : row + 1 + further / length;
            const whole x = k < rest ? column + k : further % length;
            const whole unit = s.kind == 2 ? 0 : s.kind == 1 ? x / PARTS
                : s.outer == 1 ? y : y % s.units;
            const double factor = own[unit];
            room[start + k] = clipped(({wide})widened(g[start + k]), factor, (real)0);
        }}
    }}
}}
"""
    parts = [*_opening(p, g, compute, complex_numbers), _PRODUCT, body, _UNDEFINED]
    return named("unit_result", parts)
