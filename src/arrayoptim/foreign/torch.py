"""torch optimizers for arrays of every library."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..arrays.libraries import backend_of, named
from ..arrays.trees import Structure
from ..step.state import State
from .base import Foreign
from .handover import fresh, host, native_class, put_back
from .records import WHOLE, Entry

if TYPE_CHECKING:
    from typing_extensions import Self

BEGUN = "begun"
"""Slot that marks parameters with native state: torch creates it at the first gradient."""


class TorchOptimizer(Foreign):
    """Use a torch optimizer with arrays of every library.

    NumPy arrays and tensors are stepped in place; others are copied through host memory.

    Parameters
    ----------
    cls : type
        A subclass of ``torch.optim.Optimizer``, except those that evaluate the loss themselves,
        such as ``LBFGS``.
    **kwargs : object
        Its arguments, except the parameters.

    Raises
    ------
    TypeError
        If `cls` is anything else, such as an instance, which is bound to its own parameters.
    ValueError
        If the class itself rejects an argument.

    Notes
    -----
    ``native`` has one parameter group, in which hyperparameters are read and set,
    ``optimizer.native.param_groups[0]["lr"]``; torch schedulers accept it after `init`. State and
    hyperparameters are saved and restored. A gradient of None leaves parameter and state unchanged.
    16-bit parameters step as in torch, without a float32 master copy.

    Examples
    --------
    >>> import numpy as np
    >>> import torch  # doctest: +SKIP
    >>> import arrayoptim as ao
    >>> optimizer = ao.TorchOptimizer(torch.optim.SGD, lr=0.5)  # doctest: +SKIP
    >>> optimizer.apply(np.ones(2), np.zeros(2))  # doctest: +SKIP
    array([-0.5, -0.5])
    """

    wanted = "a class of torch optimizers, such as torch.optim.Adam"

    def __init__(self, cls: Any, **kwargs: Any) -> None:
        base = native_class("torch", "optim.Optimizer")
        if base is not None and isinstance(cls, base):
            raise TypeError(
                f"TorchOptimizer: found an instance of {type(cls).__qualname__}, which is bound to "
                f"parameters of its own; wanted its class and arguments, "
                f"TorchOptimizer({type(cls).__qualname__}, lr=...)"
            )
        if base is None or not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"TorchOptimizer: found {cls!r}, wanted {self.wanted}")
        chosen: Any = cls
        closure = inspect.signature(chosen.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TypeError(
                f"TorchOptimizer: {cls.__qualname__} evaluates the loss itself, several times a "
                "step, which apply(grads, params) cannot give it; wanted another class"
            )
        self._cls, self._kwargs = cls, kwargs
        self._tensors: list[Any] = []
        super().__init__(cls([_placeholder()], **kwargs))

    def __repr__(self) -> str:
        arguments = [f"{name}={value!r}" for name, value in self._arguments().items()]
        return f"TorchOptimizer({', '.join([self._cls.__qualname__, *arguments])})"

    def _arguments(self) -> dict[str, Any]:
        """Return the current arguments in the native optimizer."""
        group = self._native.param_groups[0]
        names = {**self._kwargs, **inspect.signature(self._cls).parameters}.keys() - {"params"}
        return {**self._kwargs, **{k: v for k, v in group.items() if k in names}}

    def _renew(self) -> None:
        self._native, self._tensors = self._cls([_placeholder()], **self._arguments()), []

    def _build(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        tensors = [None if p is None else _tensor(p) for p in leaves]
        present = [t for t in tensors if t is not None]
        self._native = self._cls(present or [_placeholder()], **self._arguments())
        self._tensors, self._paths = tensors, structure.paths

    def _advance(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        **extra: Any,
    ) -> list[Array | None]:
        rows = list(zip(self._tensors, leaves, gradients, strict=True))
        for tensor, p, g in rows:
            if tensor is not None and p is not None:
                tensor.data = _tensor(p)
                tensor.grad = None if g is None else _tensor(g).to(tensor.dtype)
        try:
            self._native.step()
        finally:
            for tensor in self._tensors:
                if tensor is not None:
                    tensor.grad = None
        return [
            p if tensor is None or g is None or _shares(p) else put_back(self._read(tensor), p)
            for tensor, p, g in rows
        ]

    # ---- state

    def _held(self) -> dict[int, dict[str, Any]]:
        """Return the native state of each parameter that has one, keyed by its index."""
        held = {
            place: self._native.state.get(tensor, {})
            for place, tensor in enumerate(self._tensors)
            if tensor is not None
        }
        return {place: state for place, state in held.items() if state}

    def _native_state(self) -> list[Entry]:
        begun = np.zeros(len(self._tensors), np.uint8)
        entries = [Entry(BEGUN, WHOLE.path, begun)]
        for place, state in self._held().items():
            begun[place] = 1
            for name, value in state.items():
                if value is not None:
                    entries.append(Entry(name, self._paths[place], _checked(value, name)))
        return entries

    def _read(self, array: Any) -> np.ndarray:
        return named("torch").to_host(array) if hasattr(array, "detach") else np.array(array)

    def _rehearsed(self, begun: np.ndarray) -> Any:
        """Return an optimizer with native state of arbitrary values for some parameters."""
        import torch

        twins = [None if t is None else t.detach().clone() for t in self._tensors]
        for twin, started in zip(twins, begun, strict=True):
            if twin is not None and started:
                twin.grad = torch.zeros_like(twin)
        present = [t for t in twins if t is not None]
        native = self._cls(present or [_placeholder()], **self._arguments())
        native.step()
        return native, twins

    def _expected(self, first: Any) -> State:
        begun = np.asarray(first)
        if begun.shape != (len(self._tensors),) or begun.dtype.kind not in ("b", "i", "u"):
            return super()._expected(first)
        before, present = (self._native, self._tensors), self._native_state()
        try:
            self._native, self._tensors = self._rehearsed(begun)
            state = super()._expected(first)
        finally:
            self._native, self._tensors = before
        known = {(entry.slot, entry.path): entry.array for entry in present}
        for name, leaf, held in state.entries():
            if name != BEGUN and (name, leaf.path) in known:
                held[name] = self._read(known[name, leaf.path])
        return state

    def _fill(self, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        native, twins = self._rehearsed(values[BEGUN, WHOLE.path])
        found: list[tuple[Any, dict[str, Any]]] = []
        for tensor, twin, path in zip(self._tensors, twins, self._paths, strict=True):
            state = native.state.get(twin, {}) if twin is not None else {}
            known = {k: _like(values[k, path], v) for k, v in state.items() if v is not None}
            if state:
                found.append((tensor, {**state, **known}))
        self._native.state.clear()
        self._native.state.update(found)

    def _described(self) -> tuple[str, dict[str, Any] | None]:
        import torch

        name = self._cls.__name__
        if getattr(torch.optim, name, None) is not self._cls:
            return f"{self._cls.__module__}.{self._cls.__qualname__}", None
        arguments = {k: _plain(v) for k, v in self._arguments().items()}
        return name, arguments

    @classmethod
    def _made(cls, name: str, arguments: dict[str, Any]) -> Self:
        import torch

        found = getattr(torch.optim, name, None)
        if not isinstance(found, type):
            raise ValueError(f"TorchOptimizer: torch.optim has no {name!r}")
        return cls(found, **{k: _tuples(v) for k, v in arguments.items()})

    def _take_over(self, arguments: Mapping[str, Any]) -> None:
        group = self._native.param_groups[0]
        group.update({k: _tuples(v) for k, v in arguments.items() if k in group})


def _placeholder() -> Any:
    import torch

    return torch.zeros(1, 1)


def _aliased(p: Array) -> bool:
    """Whether torch can work in the memory of a NumPy array."""
    native = p.dtype.isnative and all(stride % p.itemsize == 0 for stride in p.strides)
    return bool(p.flags.writeable and native and all(stride >= 0 for stride in p.strides))


def _shares(p: Array) -> bool:
    return backend_of(p).name == "torch" or (backend_of(p).name == "numpy" and _aliased(p))


def _tensor(x: Array) -> Any:
    """Return a tensor that shares the array's memory where torch can, otherwise a copy."""
    import torch

    if backend_of(x).name == "torch":
        return x.detach()
    values = host(x) if _shares(x) else fresh(x)
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _checked(value: Any, name: str) -> Any:
    if hasattr(value, "detach") or isinstance(value, bool | int | float):
        return value
    raise TypeError(
        f"the native state {name!r} is a {type(value).__qualname__}, wanted a tensor or a number: "
        "it cannot be read"
    )


def _like(value: np.ndarray, old: Any) -> Any:
    """Return a value from a file in torch's form."""
    if hasattr(old, "detach"):
        return named("torch").from_host(value, old)
    return type(old)(value.item())


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "detach") and value.ndim == 0 else value


def _tuples(value: Any) -> Any:
    """Convert JSON lists back to tuples."""
    return tuple(value) if isinstance(value, list) else value
