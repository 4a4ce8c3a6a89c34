"""How kernels find the arrays of each library, and whether they can work on them."""

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
        The parameters. What is read has their shapes and orders.
    """

    counts: ClassVar[bool] = False
    """Whether the library counts the changes of an array, see `wrote`."""

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
            Place of its parameter.
        dtype : str
            The dtype it must have.
        writes : bool
            Whether it must be writeable.

        Returns
        -------
        int or None
            The address; None where the array is not as wanted.
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
        """Return the address of an array of whatever shape and order.

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
            The address; None where the array is not as wanted.
        """
        good = self.refusal(array, writes) is None and self.dtype(array) == dtype
        return self._address(array) if good else None

    def check(self, grad: Any, k: int, dtype: str, path: str) -> None:
        """Raise if an array cannot be the gradient of a parameter, not even as a copy.

        Parameters
        ----------
        grad : object
            The gradient.
        k : int
            Place of the parameter.
        dtype : str
            Its dtype.
        path : str
            What messages call it.

        Raises
        ------
        TypeError
            For another kind of array or dtype.
        ValueError
            For another shape.
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
            The kernels; None where there are none.
        cells : tuple of int
            The last cells of their jobs.
        """

    @abstractmethod
    def marks(self, dtype: str, writes: bool) -> tuple[int, int] | None:
        """Return the facts with which kernels compare arrays.

        Parameters
        ----------
        dtype : str
            The dtype that arrays must have.
        writes : bool
            Whether they must be writeable.

        Returns
        -------
        (int, int) or None
            The cells ``dtype`` and ``flags`` of jobs; None where no kernel reads such arrays.
        """

    @staticmethod
    @abstractmethod
    def foreign(array: Any) -> str | None:
        """Return why an array cannot even be copied; None where it can.

        Parameters
        ----------
        array : object
            The array.

        Returns
        -------
        str or None
            The reason; None where there is none.
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
            The reason; None where there is none.
        """

    @staticmethod
    @abstractmethod
    def dense(array: Any, like: Any) -> bool:
        """Whether an array is dense and has the memory order of another one.

        Parameters
        ----------
        array, like : array
            Two arrays of one shape; they may be the same.

        Returns
        -------
        bool
            False where one loop cannot go through both.
        """

    @staticmethod
    @abstractmethod
    def rowwise(array: Any) -> bool:
        """Whether an array's elements are in order of its axes, without gaps.

        Parameters
        ----------
        array : array
            The array.

        Returns
        -------
        bool
            False where an array of the same elements with axes put together is no view.
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
            Place of the parameter.
        dtype : str
            The dtype wanted.

        Returns
        -------
        array
            The copy.
        """

    def wrote(self, params: Sequence[Any]) -> None:  # noqa: B027  nothing, where nobody counts
        """Tell the library that parameters were changed from outside, where it counts changes.

        Parameters
        ----------
        params : sequence of array
            The parameters.
        """
