"""The hyperparameters that every optimizer has: those of the stages around the rule."""

from __future__ import annotations

from typing import Any, ClassVar

from ..config.declared import Declared
from ..config.groups import Groups, fitting
from ..config.hyper import GroupFlag, hyper
from ..config.presets import PRESETS, Preset
from ..config.typed import MaybeNumber, MaybeWhole, Whole, Words
from ..constraints import Constrained


class Options(Declared):
    """The keyword-only hyperparameters that every optimizer has."""

    presets: ClassVar[dict[str, str]] = {}
    """The form of the update for each preset; empty for the default form."""

    clipnorm: MaybeNumber = hyper(
        default=None,
        interval="[0, inf]",
        kw_only=True,
        doc="Bound on the Euclidean norm of all gradients together; 0 or None for none.",
    )
    clipvalue: MaybeNumber = hyper(
        default=None,
        interval="[0, inf]",
        kw_only=True,
        doc="Bound on the magnitude of each entry of a gradient; 0 or None for none.",
    )
    clipnorm_per_tensor: MaybeNumber = hyper(
        default=None,
        interval="[0, inf]",
        kw_only=True,
        doc="Bound on the norm of each gradient, Keras 3's clipnorm; 0 or None for none.",
    )
    agc: MaybeNumber = hyper(
        default=None,
        interval="[0, inf]",
        kw_only=True,
        doc="AGC: bound on gradient norm over parameter norm, per unit; 0 or None for none.",
    )
    agc_units: str = hyper(
        default="last",
        choices=("last", "first", "tensor"),
        kw_only=True,
        doc="The axis that counts the units of agc, or each tensor as one unit.",
    )
    weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Decoupled weight decay: a step first subtracts lr * weight_decay * parameter.",
    )
    peak_lr: MaybeNumber = hyper(
        default=None,
        interval="(0, inf)",
        kw_only=True,
        doc="For fully decoupled decay: lr / peak_lr replaces lr in weight_decay's product.",
    )
    corrected_decay: bool = hyper(
        default=False,
        kw_only=True,
        kind=GroupFlag,
        doc="Whether that product is multiplied by lr / peak_lr once more, as in AdamC.",
    )
    cautious_decay: bool = hyper(
        default=False,
        kw_only=True,
        kind=GroupFlag,
        doc="Whether weight_decay skips the entries that the step moves away from zero.",
    )
    l2: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Coupled weight decay: l2 * parameter is added to the clipped gradient.",
    )
    exclude: Words = hyper(
        default=(),
        words=True,
        kw_only=True,
        doc="Glob patterns of paths whose parameters are exempt from weight_decay and l2.",
    )
    constraint: Any = hyper(
        kind=Constrained,
        default=None,
        kw_only=True,
        doc="Projects the parameters after each step; from `constraints`.",
    )
    groups: Any = hyper(
        kind=Groups,
        default=(),
        kw_only=True,
        doc="Parameter groups with their own settings, from `group`.",
    )
    ema_momentum: MaybeNumber = hyper(
        default=None,
        interval="[0, 1)",
        kw_only=True,
        doc="Decay rate of a moving average of the parameters, kept as another slot.",
    )
    cautious: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether a step skips entries that it would move against their gradient.",
    )
    preset: str | None = hyper(
        kind=Preset,
        default=None,
        choices=PRESETS,
        kw_only=True,
        doc="The source whose formula and defaults are used.",
    )
    name: Any = hyper(default=None, kw_only=True, doc="Name shown in messages.")
    nonfinite: str = hyper(
        default="ignore",
        choices=("ignore", "raise", "skip"),
        kw_only=True,
        doc="What to do on NaN or infinite gradients: proceed, raise, or skip the step.",
    )
    skip_spikes: MaybeNumber = hyper(
        default=None,
        interval="(0, inf)",
        kw_only=True,
        doc="Skip steps whose gradient norm is this many standard deviations above the mean.",
    )
    skip_loss_spikes: MaybeNumber = hyper(
        default=None,
        interval="(0, inf)",
        kw_only=True,
        doc="Skip steps whose loss is this many standard deviations above the mean.",
    )
    spike_window: Whole = hyper(
        default=128,
        interval="[2, inf)",
        integer=True,
        static=True,
        kw_only=True,
        doc="Steps over which the spike guards take mean and standard deviation.",
    )
    measure: Words = hyper(
        default=(),
        words=True,
        choices=("gradient", "update", "weight"),
        kw_only=True,
        doc="Which norms last_step reports for each parameter.",
    )
    master: bool = hyper(
        default=True,
        kw_only=True,
        doc="Whether 16-bit parameters have a float32 master copy as an additional slot.",
    )
    kahan: bool = hyper(
        default=False,
        kw_only=True,
        doc="Kahan summation: a 16-bit slot holds the rounding error of 16-bit parameters.",
    )
    state_dtype: str | None = hyper(
        default=None,
        choices=("bfloat16", "int8"),
        kw_only=True,
        doc="Storage dtype of the rule's slots; the compute dtype if None.",
    )
    stochastic_rounding: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether slots in state_dtype are rounded stochastically, without bias.",
    )
    seed: Whole = hyper(
        default=0,
        interval="(-inf, inf)",
        integer=True,
        kw_only=True,
        doc="Seed of stochastic rounding; bits depend only on it, step and index.",
    )
    offload: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether state is kept in host memory, where parameters on a GPU are stepped.",
    )
    sparse: str | None = hyper(
        default=None,
        choices=("exact", "lazy"),
        kw_only=True,
        doc="What a sparse gradient updates: all rows, as a dense one, or only its own.",
    )
    models: MaybeWhole = hyper(
        default=None,
        interval="[1, inf)",
        integer=True,
        static=True,
        kw_only=True,
        doc="Number of models, counted by the first axis of every parameter; None for one.",
    )
    threads: MaybeWhole = hyper(
        default=None,
        interval="[1, inf)",
        integer=True,
        kw_only=True,
        doc="Threads of the CPU engine; Numba's number if None.",
    )

    def _fitting(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return hyperparameters, each checked to have one value or one per model."""
        return fitting(values, type(self).__name__) if "models" in values else values

    @property
    def form(self) -> str:
        """The form of the update that the preset selects; empty for the default form."""
        preset = self._hyper["preset"]
        return self.presets[preset] if preset else ""
