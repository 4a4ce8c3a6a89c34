"""optax transformations for arrays of every library."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Scalar, Tree
from ..arrays.libraries import backend_of, is_array
from ..arrays.trees import Structure, flatten
from ..step import checks
from .base import Foreign
from .handover import fresh, native_class, put_back
from .records import WHOLE, Entry

if TYPE_CHECKING:
    from typing_extensions import Self

WIDE = {"float64", "complex128"}


class OptaxOptimizer(Foreign):
    """Use an optax transformation with arrays of every library.

    JAX arrays stay on their devices; others are copied to JAX's default device and back each step.

    Parameters
    ----------
    tx : optax.GradientTransformation
        The transformation.
    jit : bool
        Whether to compile the step with ``jax.jit``, which may change the rounding.

    Raises
    ------
    TypeError
        If `tx` is not a transformation.

    Notes
    -----
    The transformation sees the parameters in their own tree, so masks and labels work. float64
    arrays are stepped in float64 whether or not JAX has it enabled. Extra arguments of a
    transformation, such as ``value``, are keyword arguments of `apply`; `minimize` passes ``value``
    and ``grad``, and ``value_fn`` for JAX arrays. A gradient of None is an error: optax transforms
    all gradients together.

    Hyperparameters are captured in closures, so there is no configuration; those under
    ``optax.inject_hyperparams`` are part of the state, and are saved with it.

    Examples
    --------
    >>> import numpy as np
    >>> import optax  # doctest: +SKIP
    >>> import arrayoptim as ao
    >>> optimizer = ao.OptaxOptimizer(optax.sgd(0.5))  # doctest: +SKIP
    >>> optimizer.apply(np.ones(2), np.zeros(2))  # doctest: +SKIP
    array([-0.5, -0.5])
    """

    pure = True
    wanted = "an optax.GradientTransformation, such as optax.adam(1e-3)"

    def __init__(self, tx: Any, jit: bool = True) -> None:
        base = native_class("optax", "GradientTransformation")
        if base is None or not isinstance(tx, base):
            raise TypeError(f"OptaxOptimizer: found {tx!r}, wanted {self.wanted}")
        super().__init__(tx)
        self._jit = bool(jit)
        self._renew()

    def _renew(self) -> None:
        self._held: Tree = None
        self._wide = False
        self._step_of: Any = None

    def apply(self, grads: Tree, params: Tree, **extra: Any) -> Tree:
        """Take one step; see `Optimizer.apply`.

        Parameters
        ----------
        grads, params : tree of arrays
            Gradients and parameters.
        **extra : object
            Extra arguments of the transformation's ``update``.

        Returns
        -------
        tree of arrays
            As from `Optimizer.apply`.
        """
        return self._apply(grads, params, **extra)

    def _extra(self, loss: Any, value: Scalar, gradients: Tree, params: Tree) -> dict[str, Any]:
        wanting = native_class("optax", "GradientTransformationExtraArgs")
        if wanting is None or not isinstance(self._native, wanting):
            return {}
        extra = {"value": value, "grad": gradients}
        leaves, _ = flatten(params)
        if all(p is None or backend_of(p).name == "jax" for p in leaves):
            extra["value_fn"] = loss
        return extra

    def _build(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        from jax import tree_util

        self._wide = any(p is not None and backend_of(p).dtype(p) in WIDE for p in leaves)
        numbered = structure.build([None if p is None else i for i, p in enumerate(leaves)])
        self._places = {
            path: structure.paths[i] for path, i in tree_util.tree_flatten_with_path(numbered)[0]
        }
        with self._precision():
            self._held = self._native.init(structure.build(_all_to_jax(leaves)))
        self._step_of = self._compiled()

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Enable float64 in JAX if a parameter has that dtype."""
        import jax

        if not self._wide or jax.config.jax_enable_x64:
            return contextlib.nullcontext()
        if hasattr(jax, "enable_x64"):
            found: contextlib.AbstractContextManager[Any] = jax.enable_x64(True)
            return found
        from jax.experimental import enable_x64

        older: contextlib.AbstractContextManager[Any] = enable_x64()
        return older

    def _compiled(self) -> Any:
        import jax
        import optax

        tx = self._native

        def step(gradients: Tree, held: Tree, params: Tree, extra: Any, fixed: Any) -> Any:
            updates, held = tx.update(gradients, held, params, **extra, **dict(fixed))
            return optax.apply_updates(params, updates), held

        return jax.jit(step, static_argnums=4) if self._jit else step

    def _advance(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        **extra: Any,
    ) -> list[Array | None]:
        why = (
            "but optax transforms all gradients together; give zeros, or keep the parameter out by "
            "optax.masked or optax.partition"
        )
        checks.every_gradient(gradients, leaves, structure, why)
        from jax import tree_util

        fixed = tuple((name, x) for name, x in extra.items() if callable(x))
        with self._precision():
            params = structure.build(_all_to_jax(leaves))
            given = {
                name: tree_util.tree_map(_to_jax, x) for name, x in extra.items() if not callable(x)
            }
            new, held = self._step_of(
                structure.build(_all_to_jax(gradients)), self._held, params, given, fixed
            )
            values, _ = flatten(new)
            updated = [
                None if p is None else _from_jax(x, p) for x, p in zip(values, leaves, strict=True)
            ]
        self._held = held
        return updated

    # ---- state

    def _native_state(self) -> list[Entry]:
        from jax import tree_util

        entries = []
        for keys, array in tree_util.tree_flatten_with_path(self._held)[0]:
            # The longest suffix of the path that is a parameter's path.
            cut = next((i for i in range(len(keys)) if keys[i:] in self._places), len(keys))
            path = self._places.get(keys[cut:], WHOLE.path)
            way = "/".join(_key(key) for key in keys[:cut])
            # This class's own count has that name in files.
            entries.append(Entry("0/iterations" if way == "iterations" else way, path, array))
        return entries

    def _read(self, array: Any) -> np.ndarray:
        return np.array(_key_data(array))

    def _fill(self, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        from jax import tree_util

        structure = tree_util.tree_structure(self._held)
        with self._precision():
            new = [_restored(values[e.slot, e.path], e.array) for e in self._native_state()]
        self._held = tree_util.tree_unflatten(structure, new)

    def _described(self) -> tuple[str, dict[str, Any] | None]:
        return f"optax.{type(self._native).__name__}", None

    @classmethod
    def _made(cls, name: str, arguments: dict[str, Any]) -> Self:
        raise NotImplementedError(f"OptaxOptimizer cannot be made from a name; wanted {cls.wanted}")


def _all_to_jax(arrays: Sequence[Array | None]) -> list[Array | None]:
    return [None if x is None else _to_jax(x) for x in arrays]


def _to_jax(x: Any) -> Any:
    """Return a JAX array, as a copy of another library's, as JAX may keep its memory."""
    import jax

    if not is_array(x):
        return x
    return x if backend_of(x).name == "jax" else jax.device_put(fresh(x))


def _from_jax(new: Any, p: Array) -> Array:
    return new if backend_of(p).name == "jax" else put_back(np.asarray(new), p)


def _key(key: Any) -> str:
    """Return one key of a path in optax's state as text."""
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _is_key(array: Any) -> bool:
    import jax

    return hasattr(array, "dtype") and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)


def _key_data(array: Any) -> Any:
    import jax

    return jax.random.key_data(array) if _is_key(array) else array


def _restored(value: np.ndarray, old: Any) -> Any:
    import jax

    if _is_key(old):
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(old))
    if not is_array(old):
        return type(old)(value.item())
    return jax.device_put(np.array(value, old.dtype), getattr(old, "sharding", None))
