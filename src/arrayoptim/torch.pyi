"""The optimizers as subclasses of ``torch.optim.Optimizer``.

Made by docs/made.py from the declarations.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat, SupportsInt, TypedDict

from typing_extensions import Unpack

from ._typing import Schedule

from .adapters.torch import LBFGS as LBFGS
from .adapters.torch import TorchOptimizer as TorchOptimizer
from .adapters.torch import export_state as export_state
from .adapters.torch import from_torch as from_torch
from .adapters.torch import load_state as load_state
from .adapters.torch import to_torch as to_torch
from .adapters.torch import wrap as wrap


class _Rest(TypedDict, total=False):
    clipnorm: float | SupportsFloat | Schedule | None
    clipvalue: float | SupportsFloat | Schedule | None
    clipnorm_per_tensor: float | SupportsFloat | Schedule | None
    agc: float | SupportsFloat | Schedule | None
    agc_units: str
    peak_lr: float | SupportsFloat | Schedule | None
    corrected_decay: bool
    cautious_decay: bool
    exclude: str | Sequence[str]
    constraint: Any
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
    threads: int | SupportsInt | None
    learning_rate: float | SupportsFloat | Schedule


class _Options(_Rest, total=False):
    weight_decay: float | SupportsFloat | Schedule | None
    l2: float | SupportsFloat | Schedule | None


class ADOPT(TorchOptimizer):
    """Average gradients, each normalised by the root mean square of the previous ones."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.9999),
        eps: float | SupportsFloat | Schedule = 1e-06,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class APOLLO(TorchOptimizer):
    """Scale gradients as Adam would, as estimated in a random low-rank projection."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-06,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        rank: int | SupportsInt = 256,
        scale_type: str = 'channel',
        scale: float | SupportsFloat | Schedule = 1.0,
        update_proj_gap: int | SupportsInt = 200,
        norm_growth: float | SupportsFloat | Schedule = 1.01,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class ASGD(TorchOptimizer):
    """SGD with shrinking steps, which averages the parameters along the way."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.01,
        lambd: float | SupportsFloat | Schedule = 0.0001,
        alpha: float | SupportsFloat | Schedule = 0.75,
        t0: float | SupportsFloat | Schedule = 1000000.0,
        weight_decay: float | SupportsFloat | Schedule = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        scalar_dtype: str | None = None,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class AdEMAMix(TorchOptimizer):
    """Adam with a second, much slower running mean of the gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999, 0.9999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        alpha: float | SupportsFloat | Schedule = 5.0,
        alpha_warmup: int | SupportsInt | None = None,
        beta_3_warmup: int | SupportsInt | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class AdaBelief(TorchOptimizer):
    """Step along the running mean of the gradient, scaled by how far gradients deviate from it."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-16,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class AdaMuon(TorchOptimizer):
    """Muon on the signs of the momentum, divided elementwise by a running root mean square."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        eps: float | SupportsFloat | Schedule = 1e-07,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.95,
        nesterov: bool = True,
        ns_steps: int | SupportsInt = 5,
        scaling: str = 'rms',
        rms_rate: float | SupportsFloat | Schedule = 0.2,
        adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
        adam_beta_1: float | SupportsFloat | Schedule = 0.9,
        adam_beta_2: float | SupportsFloat | Schedule = 0.999,
        decay: float | SupportsFloat | Schedule = 0.0,
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
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Adadelta(TorchOptimizer):
    """Scale each step by the root mean square of the steps before it."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 1.0,
        rho: float | SupportsFloat | Schedule = 0.9,
        eps: float | SupportsFloat | Schedule = 1e-06,
        weight_decay: float | SupportsFloat | Schedule = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        decay: float | SupportsFloat | Schedule = 0.0,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Adafactor(TorchOptimizer):
    """Divide the gradient by a running root mean square, factored into rows and columns."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.01,
        beta2_decay: float | SupportsFloat | Schedule = -0.8,
        eps: Sequence[float | None] = (None, 0.001),
        d: float | SupportsFloat | Schedule = 1.0,
        weight_decay: float | SupportsFloat | Schedule = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        relative_step: bool = True,
        scale_parameter: bool = True,
        outputs: str = 'first',
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Adagrad(TorchOptimizer):
    """Divide the gradient by the root of the sum of its squares so far."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.01,
        lr_decay: float | SupportsFloat | Schedule = 0,
        weight_decay: float | SupportsFloat | Schedule = 0,
        initial_accumulator_value: float | SupportsFloat | Schedule = 0,
        eps: float | SupportsFloat | Schedule = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        capturable: bool = False,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Adam(TorchOptimizer):
    """Step along the running mean of the gradient, divided by its running root mean square."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        decay: float | SupportsFloat | Schedule = 0.0,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class AdamMini(TorchOptimizer):
    """Adam with one mean of squares per neuron, head or tensor."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        split: Any = (),
        whole: str | Sequence[str] = (),
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class AdamW(TorchOptimizer):
    """Adam with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: float | SupportsFloat | Schedule = 0.0,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Adamax(TorchOptimizer):
    """Step along the running mean of the gradient, divided by a decaying maximum of its magnitude."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.002,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        decay: float | SupportsFloat | Schedule = 0.0,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Adan(TorchOptimizer):
    """Adam with Nesterov's look-ahead, from the difference of successive gradients."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.98, 0.92, 0.99),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class CAME(TorchOptimizer):
    """Adafactor with momentum, damped by a factored estimate of the instability of its steps."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.0002,
        betas: Sequence[float] = (0.9, 0.999, 0.9999),
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        epsilon_1: float | SupportsFloat | Schedule = 1e-30,
        epsilon_2: float | SupportsFloat | Schedule = 1e-16,
        clip_threshold: float | SupportsFloat | Schedule = 1.0,
        outputs: str = 'first',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class DoG(TorchOptimizer):
    """SGD whose learning rate follows from the distance travelled and the gradients so far."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 1.0,
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        reps_rel: float | SupportsFloat | Schedule = 1e-06,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Ftrl(TorchOptimizer):
    """Follow the regularized leader: the sparse parameters that best fit all gradients so far."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        learning_rate_power: float | SupportsFloat = -0.5,
        initial_accumulator_value: float | SupportsFloat | Schedule = 0.1,
        l1_regularization_strength: float | SupportsFloat | Schedule = 0.0,
        l2_regularization_strength: float | SupportsFloat | Schedule = 0.0,
        l2_shrinkage_regularization_strength: float | SupportsFloat | Schedule = 0.0,
        beta: float | SupportsFloat | Schedule = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class GaLore(TorchOptimizer):
    """Adam in a low-rank subspace of the gradient, which is recomputed periodically."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-06,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        rank: int | SupportsInt = 128,
        update_proj_gap: int | SupportsInt = 200,
        scale: float | SupportsFloat | Schedule = 0.25,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Kron(TorchOptimizer):
    """Whiten the momentum with two triangular Kronecker factors, fitted during training."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.0003,
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        beta_1: float | SupportsFloat | Schedule = 0.9,
        update_probability: float | SupportsFloat | Schedule | None = None,
        precondition_lr: float | SupportsFloat | Schedule = 0.1,
        balance_frequency: int | SupportsInt = 100,
        adam_beta_2: float | SupportsFloat | Schedule = 0.999,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        max_size_triangular: int | SupportsInt = 8192,
        memory_save_mode: str = 'none',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class LAMB(TorchOptimizer):
    """Adam with the step of each tensor scaled to the tensor's norm."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-06,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        decay: float | SupportsFloat | Schedule = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class LARS(TorchOptimizer):
    """SGD with momentum and the step of each tensor scaled to the tensor's norm."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.1,
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.9,
        trust_coefficient: float | SupportsFloat | Schedule = 0.001,
        decay: float | SupportsFloat | Schedule = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Lion(TorchOptimizer):
    """Step by the sign of the momentum, interpolated with the current gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.0001,
        betas: Sequence[float] = (0.9, 0.99),
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class MARS(TorchOptimizer):
    """AdamW or Lion on variance-reduced gradients, corrected by the previous gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.003,
        betas: Sequence[float] = (0.95, 0.99),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        gamma: float | SupportsFloat | Schedule = 0.025,
        decay: float | SupportsFloat | Schedule = 0.0,
        variant: str = 'adamw',
        optimize_1d: bool = False,
        adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
        adam_beta_1: float | SupportsFloat | Schedule = 0.9,
        adam_beta_2: float | SupportsFloat | Schedule = 0.95,
        adam_weight_decay: float | SupportsFloat | Schedule | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Muon(TorchOptimizer):
    """Step along the orthogonalised momentum of each matrix; Adam for all other parameters."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        weight_decay: float | SupportsFloat | Schedule = 0.1,
        momentum: float | SupportsFloat | Schedule = 0.95,
        nesterov: bool = True,
        ns_coefficients: Sequence[float] = (3.4445, -4.775, 2.0315),
        eps: float | SupportsFloat | Schedule = 1e-07,
        ns_steps: int | SupportsInt = 5,
        adjust_lr_fn: str | None = None,
        *,
        rms_rate: float | SupportsFloat | Schedule = 0.2,
        adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
        adam_beta_1: float | SupportsFloat | Schedule = 0.9,
        adam_beta_2: float | SupportsFloat | Schedule = 0.999,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        adam_weight_decay: float | SupportsFloat | Schedule | None = None,
        exclude_layers: str | Sequence[str] = (),
        exclude_embeddings: bool = False,
        ns_schedule: Any = None,
        ns_dtype: str = 'bfloat16',
        leading_axes: str = 'auto',
        split: Any = (),
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class NAdam(TorchOptimizer):
    """Adam with Nesterov's look-ahead and a momentum warm-up."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.002,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        momentum_decay: float | SupportsFloat | Schedule = 0.004,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        scalar_dtype: str | None = None,
        fused: bool | None = None,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Nadam(TorchOptimizer):
    """Adam with Nesterov's look-ahead and a momentum warm-up."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.002,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        momentum_decay: float | SupportsFloat | Schedule = 0.004,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        scalar_dtype: str | None = None,
        fused: bool | None = None,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class NadamW(TorchOptimizer):
    """Nadam with decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.002,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0.01,
        momentum_decay: float | SupportsFloat | Schedule = 0.004,
        decoupled_weight_decay: bool = True,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        scalar_dtype: str | None = None,
        fused: bool | None = None,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class NorMuon(TorchOptimizer):
    """Muon with its step normalised per neuron by a running mean of squares."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        eps: float | SupportsFloat | Schedule = 1e-07,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.95,
        nesterov: bool = True,
        ns_steps: int | SupportsInt = 5,
        scaling: str = 'rms',
        rms_rate: float | SupportsFloat | Schedule = 0.2,
        adam_lr_ratio: float | SupportsFloat | Schedule = 1.0,
        adam_beta_1: float | SupportsFloat | Schedule = 0.9,
        adam_beta_2: float | SupportsFloat | Schedule = 0.999,
        decay: float | SupportsFloat | Schedule = 0.0,
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
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Prodigy(TorchOptimizer):
    """Adam whose learning rate follows from an estimated distance to the solution."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 1.0,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        d0: float | SupportsFloat | Schedule = 1e-06,
        d_coef: float | SupportsFloat | Schedule = 1.0,
        growth_rate: float | SupportsFloat | Schedule | None = None,
        bias_correction: bool = False,
        safeguard_warmup: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class RAdam(TorchOptimizer):
    """Adam with a built-in warm-up, which rectifies the variance of its early steps."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        threshold: float | SupportsFloat | Schedule = 5.0,
        fused: bool | None = None,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class RMSprop(TorchOptimizer):
    """Divide the gradient by a running root mean square of itself."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.01,
        alpha: float | SupportsFloat | Schedule = 0.99,
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        momentum: float | SupportsFloat | Schedule = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        decay: float | SupportsFloat | Schedule = 0.0,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Rprop(TorchOptimizer):
    """Step by the sign of the gradient, with step sizes per entry that grow while the sign holds."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.01,
        etas: Sequence[float] = (0.5, 1.2),
        step_sizes: Sequence[float] = (1e-06, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        weight_decay: float | SupportsFloat | Schedule = 0,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class SGD(TorchOptimizer):
    """Stochastic gradient descent, with optional momentum."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        momentum: float | SupportsFloat | Schedule = 0,
        dampening: float | SupportsFloat | Schedule = 0,
        weight_decay: float | SupportsFloat | Schedule = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: float | SupportsFloat | Schedule = 0.0,
        schedule_decay: float | SupportsFloat | Schedule | None = None,
        mom_iter_max: int | SupportsInt | None = None,
        capturable: bool = False,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class SM3(TorchOptimizer):
    """Adagrad with bounds on the sums of squares per row and column."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.1,
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.9,
        rho: float | SupportsFloat | Schedule = 1.0,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class SOAP(TorchOptimizer):
    """Adam in the eigenbasis of running means of g g' and g' g, updated every few steps."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.003,
        betas: Sequence[float] = (0.95, 0.95),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        shampoo_beta: float | SupportsFloat | Schedule | None = None,
        precondition_frequency: int | SupportsInt = 10,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        max_precondition_dim: int | SupportsInt = 10000,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class ScheduleFreeAdamW(TorchOptimizer):
    """AdamW that averages its iterates in place of a learning rate schedule."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.0025,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        warmup_steps: int | SupportsInt = 0,
        r: float | SupportsFloat | Schedule = 0.0,
        weight_lr_power: float | SupportsFloat | Schedule = 2.0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class ScheduleFreeSGD(TorchOptimizer):
    """SGD that averages its iterates in place of a learning rate schedule."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 1.0,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.9,
        warmup_steps: int | SupportsInt = 0,
        r: float | SupportsFloat | Schedule = 0.0,
        weight_lr_power: float | SupportsFloat | Schedule = 2.0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Shampoo(TorchOptimizer):
    """Precondition the gradient on both sides by inverse fourth roots of sums of g g' and g' g."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.1,
        eps: float | SupportsFloat | Schedule = 0.0001,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.0,
        rho: float | SupportsFloat | Schedule = 1.0,
        precondition_frequency: int | SupportsInt = 1,
        decay: float | SupportsFloat | Schedule = 0.0,
        outputs: str = 'first',
        max_precondition_dim: int | SupportsInt = 10000,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Signum(TorchOptimizer):
    """Step by the sign of a running mean of the gradient."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.0001,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        momentum: float | SupportsFloat | Schedule = 0.9,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Sophia(TorchOptimizer):
    """Step along the momentum divided by the caller's estimate of the Hessian's diagonal, clipped."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.0001,
        betas: Sequence[float] = (0.965, 0.99),
        eps: float | SupportsFloat | Schedule = 1e-12,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        gamma: float | SupportsFloat | Schedule = 0.05,
        clip_threshold: float | SupportsFloat | Schedule = 1.0,
        bias_correction: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...

    def update_hessian(self: Any, estimates: Sequence[Any]) -> None: ...


class SparseAdam(TorchOptimizer):
    """Step along the running mean of the gradient, divided by its running root mean square."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 1e-08,
        maximize: bool = False,
        *,
        decay: float | SupportsFloat | Schedule = 0.0,
        amsgrad: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        weight_decay: float | SupportsFloat | Schedule = 0,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class StableAdamW(TorchOptimizer):
    """AdamW that shortens the step of a tensor whose gradient has suddenly grown."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.001,
        betas: Sequence[float] = (0.9, 0.99),
        eps: float | SupportsFloat | Schedule = 1e-08,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        decay: float | SupportsFloat | Schedule = 0.0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = True,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


class Yogi(TorchOptimizer):
    """Adam whose second moment changes additively, by a fraction of the new square."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | SupportsFloat | Schedule = 0.01,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float | SupportsFloat | Schedule = 0.001,
        weight_decay: float | SupportsFloat | Schedule = 0,
        *,
        initial_accumulator_value: float | SupportsFloat | Schedule = 1e-06,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        l2: float | SupportsFloat | Schedule = 0,
        **options: Unpack[_Rest]
    ) -> None: ...


def __getattr__(name: str) -> Any: ...
