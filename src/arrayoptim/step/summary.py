"""Tables of an optimizer's state, array by array, before or after it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from .._typing import Tree
from ..arrays.backend import itemsize
from ..arrays.trees import flatten
from . import checks
from .session import Session

__all__ = ["Slot", "Summary", "joined", "summarized", "summary_of"]


@dataclass(frozen=True)
class Slot:
    """One array of state.

    Attributes
    ----------
    path : str
        The parameter that it belongs to.
    name : str
        The slot.
    shape : tuple of int
        Its shape; for a sharded parameter, that of the local shard.
    dtype : str
        Its storage dtype; ``"uint8"`` for the codes of ``state_dtype="int8"``.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Its memory in bytes."""
        return prod(self.shape) * itemsize(self.dtype)


@dataclass(frozen=True)
class Summary:
    """The state of an optimizer over some parameters; printing it gives a table.

    Attributes
    ----------
    optimizer : str
        The optimizer.
    parameters : tuple of Leaf
        The parameters, with path, shape and dtype.
    slots : tuple of Slot
        The arrays of state, parameter by parameter.
    scalars : tuple of str
        Names of the scalar state.
    place : str
        Where the state is: ``"beside the parameters"``, or ``"in host memory"`` with `offload`.
    """

    optimizer: str
    parameters: tuple[checks.Leaf, ...]
    slots: tuple[Slot, ...]
    scalars: tuple[str, ...]
    place: str

    @property
    def bytes(self) -> int:
        """The memory of all slots in bytes."""
        return sum(slot.bytes for slot in self.slots)

    @property
    def parameter_bytes(self) -> int:
        """The memory of all parameters in bytes."""
        return sum(prod(leaf.shape) * itemsize(leaf.dtype) for leaf in self.parameters)

    def __str__(self) -> str:
        """Return a table with a line for each parameter and for each of its slots."""
        rows = [("parameter", "shape", "dtype", "bytes of state"), *self._rows()]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True))
            + f"  {row[3]:>14}"
            for row in rows
        ]
        return "\n".join([self.optimizer, *(line.rstrip() for line in lines), self._total()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        import html

        left = "style='text-align:left'"

        def line(kind: str, row: Sequence[str]) -> str:
            cells = "".join(
                f"<{kind} {left if k < 3 else ''}>{html.escape(x)}</{kind}>"
                for k, x in enumerate(row)
            )
            return f"<tr>{cells}</tr>"

        head = line("th", ("parameter", "shape", "dtype", "bytes of state"))
        body = "".join(line("td", row) for row in self._rows())
        return (
            f"<div><code>{html.escape(self.optimizer)}</code><table>{head}{body}</table>"
            f"<p>{html.escape(self._total())}</p></div>"
        )

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        found: dict[str, list[Slot]] = {leaf.path: [] for leaf in self.parameters}
        for slot in self.slots:
            found[slot.path].append(slot)
        for leaf in self.parameters:
            own = found[leaf.path]
            name = leaf.path or "the parameter"
            yield name, str(leaf.shape), leaf.dtype, f"{sum(x.bytes for x in own):,}"
            for x in own:
                yield f"  {x.name}", str(x.shape), x.dtype, f"{x.bytes:,}"

    def _total(self) -> str:
        entries = sum(prod(leaf.shape) for leaf in self.parameters)
        numbers = f", and the numbers {', '.join(self.scalars)}" if self.scalars else ""
        return (
            f"{_counted(self.parameters, 'parameter')} of {entries:,} entries in "
            f"{self.parameter_bytes:,} bytes; {_counted(self.slots, 'array')} of state in "
            f"{self.bytes:,} bytes {self.place}{numbers}"
        )


def _counted(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def summarized(session: Session, params: Tree, optimizer: str) -> Summary:
    """Return the summary of a session's state for some parameters, made or not."""
    flat, whole = flatten(params)
    leaves, structure = session.pieces(flat, whole)
    described = session.described(leaves, structure)
    if session.state is not None:
        checks.same_tree(session.state.leaves, described)
    return summary_of(session, described, optimizer)


def summary_of(
    session: Session, described: Sequence[checks.Leaf | None], optimizer: str
) -> Summary:
    """Return the summary of a session's state, given descriptions of the parameters."""
    slots = []
    for leaf, layout in zip(described, session.assign(described).layouts, strict=True):
        if leaf is None or layout is None:
            continue
        kinds, shapes = layout.slots(leaf.dtype), layout.shapes(leaf.shape, leaf.dtype)
        slots += [Slot(leaf.path, k, leaf.part(shapes[k]), kinds[k]) for k in kinds]
    settings = session.settings
    return Summary(
        optimizer,
        tuple(leaf for leaf in described if leaf is not None),
        tuple(slots),
        (*settings.initial_scalars(), *(settings.initial_of_models() or {})),
        "in host memory" if settings.whole["offload"] else "beside the parameters",
    )


def joined(optimizer: str, first: Summary, *others: Summary, prefix: str = "") -> Summary:
    """Return several summaries merged into one; slots of all but the first get a prefix.

    Parameters
    ----------
    optimizer : str
        The optimizer that the merged summary is of.
    first, *others : Summary
        The summaries to merge.
    prefix : str
        Prefix of the slots of `others`, for summaries over the same parameters; leave it empty
        for summaries over different parameters.
    """
    parameters, slots, scalars = list(first.parameters), list(first.slots), [*first.scalars]
    for other in others:
        parameters += [] if prefix else other.parameters
        slots += [replace(slot, name=prefix + slot.name) for slot in other.slots]
        scalars += [prefix + name for name in other.scalars if prefix or name not in scalars]
    return Summary(
        optimizer, tuple(parameters), tuple(slots), tuple(scalars), [first, *others][-1].place
    )
