"""Reading torch tensors."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .addresses import Reader
from .readers import Readers, torch_call, torch_readers
from .tables import address, cells

# Code and number of bits of DLPack's dtypes; complex ones may be lazily conjugated.
_DLPACK = {"float16": (2, 16), "bfloat16": (4, 16), "float32": (2, 32), "float64": (2, 64)}
_DLPACK |= {"int16": (0, 16), "uint8": (1, 8)}


class TorchReader(Reader):
    """Reads dense torch tensors, in any order of their dimensions."""

    counts = True

    def __init__(self, params: Sequence[Any]) -> None:
        super().__init__(params)
        torch = self._torch = sys.modules["torch"]
        self._strides = [tuple(p.stride()) for p in params]
        self._steps = np.array(list(itertools.chain(*self._strides)), np.int64)
        self._kinds = np.array([id(torch.Tensor), id(torch.nn.Parameter)], np.int64)
        self._room = cells(*[0] * 6)
        self._places = address(self._kinds), address(self._steps), ctypes.addressof(self._room)

    def readers(self) -> tuple[Readers | None, tuple[int, ...]]:
        """Return the kernels that read such tensors; see `Reader`."""
        kinds, steps, room = self._places
        return torch_readers(), (kinds, steps, torch_call(), room)

    def marks(self, dtype: str, writes: bool) -> tuple[int, int] | None:
        """Return the values against which kernels check tensors; see `Reader`."""
        if dtype not in _DLPACK:
            return None
        code, bits = _DLPACK[dtype]
        return code | bits << 8 | 1 << 16, 0

    @staticmethod
    def foreign(array: Any) -> str | None:
        """Return why a tensor cannot be copied; see `Reader`."""
        torch: Any = sys.modules["torch"]
        if not isinstance(array, torch.Tensor):
            return f"found a {type(array).__qualname__}, wanted a torch tensor"
        if array.device.type != "cpu":
            return f"the tensor is on device {array.device}, wanted cpu"
        return "the tensor is sparse" if array.layout is not torch.strided else None

    @classmethod
    def refusal(cls, array: Any, writes: bool) -> str | None:
        """Return why a tensor's memory cannot be used; see `Reader`."""
        torch: Any = sys.modules["torch"]
        if cls.foreign(array):
            return cls.foreign(array)
        if type(array) not in (torch.Tensor, torch.nn.Parameter):
            return f"a {type(array).__qualname__} may keep its numbers elsewhere"
        if array.is_neg() or array.is_conj():
            return "the tensor is lazily negated or conjugated"
        return None

    @staticmethod
    def dense(array: Any, like: Any) -> bool:
        """Whether a tensor is dense with the memory order of another one; see `Reader`."""
        steps = sorted(
            (step, n) for step, n in zip(like.stride(), like.shape, strict=True) if n > 1
        )
        reached = 1
        for step, length in steps:
            if step != reached and array.numel():
                return False
            reached *= length
        return _same_order(array, like.stride())

    @staticmethod
    def rowwise(array: Any) -> bool:
        """Whether a tensor is C-contiguous; see `Reader`."""
        return bool(array.is_contiguous())

    @staticmethod
    def dtype(array: Any) -> str:
        """Return the name of a tensor's dtype; see `Reader`."""
        return str(array.dtype).removeprefix("torch.")

    def _ordered(self, array: Any, k: int) -> bool:
        return _same_order(array, self._strides[k])

    def _address(self, array: Any) -> int:
        return int(array.data_ptr())

    def conform(self, array: Any, k: int, dtype: str) -> Any:
        """Return a copy of a tensor; see `Reader`."""
        kind = getattr(self._torch, dtype)
        copy = self._torch.empty_strided(self.shapes[k], self._strides[k], dtype=kind)
        return copy.copy_(array.detach())

    def wrote(self, params: Sequence[Any]) -> None:
        """Bump the version counter, so that autograd notices the change; see `Reader`."""
        self._torch.autograd.graph.increment_version(params)


def _same_order(tensor: Any, strides: Sequence[int]) -> bool:
    if not tensor.numel():
        return True
    steps = zip(tensor.shape, tensor.stride(), strides, strict=True)
    return all(length == 1 or a == b for length, a, b in steps)
