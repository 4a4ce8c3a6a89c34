"""Steps of a parameter group that a CUDA graph of torch's can hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from ...engines import captures, on_gpu
from .shards import Tensor
from .spelling import Spelling

NOT_ASKED = (
    "it has capturable=False. Make it with capturable=True, and take a step before the capture"
)

NOT_BEGUN = (
    "its state would be made anew by each replay. Take a step before the capture, on a side "
    "stream as for all that is captured"
)


def live_numbers(spelling: Spelling, group: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the hyperparameters of a group that are tensors on a GPU, by our names.

    A kernel reads them when a step is carried out; the host does not.
    """
    return {
        name: x
        for key, names in spelling.keys.items()
        for name, x in zip(names, _row(group[key], names), strict=False)
        if isinstance(x, torch.Tensor) and x.numel() == 1 and on_gpu(x)
    }


def with_known(
    spelling: Spelling,
    group: Mapping[str, Any],
    live: Collection[str],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a group with known numbers in the places of those that only the device knows."""
    found = dict(group)
    for key, names in spelling.keys.items():
        if any(name in live for name in names):
            pairs = zip(names, _row(group[key], names), strict=False)
            row = tuple(known[name] if name in live else x for name, x in pairs)
            found[key] = row if len(names) > 1 else row[0]
    return found


def _row(value: Any, names: Sequence[str]) -> Sequence[Any]:
    """Return what a key holds for each of its names."""
    return value if len(names) > 1 and isinstance(value, tuple | list) else (value,)


def refuse_unready(name: str, leaves: Sequence[Tensor], reason: str) -> None:
    """Raise a RuntimeError where a CUDA graph is being captured.

    Parameters
    ----------
    name : str
        The name of the optimizer.
    leaves : sequence of Tensor
        Parameters.
    reason : str
        What stands in the way.
    """
    if captures(leaves):
        raise RuntimeError(
            f"{name}: a CUDA graph is being captured, and this step cannot be put into it: {reason}"
        )
