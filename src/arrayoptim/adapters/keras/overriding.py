"""Which methods subclasses of a Keras class may override, and which would never be called."""

from __future__ import annotations

from typing import Any

from ...optimizer import Optimizer

_IN_PLACE = (
    "steps write the new values themselves. Override update_step, which is called for each "
    "variable, or apply, which is called for all"
)
_SLOTS = (
    "slots are made from the rule. Override build, and call super().build(variables) in it; "
    "state_dtype sets their dtype"
)
_AUTHORS = (
    "that is a method of arrayoptim's own optimizers. Subclass arrayoptim.{name}, and pass "
    "an instance to arrayoptim.keras.wrap"
)
_OLDER = (
    "Keras 3 never calls it. Override update_step(gradient, variable, learning_rate), "
    "or apply(grads, trainable_variables)"
)

NEVER_CALLED = {
    **dict.fromkeys(("assign", "assign_add", "assign_sub", "_clip_by_norm"), _IN_PLACE),
    **dict.fromkeys(("add_variable_from_reference", "add_optimizer_variables"), _SLOTS),
    **dict.fromkeys(
        (
            "coefficients",
            "initial_scalars",
            "initial_slots",
            "rule",
            "rule_for",
            "scalars_after",
        ),
        _AUTHORS,
    ),
    **dict.fromkeys(
        (
            "get_updates",
            "get_gradients",
            "compute_gradients",
            "aggregate_gradients",
            "_create_slots",
            "_create_all_weights",
            "_decayed_lr",
            "_prepare",
            "_prepare_local",
            "_resource_apply_dense",
            "_resource_apply_sparse",
            "_update_step",
            "_internal_apply_gradients",
            "_compute_gradients",
        ),
        _OLDER,
    ),
}
"""Methods that are never called, and what to do instead."""


def refuse_never_called(cls: type[Any], base: type[Any]) -> None:
    """Refuse a subclass that overrides a method that is never called.

    Parameters
    ----------
    cls : type
        The subclass.
    base : type
        The base of all Keras classes.

    Raises
    ------
    TypeError
        If it overrides one; the message names the method and the alternative.
    """
    for name, instead in NEVER_CALLED.items():
        if getattr(cls, name, None) is not getattr(base, name, None):
            words = instead.format(name=cls.optimizer_class.__name__)
            raise TypeError(f"{cls.__name__}.{name} would never be called: {words}")


def refuse_together(owner: Any, inner: Optimizer) -> None:
    """Refuse options that concern all variables together if each is stepped separately.

    Raises
    ------
    TypeError
        If there is such an option.
    """
    whole = f"the rule of {type(inner).__name__}, which needs totals over all variables,"
    found = whole if inner.rule.totals else ""
    if inner.nonfinite == "skip":
        found = 'nonfinite="skip"'
    if found:
        raise TypeError(
            f"{type(owner).__name__}.update_step is called for each variable separately, but "
            f"{found} needs all variables; override apply(grads, trainable_variables) instead"
        )
