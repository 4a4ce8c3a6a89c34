"""Several processes that train together end where a single one does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

import arrayoptim as ao
from places import TESTS
from several_processes import ended
from torch_models import (
    SETTINGS,
    WRAPPED,
    batch,
    before,
    chosen,
    course,
    halves,
    model,
    reported,
    slopes,
    tensors,
)

pytestmark = pytest.mark.slow

PROGRAM = TESTS / "torch_ranks.py"


def run(case: str, world: int, folder: Path, timeout: float = 300) -> list[tuple[int | None, str]]:
    """Start the processes, and return how each of them ended, and what it said."""
    meeting = folder / f"{case}.meeting"
    program = [sys.executable, str(PROGRAM), case]
    ends = [str(world), str(meeting), str(folder)]
    commands = [[*program, str(rank), *ends] for rank in range(world)]
    return ended(commands, timeout, NUMBA_NUM_THREADS="1")


def together(case: str, world: int, folder: Path) -> dict[str, Any]:
    """Start the processes, and return what the first one found."""
    for code, words in run(case, world, folder):
        assert code == 0, words
    found: dict[str, Any] = torch.load(folder / f"{case}.pt", weights_only=True)
    return found


def agree(found: dict[str, Any], **settings: Any) -> None:
    """Assert that a single process comes to the same; sums are added in another order there."""
    assert found
    for name, params in found.items():
        net = model(torch.float64)
        given = settings or SETTINGS[name]
        groups = [{"params": list(net.parameters())}] if settings else halves(net, lr=0.03)
        course(net, getattr(ao.torch, name)(groups, **given), range(6))
        for a, b in zip(params, net.parameters(), strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b.detach(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("world", [2, 4])
def test_fully_sharded(world: int, tmp_path: Path) -> None:
    """Also where parts are uneven or empty; clipping goes by the norm over all of them."""
    agree(together("fully_sharded", world, tmp_path))


@pytest.mark.parametrize("world", [2, 4])
def test_each_rule(world: int, tmp_path: Path) -> None:
    """Of parameters in parts, by rows and columns, some of them uneven or empty."""
    found = together("each_rule", world, tmp_path)
    for case, params in found.items():
        whole = {name: torch.nn.Parameter(x) for name, x in tensors(case).items()}
        optimizer = chosen(case, whole)
        for step in range(4):
            before(case, optimizer, step)
            for name, g in slopes(case, step).items():
                whole[name].grad = g
            optimizer.step()
        wanted = {**{name: p.detach() for name, p in whole.items()}, "report": reported(optimizer)}
        for name, p, q in zip(wanted, params, wanted.values(), strict=True):
            close = 1e-12 if p.dtype == torch.float64 else 1e-6
            close = 1e-2 if p.element_size() == 2 else close
            torch.testing.assert_close(p, q, rtol=close, atol=0.1 * close, msg=f"{case} {name}")


def test_hybrid(tmp_path: Path) -> None:
    """A copy of a part counts once in the norm."""
    agree(together("hybrid", 4, tmp_path))


@pytest.mark.parametrize("world", [2, 4])
def test_replicated(world: int, tmp_path: Path) -> None:
    """Under DistributedDataParallel."""
    agree(together("replicated", world, tmp_path))


@pytest.mark.parametrize("world", [2, 4])
def test_wrapped(world: int, tmp_path: Path) -> None:
    """Under DistributedDataParallel, by wrappers."""
    found = together("wrapped", world, tmp_path)
    for name, made in WRAPPED.items():
        net, optimizer = model(torch.float64), made()
        for step in range(6):
            net.zero_grad()
            (net(batch(step, 0, 1)) - 1.0).square().mean().backward()
            params = dict(net.named_parameters())
            optimizer.apply({key: p.grad for key, p in params.items()}, params)
        for a, b in zip(found[name], net.parameters(), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-13, msg=name)


@pytest.mark.parametrize("world", [2, 4])
def test_redundancy_free(world: int, tmp_path: Path) -> None:
    """Under ZeroRedundancyOptimizer, stopped and loaded half-way."""
    agree(together("redundancy_free", world, tmp_path), lr=0.02, eps=1e-7)


def test_checkpoint_of_four(tmp_path: Path) -> None:
    """What four processes saved, two go on from, and one."""
    assert together("save", 4, tmp_path) == {}
    for world in (2, 1):
        agree(together("resume", world, tmp_path))


def test_a_killed_process(tmp_path: Path) -> None:
    """The others end with an error, and soon; the last checkpoint is whole."""
    ends = run("killed", 4, tmp_path, timeout=120)
    assert [code for code, _ in ends][-1] < 0
    assert all(code != 0 for code, _ in ends)
    assert not (tmp_path / "run 3" / ".metadata").exists()
    dcp_to_torch_save(tmp_path / "run 2", tmp_path / "whole.pt")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert float(whole["optimizer"]["state"]["0.weight"]["step"]) == 3.0


def test_refusals(tmp_path: Path) -> None:
    """What cannot be shared out is said."""
    words = together("refusals", 2, tmp_path)["words"]
    codes, tensor, measured, failed, vector, many, *parts = words
    assert 'state_dtype="int8" uses blocks' in codes and "Shard(dim=0)" in codes
    assert "found a Tensor, but the parameter is a DTensor" in tensor
    assert "DoG with agc needs totals of gradients that are clipped whole" in measured
    assert "LBFGS: found parameters that are sharded" in vector
    assert "torch's interface does not support it" in many
    assert len(parts) == 3 and all("is a DTensor, which may be sharded" in x for x in parts)
    assert "the process that steps parameter 0 of its group has failed" in failed
