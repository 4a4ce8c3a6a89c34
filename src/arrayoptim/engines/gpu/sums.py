"""The source of the sums in kernels, in the order of `numerics.sums`.

Each CUDA block sums a block of `numerics.sums`, each of its threads a lane of a run; the last block
to finish adds up the partial sums, so that one launch does it all.
"""

from __future__ import annotations

__all__ = ["MOST", "SUMS"]

MOST = 3
"""Most sums that a kernel can take at once."""

SUMS = r"""
struct Room {
    double x[2048];
    double lanes[3][THREADS];
    whole ticket;
    whole ends[2];
};

// Folds the lanes of each run: the sums of the runs are in those lanes that begin one.
FUNCTION void halve_lanes(Room &room, int sums) {
    for (int half = LANES / 2; half; half /= 2) {
        __syncthreads();
        EACH_THREAD(u) {
            if (u % LANES < half)
                for (int w = 0; w < sums; ++w) room.lanes[w][u] += room.lanes[w][u + half];
        }
    }
    __syncthreads();
}

// Folds the lanes of each run, and adds the runs one after another: the sums are in lanes[w][0].
FUNCTION void fold_lanes(Room &room, int sums) {
    halve_lanes(room, sums);
    EACH_THREAD(u) {
        if (u < sums) {
            double sum = 0.0;
            for (int run = 0; run < THREADS; run += LANES) sum += room.lanes[u][run];
            room.lanes[u][0] = sum;
        }
    }
    __syncthreads();
}

// Leaves a block's sums to the others, and says whether it is the last block.
FUNCTION bool is_last(Room &room, int sums, double *partial, int *arrived, whole count) {
    EACH_THREAD(u) {
        if (u == 0) {
            for (int w = 0; w < sums; ++w)
                partial[w * (whole)gridDim.x + blockIdx.x] = room.lanes[w][0];
            __threadfence();
            room.ticket = atomicAdd(arrived, 1);
            room.ends[0] = 0;
            room.ends[1] = count;
        }
    }
    __syncthreads();
    if (room.ticket != (whole)gridDim.x - 1) return false;
    __threadfence();
    return true;
}

// Adds up runs of numbers, one after another: those of run j are from first[j] to first[j + 1].
FUNCTION void sum_runs(
    Room &room, const volatile double *x, whole count, const whole *first, whole runs, double *sums
) {
    EACH_THREAD(u) {
        for (whole j = u; j < runs; j += THREADS) sums[j] = 0.0;
    }
    for (whole tile = 0; tile < count; tile += 2048) {
        __syncthreads();
        EACH_THREAD(u) {
            for (whole k = u; k < 2048 && tile + k < count; k += THREADS) room.x[k] = x[tile + k];
        }
        __syncthreads();
        EACH_THREAD(u) {
            for (whole j = u; j < runs; j += THREADS) {
                const whole low = first[j] > tile ? first[j] : tile;
                const whole end = first[j + 1] < tile + 2048 ? first[j + 1] : tile + 2048;
                double sum = sums[j];
                for (whole k = low; k < end; ++k) sum += room.x[k - tile];
                sums[j] = sum;
            }
        }
    }
    __syncthreads();
}
"""
