"""Norms of whole trees."""

from __future__ import annotations

from ._typing import Scalar, Tree
from .arrays.rows import magnitudes
from .arrays.trees import flatten
from .gradients import global_norm as _norm


def global_norm(tree: Tree) -> Scalar:
    """Compute the Euclidean norm over all entries of all arrays of a tree.

    Parameters
    ----------
    tree : tree of arrays
        Gradients, including sparse ones, or parameters, of any library; None counts as zero.

    Returns
    -------
    float or 0-d array
        A float; for JAX arrays an array that stays on the device, so this works under ``jax.jit``.
        It is summed in double precision where the library supports it, and does not overflow for
        finite entries.

    See Also
    --------
    clip_norm : Scales a gradient by such a norm.

    Notes
    -----
    This is the norm that `clipnorm` bounds. An optimizer with ``clipnorm=float("inf")`` does not
    clip but reports it, in ``last_step.global_norm``, at the cost of one pass over the gradients.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> ao.global_norm({"kernel": np.array([3.0]), "bias": np.array([4.0])})
    5.0
    """
    return _norm(magnitudes(flatten(tree, "gradients")[0]))
