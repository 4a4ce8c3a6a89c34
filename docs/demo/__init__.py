"""A demonstration: train on handwritten digits, stop halfway, go on in another library."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the demonstration.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    from . import command, options

    return command.run(options.build().parse_args(argv))
