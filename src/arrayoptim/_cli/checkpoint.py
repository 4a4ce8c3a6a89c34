"""``inspect``: the optimizer state in a file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..config.readable import readable
from ..persistence import Record, describe_with
from ..training.checkpoints import GROUP, described_extra
from .errors import CommandError, one_line
from .table import table

WIDEST = 120
"""Maximum number of characters shown of one entry of a file; JSON has all."""

ROWS = 60
"""Maximum number of arrays listed in a terminal; JSON lists all."""


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : argparse.Namespace
        The command line.

    Returns
    -------
    int
        0.
    """
    found = summary(*_described(arguments.file))
    if arguments.json:
        print(json.dumps({"file": str(arguments.file), **found}, indent=1, default=str))
    else:
        print(printed(arguments.file, found))
    return 0


def _described(file: Path) -> tuple[Record, Record | None]:
    """Read the file, or raise a one-line error."""
    name = readable(str(file), None)
    if not file.exists():
        raise CommandError(f"no such file: {name}")
    if file.is_dir():
        raise CommandError(f"{name} is a directory, wanted an HDF5 or .keras file")
    try:
        return describe_with(file, GROUP)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        text = one_line(error)
        raise CommandError(text if name in text else f"{name}: {text}") from error


def summary(record: Record, beside: Record | None = None) -> dict[str, Any]:
    """Summarize the record of a file.

    Parameters
    ----------
    record : Record
        The optimizer in the file.
    beside : Record, optional
        The rest of a checkpoint: parameters and extras.

    Returns
    -------
    dict
        The record, with shapes and dtypes instead of arrays.
    """
    return {
        "source": record.source,
        "class": record.class_name,
        "config": record.config,
        "iterations": record.iterations,
        "skipped": record.skipped,
        "scalars": record.scalars,
        "slots": _arrays(record, record.slots),
        **({} if beside is None else _rest(beside)),
        "notes": [*record.notes, *(f"left out: {what}" for what in record.unkept)],
    }


def _rest(beside: Record) -> dict[str, Any]:
    """Return the parameters and extras of a checkpoint."""
    parameters = [
        {k: v for k, v in entry.items() if k != "slot"} for entry in _arrays(beside, ["parameter"])
    ]
    return {"parameters": parameters, "extra": described_extra(beside)}


def _arrays(record: Record, slots: Iterable[str]) -> list[dict[str, Any]]:
    """Return slot, parameter, shape, dtype and size of each array."""
    rows = []
    for slot in slots:
        arrays = record.slots[slot]
        paths = record.paths[slot] if record.paths else [None] * len(arrays)
        for place, (path, array) in enumerate(zip(paths, arrays, strict=True)):
            rows.append(
                {
                    "slot": slot,
                    "parameter": place if path is None else path,
                    "shape": list(array.shape),
                    "dtype": str(array.dtype),
                    "bytes": int(array.nbytes),
                }
            )
    return rows


def printed(file: Path, found: dict[str, Any]) -> str:
    """Format a summary for a terminal.

    Parameters
    ----------
    file : Path
        The file.
    found : dict
        The summary.

    Returns
    -------
    str
        Several lines.
    """
    step = "not in the file" if found["iterations"] is None else str(found["iterations"])
    size = sum(entry["bytes"] for entry in found["slots"])
    head = [
        ("file", _shown(str(file))),
        ("format", found["source"]),
        ("class", _shown(found["class"] or "not in the file")),
        ("step", step + (f" ({found['skipped']} skipped)" if found["skipped"] else "")),
        ("state", f"{len(found['slots'])} arrays, {size:,} bytes"),
    ]
    if "parameters" in found:
        own = sum(entry["bytes"] for entry in found["parameters"])
        head.insert(4, ("params", f"{len(found['parameters'])} arrays, {own:,} bytes"))
    lines = [f"{key:<7} {value}" for key, value in head]
    config = {**(found["config"] or {}), **found["scalars"]}
    if config:
        rows = [(_shown(key), _shown(_value(value))) for key, value in config.items()]
        lines += ["", table(("hyperparameter or scalar", "value"), rows)]
    if found.get("extra"):
        rows = [(_shown(key), _shown(_value(value))) for key, value in found["extra"].items()]
        lines += ["", table(("extra", "value"), rows)]
    if found.get("parameters"):
        lines += ["", _listed(found["parameters"], "parameter")]
    if found["slots"]:
        lines += ["", _listed(found["slots"], "slot", "parameter")]
    lines += ["", *(f"note: {readable(note)}" for note in found["notes"])] if found["notes"] else []
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Return an entry of a file as a table cell."""
    return readable(text, WIDEST)


def _value(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)


def _listed(arrays: list[dict[str, Any]], *names: str) -> str:
    """Format the first arrays."""
    rows = [
        (*(_shown(str(entry[name])) for name in names), _shape(entry["shape"]), entry["dtype"])
        for entry in arrays[:ROWS]
    ]
    text = table((*names, "shape", "dtype"), rows)
    rest = len(arrays) - ROWS
    return text + (f"\n... and {rest} more; --json lists all" if rest > 0 else "")


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
