"""Steps of torch tensors on a GPU return before the device has taken them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES
from gpu_on_host import TorchOnHost, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

SHAPES = [(5, 4), (7,), (), (3, 2, 2)]
STEPS = 4
UNITS = {"clipnorm_per_tensor": 0.3, "agc": 0.1, "agc_units": "first"}


def trained(groups: Sequence[slice], kind: str, words: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return an optimizer after some steps, and its parameters."""
    words = dict(words)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(STEPS + 1, *shape, generator=generator) for shape in SHAPES]
    params = [torch.nn.Parameter(x[-1].clone()) for x in drawn]
    rate = words.pop("lr", None)
    rows = [{"params": params[rows], "lr": rate or 0.1 / (k + 1)} for k, rows in enumerate(groups)]
    optimizer = getattr(ao.torch, kind)(rows, **words)
    for step in range(STEPS):
        for k, (p, x) in enumerate(zip(params, drawn, strict=True)):
            p.grad = None if k == 1 and step == 2 else x[step].clone()
        optimizer.step()
    return optimizer, params


@pytest.mark.parametrize(
    "groups", [[slice(None)], [slice(0, 2), slice(2, 3), slice(3, 4)]], ids=["one", "three"]
)
@pytest.mark.parametrize("kind", ["Adam", "LAMB"])
@pytest.mark.parametrize("words", [{}, {"ema_momentum": 0.9}, UNITS], ids=str)
def test_clipping_by_the_norm(
    groups: list[slice], kind: str, words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all groups together, with the bits of the CPU; the report waits when it is asked for."""
    words = {"clipnorm": 0.5, **words}
    optimizer, wanted = trained(groups, kind, words)
    reports = optimizer.last_step
    library = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", library)
    optimizer, found = trained(groups, kind, words)
    assert library.only.launches and library.only.waits == 0
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(optimizer.last_step, reports, strict=True):
        assert a.global_norm == b.global_norm and a.clip_factor == b.clip_factor < 1.0
    assert library.only.waits > 0


@pytest.mark.parametrize("kind", ["DoG", "Prodigy"])
@pytest.mark.parametrize("groups", [[slice(None)], [slice(0, 2), slice(2, 4)]], ids=["one", "two"])
def test_totals(kind: str, groups: list[slice], monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from totals over all tensors stays there, in the state of torch too."""
    alike = {"lr": 1.0}
    optimizer, wanted = trained(groups, kind, alike)
    state = optimizer.state_dict()["state"]
    library = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", library)
    optimizer, found = trained(groups, kind, alike)
    assert library.only.launches and library.only.waits == 0
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)
    for k, entry in optimizer.state_dict()["state"].items():
        assert entry.keys() == state[k].keys()
        for name, x in entry.items():
            assert torch.equal(x, state[k][name]), name
    # Another one goes on from a copy of the state.
    other, copies = trained(groups, kind, alike)
    saved = copy.deepcopy(optimizer.state_dict())
    other.load_state_dict(saved)
    for loop, params in ((optimizer, found), (other, copies)):
        for k, p in enumerate(params):
            p.grad = torch.full_like(p, 0.1 * k)
        loop.step()
    for a, b in zip(found, copies, strict=True):
        assert torch.equal(a, b)


def test_what_the_host_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a step is skipped: it waits for the norm of all groups."""
    library = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", library)
    words = {"clipnorm": 0.5, "nonfinite": "skip"}
    trained([slice(0, 2), slice(2, 4)], "Adam", words)
    assert library.only.waits > 0


def test_the_norm_where_array_functions_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """They want it on the host, in each of several groups."""
    found = []
    for library in (None, TorchOnHost()):
        if library is not None:
            monkeypatch.setitem(LIBRARIES, "torch", library)
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(4, 3)) for _ in range(2)]
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.3}]
        optimizer = ao.torch.Muon(groups, clipnorm=0.5)
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
        found.append(params)
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b)
