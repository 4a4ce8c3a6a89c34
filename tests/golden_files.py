"""The index of recorded files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden" / "h5"


def records(name: str) -> list[dict[str, Any]]:
    """Return the index of one writer."""
    return json.loads((FOLDER / f"h5_index_{name}.json").read_text())
