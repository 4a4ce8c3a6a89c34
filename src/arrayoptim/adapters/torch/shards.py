"""Tensors that are sharded over processes: their local parts, and norms over all parts."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

from ..._typing import Scalar
from ...gradients import global_norm

Tensor = Any


_PLAIN = {torch.nn.Parameter, torch.Tensor, type(None)}


def all_plain(tensors: Sequence[Tensor | None]) -> bool:
    """Return whether all tensors are of torch's own types, which are never sharded."""
    return {*map(type, tensors)} <= _PLAIN


def is_shared_out(x: Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    # Such tensors exist only where that package is imported already; its import is slow.
    package = sys.modules.get("torch.distributed.tensor")
    return package is not None and isinstance(x, package.DTensor)


def local(x: Tensor) -> Tensor:
    """Return the local part of a tensor, in the same memory."""
    if not is_shared_out(x):
        return x
    part = x.to_local()
    return part.wait() if hasattr(part, "wait") else part


def shared_out(part: Tensor, like: Tensor) -> Tensor:
    """Return a local part as a tensor sharded like another one, in the same memory."""
    if not is_shared_out(like):
        return part
    package: Any = sys.modules["torch.distributed.tensor"]
    if part.shape != local(like).shape:  # of a whole parameter: parts of one have no such slots
        return package.DTensor.from_local(part, like.device_mesh, like.placements, run_check=False)
    return package.DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def refuse_misplaced(gradient: Tensor, param: Tensor, path: str) -> None:
    """Refuse a gradient that is not sharded like its parameter.

    Raises
    ------
    ValueError
        If it is.
    """
    if is_shared_out(gradient) != is_shared_out(param) or (
        is_shared_out(param)
        and (gradient.placements, gradient.device_mesh) != (param.placements, param.device_mesh)
    ):
        found, wanted = (getattr(x, "placements", "no placements") for x in (gradient, param))
        raise ValueError(
            f"gradient of parameter {path!r}: found {found}, wanted {wanted}, which its parameter "
            "has; redistribute it first"
        )


def norm_over_all(params: Sequence[Tensor], grads: Sequence[Any], squares: Any) -> Scalar:
    """Return the norm of gradients, including the parts that other processes hold.

    Parameters
    ----------
    params : sequence of torch.Tensor
        The parameters, which say how gradients are distributed.
    grads : sequence of torch.Tensor or None
        What this process holds of their gradients.
    squares : mapping of int to float
        Sums of squares that are known already, by the gradient's place.

    Returns
    -------
    float
        The same on all processes.
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
        total += norm * norm if key is None else _summed(norm * norm, *key)
    return math.sqrt(total)


def _summed(value: float, mesh: Any, placements: Sequence[Any]) -> float:
    """Add up numbers of all processes of a mesh that hold different parts."""
    held = torch.tensor(value, dtype=torch.float64, device=mesh.device_type)
    for dimension, placement in enumerate(placements):
        if not placement.is_replicate():
            torch.distributed.all_reduce(held, group=mesh.get_group(dimension))
    return float(held)
