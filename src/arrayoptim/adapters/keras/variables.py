"""Keras's variables: their paths, their values, and new ones like them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from ..._typing import Array
from ...arrays.libraries import backend_of


def paths_of(variables: Sequence[Any]) -> list[str]:
    """Return each variable's path, made unique if several share it or one contains another."""
    found = [str(getattr(v, "path", v.name)).strip("/") for v in variables]
    count = Counter(found)
    above = {path[:i] for path in count for i, letter in enumerate(path) if letter == "/"}
    return [
        f"{path}:{k}" if count[path] > 1 or path in above or not path else path
        for k, path in enumerate(found)
    ]


def nested(paths: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return a tree of dicts with values at their paths."""
    tree: dict[str, Any] = {}
    for path, value in zip(paths, values, strict=True):
        *above, last = path.split("/")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def escaped(path: str) -> str:
    """Return a path, escaped like the paths of trees."""
    return path.replace("~", "~0")


def tensor(x: Any) -> Any:
    """Return a variable's value, or a gradient, as a tensor of the backend."""
    if keras.backend.backend() != "tensorflow":
        # JAX's gradients of embeddings are sparse (BCOO); duplicates are summed.
        return x.todense() if hasattr(x, "todense") else keras.ops.convert_to_tensor(x)
    import tensorflow as tf

    # keras.ops.convert_to_tensor returns variables unchanged and keeps gradients sparse.
    return tf.convert_to_tensor(x.value if isinstance(x, keras.Variable) else x)


def is_dense(g: Any) -> bool:
    """Whether a gradient is a dense tensor."""
    return not hasattr(g, "todense") and type(g).__name__ != "IndexedSlices"


def has_values(variables: Sequence[Any]) -> bool:
    """Whether variables can be read, unlike those created inside a ``tf.function``."""
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    values = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    return all(bool(tf.compat.v1.is_variable_initialized(value)) for value in values)


def same(a: Array, b: Array) -> bool:
    """Whether two arrays have equal entries."""
    return bool(keras.ops.all(keras.ops.equal(a, b)))


def number_like(owner: Any, name: str, value: float, dtype: str) -> Any:
    """Add a scalar variable."""
    return owner.add_variable(
        shape=(),
        initializer=lambda *_, **__: keras.ops.convert_to_tensor(value, dtype=dtype),
        dtype=dtype,
        name=name,
    )


def variable_like(owner: Any, name: str, value: Array, like: Any) -> Any:
    """Add a variable with an initial value, with the layout of another of equal shape."""
    shape, value = tuple(value.shape), apart(value)
    return owner.add_variable(
        shape=shape,
        initializer=lambda *_, **__: value,
        dtype=backend_of(value).dtype(value),
        layout=getattr(like, "_layout", None) if shape == tuple(like.shape) else None,
        name=name,
    )


def apart(value: Array) -> Array:
    """Return a value that can be used to initialize a variable."""
    # A slot initialized with the parameter must not share its buffer, which JAX's steps donate.
    return keras.ops.copy(value) if keras.backend.backend() == "jax" else value


def widest() -> str:
    """Return the widest floating-point dtype of the backend; for JAX, a setting."""
    if keras.backend.backend() != "jax":
        return "float64"
    import jax

    return str(jax.numpy.asarray(0.0).dtype)


def outside_of_graphs() -> Any:
    """Return the context in which variables are created, even if the first step is traced."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()
