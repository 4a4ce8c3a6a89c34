"""Untrusted text, made safe for messages."""

from __future__ import annotations

MOST = 400
"""Most characters quoted from a file in a message."""


def readable(text: str, most: int | None = MOST) -> str:
    """Return text as one line without control characters.

    Parameters
    ----------
    text : str
        The text. Unprintable characters are escaped as in Python literals.
    most : int or None
        Length to which it is shortened; None for no limit.

    Returns
    -------
    str
        The text; if it was longer, its beginning and its end.
    """
    cut = text
    if most is not None and len(text) > most:
        cut = f"{text[: most * 2 // 3]} ... {text[len(text) - most // 3 :]}"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
