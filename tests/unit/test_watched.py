"""Norms by path, where they are asked for; and the guard that skips spikes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import gradients
from arrayoptim.step import reported_norms
from backends import TestBackend
from gpu_on_host import NumPyOnHost

WORDS = ("gradient", "update", "weight")


def step_of(optimizer: Any, grads: list[Any], params: list[Any], backend: TestBackend) -> Any:
    """Take a step over copies; return the parameters before and after as host arrays."""
    before = [np.array(p) for p in params]
    after = optimizer.apply(
        [None if g is None else backend.asarray(g) for g in grads],
        [backend.asarray(p.copy()) for p in params],
    )
    return before, [backend.to_numpy(p) for p in after]


@pytest.mark.parametrize("kind", ["Adam", "LAMB", "Muon", "Prodigy", "Adafactor"])
def test_norms_by_path(kind: str, backend: TestBackend, engine: str) -> None:
    """Those of the gradient, of the change and of what is left, as NumPy computes them."""
    optimizer, rng = (
        type(ao.get(kind))(measure=set(WORDS), clipvalue=0.25),
        np.random.default_rng(3),
    )
    params = [rng.normal(size=s).astype(np.float64) for s in ((3, 4), (5,))]
    grads = [rng.normal(size=p.shape) for p in params]
    with ao.engine("auto" if kind == "Muon" else engine):
        before, after = step_of(optimizer, grads, params, backend)
    found = optimizer.last_step.norms
    assert tuple(found) == WORDS
    wanted = {
        "gradient": grads,
        "update": [b - a for a, b in zip(before, after, strict=True)],
        "weight": after,
    }
    for word, arrays in wanted.items():
        assert found[word] == pytest.approx(
            {str(i): np.linalg.norm(x) for i, x in enumerate(arrays)}, rel=1e-5, abs=1e-6
        )
    whole = math.hypot(*found["gradient"].values())
    assert optimizer.last_step.global_norm == pytest.approx(whole, rel=1e-5)


def test_what_has_none() -> None:
    """A parameter without a gradient, a frozen one, and a step that is left out."""
    optimizer = ao.SGD(1.0, measure=WORDS, nonfinite="skip", groups=[ao.group("c", freeze=True)])
    params = {k: np.ones(4) for k in "abc"}
    optimizer.apply({"a": np.ones(4), "b": None, "c": np.ones(4)}, params)
    assert optimizer.last_step.norms == {
        "gradient": {"a": 2.0},
        "update": {"a": 2.0},
        "weight": {"a": 0.0, "b": 2.0, "c": 2.0},
    }
    optimizer.apply({"a": np.full(4, np.inf), "b": None, "c": None}, params)
    assert optimizer.last_step.norms == {"gradient": {"a": math.inf}}
    optimizer.measure = ()
    optimizer.apply({"a": np.ones(4), "b": None, "c": None}, params)
    assert optimizer.last_step.norms == {}


def test_the_value_of_16_bits_in_full() -> None:
    """Steps that rounding hides are there; a parameter that was written to begins from there."""
    optimizer, p = ao.SGD(1e-4, measure=("update", "weight")), np.ones(4, np.float16)
    for _ in range(2):
        optimizer.apply(np.ones(4, np.float16), p)
        assert (p == 1).all()
        assert optimizer.last_step.norms["update"][""] == pytest.approx(2e-4, rel=1e-3)
    p[...] = 3
    optimizer.apply(np.ones(4, np.float16), p)
    assert optimizer.last_step.norms["update"][""] == pytest.approx(2e-4, rel=2e-3)
    assert optimizer.last_step.norms["weight"][""] == pytest.approx(6.0 - 2e-4)


def test_true_size_under_a_loss_scale() -> None:
    """Gradients are measured as if the loss had not been scaled."""
    optimizer, p = ao.LossScale(ao.SGD(1.0, measure=WORDS), scale=8.0), np.ones(4)
    optimizer.apply(np.full(4, 8.0), p)
    assert optimizer.last_step.norms["gradient"] == {"": 2.0}
    assert optimizer.last_step.norms["update"] == {"": 2.0}


def test_the_same_steps(backend: TestBackend, engine: str) -> None:
    """Measuring changes no bit of them."""
    found = []
    for words in ((), WORDS):
        rng, optimizer = np.random.default_rng(1), ao.Adam(measure=words, clipnorm=1.0)
        params = [backend.asarray(rng.normal(size=33).astype(np.float32))]
        with ao.engine(engine):
            for _ in range(4):
                grads = [backend.asarray(rng.normal(size=33).astype(np.float32))]
                params = optimizer.apply(grads, params)
        found.append(backend.to_numpy(params[0]))
    assert np.array_equal(*found)


def test_the_host_waits_for_no_gpu(host: NumPyOnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients' norms stay on the device until the report is read."""
    for module in (gradients, reported_norms):
        monkeypatch.setattr(module, "stays_on_device", lambda _: True)
    device, optimizer = host.devices[0], ao.Adam(measure="gradient")
    params, grads = [np.ones(5, np.float32)], [np.full(5, 2.0, np.float32)]
    with ao.engine("gpu"):
        optimizer.apply(grads, params)
        copies = device.copies
        optimizer.apply(grads, params)
        assert device.copies == copies
    assert optimizer.last_step.norms["gradient"]["0"] == pytest.approx(20.0**0.5)


def test_bad_words() -> None:
    """They fail at construction."""
    with pytest.raises(ValueError, match="'gradient' or 'update' or 'weight', got 'grad'"):
        ao.Adam(measure="grad")
    with pytest.raises(TypeError, match="measure must be a str or a sequence"):
        ao.Adam(measure=3)
    again = type(ao.Adam()).from_config(ao.Adam(measure={"weight", "gradient"}).get_config())
    assert again.measure == ("gradient", "weight")


# ---- spikes


def norms(count: int, seed: int = 0) -> list[float]:
    """Return norms of gradients with a spike every now and then."""
    rng = np.random.default_rng(seed)
    found = 3.0 + rng.normal(size=count) * 0.2
    found[count // 2 :: 7] *= 9.0
    return [float(x) for x in found]


def judged(values: list[float], threshold: float, window: int) -> list[bool]:
    """Decide step by step what is a spike, from the whole list of weights and norms."""
    seen: list[float] = []
    spikes = []
    for x in values:
        # Up to a window all have equal weight; each later one takes its share from all of them.
        weights = np.ones(min(len(seen), window)) / max(min(len(seen), window), 1)
        for _ in seen[window:]:
            weights = np.append(weights * (1 - 1 / window), 1 / window)
        mean = float(np.dot(weights, seen)) if seen else 0.0
        spread = math.sqrt(np.dot(weights, (np.array(seen) - mean) ** 2)) if seen else 0.0
        top = mean + threshold * max(spread, mean / 1024)
        spikes.append(len(seen) >= window // 2 and x > top)
        seen.append(min(x, top) if len(seen) >= window // 2 else x)
    return spikes


@pytest.mark.parametrize("window", [2, 8, 31, 128])
def test_spikes_are_left_out(window: int) -> None:
    """Those that another formula finds, from all norms so far at once."""
    optimizer, p = ao.SGD(skip_spikes=4.0, spike_window=window), np.zeros(1)
    values, left_out = norms(90), []
    for x in values:
        before = p.copy(), optimizer.iterations
        optimizer.apply(np.array([x]), p)
        left_out.append(not optimizer.last_step.applied)
        assert (before == (p, optimizer.iterations)) is left_out[-1]
    assert left_out == judged(values, 4.0, window)
    assert optimizer.spikes == sum(left_out) and optimizer.skipped == 0
    assert sum(left_out) > 0


def test_mean_and_variance_are_those_of_numpy() -> None:
    """As long as there are no more norms than the window has."""
    optimizer, values = ao.SGD(skip_spikes=1e9, spike_window=64), norms(50)
    for x in values:
        optimizer.apply(np.array([x]), np.zeros(1))
    assert optimizer.norm_mean == pytest.approx(np.mean(values), rel=1e-12)
    assert optimizer.norm_variance == pytest.approx(np.var(values), rel=1e-12)


def test_a_new_level_is_accepted() -> None:
    """A guard that skipped for ever would end the run; norms that are all equal are no spikes."""
    optimizer, p = ao.SGD(skip_spikes=5.0, spike_window=16), np.zeros(1)
    for x in [1.0] * 30 + [1.0 + 1e-9] * 5:
        optimizer.apply(np.array([x]), p)
    assert optimizer.spikes == 0
    for _ in range(60):
        optimizer.apply(np.array([50.0]), p)
    assert optimizer.last_step.applied and 1 < optimizer.spikes < 50


def test_norms_that_were_all_zero() -> None:
    """They say nothing of how large the others may be: a guard on them would skip for ever."""
    optimizer, p = ao.SGD(1.0, skip_spikes=5.0, spike_window=8), np.zeros(1)
    for x in [0.0] * 8 + [1.0] * 4:
        optimizer.apply(np.array([x]), p)
    assert p == -4.0 and optimizer.spikes == 0


@pytest.mark.parametrize("nonfinite", ["ignore", "skip", "raise"])
def test_norms_that_are_not_finite(nonfinite: str) -> None:
    """They are spikes, from the first step on, unless `nonfinite` says what else they are."""
    optimizer, p = ao.SGD(1.0, skip_spikes=5.0, nonfinite=nonfinite), np.ones(2)
    if nonfinite == "raise":
        with pytest.raises(ValueError, match="nothing has changed"):
            optimizer.apply(np.array([np.nan, 1.0]), p)
        return
    for bad in (np.nan, np.inf):
        optimizer.apply(np.array([bad, 1.0]), p)
    assert (p == 1).all() and optimizer.norm_count == 0
    assert (optimizer.spikes, optimizer.skipped) == ((2, 0) if nonfinite == "ignore" else (0, 2))


def test_it_resumes_to_the_bit(tmp_path: Any, backend: TestBackend) -> None:
    """Mean, variance and counts are saved with all else."""
    values, file = norms(60, 2), tmp_path / "guard.h5"

    def run(optimizer: Any, p: Any, rows: list[float]) -> Any:
        for x in rows:
            p = optimizer.apply(backend.asarray(np.array([x])), p)
        return p

    whole, first = (ao.Adam(skip_spikes=4.0, spike_window=8) for _ in range(2))
    wanted = run(whole, backend.asarray(np.zeros(1)), values)
    p = run(first, backend.asarray(np.zeros(1)), values[:33])
    first.save_weights(file)
    second = ao.load(file)
    assert np.array_equal(backend.to_numpy(run(second, p, values[33:])), backend.to_numpy(wanted))
    assert second.spikes == whole.spikes > 0 and second.norm_mean == whole.norm_mean


def test_under_wrappers() -> None:
    """A loss scale takes a spike for no overflow; of several calls the mean is judged."""
    optimizer, p = ao.LossScale(ao.SGD(skip_spikes=4.0, spike_window=8), scale=8.0), np.zeros(1)
    for x in (1.0, 1.1, 0.9, 1.0, 90.0):
        optimizer.apply(np.array([8.0 * x]), p)
    assert (optimizer.spikes, optimizer.skipped, optimizer.loss_scale) == (1, 0, 8.0)
    optimizer.apply(np.array([np.inf]), p)
    assert (optimizer.spikes, optimizer.skipped, optimizer.loss_scale) == (1, 1, 4.0)
    gathering = ao.GradientAccumulation(ao.SGD(skip_spikes=4.0, spike_window=8), every=2)
    for x in (1.0, 1.1, 0.9, 1.0, 1.0, 1.2, 0.9, 0.9, 1.0, 200.0, 1.0, 1.0):
        gathering.apply(np.array([x]), p)
    assert (gathering.spikes, gathering.iterations) == (1, 5)


def test_updates_as_pairs() -> None:
    """They are those of a step, also where it is left out."""
    optimizers = [ao.SGD(skip_spikes=4.0, spike_window=4) for _ in range(2)]
    params = [np.zeros(1), np.zeros(1)]
    for x in (1.0, 1.1, 0.9, 30.0, 1.0):
        optimizers[0].apply(np.array([x]), params[0])
        pairs = optimizers[1].get_updates(params[1], lambda p, x=x: (0.0, np.array([x])))
        optimizers[1].apply_updates(pairs)
    first, second = (o.get_weights() for o in optimizers)
    assert all(map(np.array_equal, first, second)) and np.array_equal(*params)


def test_bad_numbers() -> None:
    """They fail at construction."""
    with pytest.raises(ValueError, match=r"skip_spikes must be a number in \(0, inf\)"):
        ao.Adam(skip_spikes=0.0)
    with pytest.raises(ValueError, match="spike_window must be an integer"):
        ao.Adam(skip_spikes=3.0, spike_window=1)


def test_a_step_without_gradients_teaches_nothing() -> None:
    """There is no norm where every gradient is missing."""
    optimizer, params = ao.SGD(lr=0.1, skip_spikes=3.0), [np.ones(3)]
    optimizer.apply([np.ones(3)], params)
    before = [optimizer.norm_count, optimizer.norm_mean, optimizer.norm_variance]
    optimizer.apply([None], params)
    assert [optimizer.norm_count, optimizer.norm_mean, optimizer.norm_variance] == before
    assert optimizer.last_step.applied and before[0] == 1.0
