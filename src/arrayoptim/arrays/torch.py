"""torch's tensors, and steps on them that torch can differentiate."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar, Tree
from .backend import CONTAINERS, HALF, Backend, Functions, addresses, numpy_dtype
from .slopes import with_slope

__all__ = ["Torch", "functions", "recording"]


class _Recording(threading.local):
    """Whether this thread is in a differentiable step."""

    on = False


_RECORDING = _Recording()


@contextlib.contextmanager
def recording(grads: Tree, params: Tree, *state: Tree) -> Iterator[None]:
    """Record a step of torch's tensors for differentiation, if an input asks for that.

    Outside of this context, a step records nothing and computes its scalars on the host.

    Parameters
    ----------
    grads, params : tree of arrays
        The inputs of a step. A leaf parameter that requires gradients does not ask for it, as
        those of a model do so in every training loop.
    *state : tree
        All other inputs that a result may depend on.
    """
    before = _RECORDING.on
    _RECORDING.on = before or _asked(grads, params, state)
    try:
        yield
    finally:
        _RECORDING.on = before


def _asked(grads: Tree, params: Tree, state: Tree) -> bool:
    if "torch" not in sys.modules:
        return False
    import optree
    import torch
    from torch.autograd import forward_ad

    def tensors(tree: Tree) -> list[Any]:
        return [
            x for x in optree.tree_leaves(tree, namespace=CONTAINERS) if isinstance(x, torch.Tensor)
        ]

    given, own = tensors((grads, state)), tensors(params)
    if not (given or own):
        return False
    if any(map(_functorch().is_functorch_wrapped_tensor, [*given, *own])):
        return True
    if forward_ad._current_level >= 0:
        return True
    wanted = any(x.requires_grad for x in given)
    wanted = wanted or any(x.requires_grad and not x.is_leaf for x in own)
    return wanted and torch.is_grad_enabled()


def _functorch() -> Any:
    import torch

    return torch._C._functorch


class Torch(Backend):
    """torch: eager and in place; differentiable steps behave like steps traced by a compiler."""

    name = "torch"

    @property
    def xp(self) -> Namespace:
        """Functions of the array API; in a differentiable step, for numbers too."""
        return functions() if _RECORDING.on else _usual()

    @property
    def compiles(self) -> bool:  # type: ignore[override]
        """Whether scalars are tensors, which they are in a differentiable step."""
        return _RECORDING.on

    @property
    def sums(self) -> str | None:  # type: ignore[override]
        """The dtype in which norms are summed if scalars are tensors."""
        return "float64" if _RECORDING.on else None

    def traced(self, x: Array) -> bool:
        """Whether a step is differentiable, or the tensor is batched by ``vmap``."""
        if _RECORDING.on:
            return True
        inner = _functorch()
        while inner.is_functorch_wrapped_tensor(x):
            if inner.is_batchedtensor(x):
                return True
            x = inner.get_unwrapped(x)
        return False

    def dtype_name(self, kind: Any) -> str:
        """Name of a dtype."""
        return str(kind)[6:]

    def dense(self, x: Array) -> bool:
        """Whether the tensor is dense."""
        return bool(x.layout == self.xp.strided) and not x.is_nested

    def elsewhere(self, x: Array) -> str:
        """Return what supports a DTensor, which is sharded over processes."""
        package = sys.modules.get("torch.distributed.tensor")
        if package is None or not isinstance(x, package.DTensor):
            return ""
        return (
            "is a DTensor, which may be sharded over processes; use an optimizer of "
            "arrayoptim.torch for it"
        )

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the tensor in another dtype."""
        return x if self.dtype(x) == dtype else x.to(getattr(self.xp, dtype))

    def rounded(self, x: Array) -> Array:
        """Return numbers in bfloat16, in which torch multiplies matrices; see `Backend`."""
        return self.cast(x, "bfloat16")

    def product(
        self, a: Array, b: Array, alpha: Any = None, beta: Any = None, c: Any = None
    ) -> Array:
        """Return products of stacks of matrices; see `Backend`."""
        if _RECORDING.on or len(a.shape) != 3 or not self.valued(a):
            return super().product(a, b, alpha, beta, c)
        import torch

        if c is None:
            return super().product(a, b, alpha)
        return torch.baddbmm(c, a, b, beta=float(beta), alpha=1 if alpha is None else float(alpha))

    @contextlib.contextmanager
    def exactly(self) -> Iterator[None]:
        """Switch TF32 off, for which a program may have asked."""
        import torch

        settings = torch.backends.cuda.matmul
        newer = hasattr(settings, "fp32_precision")
        name, exact = ("fp32_precision", "ieee") if newer else ("allow_tf32", False)
        before = getattr(settings, name)
        if before != exact:
            setattr(settings, name, exact)
        try:
            yield
        finally:
            if before != exact:
                setattr(settings, name, before)

    def stacked(self, arrays: Sequence[Array]) -> Array:
        """Return tensors of equal shape as one, or the tensor of which they are the rows."""
        first, count = arrays[0], len(arrays)
        whole, size, start = first._base, first.numel(), first.storage_offset()
        if _RECORDING.on or whole is None or whole.numel() != count * size or not size:
            return self.xp.stack(arrays)
        same = whole.dtype == first.dtype and not (whole.is_conj() or first.is_conj())
        rows = same and all(
            x._base is whole and x.storage_offset() == start + k * size and x.is_contiguous()
            for k, x in enumerate(arrays)
        )
        if rows and start == whole.storage_offset() and whole.is_contiguous():
            return whole.detach().view(count, *first.shape)
        return self.xp.stack(arrays)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand with a dtype."""
        if _RECORDING.on:
            return self.xp.asarray(value, getattr(self.xp, dtype))
        # A 0-d tensor on the host combines with tensors of any device.
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype))

    def widest(self, x: Array) -> str:
        """Return the widest real dtype that the tensor's device supports."""
        # Apple's GPUs have no float64, nor do some of Intel's.
        kind = x.device.type
        if kind == "xpu" and not self.xp.xpu.get_device_properties(x.device).has_fp64:
            return "float32"
        return "float32" if kind == "mps" else "float64"

    def store(self, target: Array, value: Array) -> None:
        """Write values into a tensor."""
        target.copy_(value)

    def copy(self, x: Array) -> Array:
        """Return a copy of the tensor."""
        return x.clone() if _RECORDING.on else x.detach().clone()

    def along_first(self, x: Array) -> list[Array]:
        """Return views of the tensor along its first axis, not recorded by autograd."""
        return list(x.detach().unbind(0))

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        x = x.detach().cpu().resolve_conj()
        if self.dtype(x) == "bfloat16":
            return np.array(x.view(self.xp.int16).numpy()).view(numpy_dtype("bfloat16"))
        return np.array(x.numpy())

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; layout, device and default shape follow `like`."""
        if shape is not None and shape != tuple(like.shape):
            return like.new_zeros(shape, dtype=getattr(self.xp, dtype))
        return self.xp.zeros_like(like.detach(), dtype=getattr(self.xp, dtype))

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a tensor with the dtype and device of another."""
        new = self.xp.empty_like(like)
        wide = "bfloat16" in (value.dtype.name, self.dtype(like))
        new.copy_(self.xp.asarray(np.array(value, np.float32 if wide else None)))
        return new

    def steps(self, x: Array) -> Any:
        """Return the strides, in elements."""
        return x.stride()

    def wrap(self, value: np.ndarray) -> Array:
        """Return a NumPy array as a tensor in the same memory."""
        return self.xp.asarray(value)

    def sparse(self, x: Array) -> tuple[Array, Array, Any] | None:
        """Return indices, rows and shape of a tensor in coordinate layout; see `Backend`."""
        if x.layout is not self.xp.sparse_coo:
            return None
        x = x.detach().coalesce()
        indices, at = x.indices(), x.indices()[0] if x.sparse_dim() else None
        if at is None:
            return None
        for length, more in zip(x.shape[1 : x.sparse_dim()], indices[1:], strict=True):
            at = at * length + more
        return at, x.values(), tuple(x.shape)

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        """Return unique rows in order of indices; see `Backend`."""
        import torch

        rows = rows.float() if self.dtype(rows) in HALF else rows
        if indices.shape[0] < 2 or bool((indices[1:] > indices[:-1]).all()):
            return indices, rows
        # Indices out of range are reported later.
        size = max(count, int(indices.max()) + 1)
        if int(indices.min()) < 0:
            order = torch.argsort(indices, stable=True)
            return indices[order], rows[order]
        # The argument of the same name does not keep torch 2.11 from its warning.
        with torch.sparse.check_sparse_tensor_invariants(False):
            shape = size, *rows.shape[1:]
            whole = torch.sparse_coo_tensor(indices[None], rows, shape).coalesce()
        return whole.indices()[0], whole.values()

    def rows_at(self, x: Array, places: Sequence[Array]) -> Array:
        """Return rows of a tensor; see `Backend`."""
        return x[tuple(place.long() for place in places)]

    def put_rows(self, x: Array, places: Sequence[Array], rows: Array) -> Array:
        """Write rows into a tensor, or into a copy in a differentiable step; see `Backend`."""
        places = tuple(place.long() for place in places)
        if _RECORDING.on:
            return x.index_put(places, rows.to(x.dtype))
        x[places] = rows.to(x.dtype)
        return x

    def host_view(self, x: Array) -> np.ndarray | None:
        """Return a NumPy view of the memory; None if the host cannot read it."""
        if _RECORDING.on or x.device.type != "cpu" or not self.valued(x):
            return None
        if self.dtype(x) == "bfloat16" or x.is_conj():
            return None
        view: np.ndarray = x.detach().numpy()
        return view

    def valued(self, x: Array) -> bool:
        """Whether the tensor has values, unlike meta and fake tensors."""
        return bool(x.device.type != "meta") and type(x).__name__ != "FakeTensor"

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Return the result of one of two functions; of the first if the condition has no value."""
        known = not self.xp.is_tensor(condition) or self.valued(condition)
        return then() if not known or condition else otherwise()

    def fixed(self, x: Array) -> Array:
        """Return an array that automatic differentiation treats as a constant."""
        return x.detach()

    def sloped(
        self, function: Callable[..., Any], slope: Callable[[Any, Any, Any], Any]
    ) -> Callable[..., Any]:
        """Return a function with a custom derivative; see `Backend`."""
        return with_slope(function, slope) if _RECORDING.on else function

    def span(self, x: Array) -> np.ndarray | None:
        """Return a NumPy array over the same addresses."""
        # On Apple's GPUs, data_ptr is the address of an object, not of the data.
        if x.device.type == "mps" or not self.valued(x):
            return None
        strides = tuple(stride * x.element_size() for stride in x.stride())
        return addresses(x.data_ptr(), tuple(x.shape), strides, x.element_size())

    def stretch(self, x: Array) -> tuple[int, int] | None:
        """Return the first address of a contiguous tensor and the one after its last."""
        if x.device.type == "mps" or not self.valued(x) or not x.is_contiguous():
            return None
        first = x.data_ptr()
        return first, first + x.nbytes

    def as_real(self, x: Array) -> Array:
        """Return a complex tensor as pairs of reals."""
        return self.xp.view_as_real(x.resolve_conj())

    def as_complex(self, x: Array) -> Array:
        """Return the complex tensor of which `as_real` made reals."""
        return self.xp.view_as_complex(x.contiguous())

    def guard(self, like: Array | None = None) -> contextlib.AbstractContextManager[Any]:
        """Return a context without autograd recording, unless the step is differentiable."""
        import torch

        return contextlib.nullcontext() if _RECORDING.on else torch.no_grad()


_OF_ONE = ("abs", "ceil", "cos", "exp", "expm1", "floor", "log", "log1p", "sign", "square", "tanh")
_OF_TWO = ("copysign", "maximum", "minimum", "pow")


def _sign(x: Any) -> Any:
    # The version of array_api_compat indexes by NaN masks, which synchronizes with a GPU.
    import torch

    return torch.where(torch.isnan(x), x, torch.sign(x))


def _matmul(x: Any, y: Any) -> Any:
    import torch

    # The version for all shapes calls five more functions.
    return torch.bmm(x, y) if x.ndim == y.ndim == 3 else torch.matmul(x, y)


@cache
def _usual() -> Namespace:
    """Return the functions of the array API."""
    import array_api_compat.torch as xp

    return Functions({"sign": _sign, "matmul": _matmul}, xp)


@cache
def functions() -> Namespace:
    """Return the functions of a step for tensors and numbers; a Python float becomes float64."""
    import array_api_compat.torch as xp
    import torch

    def asarray(value: Any, dtype: Any = None) -> Any:
        if not torch.is_tensor(value):
            real = isinstance(value, float | np.floating)
            return torch.tensor(value, dtype=dtype or (torch.float64 if real else None))
        return value if dtype is None else value.to(dtype)

    def sqrt(x: Any) -> Any:
        # The square root has no derivative at 0. 0 is right in every rule, where the argument is
        # a square or a mean of squares.
        x = asarray(x)
        nothing = x == 0
        return torch.where(nothing, x, torch.sqrt(torch.where(nothing, torch.ones_like(x), x)))

    def of_one(function: Any) -> Callable[[Any], Any]:
        return lambda x: function(asarray(x))

    def of_two(function: Any) -> Callable[[Any, Any], Any]:
        return lambda x, y: function(*map(asarray, (x, y)))

    def where(condition: Any, x: Any, y: Any) -> Any:
        return torch.where(asarray(condition), asarray(x), asarray(y))

    own: dict[str, Any] = {"asarray": asarray, "sqrt": sqrt, "where": where}
    own |= {name: of_one(getattr(xp, name)) for name in _OF_ONE} | {"sign": of_one(_sign)}
    own |= {name: of_two(getattr(xp, name)) for name in _OF_TWO}
    return Functions(own, xp)
