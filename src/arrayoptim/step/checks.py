"""Checks of the caller's arguments, all made before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .._typing import Array
from ..arrays.libraries import COMPLEX, COMPUTE, backend_of, is_array
from ..arrays.memory import overlapping
from ..arrays.rows import Rows
from ..arrays.trees import Structure, listed, named, outline


@dataclass(frozen=True)
class Leaf:
    """Description of one parameter: path, shape and dtype.

    Attributes
    ----------
    path : str
        Its path.
    shape : tuple of int
        Its shape; the full shape if this process holds only a shard.
    dtype : str
        Its dtype.
    share : callable or None
        Maps the full shape of an array that is sharded like the parameter to the shape of the
        local shard; None if the parameter is not sharded.
    whole : str or None
        The path of the array of which this is one model's piece; None if it is not a piece.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    share: Callable[[tuple[int, ...]], tuple[int, ...]] | None = field(default=None, compare=False)
    whole: str | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The path that patterns are matched against: for a piece, that of its array."""
        return self.path if self.whole is None else self.whole

    def part(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the local shape of the parameter or of one of its slots, given the full shape."""
        return shape if self.share is None else self.share(shape)

    def __str__(self) -> str:
        """Path, dtype and shape."""
        return f"{self.path or 'the parameter'} {self.dtype}{list(self.shape)}"


def concrete(arrays: Sequence[Array | None], name: str) -> None:
    """Refuse tracers, which cannot be kept as state.

    Raises
    ------
    TypeError
        If an array is a tracer.
    """
    if any(is_array(x) and backend_of(x).traced(x) for x in arrays):
        raise TypeError(
            f"{name}.apply keeps its state in the optimizer, which a compiled function cannot "
            "change; there, call stateless_apply, which takes the state and returns it"
        )


def describe(leaves: Sequence[Array | None], structure: Structure) -> tuple[Leaf | None, ...]:
    """Return the description of each leaf; None for a leaf that is None.

    Raises
    ------
    TypeError
        If a parameter is not of a floating-point or complex dtype.
    ValueError
        If a parameter is sparse, or sharded over processes.
    """
    found: list[Leaf | None] = []
    names = structure.names or [None] * len(leaves)
    for path, name, x in zip(structure.paths, names, leaves, strict=True):
        if x is None:
            found.append(None)
            continue
        backend = backend_of(x)
        if said := backend.elsewhere(x):
            raise ValueError(f"{named(path)} {said}")
        if not backend.dense(x):
            raise ValueError(
                f"{named(path)} is a sparse or nested array; wanted a dense one, as an "
                "optimizer steps every entry"
            )
        dtype = backend.dtype(x)
        if dtype not in COMPUTE:
            raise TypeError(
                f"{named(path)} is {dtype}; wanted one of {', '.join(COMPUTE)}: "
                "an optimizer cannot step integers, booleans or other types"
            )
        found.append(Leaf(path, tuple(x.shape), dtype, whole=name))
    return tuple(found)


def no_overlap(
    leaves: Sequence[Array | None],
    structure: Structure,
    slots: Sequence[Mapping[str, Array]] = (),
) -> None:
    """Refuse parameters that share memory, as an in-place update would step that memory twice.

    Raises
    ------
    ValueError
        If two parameters overlap, one overlaps itself, or one overlaps a slot of the state.
    """
    placed = [
        (path, x)
        for path, x in zip(structure.paths, leaves, strict=True)
        if x is not None and backend_of(x).writable(x)
    ]
    held = [x for own in slots for x in own.values() if backend_of(x).writable(x)]
    pair = overlapping([*(x for _, x in placed), *held]) if placed else None
    if pair is None or pair[0] >= len(placed):
        return
    first = placed[pair[0]][0]
    if pair[1] >= len(placed):
        raise ValueError(
            f"{named(first)} shares memory with an array of the optimizer's own state, such "
            "as `weights` gives; pass a copy of it"
        )
    second = placed[pair[1]][0]
    raise ValueError(
        f"parameters {first!r} and {second!r} share memory; pass each array once"
        if first != second
        else f"the entries of {named(first)} share memory; pass a copy of it"
    )


def same_tree(known: Iterable[Leaf | None], found: Iterable[Leaf | None]) -> None:
    """Refuse a tree that differs from the one that the state was made for.

    Raises
    ------
    ValueError
        If it differs; the message lists paths that are new, missing, or changed in shape or dtype.
    """
    known, found = tuple(known), tuple(found)
    if known == found:
        return
    old = {leaf.path: leaf for leaf in known if leaf}
    new = {leaf.path: leaf for leaf in found if leaf}
    if old == new and list(old) == list(new):
        return
    faults = {
        "added": [str(new[path]) for path in new if path not in old],
        "missing": [str(old[path]) for path in old if path not in new],
        "misshapen": [
            f"{new[path]}, was {old[path].dtype}{list(old[path].shape)}"
            for path in new
            if path in old and new[path] != old[path]
        ],
    }
    if not any(faults.values()):
        faults["reordered"] = list(new)
    listing = "; ".join(f"{word}: {listed(paths)}" for word, paths in faults.items() if paths)
    raise ValueError(
        f"these parameters are not the ones the optimizer's state was made for. {listing}. "
        "Use one optimizer per tree, or reset() this one"
    )


def state_of_pure_form(state: object) -> None:
    """Refuse what is not a state of the pure form, such as gradients passed as first argument.

    Raises
    ------
    ValueError
        If an entry that every state has is missing.
    """
    wanted = ("iterations", "hyper", "scalars", "slots")
    if not isinstance(state, Mapping) or any(name not in state for name in wanted):
        held = listed([str(name) for name in state]) if isinstance(state, Mapping) else ""
        raise ValueError(
            f"state: found {type(state).__name__}{f' of {held}' if held else ''}, wanted what "
            "init_state(params) gave; the order is stateless_apply(state, grads, params)"
        )


def same_structure(found: Structure, wanted: Structure) -> None:
    """Refuse gradients whose tree has different leaves than that of the parameters.

    Raises
    ------
    ValueError
        If the trees differ; the message lists missing and unexpected paths.
    """
    if found.paths == wanted.paths:
        return
    if ("",) in (found.paths, wanted.paths):
        raise ValueError(
            f"the gradients are {outline(found)}, the parameters {outline(wanted)}; wanted "
            "gradients in the containers of the parameters, each of them an array, or None where "
            "there is none. apply takes the gradients first"
        )
    missing, extra = (
        [path for path in mine if path not in theirs]
        for mine, theirs in (
            (wanted.paths, frozenset(found.paths)),
            (found.paths, frozenset(wanted.paths)),
        )
    )
    leaves = "leaf" if len(found.paths) == 1 else "leaves"
    raise ValueError(
        f"the gradients' tree differs from the parameters' ({len(found.paths)} {leaves} against "
        f"{len(wanted.paths)}). missing: {listed(missing) or 'none'}; "
        f"unexpected: {listed(extra) or 'none'}"
    )


def every_gradient(
    grads: Sequence[Array | None],
    leaves: Sequence[Array | None],
    structure: Structure,
    why: str,
) -> None:
    """Refuse a step in which a parameter has no gradient.

    Raises
    ------
    ValueError
        If there is one; the message names the first and says why all gradients are needed.
    """
    for path, p, g in zip(structure.paths, leaves, grads, strict=True):
        if p is not None and g is None:
            raise ValueError(f"the gradient of {named(path)} is None, {why}")


def gradients(
    grads: Sequence[Array | None],
    leaves: Sequence[Array | None],
    structure: Structure,
    places: Iterable[int] | None = None,
) -> None:
    """Refuse gradients that do not fit their parameters.

    Parameters
    ----------
    grads, leaves : sequence of array or None
        Gradients and parameters.
    structure : Structure
        The parameters' structure.
    places : iterable of int, optional
        Indices of the gradients to check; all by default.

    Raises
    ------
    ValueError
        If a shape, library or device differs.
    TypeError
        If a gradient is not of a floating-point dtype, or is complex for a real parameter.
    """
    for i in range(len(leaves)) if places is None else places:
        fault = None if grads[i] is None else _gradient_fault(grads[i], leaves[i])
        if fault is not None:
            raise type(fault)(f"gradient of {named(structure.paths[i])}: {fault}")


def _gradient_fault(g: Array, p: Array | None) -> Exception | None:
    if p is None:
        return ValueError("there is no such parameter (None); apply takes the gradients first")
    if tuple(g.shape) != tuple(p.shape):
        return ValueError(f"found shape {tuple(g.shape)}, wanted {tuple(p.shape)}")
    g = g.rows if type(g) is Rows else g
    backend, other = backend_of(p), backend_of(g)
    if backend is not other:
        return ValueError(
            f"found an array of {other.name}, wanted {backend.name}; convert it, as a gradient is "
            "of its parameter's library"
        )
    device, place = backend.device(p), backend.device(g)
    if device != place and device is not None and place is not None:
        return ValueError(f"found it on device {place}, wanted {device}")
    if not backend.dense(g):
        return ValueError(
            "found a sparse or nested array; pass a dense one, or a sparse one in coordinate layout"
        )
    dtype, kind = backend.dtype(p), backend.dtype(g)
    if kind not in COMPUTE:
        return TypeError(f"found data type {kind}, wanted a floating-point type")
    if (kind in COMPLEX) != (dtype in COMPLEX):
        return TypeError(f"found data type {kind} for a parameter of {dtype}")
    return None
