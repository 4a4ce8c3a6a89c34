"""In which order the gallery shows its programs."""

from __future__ import annotations


class PicturesFirst:
    """A key to sort by: programs that draw come before those that print.

    Parameters
    ----------
    folder : str
        Where the programs are, which sphinx-gallery tells.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[bool, str]:
        """Return the place of a program."""
        return not name.startswith("plot_"), name
