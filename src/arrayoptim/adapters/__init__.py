"""The optimizers in the words of other frameworks, one module for each; see `MODULES`.

A framework is imported when its module is first asked for, as ``arrayoptim.torch`` and the like.
"""

from __future__ import annotations

MODULES: tuple[str, ...] = ("keras", "optax", "scipy", "torch")
"""Modules of this package, which are attributes of the package above too."""
