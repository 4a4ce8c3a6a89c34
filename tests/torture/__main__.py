"""Run the kinds of torture, and print or write a table of what came of them."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from torture.batches import run

KINDS = {
    "kills": (1_000, "kill -9 in saves"),
    "files": (100_000, "damaged files, loaded and inspected"),
    "configs": (100_000, "changed configurations"),
    "interrupts": (10_000, "signals in steps, saves and loads"),
}
BATCH = 500


def counted(kind: str, count: int, seed: int, workers: int) -> Counter[str]:
    """Run the cases of a kind in batches, some at a time."""
    starts = range(seed, seed + count, BATCH)
    total: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda at: run(kind, at, min(at + BATCH, seed + count)), starts):
            total += found
    return total


def row(kind: str, found: Counter[str], seconds: float) -> str:
    """Return a line of the table."""

    def many(*words: str) -> int:
        return sum(n for how, n in found.items() if any(word in how for word in words))

    bad = many("lost"), many("hung"), many("crashed"), many("unclean", "told as", "not told")
    numbers = [sum(found.values()), *bad, many("left over"), round(seconds)]
    return f"| {KINDS[kind][1]} | " + " | ".join(f"{n:,}" for n in numbers) + " |"


def machine() -> str:
    """Return date, machine and versions in a line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x
        ]
        cpu = names[0] if names else cpu
    return (
        f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} processors, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, h5py {h5py.__version__}"
    )


def main() -> None:
    """Carry out the command line."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    for kind, (count, what) in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, default=count, help=f"{what} ({count:,})")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", type=Path, help="file that gets the table, else none does")
    options = parser.parse_args()
    heads = ["cases", "lost", "hung", "crashed", "unclean", "left over", "seconds"]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    details = []
    for kind in KINDS:
        count = getattr(options, kind)
        if count:
            start = time.perf_counter()
            found = counted(kind, count, options.seed, options.workers)
            lines.append(row(kind, found, time.perf_counter() - start))
            words = "; ".join(f"{how} {n:,}" for how, n in sorted(found.items()))
            details.append(f"- {KINDS[kind][1]}: {words}")
            print(f"{lines[-1]}\n{details[-1]}", flush=True)
    text = "\n".join([machine(), "", *lines, "", *details, ""])
    if options.table:
        head = options.table.read_text().split("<!-- figures -->")[0]
        options.table.write_text(f"{head}<!-- figures -->\n\n{text}")
    print("\n" + text)


if __name__ == "__main__":
    main()
