"""How kernels find arrays of each library, and which arrays they support."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...arrays.backend import FLOATS, REALS
from ...arrays.trees import named
from .tables import address

if TYPE_CHECKING:
    from .readers import Readers


class Reader(ABC):
    """Reads the addresses of arrays of known shape and memory order.

    Parameters
    ----------
    params : sequence of array
        The parameters, whose shapes and memory orders are expected.
    """

    counts: ClassVar[bool] = False
    """Whether the library counts changes of an array, see `wrote`."""

    def __init__(self, params: Sequence[Any]) -> None:
        self.shapes = [tuple(p.shape) for p in params]
        ranks = [len(shape) for shape in self.shapes]
        self._ranks = np.array(ranks, np.int64)
        self._firsts = np.cumsum([0, *ranks[:-1]], dtype=np.int64)
        self._lengths = np.array(list(itertools.chain(*self.shapes)), np.int64)
        self.tables = [address(t) for t in (self._ranks, self._firsts, self._lengths)]

    def ask(self, array: Any, k: int, dtype: str, writes: bool) -> int | None:
        """Return the address of one array.

        Parameters
        ----------
        array : array or None
            The array; the address of None is 0.
        k : int
            Index of its parameter.
        dtype : str
            The dtype it must have.
        writes : bool
            Whether it must be writeable.

        Returns
        -------
        int or None
            The address; None if the array is not as expected.
        """
        if array is None:
            return 0
        good = (
            self.refusal(array, writes) is None
            and self.dtype(array) == dtype
            and tuple(array.shape) == self.shapes[k]
            and self._ordered(array, k)
        )
        return self._address(array) if good else None

    def place(self, array: Any, dtype: str, writes: bool) -> int | None:
        """Return the address of an array of any shape and order.

        Parameters
        ----------
        array : array
            The array.
        dtype : str
            The dtype it must have.
        writes : bool
            Whether it must be writeable.

        Returns
        -------
        int or None
            The address; None if the array is not as expected.
        """
        good = self.refusal(array, writes) is None and self.dtype(array) == dtype
        return self._address(array) if good else None

    def check(self, grad: Any, k: int, dtype: str, path: str) -> None:
        """Raise if an array cannot be the gradient of a parameter, even as a copy.

        Parameters
        ----------
        grad : object
            The gradient.
        k : int
            Index of the parameter.
        dtype : str
            Its dtype.
        path : str
            Its name in messages.

        Raises
        ------
        TypeError
            For a wrong type or dtype.
        ValueError
            For a wrong shape.
        """
        reason = self.foreign(grad)
        if reason:
            raise TypeError(f"gradient of {named(path)}: {reason}")
        if tuple(grad.shape) != self.shapes[k]:
            raise ValueError(
                f"gradient of {named(path)}: found shape {tuple(grad.shape)}, "
                f"wanted {self.shapes[k]}"
            )
        found = self.dtype(grad)
        if found not in FLOATS and (found not in REALS or dtype not in REALS):
            raise TypeError(f"gradient of {named(path)}: found dtype {found}, wanted {dtype}")

    @abstractmethod
    def readers(self) -> tuple[Readers | None, tuple[int, ...]]:
        """Return the kernels that read such arrays.

        Returns
        -------
        kernels : Readers or None
            The kernels; None if there are none.
        cells : tuple of int
            The last cells of their jobs.
        """

    @abstractmethod
    def marks(self, dtype: str, writes: bool) -> tuple[int, int] | None:
        """Return the values against which kernels check arrays.

        Parameters
        ----------
        dtype : str
            The dtype that arrays must have.
        writes : bool
            Whether they must be writeable.

        Returns
        -------
        (int, int) or None
            The cells ``dtype`` and ``flags`` of jobs; None if no kernel reads such arrays.
        """

    @staticmethod
    @abstractmethod
    def foreign(array: Any) -> str | None:
        """Return why an array cannot even be copied; None if it can.

        Parameters
        ----------
        array : object
            The array.

        Returns
        -------
        str or None
            The reason, or None.
        """

    @classmethod
    @abstractmethod
    def refusal(cls, array: Any, writes: bool) -> str | None:
        """Return why an array's memory cannot be used directly, apart from its order.

        Parameters
        ----------
        array : object
            The array.
        writes : bool
            Whether it must be writeable.

        Returns
        -------
        str or None
            The reason, or None.
        """

    @staticmethod
    @abstractmethod
    def dense(array: Any, like: Any) -> bool:
        """Whether an array is dense with the memory order of another one.

        Parameters
        ----------
        array, like : array
            Two arrays of one shape; they may be the same.

        Returns
        -------
        bool
            False if one loop cannot traverse both.
        """

    @staticmethod
    @abstractmethod
    def rowwise(array: Any) -> bool:
        """Whether an array is C-contiguous.

        Parameters
        ----------
        array : array
            The array.

        Returns
        -------
        bool
            False if merging its axes would need a copy.
        """

    @staticmethod
    @abstractmethod
    def dtype(array: Any) -> str:
        """Return the name of an array's dtype.

        Parameters
        ----------
        array : array
            The array.

        Returns
        -------
        str
            Such as ``"float32"``.
        """

    @abstractmethod
    def _ordered(self, array: Any, k: int) -> bool:
        """Whether an array has the memory order of parameter `k`."""

    @abstractmethod
    def _address(self, array: Any) -> int:
        """Return the address of the first element."""

    @abstractmethod
    def conform(self, array: Any, k: int, dtype: str) -> Any:
        """Return a copy of an array in the order of a parameter.

        Parameters
        ----------
        array : array
            An array of the shape of parameter `k`.
        k : int
            Index of the parameter.
        dtype : str
            The dtype wanted.

        Returns
        -------
        array
            The copy.
        """

    def wrote(self, params: Sequence[Any]) -> None:  # noqa: B027  nothing, where nobody counts
        """Notify the library of changes to parameters, if it counts them.

        Parameters
        ----------
        params : sequence of array
            The parameters.
        """
