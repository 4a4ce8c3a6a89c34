"""JAX's arrays, and its functions under the names of the array API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from .backend import Backend, Functions


class Jax(Backend):
    """JAX: immutable arrays, and a compiler."""

    name = "jax"
    mutable = False
    compiles = True

    @property
    def xp(self) -> Namespace:
        """Functions of the array API, with a square root that can be differentiated at 0."""
        return functions()

    def device(self, x: Array) -> Any:
        """Return the array's devices; None for a tracer."""
        return None if self.traced(x) else frozenset(x.devices())

    def traced(self, x: Array) -> bool:
        """Whether the array is a tracer."""
        import jax

        return isinstance(x, jax.core.Tracer)

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the array in another dtype."""
        return x.astype(dtype)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand with a dtype."""
        return self.xp.asarray(value, dtype=dtype)

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; device and default shape follow `like`."""
        # zeros_like keeps the array's sharding; for tracers, only if no other shape is requested.
        same = shape is None or tuple(shape) == tuple(like.shape)
        return self.xp.zeros_like(like, dtype=dtype, shape=None if same else shape)

    def copy(self, x: Array) -> Array:
        """Return a copy with memory of its own."""
        # A buffer donated to a compiled function must not have other references.
        return self.xp.array(x, copy=True)

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array; collective if sharded over processes."""
        if x.is_fully_addressable:
            return np.array(x)
        from jax.experimental import multihost_utils

        return np.array(multihost_utils.process_allgather(x, tiled=True))

    def company(self, x: Array) -> tuple[bool, Callable[[int], int]] | None:
        """Return how processes communicate; see `Backend`."""
        if self.traced(x) or x.is_fully_addressable:
            return None
        import jax
        from jax.experimental import multihost_utils

        def tell(number: int) -> int:
            return int(multihost_utils.broadcast_one_to_all(np.int32(number)))

        return jax.process_index() == 0, tell

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as an array sharded like another; this process makes its shard."""
        import jax

        if not like.is_fully_addressable:
            typed = np.asarray(value, like.dtype)
            return jax.make_array_from_callback(like.shape, like.sharding, lambda at: typed[at])
        # A copy, because on the CPU JAX may alias the memory that it is passed.
        return jax.device_put(np.array(value, like.dtype), like.sharding)

    def counted(self, n: int, like: Array) -> Array:
        """Return the integers from 0 to ``n - 1``, also while tracing."""
        return self.xp.arange(n, dtype=like.dtype)

    def dense(self, x: Array) -> bool:
        """Whether the array is dense."""
        return not type(x).__module__.startswith("jax.experimental.sparse")

    def sparse(self, x: Array) -> tuple[Array, Array, Any] | None:
        """Return indices, rows and shape of an array in JAX's coordinate layout; see `Backend`."""
        from jax.experimental.sparse import BCOO

        if not isinstance(x, BCOO) or x.n_batch or not x.n_sparse:
            return None
        lead = x.shape[: x.n_sparse]
        # Padding entries are out of range along some axis.
        within = self.xp.all(x.indices < self.xp.asarray(lead, dtype=x.indices.dtype), axis=1)
        at = x.indices[:, 0]
        for k, length in enumerate(lead[1:], 1):
            at = at * length + x.indices[:, k]
        return self.xp.where(within, at, np.iinfo(at.dtype).max), x.data, x.shape

    def rows_at(self, x: Array, places: Sequence[Array]) -> Array:
        """Return rows of an array, zeros for indices out of range; see `Backend`."""
        return x.at[tuple(places)].get(mode="fill", fill_value=0)

    def put_rows(self, x: Array, places: Sequence[Array], rows: Array) -> Array:
        """Return an array with some rows replaced; see `Backend`."""
        return x.at[tuple(places)].set(rows.astype(x.dtype), mode="drop")

    def rounded(self, x: Array) -> Array:
        """Return numbers rounded to bfloat16, which XLA must not optimize away; see `Backend`."""
        import jax

        return jax.lax.reduce_precision(self.cast(x, "float32"), exponent_bits=8, mantissa_bits=7)

    def as_complex(self, x: Array) -> Array:
        """Return the complex array of which `as_real` made reals."""
        import jax

        return jax.lax.complex(x[..., 0], x[..., 1])

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Call one of two functions and return its result."""
        import jax

        return jax.lax.cond(condition, then, otherwise)

    def fixed(self, x: Array) -> Array:
        """Return an array that automatic differentiation treats as a constant."""
        import jax

        return jax.lax.stop_gradient(x)

    def sloped(
        self, function: Callable[..., Any], slope: Callable[[Any, Any, Any], Any]
    ) -> Callable[..., Any]:
        """Return a function with a custom derivative; see `Backend`."""
        import jax

        made: Any = jax.custom_jvp(function)

        def both(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            found = made(*primals)
            return found, slope(primals, found, tangents)

        made.defjvp(both)
        of_arrays: Callable[..., Any] = made
        return of_arrays

    def spread(self, function: Callable[..., Any], like: Any) -> Callable[..., Any]:
        """Return a function whose results are sharded over devices like some given arrays.

        If mesh axes are part of the arrays' types, JAX refuses reshapes and matrix products whose
        sharding is ambiguous; within this function, the compiler chooses it.
        """
        import jax

        shardings = jax.tree.map(lambda x: getattr(jax.typeof(x), "sharding", None), like)
        meshes = [s.mesh for s in jax.tree.leaves(shardings) if s is not None]
        axes = next((m.explicit_axes for m in meshes if getattr(m, "explicit_axes", ())), ())
        if not axes:
            return function
        spread: Callable[..., Any] = jax.sharding.auto_axes(
            function, axes=axes, out_sharding=shardings
        )
        return spread

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function mapped over the first axis of all arrays in trees; see `Backend`."""
        import jax

        found: Callable[..., Any] = jax.vmap(function)
        return found

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the compiled function."""
        import jax

        compiled: Callable[..., Any] = jax.jit(function)
        return compiled


@cache
def functions() -> Namespace:
    """Return ``jax.numpy`` with a square root whose derivative at 0 is 0.

    The derivative does not exist. 0 is right in every rule, where the argument is a square or a
    mean of squares.
    """
    import jax
    import jax.numpy as jnp

    def sloped(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
        y = root(*primals)
        nothing = y == 0
        slope = jnp.where(nothing, 0, 0.5 / jnp.where(nothing, 1, y))
        return y, tangents[0] * slope.astype(y.dtype)

    root: Any = jax.custom_jvp(jnp.sqrt)
    root.defjvp(sloped)
    return Functions({"sqrt": lambda x: root(jnp.asarray(x))}, jnp)
