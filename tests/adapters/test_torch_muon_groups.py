"""Which parameters of a model of torch Muon steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import arrayoptim as ao


class Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = torch.nn.LayerNorm(width)
        self.attention = torch.nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return x + self.mlp(self.attention(y, y, y)[0])


class Model(torch.nn.Module):
    def __init__(self, tied: bool, name: str = "lm_head") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = torch.nn.Embedding(7, 4)
        self.blocks = torch.nn.ModuleList([Block(4), Block(4)])
        self.last = torch.nn.RMSNorm(4)
        head = torch.nn.Linear(4, 7, bias=False)
        setattr(self, name, head)
        self.name = name
        if tied:
            head.weight = self.tokens.weight

    def forward(self, x: torch.Tensor) -> Any:
        y = self.tokens(x)
        for block in self.blocks:
            y = block(y)
        return getattr(self, self.name)(self.last(y))


INSIDE = [
    f"blocks.{k}.{name}"
    for k in range(2)
    for name in ("attention.in_proj_weight", "attention.out_proj.weight", "mlp.weight")
]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["lm_head", "whatever"])
def test_a_transformer(tied: bool, name: str) -> None:
    """Matrices inside go to Muon, by types and by names; all else to Adam; none is lost."""
    model = Model(tied, name)
    inside, rest = ao.muon_groups(model, lr=0.05, weight_decay=0.0)
    assert [n for n, _ in inside["params"]] == INSIDE
    names = {n for n, _ in rest["params"]}
    assert names | {*INSIDE} == {n for n, _ in model.named_parameters()}
    optimizer = ao.torch.Muon([inside, rest], lr=0.02)
    model(torch.tensor([[1, 2, 3]])).square().mean().backward()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    for n, p in model.named_parameters():
        assert ("adam_velocity" in optimizer.state[p] or "velocity" in optimizer.state[p]) is (
            n not in INSIDE
        )
        if n == "last.weight":
            # Adam's first step is the rate, whatever the gradient.
            moved = (p - before[n]).abs()[p.grad.abs() > 1e-3]
            assert len(moved)
            torch.testing.assert_close(moved, torch.full_like(moved, 0.05), rtol=1e-2, atol=0)
    assert inside["split"] == (
        ("blocks.0.attention.in_proj_weight", 3),
        ("blocks.1.attention.in_proj_weight", 3),
    )


def test_patterns_decide_first() -> None:
    """Both ways."""
    inside, rest = ao.muon_groups(Model(False), adam=["*.mlp.*"], muon=["lm_head.*"])
    assert "lm_head.weight" in dict(inside["params"])
    assert "blocks.0.mlp.weight" in dict(rest["params"])
    with pytest.raises(TypeError, match=r"ao\.torch\.Muon steps the rest by Adam"):
        ao.muon_groups(Model(False), ao.AdamW())


def test_a_plain_network() -> None:
    """The last layer of the model itself is its head; a single layer is stepped by Muon."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    inside, rest = ao.muon_groups(model)
    assert [n for n, _ in inside["params"]] == ["0.weight"]
    assert {n for n, _ in rest["params"]} == {"0.bias", "2.weight", "2.bias"}
    single = ao.muon_groups(torch.nn.Linear(3, 4, bias=False))
    assert [[n for n, _ in group["params"]] for group in single] == [["weight"]]
