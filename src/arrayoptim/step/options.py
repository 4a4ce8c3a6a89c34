"""The hyperparameters of the stages around the rule, which every optimizer has."""

from __future__ import annotations

from typing import Any, ClassVar

from ..config.declared import Declared
from ..config.groups import Groups, fitting
from ..config.hyper import GroupFlag, hyper
from ..config.presets import PRESETS, Preset
from ..config.typed import MaybeNumber, MaybeWhole, Whole, Words
from ..constraints import Constrained


class Options(Declared):
    """The hyperparameters that every optimizer takes, by keyword."""

    presets: ClassVar[dict[str, str]] = {}
    """The form of the update for each preset of the class; empty for the default form."""

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
        doc="Bound on the gradient's norm in norms of each unit, AGC; 0 or None for none.",
    )
    agc_units: str = hyper(
        default="last",
        choices=("last", "first", "tensor"),
        kw_only=True,
        doc="The axis that counts the units of agc; or each tensor is one.",
    )
    weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Decoupled weight decay: a step first takes lr times this share of the parameter.",
    )
    peak_lr: MaybeNumber = hyper(
        default=None,
        interval="(0, inf)",
        kw_only=True,
        doc="For fully decoupled decay: lr / peak_lr stands for lr in weight_decay's share.",
    )
    corrected_decay: bool = hyper(
        default=False,
        kw_only=True,
        kind=GroupFlag,
        doc="Whether weight_decay's share is multiplied by lr / peak_lr once more, as in AdamC.",
    )
    cautious_decay: bool = hyper(
        default=False,
        kw_only=True,
        kind=GroupFlag,
        doc="Whether weight_decay spares the entries that the step moves away from zero.",
    )
    l2: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Coupled weight decay: this times the parameter is added to the clipped gradient.",
    )
    exclude: Words = hyper(
        default=(),
        words=True,
        kw_only=True,
        doc="Patterns of the paths of parameters that neither kind of decay touches.",
    )
    constraint: Any = hyper(
        kind=Constrained,
        default=None,
        kw_only=True,
        doc="What parameters are brought back to after the step, from `constraints`.",
    )
    groups: Any = hyper(
        kind=Groups,
        default=(),
        kw_only=True,
        doc="Parameters with settings of their own, from `group`.",
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
        doc="Whether only the part of a step that agrees with the gradient is taken, scaled up.",
    )
    preset: str | None = hyper(
        kind=Preset,
        default=None,
        choices=PRESETS,
        kw_only=True,
        doc="Whose formula is computed, with whose defaults, where they are others.",
    )
    name: Any = hyper(default=None, kw_only=True, doc="A name of the caller's choice.")
    nonfinite: str = hyper(
        default="ignore",
        choices=("ignore", "raise", "skip"),
        kw_only=True,
        doc="What a NaN or infinite gradient does: take its course, raise, or skip the step.",
    )
    skip_spikes: MaybeNumber = hyper(
        default=None,
        interval="(0, inf)",
        kw_only=True,
        doc="Standard deviations over the mean of recent norms from which on a step is skipped.",
    )
    skip_loss_spikes: MaybeNumber = hyper(
        default=None,
        interval="(0, inf)",
        kw_only=True,
        doc="Standard deviations over the mean of recent losses from which on a step is skipped.",
    )
    spike_window: Whole = hyper(
        default=128,
        interval="[2, inf)",
        integer=True,
        static=True,
        kw_only=True,
        doc="Steps over which the guards against spikes take mean and deviation.",
    )
    measure: Words = hyper(
        default=(),
        words=True,
        choices=("gradient", "update", "weight"),
        kw_only=True,
        doc="Whose norm last_step gives for each parameter.",
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
    state_dtype: str | None = hyper(
        default=None,
        choices=("bfloat16", "int8"),
        kw_only=True,
        doc="How the rule's slots are stored; in the compute dtype if None.",
    )
    stochastic_rounding: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether slots in fewer bits are rounded up or down at random, without bias.",
    )
    seed: Whole = hyper(
        default=0,
        interval="(-inf, inf)",
        integer=True,
        kw_only=True,
        doc="Seed of stochastic rounding; the bits follow from it and the step number.",
    )
    offload: bool = hyper(
        default=False,
        kw_only=True,
        doc="Whether parameters on a GPU have their state in host memory, where they are stepped.",
    )
    sparse: str | None = hyper(
        default=None,
        choices=("exact", "lazy"),
        kw_only=True,
        doc="What a sparse gradient steps: all rows, as a dense one does, or only its own.",
    )
    models: MaybeWhole = hyper(
        default=None,
        interval="[1, inf)",
        integer=True,
        static=True,
        kw_only=True,
        doc="Number of models that the first axis of every parameter counts; None for one model.",
    )
    threads: MaybeWhole = hyper(
        default=None,
        interval="[1, inf)",
        integer=True,
        kw_only=True,
        doc="Threads of the CPU engine; as many as Numba uses if None.",
    )

    def _fitting(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return hyperparameters of which each has as many values as there are models, or one."""
        return fitting(values, type(self).__name__) if "models" in values else values

    @property
    def form(self) -> str:
        """The form of the update that the preset asks for; empty for the default form."""
        preset = self._hyper["preset"]
        return self.presets[preset] if preset else ""
