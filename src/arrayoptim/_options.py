"""The stages around the rule that every optimizer has: clipping, decay, averaging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from ._declared import Declared
from ._groups import Groups, matches, require_matches
from ._hyper import hyper
from ._presets import PRESETS, Preset
from ._rule import Rule
from ._storage import Layout
from ._typing import Namespace, Scalar
from .gradients import clip_factor


class Options(Declared):
    """The hyperparameters that every optimizer takes, by keyword."""

    presets: ClassVar[dict[str, str]] = {}
    """The form of the update for each preset that the class has; empty for the one without."""

    clipnorm: Any = hyper(
        default=None,
        interval="[0, inf]",
        kw_only=True,
        doc="Bound on the Euclidean norm of all gradients together; 0 or None for none.",
    )
    clipvalue: Any = hyper(
        default=None,
        interval="[0, inf]",
        kw_only=True,
        doc="Bound on the magnitude of each entry of a gradient; 0 or None for none.",
    )
    weight_decay: Any = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Decoupled weight decay: a step first takes lr times this share of the parameter.",
    )
    l2: Any = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Coupled weight decay: this times the parameter is added to the clipped gradient.",
    )
    exclude: Any = hyper(
        default=(),
        words=True,
        kw_only=True,
        doc="Patterns of the paths of parameters that neither kind of decay touches.",
    )
    groups: Any = Groups(
        default=(),
        keyword=True,
        doc="Parameters with settings of their own, from `group`.",
    )
    ema_momentum: Any = hyper(
        default=None,
        interval="[0, 1)",
        kw_only=True,
        doc="Decay rate of a moving average of the parameters, kept as another slot.",
    )
    preset: Any = Preset(
        default=None,
        choices=PRESETS,
        keyword=True,
        doc="Whose formula is computed, where it is another; hyperparameters stay as they are.",
    )
    name: Any = hyper(default=None, kw_only=True, doc="A name of the caller's choice.")
    nonfinite: str = hyper(
        default="ignore",
        choices=("ignore", "raise", "skip"),
        kw_only=True,
        doc="What a NaN or infinite gradient does: take its course, raise, or skip the step.",
    )
    master: bool = hyper(
        default=True,
        kw_only=True,
        doc="Whether 16-bit parameters keep their float32 value as another slot.",
    )
    kahan: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether 16-bit parameters keep what rounding loses, in 16 bits, in place of master.",
    )
    state_dtype: Any = hyper(
        default=None,
        choices=("bfloat16", "int8"),
        kw_only=True,
        doc="How the rule's slots are stored; in the type of the arithmetic if None.",
    )
    stochastic_rounding: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether slots in fewer bits are rounded up or down by chance, without bias.",
    )
    seed: Any = hyper(
        default=0,
        interval="(-inf, inf)",
        integer=True,
        kw_only=True,
        doc="Seed of stochastic rounding; the bits follow from it and the step number.",
    )
    threads: Any = hyper(
        default=None,
        interval="[1, inf)",
        integer=True,
        kw_only=True,
        doc="Threads of the CPU engine; as many as Numba uses if None.",
    )

    @property
    def form(self) -> str:
        """The form of the update that the preset asks for; empty for the one without a preset."""
        preset = self._hyper["preset"]
        return self.presets[preset] if preset else ""

    def _layout(self, rule: Rule) -> Layout:
        """Say which slots parameters have, the rule's and those of stages."""
        h = self._hyper
        extras = ("compensation",) * h["kahan"] or ("master",) * h["master"]
        if h["ema_momentum"] is not None:
            extras += ("average",)
        return _layout(rule, extras, h["state_dtype"])

    def _excluded(self, paths: Sequence[str]) -> list[bool]:
        """Say which parameters are left out of decay; empty where none is to be.

        Raises
        ------
        ValueError
            If a pattern matches no path.
        """
        if not self.exclude:
            return []
        require_matches(self.exclude, paths, "exclude")
        return [any(matches(path, pattern) for pattern in self.exclude) for path in paths]

    def _members(self, paths: Sequence[str]) -> list[int]:
        """Give for each parameter the number of its group, counted from 1; 0 for none.

        Raises
        ------
        ValueError
            If a pattern of a group matches no path.
        """
        for each in self.groups:
            if not each.allow_unmatched:
                require_matches(each.patterns, paths, "groups")
        return [
            next((k for k, each in enumerate(self.groups, 1) if each.holds(path)), 0)
            for path in paths
        ]

    def _stage_values(
        self,
        rule: Rule,
        h: SimpleNamespace,
        norm: Scalar | None,
        xp: Namespace,
        unscale: float = 1.0,
    ) -> dict[str, Scalar]:
        """Give the numbers that the stages need, by the names that engines know.

        There are none where a stage is not used. A rule with a coefficient `wd` decays by itself.
        """
        values = _clipping(h, norm, xp, unscale)
        if h.ema_momentum is not None:
            values |= {"keep": h.ema_momentum, "new": 1.0 - h.ema_momentum}
        if h.l2 is not None:
            values["l2"] = h.l2
        if h.weight_decay is not None and "wd" not in rule.coefficients:
            values["amount"] = h.lr * h.weight_decay
        return values


_layout = cache(Layout)


def _clipping(
    h: SimpleNamespace, norm: Scalar | None, xp: Namespace, unscale: float
) -> dict[str, Scalar]:
    if h.clipnorm is None and h.clipvalue is None and unscale == 1.0:
        return {}
    if h.clipvalue is None:
        bound = math.inf
    elif xp is np:
        bound = h.clipvalue or math.inf
    else:
        bound = xp.where(h.clipvalue > 0, h.clipvalue, math.inf)
    if h.clipnorm is None:
        return {"scale": unscale, "bound": bound}
    true = norm if unscale == 1.0 or norm is None else norm * unscale
    factor = clip_factor(true, h.clipnorm)
    # A factor that only a device knows cannot be multiplied.
    return {"scale": factor if unscale == 1.0 else factor * unscale, "bound": bound}
