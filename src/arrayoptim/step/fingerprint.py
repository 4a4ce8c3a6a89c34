"""Fingerprints of parameters of any library: equal if and only if bit-identical."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._typing import Array
from ..arrays.libraries import backend_of

BYTES = 16


def fingerprint(leaves: Sequence[Array | None], paths: Sequence[str]) -> str:
    """Return a digest of the paths, dtypes, shapes and bits of parameters.

    Parameters
    ----------
    leaves : sequence of array or None
        The parameters.
    paths : sequence of str
        Their paths, in any order.
    """
    import hashlib

    found = hashlib.blake2b(digest_size=BYTES)
    for path, x in sorted(zip(paths, leaves, strict=True), key=lambda row: row[0]):
        if x is None:
            continue
        backend = backend_of(x)
        view = backend.host_view(x)
        host = backend.to_host(x) if view is None else view
        if not host.dtype.isnative:
            host = host.astype(host.dtype.name)
        found.update(repr((path, backend.dtype(x), tuple(host.shape))).encode())
        found.update(np.ascontiguousarray(host).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def require_same(wanted: str, leaves: Sequence[Array | None], paths: Sequence[str]) -> None:
    """Refuse parameters whose fingerprint differs.

    Raises
    ------
    ValueError
        If it differs.
    """
    if any(x is not None and backend_of(x).traced(x) for x in leaves):
        return  # tracers have no values
    if fingerprint(leaves, paths) != wanted:
        raise ValueError(
            "these are not the parameters that this state was saved with: their values differ. "
            "arrayoptim.load_checkpoint restores those of a checkpoint; to continue with these, "
            "load with fingerprint=False"
        )
