"""dpnp's arrays, on every device that SYCL supports."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from .backend import Backend


class DPNP(Backend):
    """dpnp: the array API standard on Intel's devices."""

    name = "dpnp"

    @property
    def xp(self) -> Namespace:
        """The library's array API namespace."""
        import dpnp

        return dpnp

    def device(self, x: Array) -> Any:
        """Return the array's SYCL queue, which all operands must share."""
        return x.sycl_queue

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand with a dtype."""
        return self.xp.asarray(value, dtype=dtype, sycl_queue=like.sycl_queue)

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; layout, device and default shape follow `like`."""
        return self.xp.zeros_like(like, dtype=dtype, shape=shape)

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        return np.array(self.xp.asnumpy(x))

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a new array; dtype and device follow `like`."""
        return self.xp.asarray(value.astype(like.dtype), sycl_queue=like.sycl_queue, copy=True)
