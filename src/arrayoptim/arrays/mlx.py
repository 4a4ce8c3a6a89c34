"""MLX's arrays, and its functions under the names of the array API."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from .backend import HALF, Backend, summed


class MLX(Backend):
    """MLX: lazily evaluated; in-place writes rebind an array to a new value."""

    name = "mlx"

    @property
    def xp(self) -> Namespace:
        """Functions under the names of the array API."""
        return functions()

    def dtype_name(self, kind: Any) -> str:
        """Return the name of a dtype."""
        return str(kind).rpartition(".")[2]

    def device(self, x: Array) -> Any:
        """Return "mlx": in MLX, operations have devices, but arrays do not."""
        return self.name

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the array with another dtype."""
        return x.astype(getattr(self.xp, dtype))

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand with a dtype."""
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype))

    def widest(self, x: Array) -> str:
        """Return "float32" on a GPU, which has no float64."""
        return "float64" if self.xp.default_device() == self.xp.cpu else "float32"

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; the default shape follows `like`."""
        return self.xp.zeros(like.shape if shape is None else shape, dtype=getattr(self.xp, dtype))

    def store(self, target: Array, value: Array) -> None:
        """Write values into an array, rounded to its dtype, and start their evaluation."""
        target[...] = self.cast(value, self.dtype(target))
        # An array that is never evaluated, such as a slot, would keep the graphs of all steps
        # alive.
        self.xp.async_eval(target)

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        """Return unique rows in order of indices; see `Backend`."""
        # MLX has no stable sort.
        found, total = summed(self.to_host(indices), self.to_host(rows))
        like = self.cast(rows, "float32") if self.dtype(rows) in HALF else rows
        return self.from_host(found, indices), self.from_host(total, like)

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        if self.dtype(x) == "bfloat16":
            import ml_dtypes

            return np.array(x.astype(self.xp.float32)).astype(ml_dtypes.bfloat16)
        return np.array(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a new array with the dtype of another one."""
        found = value.dtype.name
        if found == "bfloat16":
            value, found = np.asarray(value, np.float32), "float32"
        # Without a dtype, MLX converts float64 to float32.
        made = self.xp.asarray(value, dtype=getattr(self.xp, found))
        return self.cast(made, self.dtype(like))


@cache
def functions() -> Namespace:
    """Return MLX's functions, with additions for those that it lacks or that need the CPU."""
    import mlx.core as mx

    def copysign(size: Array, sign: Array) -> Array:
        # Division reveals the sign of zero.
        negative = mx.where(sign == 0, 1 / sign < 0, sign < 0)
        return mx.where(negative, -mx.abs(size), mx.abs(size))

    def sign(x: Array) -> Array:
        return mx.where(mx.isnan(x), x, mx.sign(x))

    def eigh(x: Array) -> tuple[Array, Array]:
        values, vectors = mx.linalg.eigh(x, stream=mx.cpu)
        return values, vectors

    def qr(x: Array) -> tuple[Array, Array]:
        q, r = mx.linalg.qr(x, stream=mx.cpu)
        return q, r

    def solve(a: Array, b: Array) -> Array:
        return mx.linalg.solve(a, b, stream=mx.cpu)

    names = {name: getattr(mx, name) for name in dir(mx) if not name.startswith("_")}
    linalg = SimpleNamespace(eigh=eigh, qr=qr, solve=solve)
    own = {"copysign": copysign, "sign": sign, "linalg": linalg}
    return SimpleNamespace(**(names | own))
