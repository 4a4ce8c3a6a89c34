"""Plain-text tables for a terminal."""

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Format rows under headers, with columns as wide as their widest cell.

    Parameters
    ----------
    headers : sequence of str
        One title per column.
    rows : sequence of sequence of str
        The cells, as many per row as there are headers.
    right : str, optional
        One character per column: ``">"`` aligns it to the right. A shorter string is padded with
        ``"<"``.

    Returns
    -------
    str
        The lines of the table, without trailing blanks.
    """
    sides = right.ljust(len(headers), "<")
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    rule = ["-" * width for width in widths]

    def laid(line: list[str]) -> str:
        cells = zip(line, sides, widths)
        return "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip()

    return "\n".join(map(laid, [lines[0], rule, *lines[1:]]))
