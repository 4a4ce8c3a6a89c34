"""The public conformance checks pass for every optimizer, and each of them can fail."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.testing import (
    CHECKS,
    check_optimizer,
    coefficients_are_taken,
    loss_goes_down,
    zero_gradients_change_nothing,
)
from optimizers_under_test import USUAL, cls_of, make

Coefficients = dict[str, Any]


def test_conforms(name: str, kwargs: dict[str, Any]) -> None:
    """Every class, in every variant."""
    check_optimizer(cls_of(name), **kwargs)


INHERITED: dict[str, dict[str, Any]] = {
    "clipnorm": {"clipnorm": 1.0},
    "clipnorm_per_tensor": {"clipnorm_per_tensor": 0.5},
    "agc": {"agc": 0.1},
    "agc_units": {"agc": 0.1, "agc_units": "first"},
    "clipvalue": {"clipvalue": 0.1},
    "weight_decay": {"weight_decay": 0.1},
    "peak_lr": {"peak_lr": 0.1, "weight_decay": 0.1},
    "l2": {"l2": 0.1},
    "exclude": {"exclude": "bias", "weight_decay": 0.1},
    "groups": {"groups": [ao.group("bias", lr=0.1)]},
    "ema_momentum": {"ema_momentum": 0.9},
    "cautious": {"cautious": True},
    "preset": {"preset": "torch"},
    "name": {"name": "mine"},
    "nonfinite": {"nonfinite": "skip"},
    "master": {"master": False},
    "kahan": {"kahan": True},
    "state_dtype": {"state_dtype": "bfloat16"},
    "stochastic_rounding": {"stochastic_rounding": True, "state_dtype": "int8"},
    "seed": {"seed": 3, "stochastic_rounding": True, "state_dtype": "bfloat16"},
    "offload": {"offload": True},
    "threads": {"threads": 1},
    "corrected_decay": {"corrected_decay": True, "peak_lr": 0.1, "weight_decay": 0.1},
    "cautious_decay": {"cautious_decay": True, "weight_decay": 0.1},
    "measure": {"measure": ("gradient", "update", "weight")},
    "skip_spikes": {"skip_spikes": 6.0},
    "spike_window": {"skip_spikes": 6.0, "spike_window": 16},
}
"""What every class inherits, with values that show."""


def test_every_inherited_option_is_tried() -> None:
    """A new one needs an entry above; these four have tests of their own."""
    apart = {"constraint", "models", "skip_loss_spikes", "sparse"}
    assert INHERITED.keys() | apart == set(ao.Optimizer.hyperparameters)


@pytest.mark.parametrize("option", INHERITED)
def test_conforms_with_options(option: str) -> None:
    """Each option on one class; another class for the next option."""
    place = list(INHERITED).index(option)
    classes = [cls_of(name) for name in USUAL if make(name).rule.kind == "elementwise"]
    with ao.engine("array"):
        check_optimizer(classes[place % len(classes)], **INHERITED[option])


@ao.rule(slots=("momentum",))
def heavy_ball(p, g, m, lr, mu, xp):
    """Step with momentum."""
    m = mu * m - lr * g
    return p + m, m


@ao.rule(slots=("momentum",))
def branching(p, g, m, lr, mu, xp):
    """Leave the grammar."""
    if lr:
        m = mu * m - lr * g
    return p + m, m


@ao.rule(slots=("momentum",))
def widening(p, g, m, lr, mu, xp):
    """Give no number where there was one."""
    m = mu * m - lr * g
    return p + m / (m - m), m


class Good(ao.Optimizer):
    """The optimizer that the others spoil."""

    lr: Any = ao.hyper(default=0.1, interval="[0, inf)", doc="Step size.")
    rule = heavy_ball

    def coefficients(
        self, h: SimpleNamespace, it: Any, scalars: Mapping[str, Any], xp: Any
    ) -> Coefficients:
        """Compute the coefficients of one step."""
        return {"lr": h.lr, "mu": 0.9}


class Branching(Good):
    rule = branching


@ao.rule(slots=("momentum",))
def rounding(p, g, m, lr, mu, xp):
    """Multiply coefficients, which float32 would round."""
    m = mu * m - g
    return p + xp.sqrt(g * (lr * mu)), m


def test_coefficients_alone_are_no_part_of_a_rule() -> None:
    """They are doubles in `coefficients`, and in a rule what the parameter is."""

    class Rounding(Good):
        rule = rounding

    with pytest.raises(AssertionError, match=r"lr \* mu involves coefficients alone"):
        check_optimizer(Rounding)


class Incomplete(Good):
    def coefficients(self, *args: Any) -> Coefficients:
        return {"lr": 0.1}


class Lavish(Good):
    def coefficients(self, *args: Any) -> Coefficients:
        return {"lr": 0.1, "mu": 0.9, "nu": 0.1}


class Forgetful(Good):
    def get_config(self) -> dict[str, Any]:
        return {"lr": 0.5 * self.lr}


class Endless(Good):
    rule = widening


class Restless(Good):
    def apply(self, grads: Any, params: Any) -> Any:
        return super().apply({k: params[k] if g is None else g for k, g in grads.items()}, params)


@ao.rule(slots=("momentum",))
def swapped(p, g, m, lr, mu, xp):
    """Give the results in another order."""
    m = mu * m - lr * g
    return m, p + m


class Swapped(Good):
    rule = swapped


@ao.rule(slots=("momentum",))
def stale(p, g, m, lr, mu, xp):
    """Compute a slot, and give the old one."""
    new = mu * m - lr * g
    return p + new, m


class Stale(Good):
    rule = stale


@ao.rule(slots=("momentum",))
def ascending(p, g, m, lr, mu, xp):
    """Step up."""
    m = mu * m + lr * g
    return p + m, m


class Ascending(Good):
    rule = ascending


class Counting(Good):
    """It keeps what no file has."""

    seen = 0

    def coefficients(self, *args: Any) -> Coefficients:
        self.seen += 1
        return {"lr": 0.1 / self.seen, "mu": 0.9}


class Shared(Good):
    def __deepcopy__(self, memo: Any) -> Shared:
        return self


class Impure(Good):
    def stateless_apply(self, state: Any, grads: Any, params: Any) -> Any:
        params["bias"] += 1.0
        return super().stateless_apply(state, grads, params)


SPOILED = {
    "rule_keeps_to_the_grammar": Branching,
    "coefficients_are_complete": Incomplete,
    "coefficients_are_taken": Lavish,
    "config_survives": Forgetful,
    "steps_keep_shape_and_dtype": Endless,
    "missing_gradients_change_nothing": Restless,
    "zero_gradients_change_nothing": Swapped,
    "slots_are_updated": Stale,
    "loss_goes_down": Ascending,
    "resume_is_exact": Counting,
    "copies_are_independent": Shared,
    "pure_form_agrees": Impure,
}


def test_the_good_one_conforms() -> None:
    """A class that is not registered is checked as well."""
    with ao.engine("array"):
        check_optimizer(Good)
        check_optimizer(Good, lr=0.3, clipnorm=1.0)


@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_each_check_can_fail(check: str) -> None:
    """The message names the class and the check."""
    broken = SPOILED[check]
    wanted = pytest.raises(AssertionError, match=f"{broken.__name__}: {check}")
    with ao.engine("array"), np.errstate(all="ignore"), wanted:
        check_optimizer(broken)


def test_names_of_stages_are_taken() -> None:
    """A coefficient called like a number of a stage would be mixed up with it."""
    with pytest.raises(TypeError, match="bound is the name of a scalar of a stage"):

        @ao.rule(slots=())
        def limited(p, g, lr, bound, xp):
            return (p - lr * xp.minimum(g, bound),)


def test_numbers_of_stages_are_no_coefficients() -> None:
    """They would turn the stage on."""

    class Bounded(Good):
        def coefficients(self, *args: Any) -> Coefficients:
            return {"lr": 0.1, "mu": 0.9, "amount": 0.1}

    with pytest.raises(AssertionError, match="no rule found of the class takes amount"):
        check_optimizer(Bounded)


def test_one_that_chooses_among_rules_may_have_coefficients_of_all() -> None:
    """As Adam has, and who takes its coefficients over with a rule of their own."""

    class Choosing(Lavish):
        @property
        def rule(self) -> ao.Rule:
            """The update rule."""
            return heavy_ball

    with pytest.raises(AssertionError, match="no rule found of the class takes nu"):
        coefficients_are_taken(Choosing)
    coefficients_are_taken(ao.Adam)
    coefficients_are_taken(type("Mine", (ao.RMSprop,), {"rule": ao.RMSprop().rule}))


@pytest.mark.parametrize(
    ("cls", "hyper"),
    [
        (ao.Adafactor, {"preset": "torch"}),
        (ao.Muon, {"preset": "keras3"}),
        (ao.Muon, {"adam_weight_decay": 0.5}),
        (Good, {"lr": lambda t: 0.1 / (1 + t)}),
    ],
)
def test_numbers_of_presets_and_schedules_are_those_of_a_step(
    cls: type[ao.Optimizer], hyper: dict[str, Any]
) -> None:
    """None of a preset stands for a number, a schedule gives one; a second decay is turned off."""
    for check in CHECKS:
        if check.__name__ in ("config_survives", "copies_are_independent") and "lr" in hyper:
            continue  # a function is in no file
        check(lambda: cls(**hyper))


@pytest.mark.parametrize("decay", [{"weight_decay": 0.5}, {"l2": 0.5}, {"constraint": "NonNeg"}])
def test_what_moves_parameters_without_gradients_is_left_out(decay: dict[str, Any]) -> None:
    """A rule is not to blame for it."""
    for check in (zero_gradients_change_nothing, loss_goes_down):
        check(lambda: Good(**decay))
