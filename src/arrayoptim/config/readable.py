"""Text from elsewhere, for people to read."""

from __future__ import annotations

MOST = 400
"""Characters of a message that quotes what a file holds."""


def readable(text: str, most: int | None = MOST) -> str:
    """Return text in one line that cannot act on a terminal.

    Parameters
    ----------
    text : str
        The text. What is not printable is written as in Python's literals.
    most : int or None
        Characters that are kept of it; None for all.

    Returns
    -------
    str
        The text; where it was longer, its beginning and its end.
    """
    cut = text
    if most is not None and len(text) > most:
        cut = f"{text[: most * 2 // 3]} ... {text[len(text) - most // 3 :]}"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
