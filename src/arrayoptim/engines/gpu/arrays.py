"""What the GPU engine knows about the arrays of each library."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._typing import Array
from ...arrays.libraries import backend_of, numpy_dtype
from .walks import CuPyWalk, TorchWalk, Walk, walk_over

if TYPE_CHECKING:
    from .device import Device

__all__ = ["CAPTURING", "LIBRARIES", "Library", "dense", "library_of"]

Strides = tuple[int, ...]

CAPTURING = (
    "a CUDA graph is being captured, which would repeat the numbers of this one step: put steps "
    "into a graph with the optimizer's capture()"
)
"""The message where a step cannot be taken."""


def _obstacle() -> str | None:
    from .device import obstacle

    return obstacle()


class Library(ABC):
    """A library with arrays on GPUs."""

    fixed = False
    """Whether an array keeps its memory as long as it lives."""

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return for each array what decides whether kernels can read it, except its address.

        Returns
        -------
        list or None
            Things to be compared; None where an array is of another library.
        """
        return None

    def walk(self, arrays: Sequence[Array | None], number: int) -> Walk | None:
        """Return how machine code asks arrays like these on a device; None where it does not."""
        return None

    def places(self, arrays: Sequence[Array | None]) -> list[int]:
        """Return the address of each array; 0 for None."""
        return [0 if array is None else self.address(array) for array in arrays]

    def holds(self, array: Array) -> bool:
        """Whether an array of this library is on a GPU."""
        return True

    def refusal(self, array: Array) -> str | None:
        """Return why the memory of an array cannot be used directly, apart from its order."""
        return _obstacle()

    def device(self, number: int) -> Device:
        """Return a device by its number."""
        # Arrays of the host are looked at too, and need nothing that compiles kernels.
        from .device import device

        return device(number)

    @abstractmethod
    def number(self, array: Array) -> int:
        """Return the number of an array's device."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Return the address of the first element."""

    @abstractmethod
    def strides(self, array: Array) -> Strides:
        """Return the strides, in elements."""

    def stream(self, number: int) -> int | None:
        """Return the address of the library's current stream; None for CuPy's."""
        return None

    @abstractmethod
    def captures(self, number: int) -> bool:
        """Whether the library's current stream on a device records a CUDA graph."""

    @abstractmethod
    def conform(self, array: Array, like: Array, dtype: str) -> Array:
        """Return a copy in the order of another array, in some dtype."""

    @abstractmethod
    def fetched(self, array: Array) -> Array:
        """Return a copy in host memory, in the same order, made by the library itself."""

    @abstractmethod
    def on_host(self, room: np.ndarray[Any, Any], dtype: str, count: int) -> Array:
        """Return host memory as a flat array of the library's that the host computes on.

        Parameters
        ----------
        room : numpy.ndarray of uint8
            The memory.
        dtype : str
            A dtype.
        count : int
            Number of elements.
        """

    @abstractmethod
    def flat(self, array: Array) -> Array:
        """Return the memory of an array of `on_host`'s library without gaps as one dimension."""

    @abstractmethod
    def shaped(self, array: Array, like: Array) -> Array:
        """Undo `flat`, in shape and order of another array of the library's."""

    def wrote(self, params: Sequence[Array]) -> None:  # noqa: B027  nothing, where nobody counts
        """Tell the library that parameters were changed from outside."""


class CuPyLibrary(Library):
    """CuPy arrays, on CuPy's current stream."""

    fixed = True

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return the facts about arrays; see `Library`."""
        try:
            return [
                x if x is None else (type(x), x.data.device_id, x.shape, x.strides, x.dtype)
                for x in arrays
            ]
        except AttributeError:
            return None

    def walk(self, arrays: Sequence[Array | None], number: int) -> Walk | None:
        """Return how machine code asks arrays; see `Library`."""
        return walk_over(CuPyWalk, self, arrays, number)

    def places(self, arrays: Sequence[Array | None]) -> list[int]:
        """Return the address of each array; see `Library`."""
        return [0 if x is None else x.data.ptr for x in arrays]

    def number(self, array: Array) -> int:
        """Return the number of an array's device; see `Library`."""
        return int(array.device.id)

    def address(self, array: Array) -> int:
        """Return the address of the first element; see `Library`."""
        return int(array.data.ptr)

    def strides(self, array: Array) -> Strides:
        """Return the strides; see `Library`."""
        size = array.itemsize
        return tuple(step // size for step in array.strides)

    def captures(self, number: int) -> bool:
        """Whether CuPy's current stream records a graph; see `Library`."""
        cuda: Any = sys.modules["cupy"].cuda
        # ROCm's CuPy has no graphs.
        if cuda.runtime.is_hip:
            return False
        try:
            return bool(cuda.get_current_stream(number).is_capturing())
        except RuntimeError:
            # The default stream waits for another stream, which records a graph.
            return True

    def conform(self, array: Array, like: Array, dtype: str) -> Array:
        """Return a copy in the order of another array; see `Library`."""
        copy = backend_of(like).zeros(like, dtype)
        copy[...] = array
        return copy

    def fetched(self, array: Array) -> Array:
        """Return a NumPy array; see `Library`."""
        return array.get(order="A")

    def on_host(self, room: np.ndarray[Any, Any], dtype: str, count: int) -> Array:
        """Return host memory as a NumPy array; see `Library`."""
        return np.frombuffer(room, numpy_dtype(dtype), count)

    def flat(self, array: Array) -> Array:
        """Return the memory of a NumPy array; see `Library`."""
        return np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,))

    def shaped(self, array: Array, like: Array) -> Array:
        """Undo `flat`; see `Library`."""
        steps = tuple(step * array.itemsize for step in self.strides(like))
        return np.lib.stride_tricks.as_strided(array, tuple(like.shape), steps)


class TorchLibrary(Library):
    """Torch tensors on CUDA devices, on torch's current stream and in their own memory."""

    walking: type[TorchWalk] = TorchWalk

    def walk(self, arrays: Sequence[Array | None], number: int) -> Walk | None:
        """Return how machine code asks tensors; see `Library`."""
        return walk_over(self.walking, self, arrays, number)

    def places(self, arrays: Sequence[Array | None]) -> list[int]:
        """Return the address of each tensor; see `Library`."""
        return [0 if x is None else x.data_ptr() for x in arrays]

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return the facts about tensors; see `Library`."""
        try:
            return [
                x
                if x is None
                else (
                    type(x),
                    x.get_device(),
                    x.dtype,
                    x.shape,
                    x.stride(),
                    x.is_neg(),
                    x.is_conj(),
                )
                for x in arrays
            ]
        except (AttributeError, RuntimeError):
            # Not a tensor, or a sparse one, which has no strides.
            return None

    def holds(self, array: Array) -> bool:
        """Whether a tensor is on a GPU; see `Library`."""
        return bool(array.is_cuda)

    def refusal(self, array: Array) -> str | None:
        """Return why the memory of a tensor cannot be used; see `Library`."""
        torch: Any = sys.modules["torch"]
        if type(array) not in (torch.Tensor, torch.nn.Parameter):
            return f"a {type(array).__qualname__} may keep its numbers elsewhere"
        if array.layout is not torch.strided:
            return "the tensor is sparse"
        if array.is_neg() or array.is_conj():
            return "the tensor is lazily negated or conjugated"
        return (
            "the kernels are CUDA's, and this torch is ROCm's" if torch.version.hip else _obstacle()
        )

    def number(self, array: Array) -> int:
        """Return the number of a tensor's device; see `Library`."""
        return int(array.get_device())

    def address(self, array: Array) -> int:
        """Return the address of the first element; see `Library`."""
        return int(array.data_ptr())

    def strides(self, array: Array) -> Strides:
        """Return the strides; see `Library`."""
        return tuple(array.stride())

    def stream(self, number: int) -> int | None:
        """Return the address of torch's current stream; see `Library`."""
        torch: Any = sys.modules["torch"]
        return int(torch.cuda.current_stream(number).cuda_stream)

    def captures(self, number: int) -> bool:
        """Whether torch's current stream records a graph; see `Library`."""
        torch: Any = sys.modules["torch"]
        with torch.cuda.device(number):
            return bool(torch.cuda.is_current_stream_capturing())

    def conform(self, array: Array, like: Array, dtype: str) -> Array:
        """Return a copy in the order of another tensor; see `Library`."""
        torch: Any = sys.modules["torch"]
        kind, place = getattr(torch, dtype), like.device
        copy = torch.empty_strided(tuple(like.shape), like.stride(), dtype=kind, device=place)
        return copy.copy_(array.detach())

    def fetched(self, array: Array) -> Array:
        """Return a tensor of the CPU; see `Library`."""
        return array.detach().cpu()

    def on_host(self, room: np.ndarray[Any, Any], dtype: str, count: int) -> Array:
        """Return host memory as a tensor of the CPU; see `Library`."""
        torch: Any = sys.modules["torch"]
        # Torch cannot make a tensor over empty memory.
        return torch.frombuffer(room, dtype=getattr(torch, dtype), count=max(count, 1))[:count]

    def flat(self, array: Array) -> Array:
        """Return the memory of a tensor; see `Library`."""
        return array.as_strided((array.numel(),), (1,))

    def shaped(self, array: Array, like: Array) -> Array:
        """Undo `flat`; see `Library`."""
        return array.as_strided(tuple(like.shape), self.strides(like))

    def wrote(self, params: Sequence[Array]) -> None:
        """Count the change, so that autograd notices it; see `Library`."""
        torch: Any = sys.modules["torch"]
        torch.autograd.graph.increment_version(params)


LIBRARIES: dict[str, Library] = {"cupy": CuPyLibrary(), "torch": TorchLibrary()}
"""The libraries by the names of their backends."""


def library_of(array: Array) -> Library | None:
    """Return the library of an array that is on a GPU.

    Parameters
    ----------
    array : array
        Any array.

    Returns
    -------
    Library or None
        The library; None for arrays elsewhere.
    """
    library = LIBRARIES.get(backend_of(array).name)
    return library if library is not None and library.holds(array) else None


def dense(shape: Sequence[int], strides: Strides) -> bool:
    """Whether an array has no gaps.

    Parameters
    ----------
    shape : sequence of int
        Its shape.
    strides : tuple of int
        Its strides in elements.

    Returns
    -------
    bool
        False where its elements are not contiguous.
    """
    if prod(shape) == 0:
        return True
    reached = 1
    for step, length in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if step != reached:
            return False
        reached *= length
    return True
