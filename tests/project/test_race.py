"""The race: its table of contests, its steps, its report. No figure is tested."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from race import gpu, report, running, shapes
from race.contests import CONTESTS, NUMPY, OURS, SHARE
from race.peer import Contest, Peer, Task
from race.peers import limit, numpy_forms, ours
from race.worker import Worker

import arrayoptim as ao


def test_shapes_are_those_of_gpt2() -> None:
    assert len(shapes.SHAPES["S5"][1]) == 148
    assert shapes.elements("S5") == 124_439_808


@pytest.mark.parametrize("name", ["S1", "S2"])
def test_arrays_have_the_shapes(name: str) -> None:
    made = list(shapes.arrays(name, 0, 1.0))
    assert [a.shape for a in made] == shapes.SHAPES[name][1]
    assert {a.dtype for a in made} == {np.dtype(np.float32)}
    assert len({float(a.flat[0]) for a in made}) == len(made)


def test_every_optimizer_raced_is_registered() -> None:
    raced = {contest.optimizer for contests in CONTESTS.values() for contest in contests}
    classes = {ours.optimizer(name).name or type(ours.optimizer(name)).__name__ for name in raced}
    assert classes <= set(ao.names())


def test_bytes_are_what_the_library_says() -> None:
    params = [np.zeros(1000, np.float32)]
    for contests in CONTESTS.values():
        for contest in contests:
            groups = ao.explain(params, ours.optimizer(contest.optimizer)).groups
            once_more = 4 if contest.optimizer == "composite" else 0  # the norm of the gradients
            share = SHARE if contest.optimizer == "sparse-adam" else 1  # of the rows
            moved = sum(group.bytes for group in groups) / 1000 + once_more
            assert moved * share == contest.moved


@pytest.mark.parametrize("module", [ours, numpy_forms])
def test_peers_take_steps_of_adam(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    params, grads = [np.zeros((3, 4)), np.ones(5)], [np.full((3, 4), 0.5), np.full(5, -2.0)]
    monkeypatch.setattr(module, "arrays", lambda name, seed, scale: grads if seed else params)
    stepper = module.make(Task("adam", "", "S1", 28, 16))
    for _ in range(10):
        stepper.step()
    # The first steps of a constant gradient are of the size of lr, whatever the gradient's.
    np.testing.assert_allclose(params[0], -0.01, rtol=1e-5)
    np.testing.assert_allclose(params[1], 1.01, rtol=1e-5)


@pytest.mark.parametrize("form", ["", "exact", "torch", "sparse"])
def test_peers_take_steps_of_rows(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small table, nearly all of whose rows are drawn."""
    monkeypatch.setitem(shapes.SHAPES, "S7", ("a table", [(4096, 4)]))
    module = ours
    if form in ("torch", "sparse"):
        torch = pytest.importorskip("torch")
        from race.peers import torch_forms

        monkeypatch.setattr(torch.Tensor, "clone", lambda x: x)
        module = torch_forms if form == "sparse" else ours
        monkeypatch.setattr(torch_forms, "arrays", lambda *_: iter([table]))
    table = next(shapes.arrays("S7", 0, 0.02))
    before = table.copy()
    monkeypatch.setattr(module, "arrays", lambda *_: iter([table]))
    stepper = module.make(Task("sparse-adam", form, "S7", 28, 12))
    for _ in range(3):
        stepper.before()
        stepper.step()
    assert 0.8 < (table != before).any(axis=1).mean() < 1.0


def test_limit_streams_as_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    monkeypatch.setattr(limit, "_copy", lambda a, b: copied.append(a.nbytes + b.nbytes))
    monkeypatch.setattr(limit, "find_spec", lambda name: None)
    for way in limit._ways(np.zeros(400, np.float32), 100 * 28 // 8).values():
        copied.clear()
        way()
        assert sum(copied) == 2800


def test_who_is_missing_is_named() -> None:
    peer = Peer("x", "an optimizer", "x", needs=("no_such_module",))
    contest = Contest("Adam", "adam", "S2", (OURS, peer), 28, 16)
    score = running.Score(OURS, seconds=[0.001, 0.002], ratios=[1.0, 1.0])
    absent = running.Score(peer, failure=running._lacking(peer))
    text = report.contest(contest, [score, absent])
    assert "an optimizer: left out, no_such_module not installed." in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_heats_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    contest = Contest("Adam", "adam", "S3", (OURS, NUMPY), 28, 16)
    peers = [OURS, NUMPY, NUMPY, NUMPY]
    monkeypatch.setattr(running, "free_memory", lambda: 1e9)
    assert running._heats(contest, peers) == [[OURS, NUMPY, NUMPY], [OURS, NUMPY]]
    monkeypatch.setattr(running, "free_memory", lambda: 0.0)
    assert [len(heat) for heat in running._heats(contest, peers)] == [2, 2, 2]


@pytest.mark.slow
def test_race_between_processes() -> None:
    broken = Peer("broken", "broken", "no_such_peer")
    contest = Contest("Adam", "adam", "S2", (OURS, NUMPY, broken), 28, 16)
    with running.Race(2) as race:
        mine, other, failed = race.run(contest)
    assert len(mine.ratios) == len(other.ratios) == 2
    assert mine.ratios == [1.0, 1.0]
    assert "no_such_peer" in failed.failure


@pytest.mark.slow
def test_a_process_that_died_is_an_error() -> None:
    worker = Worker(NUMPY)
    worker._process.kill()
    with pytest.raises(Exception, match="exit code"):
        worker.ask(None)
    worker.close()


def test_the_race_on_a_gpu_steps_as_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy stands for CuPy in what a user writes; the bytes are those of `explain`."""
    monkeypatch.setitem(sys.modules, "cupy", np)
    made: list[Any] = []
    begun: list[Any] = []
    real = gpu.arrays

    def arrays(*given: Any) -> list[Any]:
        made.append(real(*given))
        begun.append([x.copy() for x in made[-1]])
        return made[-1]

    monkeypatch.setattr(gpu, "arrays", arrays)
    step = gpu.naive([(3, 4), (5,)])
    for _ in range(10):
        step()
    # Adam moves by its learning rate where the gradient stays.
    for p, start, g in zip(made[0], *begun[:2], strict=True):
        np.testing.assert_allclose(p, start - 0.01 * np.sign(g), atol=1e-5)
    options = {28: {}, 40: gpu.COMPOSITE}
    for _, _, moved, peers in gpu.contests():
        assert peers
        if not moved:
            continue
        groups = ao.explain([np.zeros(1000, np.float32)], ao.Adam(**options[moved])).groups
        norm = 4 if moved == 40 else 0
        assert sum(group.bytes for group in groups) / 1000 + norm == moved
