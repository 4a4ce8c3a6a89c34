"""Presets in the adapter for torch: the numbers of torch's own optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import arrayoptim as ao
from golden_peers.parity import WITH_VECTORS
from torch_models import model, of, train

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _double() -> Any:
    """Let torch keep its numbers in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize(("theirs", "given", "ours", "words"), WITH_VECTORS)
def test_as_torch(theirs: str, given: dict[str, Any], ours: str, words: dict[str, Any]) -> None:
    """The same model after the same steps, through the engine that serves it."""
    nets = model(DOUBLE), model(DOUBLE)
    made = of(ours)(nets[0].parameters(), **words, preset="torch")
    native = getattr(torch.optim, theirs)(nets[1].parameters(), **given)
    assert made.param_groups[0]["preset"] == "torch"
    for net, optimizer in zip(nets, (made, native)):
        train(net, optimizer, range(3), DOUBLE)
        optimizer.param_groups[0]["lr"] *= 0.5
        train(net, optimizer, range(3, 6), DOUBLE)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_that_is_lacking() -> None:
    """It is refused at construction."""
    with pytest.raises(ValueError, match="Lion has no preset 'torch'"):
        ao.torch.Lion(model().parameters(), preset="torch")
