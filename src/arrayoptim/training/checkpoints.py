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
"""The HDF5 group that holds parameters and extras, beside the optimizer's state."""


class _Fields(NamedTuple):
    params: Tree
    optimizer: Any
    extra: dict[str, Any]


class Checkpoint(_Fields):
    """The contents of a checkpoint, as returned by `load_checkpoint`.

    Attributes
    ----------
    params : tree of arrays
        The parameters.
    optimizer : Optimizer
        The optimizer with its state.
    extra : dict
        The extras that were saved, by name.
    report : LoadReport
        Which parameters were found, missing, unexpected or mismatched in shape, and the same for
        the optimizer's state. Not part of the tuple.
    """

    report: LoadReport = LoadReport("arrayoptim")

    def __repr__(self) -> str:
        """Return one line with the number of arrays, the optimizer and the extras."""
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
    """Save parameters, optimizer and extras to one file, atomically.

    Parameters
    ----------
    path : str, bytes, Path or binary file
        The file. An existing one is replaced only when the new one is complete.
    params : tree of arrays
        The parameters that the optimizer steps, of any library.
    optimizer : Optimizer, wrapper or native optimizer of this library
        Its class, hyperparameters, counters and state are saved. If it has no state yet, it is
        created here.
    overwrite : bool
        Whether an existing file may be replaced.
    **extra
        Whatever else a run needs to resume, such as ``epoch=3`` or the state of a random generator:
        None, numbers, text, arrays of any library, and dicts, lists and tuples of these.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    OSError
        If the file cannot be written, or its directory does not exist.
    TypeError
        If `optimizer` is not one of this library, or an extra cannot be saved.
    ValueError
        If the parameters do not match the optimizer's state.

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
    """Load a checkpoint of `save_checkpoint`; nothing changes if it does not fit.

    Parameters
    ----------
    path : str, bytes, Path or binary file
        The file.
    params : tree of arrays, optional
        Parameters with the same paths, shapes and dtypes, of any library, which determine the
        arrays to return. Writeable ones receive the file's values in place; others are returned as
        new arrays. If omitted, the file's parameters are returned as NumPy arrays, in the dicts,
        lists and tuples in which they were saved.
    optimizer : Optimizer, wrapper or native optimizer of this library, optional
        The optimizer to load into; its class must be that of the file, and its hyperparameters are
        replaced by the file's. If omitted, one is made from the file.
    strict : bool
        Whether parameters whose paths, shapes or dtypes differ from the file's are an error.
        Otherwise parameters in the file are matched by path; the others keep their values, their
        state starts afresh, and the checkpoint's `report` lists them.
    fingerprint : bool
        Whether to refuse parameters that are not, bit for bit, those that the optimizer was saved
        with: the file's own here, and later the first ones that `optimizer` sees if `params` was
        omitted.

    Returns
    -------
    Checkpoint
        A tuple ``params, optimizer, extra``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `optimizer` is not one of this library.
    ValueError
        If the file is not a complete checkpoint of these parameters and this optimizer.

    See Also
    --------
    save_checkpoint : Writes such a file.
    load : Loads only the optimizer.
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
    own.fingerprint = None  # the parameters that come next are the file's own
    # Raises on a mismatch before the first parameter changes.
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
    """Return the extras of a checkpoint, with arrays replaced by descriptions.

    Parameters
    ----------
    record : Record
        The part beside the optimizer; its arrays need not be in memory.
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
    """Raise if parameters or an optimizer are passed as the file."""
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
        """Return the file's parameters in the order of `leaves`; None for missing ones.

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
