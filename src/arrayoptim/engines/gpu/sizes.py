"""The norm of gradients whose parameters are stepped by several plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..._typing import Array
from ...arrays.memory import Stretches
from ...gradients import Pending
from ..steps import Computed
from .arrays import library_of
from .place import Graph, Place

__all__ = ["Sizes"]


class Sizes(Place):
    """Parameters on one device, only to take the norm of their gradients.

    Parameters
    ----------
    params : list of array
        The parameters.
    graph : {"", "sent", "alone"}
        Whether the norm is for a CUDA graph; see `Place`.

    Raises
    ------
    ValueError
        If they are not on a single GPU.
    """

    def __init__(self, params: list[Array], graph: Graph = "alone") -> None:
        found = {(library, library.number(p)) for p in params if (library := library_of(p))}
        if len(found) != 1 or any(library_of(p) is None for p in params):
            raise ValueError(
                "clipnorm with capturable=True: the norm of all gradients stays on the device, and "
                "some parameters are on another one, or on no GPU; wanted all on one"
            )
        (where,) = found
        super().__init__(where, list(range(len(params))), params, Stretches(), graph)

    def taken(self, grads: Sequence[Array | None]) -> Pending | None:
        """Return the norm of all gradients, which stays on the device; None as of `Place.norm`."""
        self.check(grads)
        table = self.norm(grads)
        return None if table is None else Pending(table, read=lambda: self.read(table))

    def renew(self) -> None:
        """Write the addresses of the gradients where the kernels of a CUDA graph read them."""
        with self._active():
            self._gradients.flush()

    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None,
        computed: Computed | None = None,
    ) -> Callable[[], None]:
        """Raise a TypeError, as other plans take the step; see `Place`."""
        raise TypeError("these parameters are measured here, and stepped elsewhere")
