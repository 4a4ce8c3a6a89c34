"""The GPU engine's access to the arrays of each library."""

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
"""The message if a step is taken while a CUDA graph is being captured."""


def _obstacle() -> str | None:
    from .device import obstacle

    return obstacle()


class Library(ABC):
    """A library whose arrays may be on GPUs."""

    fixed = False
    """Whether an array keeps its memory for its whole lifetime."""

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return, for each array, what decides whether kernels can read it, address aside.

        Returns
        -------
        list or None
            Values to compare for equality; None if an array belongs to another library.
        """
        return None

    def walk(self, arrays: Sequence[Array | None], number: int) -> Walk | None:
        """Return a walk that reads arrays like these in machine code; None if it cannot."""
        return None

    def places(self, arrays: Sequence[Array | None]) -> list[int]:
        """Return the address of each array; 0 for None."""
        return [0 if array is None else self.address(array) for array in arrays]

    def holds(self, array: Array) -> bool:
        """Whether an array, which belongs to this library, is on a GPU."""
        return True

    def refusal(self, array: Array) -> str | None:
        """Return why kernels cannot use an array's memory, its memory order aside, or None."""
        return _obstacle()

    def device(self, number: int) -> Device:
        """Return a device by its number."""
        # Imported lazily: host arrays come here too, and need nothing that compiles kernels.
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
        """Return the handle of the library's current stream; None for CuPy's own."""
        return None

    @abstractmethod
    def captures(self, number: int) -> bool:
        """Whether the library's current stream on a device is capturing a CUDA graph."""

    @abstractmethod
    def conform(self, array: Array, like: Array, dtype: str) -> Array:
        """Return a copy with the memory order of another array, in the given dtype."""

    @abstractmethod
    def fetched(self, array: Array) -> Array:
        """Return a host copy with the same memory order, made by the library itself."""

    @abstractmethod
    def on_host(self, room: np.ndarray[Any, Any], dtype: str, count: int) -> Array:
        """Return a 1-D host array over the given memory, NumPy's or torch's as the library uses.

        Parameters
        ----------
        room : numpy.ndarray of uint8
            The host memory.
        dtype : str
            Dtype of the elements.
        count : int
            Number of elements.
        """

    @abstractmethod
    def flat(self, array: Array) -> Array:
        """Return a dense array, of the kind that `on_host` returns, as 1-D in memory order."""

    @abstractmethod
    def shaped(self, array: Array, like: Array) -> Array:
        """Undo `flat`: restore the shape and memory order of an array of the library."""

    def viewed(self, memory: Any) -> Array:
        """Return a CuPy array, such as the memory of a table, as one of this library."""
        return memory

    def wrote(self, params: Sequence[Array]) -> None:  # noqa: B027  optional hook
        """Tell the library that its arrays were modified in place by kernels."""


class CuPyLibrary(Library):
    """CuPy arrays, on CuPy's current stream."""

    fixed = True

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return facts of arrays to compare; see `Library`."""
        try:
            return [
                x if x is None else (type(x), x.data.device_id, x.shape, x.strides, x.dtype)
                for x in arrays
            ]
        except AttributeError:
            return None

    def walk(self, arrays: Sequence[Array | None], number: int) -> Walk | None:
        """Return a walk through arrays; see `Library`."""
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
        """Whether CuPy's current stream is capturing; see `Library`."""
        cuda: Any = sys.modules["cupy"].cuda
        # CuPy on ROCm has no graphs.
        if cuda.runtime.is_hip:
            return False
        try:
            return bool(cuda.get_current_stream(number).is_capturing())
        except RuntimeError:
            # Raised on the legacy default stream while a blocking stream is capturing.
            return True

    def conform(self, array: Array, like: Array, dtype: str) -> Array:
        """Return a copy with the memory order of another array; see `Library`."""
        copy = backend_of(like).zeros(like, dtype)
        copy[...] = array
        return copy

    def fetched(self, array: Array) -> Array:
        """Return a NumPy array; see `Library`."""
        return array.get(order="A")

    def on_host(self, room: np.ndarray[Any, Any], dtype: str, count: int) -> Array:
        """Return a NumPy array over host memory; see `Library`."""
        return np.frombuffer(room, numpy_dtype(dtype), count)

    def flat(self, array: Array) -> Array:
        """Return a NumPy array as 1-D; see `Library`."""
        return np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,))

    def shaped(self, array: Array, like: Array) -> Array:
        """Undo `flat`; see `Library`."""
        steps = tuple(step * array.itemsize for step in self.strides(like))
        return np.lib.stride_tricks.as_strided(array, tuple(like.shape), steps)


class TorchLibrary(Library):
    """Torch CUDA tensors, used in place and on torch's current stream."""

    walking: type[TorchWalk] = TorchWalk

    def walk(self, arrays: Sequence[Array | None], number: int) -> Walk | None:
        """Return a walk through tensors; see `Library`."""
        return walk_over(self.walking, self, arrays, number)

    def places(self, arrays: Sequence[Array | None]) -> list[int]:
        """Return the address of each tensor; see `Library`."""
        return [0 if x is None else x.data_ptr() for x in arrays]

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return facts of tensors to compare; see `Library`."""
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
            # Not a tensor, or a sparse tensor, which has no strides.
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
        """Return the handle of torch's current stream; see `Library`."""
        torch: Any = sys.modules["torch"]
        # As `torch.cuda.current_stream`, which makes an object each time.
        return int(torch._C._cuda_getCurrentRawStream(number))

    def captures(self, number: int) -> bool:
        """Whether torch's current stream is capturing; see `Library`."""
        cuda: Any = sys.modules["torch"].cuda
        if number == cuda.current_device():
            return bool(cuda.is_current_stream_capturing())
        with cuda.device(number):
            return bool(cuda.is_current_stream_capturing())

    def conform(self, array: Array, like: Array, dtype: str) -> Array:
        """Return a copy with the memory order of another tensor; see `Library`."""
        torch: Any = sys.modules["torch"]
        kind, place = getattr(torch, dtype), like.device
        copy = torch.empty_strided(tuple(like.shape), like.stride(), dtype=kind, device=place)
        return copy.copy_(array.detach())

    def fetched(self, array: Array) -> Array:
        """Return a CPU tensor; see `Library`."""
        return array.detach().cpu()

    def on_host(self, room: np.ndarray[Any, Any], dtype: str, count: int) -> Array:
        """Return a CPU tensor over host memory; see `Library`."""
        torch: Any = sys.modules["torch"]
        # torch.frombuffer refuses a count of 0.
        return torch.frombuffer(room, dtype=getattr(torch, dtype), count=max(count, 1))[:count]

    def flat(self, array: Array) -> Array:
        """Return a CPU tensor as 1-D; see `Library`."""
        return array.as_strided((array.numel(),), (1,))

    def shaped(self, array: Array, like: Array) -> Array:
        """Undo `flat`; see `Library`."""
        return array.as_strided(tuple(like.shape), self.strides(like))

    def viewed(self, memory: Any) -> Array:
        """Return a CuPy array as a tensor over the same memory; see `Library`."""
        torch: Any = sys.modules["torch"]
        return torch.from_dlpack(memory)

    def wrote(self, params: Sequence[Array]) -> None:
        """Bump the version counters, so that autograd notices the write; see `Library`."""
        torch: Any = sys.modules["torch"]
        torch.autograd.graph.increment_version(params)


LIBRARIES: dict[str, Library] = {"cupy": CuPyLibrary(), "torch": TorchLibrary()}
"""The libraries by backend name."""


def library_of(array: Array) -> Library | None:
    """Return the library of an array that is on a GPU.

    Parameters
    ----------
    array : array
        Any array.

    Returns
    -------
    Library or None
        The library; None for arrays that are not on a GPU.
    """
    library = LIBRARIES.get(backend_of(array).name)
    return library if library is not None and library.holds(array) else None


def dense(shape: Sequence[int], strides: Strides) -> bool:
    """Whether an array's elements fill its memory without gaps, in any order of dimensions.

    Parameters
    ----------
    shape : sequence of int
        The shape.
    strides : tuple of int
        The strides, in elements.

    Returns
    -------
    bool
        False if there are gaps between elements.
    """
    if prod(shape) == 0:
        return True
    reached = 1
    for step, length in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if step != reached:
            return False
        reached *= length
    return True
