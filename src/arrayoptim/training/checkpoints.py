"""Checkpoints: parameters, optimizer and whatever else a run needs, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._typing import Array, Tree
from ..arrays.libraries import backend_of, is_array, type_name
from ..arrays.trees import flatten, named, plain
from ..foreign import put_back
from ..loading import made
from ..optimizer import Optimizer
from ..step.fingerprint import fingerprint as fingerprint_of
from ..step.restore import LoadReport, blaming, by_name
from ..step.save_and_load import load_into
from ..step.session import session_of
from ..step.shared_methods import Surface

if TYPE_CHECKING:
    from .. import persistence
    from ..persistence import Record

GROUP = "checkpoint"
"""The group of a file that holds parameters and extras, beside the optimizer's state."""


class _Fields(NamedTuple):
    params: Tree
    optimizer: Any
    extra: dict[str, Any]


class Checkpoint(_Fields):
    """What `load_checkpoint` found.

    Attributes
    ----------
    params : tree of arrays
        The parameters.
    optimizer : Optimizer
        The optimizer with its state.
    extra : dict
        What else was saved, by name.
    report : LoadReport
        Which parameters were found, missing, unexpected and of another shape; and the same of the
        optimizer's state. It is no part of the tuple.
    """

    report: LoadReport = LoadReport("arrayoptim")

    def __repr__(self) -> str:
        """Name the optimizer, how many arrays there are, and what else."""
        arrays = sum(x is not None for x in flatten(self.params)[0])
        return (
            f"Checkpoint({arrays} arrays, {self.optimizer!r}, "
            f"extra: {', '.join(self.extra) or 'none'})"
        )


def save_checkpoint(
    path: persistence.Place,
    params: Tree,
    optimizer: Any,
    *,
    overwrite: bool = True,
    **extra: Any,
) -> None:
    """Save parameters, optimizer and more to one file, whole or not at all.

    Parameters
    ----------
    path : str, bytes, Path or binary file
        The file. An earlier one stays whole until the new one is.
    params : tree of arrays
        The parameters, of any library. They must be those that the optimizer steps.
    optimizer : Optimizer, wrapper or native optimizer of this library
        Its class, hyperparameters, counters and state are saved. Before its first step it gets
        its state here.
    overwrite : bool
        Whether an existing file may be replaced.
    **extra
        What else a run needs to go on, such as ``epoch=3`` or the state of a random generator:
        None, numbers, text, arrays of any library, and dicts, lists and tuples of these.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    OSError
        If it cannot be written, or its directory does not exist.
    TypeError
        If `optimizer` is none of this library's, or something in `extra` cannot be saved.
    ValueError
        If the parameters are not those that the optimizer's state was made for.

    See Also
    --------
    load_checkpoint : Reads such a file.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> params, optimizer = {"w": np.ones(2)}, ao.Adam(lr=0.1)
    >>> params = optimizer.apply({"w": np.array([1.0, -1.0])}, params)
    >>> ao.save_checkpoint(path, params, optimizer, epoch=1)
    >>> again, optimizer, extra = ao.load_checkpoint(path, {"w": np.zeros(2)})
    >>> again["w"].round(3), optimizer.iterations, extra
    (array([0.9, 1.1]), 1, {'epoch': 1})
    """
    from ..persistence import Record, write
    from ..persistence.json_values import Packed

    _require_place(path)
    _require(optimizer)
    leaves, structure = flatten(params)
    packed = Packed()
    contents = {name: packed.put(value, f"{name}") for name, value in extra.items()}
    outline = packed.outline(params)
    with optimizer._lock:
        optimizer.init(params)
        rows = [(p, x) for p, x in zip(structure.paths, leaves, strict=True) if x is not None]
        record = Record(
            source="arrayoptim",
            class_name=None,
            config={"params": outline, "extra": contents},
            iterations=None,
            scalars={},
            slots={
                "parameter": [partial(_to_host, x) for _, x in rows],
                "extra": [partial(_to_host, x) for x in packed.arrays.values()],
            },
            paths={"parameter": [p for p, _ in rows], "extra": list(packed.arrays)},
        )
        own = optimizer._record()
        own.fingerprint = fingerprint_of(leaves, structure.paths)
        write(path, own, overwrite=overwrite, beside={GROUP: record})


def load_checkpoint(
    path: persistence.Place,
    params: Tree = None,
    optimizer: Any = None,
    *,
    strict: bool = True,
    fingerprint: bool = True,
) -> Checkpoint:
    """Read what `save_checkpoint` wrote; nothing changes if it does not fit.

    Parameters
    ----------
    path : str, bytes, Path or binary file
        The file.
    params : tree of arrays, optional
        Parameters of the same paths, shapes and dtypes, of any library, that say which arrays
        are wanted. Those that can be written get the file's values; others come back new. Without
        them the file's parameters come as NumPy arrays, in the dicts, lists and tuples that they
        were saved in.
    optimizer : Optimizer, wrapper or native optimizer of this library, optional
        Which one is to go on; its class must be that of the file, and its hyperparameters become
        those of the file. One is made from the file if it is left out.
    strict : bool
        Whether parameters of other paths, shapes or dtypes than the file's are an error.
        Otherwise those that the file has are matched by their paths, the others stay as they were
        given and their state begins anew, and the checkpoint's `report` lists them.
    fingerprint : bool
        Whether to refuse parameters that are not, bit by bit, those that the optimizer was saved
        beside: the file's here, and later on those that `optimizer` first sees where `params` was
        left out.

    Returns
    -------
    Checkpoint
        A tuple ``params, optimizer, extra``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `optimizer` is none of this library's.
    ValueError
        If it holds no whole checkpoint, or one of other parameters or another optimizer.

    See Also
    --------
    save_checkpoint : Writes such a file.
    load : Makes the optimizer alone.
    """
    from ..persistence import read_with

    _require_place(path)
    if optimizer is not None:
        _require(optimizer)
    own, record = read_with(path, GROUP)
    with blaming(record):
        found = _Contents(record)
    if not fingerprint:
        own.fingerprint = None
    if own.fingerprint is not None and found.fingerprint != own.fingerprint:
        raise ValueError(
            f"{own.origin}: the parameters in it are not those that its optimizer was saved "
            "beside; fingerprint=False loads them nevertheless"
        )
    if params is None:
        loaded = made(own) if optimizer is None else optimizer
        if optimizer is not None:
            optimizer._load(own, strict=True, hyperparameters=True)
        return Checkpoint(found.params, loaded, found.extra)
    leaves, structure = flatten(params)
    report = LoadReport(own.source)
    values = found.fitting(leaves, structure.paths, strict, report)
    own.fingerprint = None  # these will be the parameters
    # Mismatches are found before the first parameter changes.
    loaded = made(own, strict) if optimizer is None else optimizer
    of_state = _restored(own, params, loaded, strict)
    for name in ("restored", "missing", "unexpected", "misshapen", "notes", "changed"):
        getattr(report, name).extend(getattr(of_state, name))
    new = [
        x if value is None else put_back(value, x) for x, value in zip(leaves, values, strict=True)
    ]
    checkpoint = Checkpoint(structure.build(new), loaded, found.extra)
    checkpoint.report = report
    return checkpoint


def _restored(own: Record, params: Tree, optimizer: Any, strict: bool) -> LoadReport:
    """Load the optimizer's state; it is left unchanged if the state does not fit."""
    if isinstance(optimizer, Optimizer):
        return load_into(session_of(optimizer), params, own, strict=strict, hyperparameters=True)
    optimizer.init(params)
    report: LoadReport = optimizer._load(own, strict=strict, hyperparameters=True)
    return report


def described_extra(record: Record) -> dict[str, Any]:
    """Return the extras of a checkpoint, with descriptions in place of arrays.

    Parameters
    ----------
    record : Record
        The part beside the optimizer, which may have no arrays in memory.
    """
    from ..persistence.json_values import unpacked

    named = dict(zip((record.paths or {})["extra"], record.slots["extra"], strict=True))
    words = {path: f"{x.dtype}{list(x.shape)}" for path, x in named.items()}
    return {k: unpacked(v, words) for k, v in (record.config or {})["extra"].items()}


def _require(optimizer: Any) -> None:
    if not isinstance(optimizer, Surface):
        raise TypeError(
            f"found {type_name(type(optimizer))}, wanted an "
            "optimizer such as arrayoptim.Adam(); one of torch's or Keras's kind is saved by its "
            "framework, with optimizer.state_dict() or model.save()"
        )


def _require_place(path: Any) -> None:
    """Refuse parameters or an optimizer where the file should be."""
    if isinstance(path, Mapping | list | tuple | Surface) or is_array(path):
        raise TypeError(
            f"found {type_name(type(path))}, wanted the path of a file; the order is "
            "save_checkpoint(path, params, optimizer) and load_checkpoint(path, params)"
        )


def _to_host(x: Array) -> np.ndarray:
    return backend_of(x).to_host(x)


class _Contents:
    """The parameters and extras of a checkpoint."""

    def __init__(self, record: Record) -> None:
        from ..persistence.json_values import nested, unpacked

        config, paths = record.config or {}, record.paths or {}
        if not {"parameter", "extra"} <= set(record.slots) or "extra" not in config:
            raise ValueError("found no parameters, wanted a checkpoint of save_checkpoint")
        self._origin = record.origin
        self._named = dict(zip(paths["parameter"], record.slots["parameter"], strict=True))
        self._more = dict(zip(paths["extra"], record.slots["extra"], strict=True))
        self.extra = {k: unpacked(v, self._more) for k, v in config["extra"].items()}
        outline = config.get("params")
        named = {f"/{path}" if path else "": x for path, x in self._named.items()}
        self.params = nested(self._named) if outline is None else unpacked(outline, named)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the parameters."""
        return fingerprint_of(list(self._named.values()), list(self._named))

    def fitting(
        self,
        leaves: list[Array | None],
        paths: tuple[str, ...],
        strict: bool,
        report: LoadReport,
    ) -> list[np.ndarray | None]:
        """Return the parameters in the order of those that there are; None for others.

        Raises
        ------
        ValueError
            With ``strict``, if a path, a shape or a dtype differs.
        """
        wanted = {
            path: f"{backend_of(x).dtype(x)}{list(x.shape)}"
            for path, x in zip(paths, leaves, strict=True)
            if x is not None
        }
        found = {path: f"{x.dtype.name}{list(x.shape)}" for path, x in self._named.items()}
        if strict and found != wanted:
            path = next(p for p in {**wanted, **found} if wanted.get(p) != found.get(p))
            raise ValueError(
                f"{self._origin}: {repr(path) if path else 'the parameter'}: found "
                f"{found.get(path, 'none')}, wanted {wanted.get(path, 'none')}; give the "
                "parameters that the checkpoint is of, or another file; strict=False loads what "
                "fits"
            )
        pairs, missing, unexpected = by_name(list(found), list(wanted), self._origin)
        fitting = {path for path in pairs if found[path] == wanted[path]}
        report.restored += [plain(path) for path in pairs if path in fitting]
        report.missing += map(plain, missing)
        report.unexpected += map(plain, unexpected)
        report.misshapen += [
            f"{named(path)}: found {found[path]}, wanted {wanted[path]}"
            for path in pairs
            if path not in fitting
        ]
        return [self._named[path] if path in fitting else None for path in paths]
