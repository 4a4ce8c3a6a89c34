"""TensorFlow's tensors and variables, and its functions under the names of the array API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from .backend import HALF, Backend


class TensorFlow(Backend):
    """TensorFlow: eager, or traced in a ``tf.function``."""

    name = "tensorflow"
    mutable = False
    compiles = True
    sums = "float64"

    @property
    def xp(self) -> Namespace:
        """Functions under the names of the array API."""
        return functions()

    def writable(self, x: Array) -> bool:
        """Whether the array is a variable."""
        import tensorflow as tf

        return isinstance(x, tf.Variable)

    def device(self, x: Array) -> Any:
        """Return the array's device; None in a graph."""
        return None if self.traced(x) else x.device

    def dense(self, x: Array) -> bool:
        """Whether the array is dense."""
        import tensorflow as tf

        return isinstance(x, tf.Tensor | tf.Variable)

    def traced(self, x: Array) -> bool:
        """Whether a graph is being traced."""
        import tensorflow as tf

        return not tf.executing_eagerly()

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the values in another dtype."""
        import tensorflow as tf

        return tf.cast(x, dtype)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand with a dtype."""
        return self.xp.asarray(value, dtype=dtype)

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; the default shape follows `like`."""
        import tensorflow as tf

        return tf.zeros(like.shape if shape is None else shape, dtype)

    def store(self, target: Array, value: Array) -> None:
        """Write values into a variable."""
        target.assign(self.cast(value, self.dtype(target)))

    def copy(self, x: Array) -> Array:
        """Return the values as an immutable tensor."""
        import tensorflow as tf

        return tf.identity(x)

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        return np.array(x.numpy())

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a tensor with the dtype of another."""
        import tensorflow as tf

        return tf.constant(value.astype(like.dtype.as_numpy_dtype))

    def sparse(self, x: Array) -> tuple[Array, Array, Any] | None:
        """Return indices, rows and shape of an ``IndexedSlices``; see `Backend`."""
        import tensorflow as tf

        if not isinstance(x, tf.IndexedSlices):
            return None
        known = x.dense_shape is not None
        shape = tf.get_static_value(tf.convert_to_tensor(x.dense_shape)) if known else None
        return x.indices, x.values, None if shape is None else tuple(shape.tolist())

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        """Return unique rows; see `Backend`."""
        import tensorflow as tf

        rows = tf.cast(rows, "float32") if self.dtype(rows) in HALF else rows
        found, which = tf.unique(indices)
        return found, tf.math.unsorted_segment_sum(rows, which, tf.shape(found)[0])

    def rows_at(self, x: Array, places: Sequence[Array]) -> Array:
        """Return rows of an array; see `Backend`."""
        import tensorflow as tf

        return tf.gather_nd(x, tf.stack(places, axis=1))

    def put_rows(self, x: Array, places: Sequence[Array], rows: Array) -> Array:
        """Write rows into a variable, or return a new tensor; see `Backend`."""
        import tensorflow as tf

        at, rows = tf.stack(places, axis=1), tf.cast(rows, x.dtype)
        if self.writable(x):
            x.scatter_nd_update(at, rows)
            return x
        return tf.tensor_scatter_nd_update(x, at, rows)

    def as_complex(self, x: Array) -> Array:
        """Return the complex tensor of which `as_real` made reals."""
        import tensorflow as tf

        return tf.complex(x[..., 0], x[..., 1])

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Call one of two functions and return its result, in a graph too."""
        import tensorflow as tf

        return tf.cond(condition, then, otherwise)


_OF_ONE = {
    **{name: name for name in ("abs", "exp", "expm1", "imag", "log", "log1p", "real", "sign")},
    **{name: name for name in ("ceil", "cos", "floor", "sqrt", "square", "tanh")},
    "isfinite": "is_finite",
}
_OF_TWO = ("maximum", "minimum")
_REDUCING = ("max", "mean", "min", "sum")
_AS_THEY_ARE = (
    *("stack", "zeros", "ones_like", "zeros_like", "reshape", "argsort"),
    *("int32", "float32", "float64", "complex64", "complex128"),
)
_AS_IN_NUMPY = (
    *("all", "any", "argmax", "broadcast_to", "expand_dims", "eye", "flip", "full_like"),
    *("take_along_axis", "tril", "triu"),
)


@cache
def functions() -> Namespace:
    """Return the functions of a step for tensors and numbers; a Python float becomes float64."""
    import tensorflow as tf

    def asarray(value: Any, dtype: Any = None) -> Any:
        x = value if tf.is_tensor(value) else tf.constant(np.asarray(value))
        return tf.convert_to_tensor(x) if dtype is None else tf.cast(x, dtype)

    def copysign(x: Any, y: Any) -> Any:
        return tf.where((y < 0) | (1 / y < 0), -tf.abs(x), tf.abs(x))

    def finfo(dtype: Any) -> Any:
        return np.finfo(dtype.as_numpy_dtype)

    def of_one(function: Any) -> Any:
        # TensorFlow would convert a Python float to float32.
        return lambda x, **axes: function(asarray(x), **axes)

    def alike(*pair: Any) -> list[Any]:
        # TensorFlow gives a number the dtype of a tensor only if the tensor comes first.
        kind = next((x.dtype for x in pair if tf.is_tensor(x)), tf.float64)
        return [asarray(x, None if tf.is_tensor(x) else kind) for x in pair]

    def of_two(function: Any) -> Any:
        return lambda x, y: function(*alike(x, y))

    def where(condition: Any, x: Any, y: Any) -> Any:
        return tf.where(condition, *alike(x, y))

    def reducing(function: Any) -> Any:
        return lambda x, axis=None, keepdims=False: function(asarray(x), axis, keepdims)

    found: dict[str, Any] = {"asarray": asarray, "copysign": copysign, "finfo": finfo}
    found["where"] = where
    found |= {name: of_one(getattr(tf.math, other)) for name, other in _OF_ONE.items()}
    found |= {name: of_two(getattr(tf, name)) for name in _OF_TWO}
    found |= {name: reducing(getattr(tf.math, f"reduce_{name}")) for name in _REDUCING}
    found |= {"matmul": tf.linalg.matmul, "matrix_transpose": tf.linalg.matrix_transpose}
    found |= {"linalg": tf.linalg, "astype": tf.cast, "concat": tf.concat}
    found["permute_dims"] = tf.transpose
    found |= {name: getattr(tf.experimental.numpy, name) for name in _AS_IN_NUMPY}
    found |= {name: getattr(tf, name) for name in _AS_THEY_ARE}
    return SimpleNamespace(**found)
