"""The optimizers as optax gradient transformations.

Made by docs/made.py from the declarations.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat, SupportsInt, TypedDict

from typing_extensions import Unpack

from ._typing import Schedule

from optax import GradientTransformationExtraArgs
from .adapters.optax import export_state as export_state
from .adapters.optax import load_state as load_state
from .adapters.optax import wrap as wrap


class _Rest(TypedDict, total=False):
    clipnorm: float | SupportsFloat | Schedule | None
    clipvalue: float | SupportsFloat | Schedule | None
    clipnorm_per_tensor: float | SupportsFloat | Schedule | None
    agc: float | SupportsFloat | Schedule | None
    agc_units: str
    weight_decay: float | SupportsFloat | Schedule | None
    peak_lr: float | SupportsFloat | Schedule | None
    corrected_decay: bool
    cautious_decay: bool
    l2: float | SupportsFloat | Schedule | None
    exclude: str | Sequence[str]
    constraint: Any
    groups: Any
    ema_momentum: float | SupportsFloat | Schedule | None
    cautious: bool
    preset: str | None
    name: Any
    nonfinite: str
    skip_spikes: float | SupportsFloat | Schedule | None
    skip_loss_spikes: float | SupportsFloat | Schedule | None
    spike_window: int | SupportsInt
    measure: str | Sequence[str]
    master: bool
    kahan: bool
    state_dtype: str | None
    stochastic_rounding: bool
    seed: int | SupportsInt
    offload: bool
    sparse: str | None
    models: int | SupportsInt | None
    threads: int | SupportsInt | None
    learning_rate: float | SupportsFloat | Schedule


class _Options(_Rest, total=False):
    pass


def ADOPT(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.9999,
    epsilon: float | SupportsFloat | Schedule = 1e-06,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Average gradients, each normalised by the root mean square of the previous ones."""


def APOLLO(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-06,
    rank: int | SupportsInt = 256,
    scale_type: str = 'channel',
    scale: float | SupportsFloat | Schedule = 1.0,
    update_proj_gap: int | SupportsInt = 200,
    norm_growth: float | SupportsFloat | Schedule = 1.01,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Scale gradients as Adam would, as estimated in a random low-rank projection."""


def ASGD(
    lr: float | SupportsFloat | Schedule = 0.01,
    lambd: float | SupportsFloat | Schedule = 0.0001,
    alpha: float | SupportsFloat | Schedule = 0.75,
    t0: float | SupportsFloat | Schedule = 1000000.0,
    *,
    scalar_dtype: str | None = None,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """SGD with shrinking steps, which averages the parameters along the way."""


def AdEMAMix(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    beta_3: float | SupportsFloat | Schedule = 0.9999,
    alpha: float | SupportsFloat | Schedule = 5.0,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    alpha_warmup: int | SupportsInt | None = None,
    beta_3_warmup: int | SupportsInt | None = None,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with a second, much slower running mean of the gradient."""


def AdaBelief(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-16,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step along the running mean of the gradient, scaled by how far gradients deviate from it."""


def AdaMuon(
    lr: float | SupportsFloat | Schedule = 0.001,
    momentum: float | SupportsFloat | Schedule = 0.95,
    nesterov: bool = True,
    ns_steps: int | SupportsInt = 5,
    scaling: str = 'rms',
    rms_rate: float | SupportsFloat | Schedule = 0.2,
    adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
    adam_beta_1: float | SupportsFloat | Schedule = 0.9,
    adam_beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-07,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    adam_weight_decay: float | SupportsFloat | Schedule | None = None,
    exclude_layers: str | Sequence[str] = (),
    exclude_embeddings: bool = False,
    ns_a: float | SupportsFloat | Schedule = 3.4445,
    ns_b: float | SupportsFloat | Schedule = -4.775,
    ns_c: float | SupportsFloat | Schedule = 2.0315,
    ns_schedule: Any = None,
    ns_dtype: str = 'compute',
    leading_axes: str = 'auto',
    split: Any = (),
    beta_2: float | SupportsFloat | Schedule = 0.95,
    epsilon_2: float | SupportsFloat | Schedule = 1e-08,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Muon on the signs of the momentum, divided elementwise by a running root mean square."""


def Adadelta(
    lr: float | SupportsFloat | Schedule = 1.0,
    rho: float | SupportsFloat | Schedule = 0.95,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Scale each step by the root mean square of the steps before it."""


def Adafactor(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_2_decay: float | SupportsFloat | Schedule = -0.8,
    epsilon_1: float | SupportsFloat | Schedule = 1e-30,
    epsilon_2: float | SupportsFloat | Schedule = 0.001,
    clip_threshold: float | SupportsFloat | Schedule = 1.0,
    relative_step: bool = True,
    scale_parameter: bool = True,
    *,
    outputs: str = 'first',
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Divide the gradient by a running root mean square, factored into rows and columns."""


def Adagrad(
    lr: float | SupportsFloat | Schedule = 0.01,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    initial_accumulator_value: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Divide the gradient by the root of the sum of its squares so far."""


def Adam(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    amsgrad: bool = False,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step along the running mean of the gradient, divided by its running root mean square."""


def AdamMini(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    split: Any = (),
    whole: str | Sequence[str] = (),
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with one mean of squares per neuron, head or tensor."""


def AdamW(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    amsgrad: bool = False,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with decoupled weight decay."""


def Adamax(
    lr: float | SupportsFloat | Schedule = 0.002,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step along the running mean of the gradient, divided by a decaying maximum of its magnitude."""


def Adan(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.98,
    beta_2: float | SupportsFloat | Schedule = 0.92,
    beta_3: float | SupportsFloat | Schedule = 0.99,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with Nesterov's look-ahead, from the difference of successive gradients."""


def CAME(
    lr: float | SupportsFloat | Schedule = 0.0002,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    beta_3: float | SupportsFloat | Schedule = 0.9999,
    epsilon_1: float | SupportsFloat | Schedule = 1e-30,
    epsilon_2: float | SupportsFloat | Schedule = 1e-16,
    clip_threshold: float | SupportsFloat | Schedule = 1.0,
    *,
    outputs: str = 'first',
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adafactor with momentum, damped by a factored estimate of the instability of its steps."""


def DoG(
    lr: float | SupportsFloat | Schedule = 1.0,
    reps_rel: float | SupportsFloat | Schedule = 1e-06,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """SGD whose learning rate follows from the distance travelled and the gradients so far."""


def Ftrl(
    lr: float | SupportsFloat | Schedule = 0.001,
    learning_rate_power: float | SupportsFloat = -0.5,
    initial_accumulator_value: float | SupportsFloat | Schedule = 0.1,
    l1_regularization_strength: float | SupportsFloat | Schedule = 0.0,
    l2_regularization_strength: float | SupportsFloat | Schedule = 0.0,
    l2_shrinkage_regularization_strength: float | SupportsFloat | Schedule = 0.0,
    beta: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Follow the regularized leader: the sparse parameters that best fit all gradients so far."""


def GaLore(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-06,
    rank: int | SupportsInt = 128,
    update_proj_gap: int | SupportsInt = 200,
    scale: float | SupportsFloat | Schedule = 0.25,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam in a low-rank subspace of the gradient, which is recomputed periodically."""


def Kron(
    lr: float | SupportsFloat | Schedule = 0.0003,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    update_probability: float | SupportsFloat | Schedule | None = None,
    precondition_lr: float | SupportsFloat | Schedule = 0.1,
    balance_frequency: int | SupportsInt = 100,
    adam_beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    max_size_triangular: int | SupportsInt = 8192,
    memory_save_mode: str = 'none',
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Whiten the momentum with two triangular Kronecker factors, fitted during training."""


def LAMB(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-06,
    decay: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with the step of each tensor scaled to the tensor's norm."""


def LARS(
    lr: float | SupportsFloat | Schedule = 0.1,
    momentum: float | SupportsFloat | Schedule = 0.9,
    trust_coefficient: float | SupportsFloat | Schedule = 0.001,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """SGD with momentum and the step of each tensor scaled to the tensor's norm."""


def Lion(
    lr: float | SupportsFloat | Schedule = 0.0001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.99,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step by the sign of the momentum, interpolated with the current gradient."""


def MARS(
    lr: float | SupportsFloat | Schedule = 0.003,
    beta_1: float | SupportsFloat | Schedule = 0.95,
    beta_2: float | SupportsFloat | Schedule = 0.99,
    gamma: float | SupportsFloat | Schedule = 0.025,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    variant: str = 'adamw',
    optimize_1d: bool = False,
    adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
    adam_beta_1: float | SupportsFloat | Schedule = 0.9,
    adam_beta_2: float | SupportsFloat | Schedule = 0.95,
    adam_weight_decay: float | SupportsFloat | Schedule | None = None,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """AdamW or Lion on variance-reduced gradients, corrected by the previous gradient."""


def Muon(
    lr: float | SupportsFloat | Schedule = 0.001,
    momentum: float | SupportsFloat | Schedule = 0.95,
    nesterov: bool = True,
    ns_steps: int | SupportsInt = 5,
    scaling: str = 'rms',
    rms_rate: float | SupportsFloat | Schedule = 0.2,
    adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
    adam_beta_1: float | SupportsFloat | Schedule = 0.9,
    adam_beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-07,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    adam_weight_decay: float | SupportsFloat | Schedule | None = None,
    exclude_layers: str | Sequence[str] = (),
    exclude_embeddings: bool = False,
    ns_a: float | SupportsFloat | Schedule = 3.4445,
    ns_b: float | SupportsFloat | Schedule = -4.775,
    ns_c: float | SupportsFloat | Schedule = 2.0315,
    ns_schedule: Any = None,
    ns_dtype: str = 'compute',
    leading_axes: str = 'auto',
    split: Any = (),
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step along the orthogonalised momentum of each matrix; Adam for all other parameters."""


def Nadam(
    lr: float | SupportsFloat | Schedule = 0.002,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    schedule_decay: float | SupportsFloat | Schedule = 0.004,
    *,
    scalar_dtype: str | None = None,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with Nesterov's look-ahead and a momentum warm-up."""


def NadamW(
    lr: float | SupportsFloat | Schedule = 0.002,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    schedule_decay: float | SupportsFloat | Schedule = 0.004,
    *,
    scalar_dtype: str | None = None,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Nadam with decoupled weight decay."""


def NorMuon(
    lr: float | SupportsFloat | Schedule = 0.001,
    momentum: float | SupportsFloat | Schedule = 0.95,
    nesterov: bool = True,
    ns_steps: int | SupportsInt = 5,
    scaling: str = 'rms',
    rms_rate: float | SupportsFloat | Schedule = 0.2,
    adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
    adam_beta_1: float | SupportsFloat | Schedule = 0.9,
    adam_beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-07,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    adam_weight_decay: float | SupportsFloat | Schedule | None = None,
    exclude_layers: str | Sequence[str] = (),
    exclude_embeddings: bool = False,
    ns_a: float | SupportsFloat | Schedule = 3.4445,
    ns_b: float | SupportsFloat | Schedule = -4.775,
    ns_c: float | SupportsFloat | Schedule = 2.0315,
    ns_schedule: Any = None,
    ns_dtype: str = 'compute',
    leading_axes: str = 'auto',
    split: Any = (),
    beta_2: float | SupportsFloat | Schedule = 0.95,
    epsilon_2: float | SupportsFloat | Schedule = 1e-10,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Muon with its step normalised per neuron by a running mean of squares."""


def Prodigy(
    lr: float | SupportsFloat | Schedule = 1.0,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    d0: float | SupportsFloat | Schedule = 1e-06,
    d_coef: float | SupportsFloat | Schedule = 1.0,
    growth_rate: float | SupportsFloat | Schedule | None = None,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam whose learning rate follows from an estimated distance to the solution."""


def RAdam(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    threshold: float | SupportsFloat | Schedule = 5.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam with a built-in warm-up, which rectifies the variance of its early steps."""


def RMSprop(
    lr: float | SupportsFloat | Schedule = 0.001,
    rho: float | SupportsFloat | Schedule = 0.9,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    centered: bool = False,
    momentum: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Divide the gradient by a running root mean square of itself."""


def Rprop(
    lr: float | SupportsFloat | Schedule = 0.01,
    eta_minus: float | SupportsFloat | Schedule = 0.5,
    eta_plus: float | SupportsFloat | Schedule = 1.2,
    step_min: float | SupportsFloat | Schedule = 1e-06,
    step_max: float | SupportsFloat | Schedule = 50.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step by the sign of the gradient, with step sizes per entry that grow while the sign holds."""


def SGD(
    lr: float | SupportsFloat | Schedule = 0.01,
    momentum: float | SupportsFloat | Schedule = 0.0,
    decay: float | SupportsFloat | Schedule = 0.0,
    nesterov: bool = False,
    schedule_decay: float | SupportsFloat | Schedule | None = None,
    mom_iter_max: int | SupportsInt | None = None,
    *,
    dampening: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Stochastic gradient descent, with optional momentum."""


def SM3(
    lr: float | SupportsFloat | Schedule = 0.1,
    momentum: float | SupportsFloat | Schedule = 0.9,
    rho: float | SupportsFloat | Schedule = 1.0,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adagrad with bounds on the sums of squares per row and column."""


def SOAP(
    lr: float | SupportsFloat | Schedule = 0.003,
    beta_1: float | SupportsFloat | Schedule = 0.95,
    beta_2: float | SupportsFloat | Schedule = 0.95,
    shampoo_beta: float | SupportsFloat | Schedule | None = None,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    precondition_frequency: int | SupportsInt = 10,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    max_precondition_dim: int | SupportsInt = 10000,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam in the eigenbasis of running means of g g' and g' g, updated every few steps."""


def ScheduleFreeAdamW(
    lr: float | SupportsFloat | Schedule = 0.0025,
    momentum: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    warmup_steps: int | SupportsInt = 0,
    r: float | SupportsFloat | Schedule = 0.0,
    weight_lr_power: float | SupportsFloat | Schedule = 2.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """AdamW that averages its iterates in place of a learning rate schedule."""


def ScheduleFreeSGD(
    lr: float | SupportsFloat | Schedule = 1.0,
    momentum: float | SupportsFloat | Schedule = 0.9,
    warmup_steps: int | SupportsInt = 0,
    r: float | SupportsFloat | Schedule = 0.0,
    weight_lr_power: float | SupportsFloat | Schedule = 2.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """SGD that averages its iterates in place of a learning rate schedule."""


def Shampoo(
    lr: float | SupportsFloat | Schedule = 0.1,
    momentum: float | SupportsFloat | Schedule = 0.0,
    rho: float | SupportsFloat | Schedule = 1.0,
    epsilon: float | SupportsFloat | Schedule = 0.0001,
    precondition_frequency: int | SupportsInt = 1,
    decay: float | SupportsFloat | Schedule = 0.0,
    *,
    outputs: str = 'first',
    max_precondition_dim: int | SupportsInt = 10000,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Precondition the gradient on both sides by inverse fourth roots of sums of g g' and g' g."""


def Signum(
    lr: float | SupportsFloat | Schedule = 0.0001,
    momentum: float | SupportsFloat | Schedule = 0.9,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step by the sign of a running mean of the gradient."""


def Sophia(
    lr: float | SupportsFloat | Schedule = 0.0001,
    beta_1: float | SupportsFloat | Schedule = 0.965,
    beta_2: float | SupportsFloat | Schedule = 0.99,
    gamma: float | SupportsFloat | Schedule = 0.05,
    epsilon: float | SupportsFloat | Schedule = 1e-12,
    clip_threshold: float | SupportsFloat | Schedule = 1.0,
    *,
    bias_correction: bool = False,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Step along the momentum divided by the caller's estimate of the Hessian's diagonal, clipped."""


def StableAdamW(
    lr: float | SupportsFloat | Schedule = 0.001,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.99,
    epsilon: float | SupportsFloat | Schedule = 1e-08,
    decay: float | SupportsFloat | Schedule = 0.0,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """AdamW that shortens the step of a tensor whose gradient has suddenly grown."""


def Yogi(
    lr: float | SupportsFloat | Schedule = 0.01,
    beta_1: float | SupportsFloat | Schedule = 0.9,
    beta_2: float | SupportsFloat | Schedule = 0.999,
    epsilon: float | SupportsFloat | Schedule = 0.001,
    initial_accumulator_value: float | SupportsFloat | Schedule = 1e-06,
    **options: Unpack[_Options],
) -> GradientTransformationExtraArgs:
    """Adam whose second moment changes additively, by a fraction of the new square."""


def __getattr__(name: str) -> Any: ...
