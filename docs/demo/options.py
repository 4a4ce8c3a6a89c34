"""The options of the demonstration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from arrayoptim._cli.parser import count, whole
from arrayoptim.arrays.libraries import NAMES
from arrayoptim.config.registry import names

ABOUT = """\
Train a two-layer classifier of handwritten digits with each optimizer, write a checkpoint
halfway, resume it on the same array library and on another one, and check that the resumed
runs agree with the one that was never stopped.
"""

MORE = """\
examples:
  python -m arrayoptim demo                      every optimizer, on NumPy
  python -m arrayoptim demo adam nadam --epochs 5
  python -m arrayoptim demo --backend jax --resume-on numpy
  python -m arrayoptim demo sgd --lr 0.05 --output out
  python -m arrayoptim demo --compare torch      torch.optim from the same start

The exit code is 1 if a resumed run disagrees with the one that was never stopped.
"""


def build() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m arrayoptim demo",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(names())
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER", help=f"default: {known}")
    add = parser.add_argument
    library: dict[str, Any] = {"choices": NAMES, "metavar": "LIBRARY"}
    add("--backend", **library, default="numpy", help=f"{', '.join(NAMES)} (default: numpy)")
    add("--resume-on", **library, help="where to resume besides (default: another that works)")
    add("--epochs", type=count, default=10, metavar="N", help="default: %(default)s")
    add("--batch-size", type=count, default=32, metavar="N", help="default: %(default)s")
    add("--seed", type=whole, default=0, metavar="N", help="of all that is random (default: 0)")
    add("--lr", type=float, metavar="X", help="learning rate of all (default: one that suits each)")
    add(
        "--output",
        type=Path,
        default=Path("arrayoptim-demo"),
        metavar="DIR",
        help="directory for checkpoints, loss curves and results (default: ./%(default)s)",
    )
    add(
        "--compare",
        choices=("keras", "torch"),
        help="train with the optimizers of torch.optim, or of Keras 3 on its own backend, too",
    )
    return parser
