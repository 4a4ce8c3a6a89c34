"""Run ``python docs/demo`` or ``python -m demo``, as ``nox -s demo`` and ``arrayoptim demo`` do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from arrayoptim._cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
