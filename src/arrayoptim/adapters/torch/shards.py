"""Tensors that are sharded over processes: local shards, and norms over all shards."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

from ..._typing import Scalar
from ...gradients import global_norm

Tensor = Any


PLAIN = {torch.nn.Parameter, torch.Tensor, type(None)}
"""Types of tensors that are never sharded."""


def all_plain(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether all tensors are of torch's own types, which are never sharded."""
    return {*map(type, tensors)} <= PLAIN


def is_shared_out(x: Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    # DTensors exist only if this package is already imported; importing it is slow.
    package = sys.modules.get("torch.distributed.tensor")
    return package is not None and isinstance(x, package.DTensor)


def local(x: Tensor) -> Tensor:
    """Return the local shard of a tensor, without a copy."""
    if not is_shared_out(x):
        return x
    part = x.to_local()
    return part.wait() if hasattr(part, "wait") else part


def shared_out(part: Tensor, like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a local shard as a tensor sharded like another one, without a copy.

    Parameters
    ----------
    part : torch.Tensor
        The local shard.
    like : torch.Tensor
        A parameter.
    shape : sequence of int
        The full shape: that of the parameter, or another, see `placements_of`.
    """
    if not is_shared_out(like):
        return part
    package: Any = sys.modules["torch.distributed.tensor"]
    stride = torch.empty(tuple(shape), device="meta").stride()
    return package.DTensor.from_local(
        part,
        like.device_mesh,
        placements_of(like, shape),
        run_check=False,
        shape=torch.Size(shape),
        stride=like.stride() if tuple(shape) == tuple(like.shape) else stride,
    )


def placements_of(p: Tensor, shape: Sequence[int]) -> tuple[Any, ...]:
    """Return the placements of an array that belongs to a sharded parameter.

    They are those of the parameter if the shapes are equal; otherwise the array is sharded along
    its first axis over the same processes.
    """
    if tuple(shape) == tuple(p.shape):
        return tuple(p.placements)
    package: Any = sys.modules["torch.distributed.tensor"]
    return tuple(x if x.is_replicate() else package.Shard(0) for x in p.placements)


def in_parts(p: Tensor) -> bool:
    """Return whether this process may hold less than the whole of a parameter."""
    return is_shared_out(p) and not all(x.is_replicate() for x in p.placements)


def pieces(size: int, count: int) -> list[int]:
    """Return the number of rows of an axis that each process holds."""
    each = -(-size // count)
    return [max(0, min(each, size - k * each)) for k in range(count)]


def part_of(p: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the local shape of an array that belongs to a parameter, given its full shape."""
    if tuple(shape) == tuple(p.shape):
        return tuple(local(p).shape)
    here = list(shape)
    for dimension, placement in enumerate(placements_of(p, shape)):
        if not placement.is_replicate():
            mesh = p.device_mesh
            rank, count = mesh.get_local_rank(dimension), mesh.size(dimension)
            here[placement.dim] = pieces(here[placement.dim], count)[rank]
    return tuple(here)


def refuse_misplaced(gradient: Tensor, param: Tensor, path: str) -> None:
    """Refuse a gradient that is not sharded like its parameter.

    Raises
    ------
    ValueError
        If the gradient is sharded differently.
    """
    if is_shared_out(gradient) != is_shared_out(param) or (
        is_shared_out(param)
        and (gradient.placements, gradient.device_mesh) != (param.placements, param.device_mesh)
    ):
        found, wanted = (getattr(x, "placements", "no placements") for x in (gradient, param))
        raise ValueError(
            f"gradient of parameter {path!r}: found {found}, wanted {wanted}, like its parameter; "
            "redistribute it first"
        )


def norm_over_all(params: Sequence[Tensor], grads: Sequence[Any], squares: Any) -> Scalar:
    """Return the norm of gradients, including the shards on other processes.

    Parameters
    ----------
    params : sequence of torch.Tensor
        The parameters, which determine how gradients are sharded.
    grads : sequence of torch.Tensor or None
        The local shards of their gradients.
    squares : mapping of int to float
        Sums of squares that are already known, by the gradient's index.

    Returns
    -------
    float
        The norm, equal on all processes.
    """
    rows: dict[Any, list[int]] = {}
    for i, p in enumerate(params):
        key = (p.device_mesh, p.placements) if is_shared_out(p) else None
        rows.setdefault(key, []).append(i)
    if list(rows) == [None]:
        return global_norm(grads, squares)
    total = 0.0
    for key, places in rows.items():
        known = {k: squares[i] for k, i in enumerate(places) if i in squares}
        norm = float(global_norm([grads[i] for i in places], known))
        total += norm * norm if key is None else added([norm * norm], *key)[0]
    return math.sqrt(total)


def added(values: Sequence[float], mesh: Any, placements: Sequence[Any]) -> list[float]:
    """Sum values over the processes of a mesh that hold different shards."""
    held = torch.tensor(values, dtype=torch.float64, device=mesh.device_type)
    for dimension, placement in enumerate(placements):
        if not placement.is_replicate():
            torch.distributed.all_reduce(held, group=mesh.get_group(dimension))
    found: list[float] = held.tolist()
    return found
