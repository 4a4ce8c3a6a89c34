"""Files that were changed by chance: read, refused in one line, or neither."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import arrayoptim as ao
from arrayoptim.persistence import describe
from torture.batches import serve

GOLDEN = Path(__file__).parents[1] / "golden" / "h5"
FORMATS = Path(__file__).parents[1] / "formats"
LONGEST = 900


@cache
def originals() -> list[bytes]:
    """Return good files: Keras's, natural_bm's and this library's."""
    paths = [*GOLDEN.glob("*.h5"), *GOLDEN.glob("*.keras"), *[*FORMATS.glob("*.h5")] * 8]
    return [path.read_bytes() for path in sorted(paths)]


def changed(chance: random.Random) -> bytes:
    """Return a file with some bytes, words or pieces that are others."""
    raw = bytearray(chance.choice(originals()))
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16, 64])):
        at, way = chance.randrange(len(raw) - 8), chance.random()
        if way < 0.4:
            raw[at] ^= 1 << chance.randrange(8)
        elif way < 0.55:
            raw[at] = chance.choice([0, 1, 127, 128, 255])
        elif way < 0.7:
            words = [2**64 - 1, 0, len(raw), 2**63, chance.getrandbits(64)]
            raw[at : at + 8] = chance.choice(words).to_bytes(8, "little")
        elif way < 0.85:
            start, size = chance.randrange(len(raw)), chance.randrange(1, 64)
            raw[at : at + size] = raw[start : start + size]
        else:
            place = chance.randrange(len(raw)) & ~7
            raw[at & ~7 : (at & ~7) + 8] = place.to_bytes(8, "little")
    return bytes(raw if chance.random() > 0.05 else raw[: chance.randrange(len(raw))])


def case(number: int, folder: Path) -> str:
    """Read one file in the two ways that there are."""
    path = folder / "w.h5"
    path.write_bytes(changed(random.Random(number)))
    words = "read"
    for way in (ao.load, describe):
        try:
            way(path)
        except ValueError as error:
            text = str(error)
            clean = str(path) in text and text.isprintable() and len(text) < LONGEST
            if not clean:
                return f"unclean: message {text[:200]!r}"
            words = "refused"
        except Exception as error:
            return f"unclean: {type(error).__name__}"
    return words


if __name__ == "__main__":
    serve(case)
