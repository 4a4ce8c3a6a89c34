"""Other formats of saved state: recognized by name, with advice on how to convert them."""

from __future__ import annotations

from pathlib import Path

SAVE = "load it where it was made and save the model as .h5 or .keras"


def refusal(path: Path) -> str | None:
    """Return what a path of another format is and what to do; None for a readable file.

    Parameters
    ----------
    path : Path
        The path that was passed; for a TensorFlow checkpoint it is only a prefix.
    """
    if path.is_dir():
        return _folder(path)
    name = path.name
    parts = list(path.parent.glob(f"{_escaped(name)}.data-*")) if not path.exists() else []
    if parts or path.with_name(f"{name}.index").is_file():
        return f"found a checkpoint of TensorFlow ({name}.index, {name}.data-...); {SAVE}"
    if not path.exists():
        return None
    if name == "checkpoint" or path.suffix == ".index" or ".data-0" in name:
        return f"found a part of a checkpoint of TensorFlow; {SAVE}"
    if name in {"saved_model.pb", "keras_metadata.pb"}:
        return f"found a part of a SavedModel of TensorFlow; {SAVE}"
    return None


def _folder(path: Path) -> str | None:
    if (path / "saved_model.pb").is_file():
        return f"found the folder of a SavedModel of TensorFlow; {SAVE}"
    if (path / "checkpoint").is_file() or any(path.glob("*.index")):
        return f"found a folder of checkpoints of TensorFlow; {SAVE}"
    return None


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
