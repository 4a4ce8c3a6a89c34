"""Names of other libraries and their counterparts here, for error messages and the cheat sheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .registry import CONSTRAINTS, OPTIMIZERS, SCHEDULES, Registry, mistyped


@dataclass(frozen=True)
class Word:
    """A name of another library, and its counterpart here.

    Attributes
    ----------
    word : str
        The other library's name.
    library : str
        The other library.
    here : str
        The counterpart here; ``{cls}`` stands for the optimizer's class.
    of : str
        The only class to which the entry applies, for words with other meanings elsewhere.
    """

    word: str
    library: str
    here: str
    of: str = ""

    def told(self, cls: str) -> str:
        """Return the end of an error message."""
        call = "call" if " and " in self.library else "calls"
        return f"; what {self.library} {call} {self.word!r} is here: {self.here.format(cls=cls)}"


ENGINES = "nothing to set: arrayoptim.explain(params) says which engine steps what"
STEP = "apply(grads, params), and arrayoptim.torch.{cls}(model.parameters()) has step()"

ARGUMENTS = (
    Word("betas", "torch", "beta_1 and beta_2, one argument each"),
    Word("eps", "torch and optax", "epsilon"),
    Word("alpha", "torch's RMSprop", "rho", of="RMSprop"),
    Word("alpha", "Chainer", "lr"),
    Word("etas", "torch's Rprop", "eta_minus and eta_plus"),
    Word("step_sizes", "torch's Rprop", "step_min and step_max"),
    Word("lr_decay", "torch's Adagrad", "decay"),
    Word("momentum_decay", "torch's NAdam", "schedule_decay"),
    Word("decoupled_weight_decay", "torch", "weight_decay, and l2 is the coupled one"),
    Word("params", "torch", "no argument: apply(grads, params) takes them at each step"),
    Word("maximize", "torch", "the sign of the gradients; arrayoptim.torch.{cls} has maximize"),
    Word("foreach", "torch", ENGINES),
    Word("fused", "torch", ENGINES),
    Word("capturable", "torch", "optimizer.capture(params); arrayoptim.torch.{cls} has capturable"),
    Word("differentiable", "torch", "stateless_apply(state, grads, params) with JAX arrays"),
    Word("b1", "optax", "beta_1"),
    Word("b2", "optax", "beta_2"),
    Word("b3", "optax", "beta_3"),
    Word("mu_dtype", "optax", "state_dtype"),
    Word("mask", "optax", "exclude=[patterns], or groups=[arrayoptim.group(...)]"),
    Word("max_norm", "optax", "clipnorm"),
    Word("global_clipnorm", "Keras 3", "clipnorm, and its clipnorm is clipnorm_per_tensor"),
    Word("use_ema", "Keras 3", "ema_momentum"),
    Word("ema_overwrite_frequency", "Keras 3", "optimizer.averages(params)"),
    Word("loss_scale_factor", "Keras 3", "arrayoptim.LossScale({cls}(...))"),
    Word("gradient_accumulation_steps", "Keras 3", "arrayoptim.GradientAccumulation({cls}(...))"),
    Word("max_grad_norm", "Transformers", "clipnorm"),
    Word("learn_rate", "Thinc", "lr"),
    Word("grad_clip", "Thinc", "clipnorm_per_tensor"),
    Word("L2", "Thinc", "l2, or weight_decay"),
    Word("use_averages", "Thinc", "ema_momentum"),
    Word("weight_decay_rate", "Chainer", "weight_decay"),
)
"""Arguments of constructors."""

METHODS = (
    Word("step", "torch", STEP),
    Word("zero_grad", "torch", "nothing to call: gradients go to apply and are kept nowhere"),
    Word("state_dict", "torch", "get_weights(), or arrayoptim.save_checkpoint(...) for a file"),
    Word("load_state_dict", "torch", "set_weights(list), or arrayoptim.load_checkpoint(...)"),
    Word("state", "torch", "get_weights(), or weights for the arrays themselves"),
    Word("param_groups", "torch", "groups, made by arrayoptim.group(pattern, ...)"),
    Word("add_param_group", "torch", "groups, made by arrayoptim.group(pattern, ...)"),
    Word("update", "optax", "apply(grads, params), which returns the parameters"),
    Word("setup", "Chainer", "init(params); the first step does it by itself"),
    Word("target", "Chainer", "what is handed to each step: apply(grads, params)"),
    Word("add_hook", "Chainer", "an argument: clipnorm, clipvalue, l2, weight_decay"),
    Word("variables", "Keras 3", "weights"),
    Word("compute_gradients", "TensorFlow 1", "get_gradients(loss, params)"),
    Word("get_slot", "TensorFlow 1", "get_weights()"),
    Word("train", "schedule-free", "nothing to call: averages(params) gives those to evaluate"),
    Word("eval", "schedule-free", "averages(params), which gives the parameters to evaluate"),
    Word("use_cleargrads", "Chainer", "nothing to call: gradients are kept nowhere"),
    Word("step_schedules", "Thinc", "nothing to call: schedules count the steps"),
)
"""Attributes and methods of optimizers."""

NAMES = (
    Word("AMSGrad", "Chainer", "arrayoptim.Adam(amsgrad=True)"),
    Word("MomentumSGD", "Chainer", "arrayoptim.SGD(momentum=0.9)"),
    Word("NesterovAG", "Chainer", "arrayoptim.SGD(momentum=0.9, nesterov=True)"),
    Word("RMSpropGraves", "Chainer", "arrayoptim.RMSprop(centered=True)"),
    Word("NAG", "MXNet", "arrayoptim.SGD(momentum=0.9, nesterov=True)"),
    Word("Momentum", "TensorFlow 1", "arrayoptim.SGD(momentum=0.9)"),
    Word("FusedAdam", "Apex", "arrayoptim.Adam, fused by itself where that is possible"),
    Word("Adam8bit", "bitsandbytes", 'arrayoptim.Adam(state_dtype="int8")'),
    Word("AdamW8bit", "bitsandbytes", 'arrayoptim.AdamW(state_dtype="int8")'),
    Word("PagedAdamW", "bitsandbytes", "arrayoptim.AdamW(offload=True)"),
    Word("SparseAdam", "torch", 'arrayoptim.Adam(sparse="lazy")'),
    Word("fmin_l_bfgs_b", "SciPy", "arrayoptim.LBFGS(lower=..., upper=...)"),
    Word("SignSGD", "optax", "arrayoptim.Signum(momentum=0.0)"),
    Word("MultiSteps", "optax", "arrayoptim.GradientAccumulation(optimizer, every=k)"),
    Word("lr_scheduler", "torch", "arrayoptim.schedules"),
    Word("AveragedModel", "torch", "the argument ema_momentum, and optimizer.averages(params)"),
    Word("ema", "optax", "the argument ema_momentum, and optimizer.averages(params)"),
    Word("value_and_grad", "JAX", "optimizer.get_gradients(loss, params)"),
    Word("grad", "JAX", "optimizer.get_gradients(loss, params)"),
    Word("load_weights", "Keras", "arrayoptim.load(path), or optimizer.load_weights(path)"),
    Word("save", "torch", "arrayoptim.save_checkpoint(path, params, optimizer)"),
    Word("GradScaler", "torch", "arrayoptim.LossScale(optimizer)"),
    Word("clip_grad_norm_", "torch", "the argument clipnorm"),
    Word("clip_grad_value_", "torch", "the argument clipvalue"),
    Word("clip_by_global_norm", "optax", "the argument clipnorm"),
    Word("adaptive_grad_clip", "optax", "the argument agc"),
    Word("add_decayed_weights", "optax", "the argument weight_decay, or l2 before the rule"),
    Word("apply_updates", "optax", "not needed: apply(grads, params) returns the parameters"),
    Word("chain", "optax", "not needed: clipping, decay and averages are arguments"),
)
"""Names of module attributes, other than class names in other capitalisation."""

PLAIN = {"array_api_strict", "cupy", "dpnp", "jax", "mlx", "numpy", "tensorflow"}
"""Libraries whose arrays are supported without an adapter."""

RATES = (
    Word(
        "StepLR",
        "torch",
        "schedules.PiecewiseConstantDecay, or schedules.ExponentialDecay(staircase=True)",
    ),
    Word("MultiStepLR", "torch", "schedules.PiecewiseConstantDecay"),
    Word("ExponentialLR", "torch", "schedules.ExponentialDecay"),
    Word("LinearLR", "torch", "schedules.LinearWarmup"),
    Word("PolynomialLR", "torch", "schedules.PolynomialDecay"),
    Word("CosineAnnealingLR", "torch", "schedules.CosineDecay"),
    Word("CosineAnnealingWarmRestarts", "torch", "schedules.CosineDecayRestarts"),
    Word("OneCycleLR", "torch", "schedules.OneCycle"),
    Word("ReduceLROnPlateau", "torch and Keras", "schedules.Plateau"),
    Word("SequentialLR", "torch", "schedules.join"),
    Word("LambdaLR", "torch", "any function of the step number"),
    Word("cosine_decay_schedule", "optax", "schedules.CosineDecay"),
    Word("warmup_cosine_decay_schedule", "optax", "schedules.CosineDecay(warmup_target=..., ...)"),
    Word("exponential_decay", "optax", "schedules.ExponentialDecay"),
    Word("piecewise_constant_schedule", "optax", "schedules.PiecewiseConstantDecay"),
    Word("polynomial_schedule", "optax", "schedules.PolynomialDecay"),
    Word(
        "linear_schedule",
        "optax",
        "schedules.PolynomialDecay(power=1.0), or schedules.LinearWarmup",
    ),
    Word("join_schedules", "optax", "schedules.join"),
    Word("constant_schedule", "optax", "the number itself"),
)
"""Names of schedules, other than those in other capitalisation."""


def argument(word: str, cls: str) -> str:
    """Return the counterpart of another library's argument, for a message; empty if unknown."""
    return _told(ARGUMENTS, word, cls)


def method(word: str, cls: str) -> str:
    """Return the counterpart of another library's attribute, for a message; empty if unknown."""
    return _told(METHODS, word, cls)


def named(word: str, public: list[str]) -> str:
    """Return the public name for a misspelt or foreign one, for a message; empty if unknown."""
    places: list[tuple[Registry, str]] = [
        (OPTIMIZERS, ""), (SCHEDULES, "schedules."), (CONSTRAINTS, "constraints.")
    ]  # fmt: skip
    for registry, place in places:
        if registry.knows(word):
            return f"; it is arrayoptim.{place}{registry.lookup(word).__name__}"
    if word.lower() in PLAIN:
        return "; its arrays need no module of their own: arrayoptim.Adam and the rest step them"
    return _told((*NAMES, *RATES), word, "") or mistyped(word, public)


def spelled(word: str, module: str) -> str:
    """Return the name of an optimizer in a module of the package, for a message.

    Parameters
    ----------
    word : str
        The name that was requested.
    module : str
        The module, such as ``torch``.

    Returns
    -------
    str
        Its name, or all names that exist.
    """
    if OPTIMIZERS.knows(word):
        return f"; it is arrayoptim.{module}.{OPTIMIZERS.lookup(word).__name__}"
    return mistyped(word, OPTIMIZERS.names()) or f"; it has {', '.join(OPTIMIZERS.names())}"


def rate(word: str) -> str:
    """Return the counterpart of another library's schedule, for a message."""
    if SCHEDULES.knows(word):
        return f"; it is arrayoptim.schedules.{SCHEDULES.lookup(word).__name__}"
    return _told(RATES, word, "") or mistyped(word, SCHEDULES.names())


def _told(rows: Iterable[Word], word: str, cls: str) -> str:
    found = (row for row in rows if row.word.lower() == word.lower() and row.of in ("", cls))
    return next((row.told(cls) for row in found), "")


def refuse_parameters(value: Any, owner: type[Any], wanted: str = "lr=0.01") -> None:
    """Refuse parameters passed in place of hyperparameters, where torch's constructors expect them.

    Raises
    ------
    TypeError
        If the value holds arrays, and `owner` is an optimizer.
    """
    if not hasattr(owner, "apply") or isinstance(value, str):
        return
    inside = [value, *_contained(value)]
    # A model is refused too: it is callable, so it would pass for a schedule.
    held = ("__next__", "named_parameters", "trainable_variables")
    if any(hasattr(value, each) for each in held) or any(
        getattr(x, "shape", ()) != () for x in inside
    ):
        name = owner.__name__
        raise TypeError(
            f"{name}: found parameters ({type(value).__name__}), wanted hyperparameters such as "
            f"{wanted}. Parameters come with each step, optimizer.apply(grads, params); "
            f"arrayoptim.torch.{name}(model.parameters(), ...) is {name} with torch's interface"
        )


def _contained(value: Any) -> list[Any]:
    """Return the entries of a container, recursively."""
    found: list[Any] = []
    level = [value]
    for _ in range(3):
        rows = [x for x in level if isinstance(x, list | tuple | Mapping)]
        level = [x for row in rows for x in (row.values() if isinstance(row, Mapping) else row)]
        found += level
    return found
