"""The guard that leaves out steps whose loss is a spike."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend

LOSSES = (2.0, 1.9, 1.8, 1.9, 90.0, 1.7, float("nan"), 1.6, float("inf"), 1.6)
TAKEN = tuple(loss < 10.0 for loss in LOSSES)


def guarded(cls: Any = ao.SGD, window: int = 8, threshold: float = 6.0, **options: Any) -> Any:
    """Return an optimizer with a guard."""
    return cls(skip_loss_spikes=threshold, spike_window=window, **options)


def told(optimizer: Any, losses: Any, p: Any, gradient: Any = None) -> Any:
    """Step with each loss, and a gradient of ones."""
    for loss in losses:
        optimizer.tell_loss(loss)
        p = optimizer.apply(np.ones(1) if gradient is None else gradient, p)
    return p


def test_spikes_are_left_out() -> None:
    """A loss far above the others, and one that is no number, whatever the gradients are."""
    optimizer, p, taken = guarded(lr=1.0), np.zeros(1), []
    for loss in LOSSES:
        told(optimizer, [loss], p)
        taken.append(optimizer.last_step.applied)
    assert tuple(taken) == TAKEN
    assert (optimizer.iterations, optimizer.spikes, optimizer.skipped) == (sum(TAKEN), 3.0, 0)
    assert p == -sum(TAKEN) and optimizer.last_step.global_norm is None


def test_numbers_are_those_of_numpy() -> None:
    """Mean, variance and score, as long as the window holds all losses, negative ones too."""
    losses = np.random.default_rng(3).normal(size=50) - 2.0
    optimizer = guarded(window=64, threshold=1e9)
    told(optimizer, losses[:49], np.zeros(1))
    score = (losses[49] - np.mean(losses[:49])) / np.std(losses[:49])
    told(optimizer, losses[49:], np.zeros(1))
    assert optimizer.loss_mean == pytest.approx(np.mean(losses), rel=1e-12)
    assert optimizer.loss_variance == pytest.approx(np.var(losses), rel=1e-12)
    assert optimizer.last_step.loss_score == pytest.approx(score, rel=1e-12)
    assert optimizer.last_step.score is None


@pytest.mark.parametrize("level", [-5.0, 0.0, 5.0])
def test_losses_that_are_all_equal(level: float) -> None:
    """Rounding is no spike, and a new level is accepted after some steps."""
    optimizer = guarded(window=16)
    told(optimizer, [level] * 30 + [level + 1e-9 * abs(level)] * 5, np.zeros(1))
    assert optimizer.spikes == 0
    told(optimizer, [level + 50.0] * 100, np.zeros(1))
    assert optimizer.last_step.applied


def test_beside_the_guard_on_gradients() -> None:
    """Each judges for itself, and a step that both leave out counts once."""
    optimizer, p = guarded(lr=1.0, skip_spikes=6.0), np.zeros(1)
    told(optimizer, [2.0, 1.9, 1.8, 1.9], p)
    told(optimizer, [1.8], p, np.full(1, 50.0))
    told(optimizer, [99.0], p)
    assert optimizer.spikes == 2
    told(optimizer, [99.0], p, np.full(1, 500.0))
    assert (optimizer.spikes, optimizer.iterations) == (3, 4)
    assert optimizer.last_step.score > 6 and optimizer.last_step.loss_score > 6


def test_it_resumes_to_the_bit(tmp_path: Any, backend: TestBackend) -> None:
    """Also where a file is written between a loss and its step."""
    losses = (2.0 + np.random.default_rng(1).normal(size=60) * 0.1).tolist()
    losses[20] = losses[41] = 30.0
    ones, file = backend.asarray(np.ones(1)), tmp_path / "guard.h5"
    whole, first = guarded(ao.Adam), guarded(ao.Adam)
    wanted = told(whole, losses, backend.asarray(np.zeros(1)), ones)
    p = told(first, losses[:33], backend.asarray(np.zeros(1)), ones)
    first.tell_loss(losses[33])
    first.save_weights(file)
    second = ao.load(file)
    p = told(second, losses[34:], second.apply(ones, p), ones)
    assert np.array_equal(backend.to_numpy(p), backend.to_numpy(wanted))
    assert second.spikes == whole.spikes == 2.0
    assert second.loss_mean == whole.loss_mean and second.loss_variance == whole.loss_variance


def test_several_losses_of_a_step() -> None:
    """Their mean counts, as that of the gradients does; before the first step too."""
    optimizer, p = ao.GradientAccumulation(guarded(lr=1.0), every=2), np.zeros(1)
    told(optimizer, [1.0, 3.0, 3.0, 1.2, 1.1, 2.8, 2.0, 2.0, 1.0, 99.0, 2.0, 2.0], p)
    assert (optimizer.spikes, optimizer.iterations) == (1, 5)
    assert optimizer.inner.loss_mean < 3.0


@pytest.mark.parametrize("around", [None, ao.Lookahead, ao.SAM, partial(ao.LossScale, scale=8.0)])
def test_minimize_tells_it(around: Any, tmp_path: Any) -> None:
    """One step or many, inside wrappers, in its true size; a run goes on from a checkpoint."""
    calls: list[Any] = []

    def loss(x: Any, scale: float = 1.0) -> Any:
        spike = 1e3 if len(calls) == 20 else 1.0
        return spike * scale * float(x @ x) + scale, 2.0 * scale * spike * x

    def made() -> Any:
        inner = guarded(lr=0.01, window=4)
        return inner if around is None else around(inner)

    optimizer = made()
    scale = 8.0 if isinstance(optimizer, ao.LossScale) else 1.0
    step = partial(ao.minimize, partial(loss, scale=scale), np.ones(2), callback=calls.append)
    found = step(optimizer, 40)
    assert (found.steps, optimizer.iterations, optimizer.spikes) == (40, 39, 1.0)
    assert 1.0 < optimizer.loss_mean < 3.0
    calls.clear()
    file = tmp_path / "run.h5"
    step(made(), 17, checkpoint=file)
    again = step(made(), 40, checkpoint=file)
    assert np.array_equal(again.params, found.params)


def test_find_lr_leaves_it_alone() -> None:
    """The run over copies judges, and tells, nothing here."""
    optimizer = guarded(lr=0.1)
    ao.find_lr(lambda x: (float(x @ x), 2.0 * x), np.ones(2), optimizer, steps=20)
    assert not optimizer.built


def test_updates_as_pairs() -> None:
    """They are those of a step, also where it is left out."""
    optimizers, params = [guarded(window=4) for _ in range(2)], [np.zeros(1), np.zeros(1)]
    for loss in LOSSES:
        told(optimizers[0], [loss], params[0])
        optimizers[1].tell_loss(loss)
        pairs = optimizers[1].get_updates(params[1], lambda p: (0.0, np.ones(1)))
        optimizers[1].apply_updates(pairs)
    first, second = (o.get_weights() for o in optimizers)
    assert all(map(np.array_equal, first, second)) and np.array_equal(*params)


def test_its_number_changes() -> None:
    """It is set between steps, or a schedule; the configuration has it."""
    optimizer, p = guarded(lr=1.0), np.zeros(1)
    told(optimizer, [2.0, 1.9, 2.1, 2.0, 1.9], p)
    optimizer.skip_loss_spikes = 1e6
    told(optimizer, [30.0], p)
    assert p == -6.0 and ao.deserialize(ao.serialize(optimizer)).skip_loss_spikes == 1e6
    falling = guarded(threshold=ao.schedules.PiecewiseConstantDecay([5], [1e6, 3.0]), lr=1.0)
    for losses, taken in (([2.0, 1.9, 2.1, 2.0, 1.9, 9.0], 6), ([90.0], 6)):
        told(falling, losses, p)
        assert falling.iterations == taken


def test_bad_input() -> None:
    """Every error says what to do, and changes nothing."""
    with pytest.raises(ValueError, match=r"skip_loss_spikes must be a number in \(0, inf\)"):
        ao.Adam(skip_loss_spikes=0.0)
    with pytest.raises(ValueError, match="found skip_loss_spikes=None"):
        ao.Adam().tell_loss(1.0)
    with pytest.raises(ValueError, match="found skip_loss_spikes=None"):
        ao.Lookahead("adam").tell_loss(1.0)
    late, p = ao.SGD(), np.zeros(1)
    late.apply(np.ones(1), p)
    late.skip_loss_spikes = 6.0
    with pytest.raises(ValueError, match="Set them before the first step"):
        late.tell_loss(1.0)
    optimizer, p = guarded(), np.zeros(1)
    for bad in ("1.0", None, [1.0], np.ones(2), 1j, object()):
        with pytest.raises(TypeError, match="wanted one real number"):
            optimizer.tell_loss(bad)
    with pytest.raises(ValueError, match=r"step without a loss.*call tell_loss\(loss\)"):
        optimizer.apply(np.ones(1), p)
    told(optimizer, [np.float32(1.0)], p)
    with pytest.raises(ValueError, match="step without a loss"):
        optimizer.apply(np.ones(1), p)
    assert (optimizer.iterations, optimizer.loss_count) == (1, 1.0) and p == -0.01


def test_in_the_pure_form() -> None:
    """Compiled and not, it decides as `apply` does."""
    jax = pytest.importorskip("jax")
    optimizer, grads = guarded(lr=1.0), jax.numpy.ones(1)

    def step(state: Any, loss: Any, params: Any) -> Any:
        state = optimizer.stateless_tell_loss(state, loss)
        params, state = optimizer.stateless_apply(state, grads, params)
        return params, state

    compiled = jax.jit(step)
    for form in (step, compiled):
        params = jax.numpy.zeros(1)
        state = optimizer.init_state(params)
        for loss in LOSSES:
            params, state = form(state, jax.numpy.asarray(loss), params)
        assert float(params[0]) == -sum(TAKEN) and int(state["iterations"]) == sum(TAKEN)
        assert (float(state["scalars"]["spikes"]), int(state["skipped"])) == (3.0, 0)
    assert compiled._cache_size() == 1
    with pytest.raises(TypeError, match="wanted one real number"):
        optimizer.stateless_tell_loss(state, jax.numpy.ones(2))
    params, state = optimizer.stateless_apply(state, grads, params)
    assert float(state["scalars"]["loss_count"]) == np.isfinite(LOSSES).sum()
    skipping = guarded(lr=1.0, nonfinite="skip")
    state = skipping.stateless_tell_loss(skipping.init_state(params), 1.0)
    held, after = jax.jit(skipping.stateless_apply)(state, grads * np.nan, params)
    assert float(held[0]) == float(params[0])
    assert (int(after["skipped"]), float(after["scalars"]["spikes"])) == (1, 0.0)


def test_in_torch() -> None:
    """A closure tells it, or the loop; all groups are left out together; a state dict has it."""
    torch = pytest.importorskip("torch")

    def made() -> Any:
        params = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
        return guarded(ao.torch.SGD, params=[{"params": [p]} for p in params], lr=1.0), params

    def run(optimizer: Any, params: Any, losses: Any, closed: bool) -> None:
        for loss in losses:
            for p in params:
                p.grad = torch.ones_like(p)
            value = torch.tensor(loss, requires_grad=True)
            if closed:
                optimizer.step(lambda value=value: value)
            else:
                optimizer.tell_loss(value)
                optimizer.step()

    for closed in (True, False):
        optimizer, params = made()
        run(optimizer, params, LOSSES[:5], closed)
        again, same = made()
        again.load_state_dict(optimizer.state_dict())
        run(again, same, LOSSES[5:], closed)
        assert all((p + q == -sum(TAKEN)).all() for p, q in zip(params, same, strict=True))
        assert {float(entry["spikes"]) for entry in again.state.values()} == {3.0}
        assert not again.last_step[0].applied or TAKEN[-1]
    optimizer, params = made()
    params[0].grad = torch.ones(2)
    with pytest.raises(ValueError, match="step without a loss"):
        optimizer.step()
    with pytest.raises(TypeError, match="wanted one real number"):
        optimizer.tell_loss(torch.ones(2))
    with pytest.raises(ValueError, match="found skip_loss_spikes=None"):
        ao.torch.SGD(params, lr=1.0).tell_loss(1.0)
    with pytest.raises(ValueError, match="needs all gradients"):
        optimizer.step_in_backward()


def refused(call: Any, match: str = "NaN or infinite") -> None:
    """Call what raises."""
    with pytest.raises((TypeError, ValueError), match=match):
        call()


@pytest.mark.parametrize("started", [False, True])
def test_a_step_that_raises_takes_its_loss_with_it(started: bool) -> None:
    """The next one is judged by its own, whatever was wrong; the accumulated losses stay."""
    bad = np.full(1, np.nan)
    for wrong, match in (
        (bad, "NaN or infinite"), (np.ones(2), "shape"), ([np.ones(1)], "structure|gradients"),
    ):  # fmt: skip
        for around in (lambda x: x, ao.Lookahead, lambda x: ao.GradientAccumulation(x, every=1)):
            optimizer = around(guarded(lr=1.0, nonfinite="raise"))
            p = told(optimizer, [2.0] * started, np.zeros(1))
            optimizer.tell_loss(50.0)
            refused(lambda w=wrong, o=optimizer, p=p: o.apply(w, p), match)
            refused(lambda o=optimizer, p=p: o.apply(np.ones(1), p), "step without a loss")
            told(optimizer, [2.0], p)
            assert optimizer.loss_mean == 2.0 and optimizer.loss_count == 1.0 + started
    optimizer, p = ao.GradientAccumulation(guarded(nonfinite="raise"), every=2), np.zeros(1)
    told(optimizer, [1.0], p)
    optimizer.tell_loss(50.0)
    refused(lambda: optimizer.apply(bad, p))
    told(optimizer, [3.0], p)
    assert (optimizer.iterations, optimizer.loss_mean) == (1, 2.0)


def test_updates_that_raise_take_their_loss_with_them() -> None:
    """Where they are computed as pairs, too."""
    optimizer, p = guarded(nonfinite="raise"), np.zeros(1)
    optimizer.tell_loss(50.0)
    refused(lambda: optimizer.get_updates(p, lambda p: (0.0, p * np.nan)))
    told(optimizer, [3.0], p)
    assert optimizer.loss_mean == 3.0


def test_in_torch_a_step_that_raises_takes_its_loss_with_it() -> None:
    """Told by a closure or by the loop."""
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = guarded(ao.torch.SGD, params=[p], lr=1.0, nonfinite="raise")
    for loss, gradient in ((3.0, 1.0), (50.0, float("nan")), (3.0, 1.0)):
        p.grad = torch.full_like(p, gradient)
        for closed in (False, True):
            if not closed:
                optimizer.tell_loss(loss)
            step = partial(optimizer.step, (lambda loss=loss: loss) if closed else None)
            step() if gradient == 1.0 else refused(step)
    assert float(optimizer.state[p]["loss_mean"]) == 3.0
