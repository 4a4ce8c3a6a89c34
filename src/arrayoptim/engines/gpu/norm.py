"""The source of the pass that takes the gradients' norm, in the order of `numerics.sums`.

Each CUDA block sums a block of `numerics.sums`; the last one to finish adds up the partial sums, so
that one launch does it all. Squares of float64 may overflow or underflow: they are also summed
scaled by a power of two either way, and the result uses the sum that is in range, as in the array
engine.
"""

from __future__ import annotations

from .program import Program
from .sums import SUMS

__all__ = ["FIRST_NORM", "KINDS", "NORM", "SQUARES"]

FIRST_NORM = 4
"""Where the norms of tensors begin in the table of results, after the global one and its sums."""

KINDS = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
"""The codes of dtypes in the table of gradients."""

SQUARES = (
    SUMS
    + r"""
const double UP = 0x1p600, DOWN = 0x1p-600, TINY = 0x1p-900, MOST = 0x1.fffffffffffffp1023;

template <int SHIFTS> FUNCTION void add_square(double x, double *sums) {
    sums[0] += x * x;
    if (SHIFTS) {
        const double up = x * UP, down = x * DOWN;
        sums[1] += up * up;
        sums[2] += down * down;
    }
}

// Each thread has a lane of a run, and asks for several elements before it adds them up.
template <int SHIFTS, typename T>
FUNCTION void sum_squares(Room &room, const T *g, whole start, whole stop) {
    const int most = 8;
    EACH_THREAD(u) {
        const whole first = start + (whole)RUN * (u / LANES);
        const whole end = stop < first + RUN ? stop : first + RUN;
        double sums[3] = {0.0, 0.0, 0.0};
        whole i = first + u % LANES;
        for (; i + (most - 1) * LANES < end; i += most * LANES) {
            T x[most];
            for (int k = 0; k < most; ++k) x[k] = g[i + k * LANES];
            for (int k = 0; k < most; ++k) add_square<SHIFTS>((double)widened(x[k]), sums);
        }
        for (; i < end; i += LANES) add_square<SHIFTS>((double)widened(g[i]), sums);
        for (int w = 0; w < 3; ++w) room.lanes[w][u] = sums[w];
    }
    fold_lanes(room, 1 + SHIFTS);
    if (SHIFTS) return;
    EACH_THREAD(u) {
        // Squares of fewer bits stay in range, unless an element is infinite.
        if (u == 0) room.lanes[2][0] = room.lanes[0][0] > MOST ? room.lanes[0][0] : 0.0;
    }
}

FUNCTION double norm_of(double total, double up, double down, bool shifted) {
    if (!shifted || total != total || (total > TINY && total <= MOST)) return xp_sqrt(total);
    return total <= TINY ? xp_sqrt(up) / UP : xp_sqrt(down) / DOWN;
}
"""
)
"""The sums of squares of a block, and the norm that follows from them."""

_BODY = (
    "namespace of_norm {\n"
    + SQUARES
    + r"""
// partial has three numbers for each chunk, sums has three for each tensor, result has four and
// then the norm of each tensor.
KERNEL norm_of_gradients(
    const int *chunks, const whole *sizes, const whole *first, const whole *gradients,
    double *partial, double *sums, double *result, int *arrived, whole count, whole shifted
) {
    __shared__ Room room;
    const whole blocks = gridDim.x;
    const int t = chunks[2 * blockIdx.x];
    const whole start = (whole)BLOCK * chunks[2 * blockIdx.x + 1], size = sizes[t];
    const whole stop = size - start < BLOCK ? size : start + BLOCK;
    const whole at = gradients[t], kind = gradients[count + t];
    if (!at) sum_squares<0>(room, (const float *)0, 0, 0);
    else if (kind == 0) sum_squares<0>(room, (const half_bits *)at, start, stop);
    else if (kind == 1) sum_squares<0>(room, (const bfloat_bits *)at, start, stop);
    else if (kind == 2) sum_squares<0>(room, (const float *)at, start, stop);
    else sum_squares<2>(room, (const double *)at, start, stop);
    if (!is_last(room, 3, partial, arrived, count)) return;
    for (int w = 0; w < (shifted ? 3 : 1); ++w)
        sum_runs(room, partial + w * blocks, blocks, first, count, sums + w * count);
    for (int w = 0; w < (shifted ? 3 : 1); ++w)
        sum_runs(room, sums + w * count, count, room.ends, 1, result + 1 + w);
    EACH_THREAD(u) {
        for (whole j = u; j < count; j += THREADS) {
            const double *sum = sums + j;
            const double up = shifted ? sum[count] : 0.0, down = shifted ? sum[2 * count] : 0.0;
            result[4 + j] = norm_of(sum[0], up, down, shifted);
        }
        if (u == 0) {
            result[0] = norm_of(result[1], result[2], result[3], shifted);
            *arrived = 0;
        }
    }
}
}
"""
)
NORM = Program("norm_of_gradients", _BODY)
