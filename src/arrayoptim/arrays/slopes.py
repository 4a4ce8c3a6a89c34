"""Functions of torch's tensors with custom derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def with_slope(
    function: Callable[..., Any], slope: Callable[[Any, Any, Any], Any]
) -> Callable[..., Any]:
    """Return a function of tensors with a custom derivative, in forward and reverse mode.

    Parameters
    ----------
    function, slope : callable
        See `Backend.sloped`.
    """
    import torch

    class Sloped(torch.autograd.Function):  # type: ignore[misc]
        generate_vmap_rule = True

        @staticmethod
        def forward(*given: Any) -> Any:
            return function(*given)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.one = torch.is_tensor(output)
            kept = (*inputs, *((output,) if ctx.one else output))
            ctx.count = len(inputs)
            ctx.save_for_backward(*kept)
            ctx.save_for_forward(*kept)

        @staticmethod
        def backward(ctx: Any, *changes: Any) -> Any:
            given, made = _kept(ctx)
            start = tuple(map(torch.zeros_like, given))
            _, back = torch.func.vjp(lambda *moves: slope(given, made, moves), *start)
            return back(changes[0] if ctx.one else changes)

        @staticmethod
        def jvp(ctx: Any, *moves: Any) -> Any:
            given, made = _kept(ctx)
            pairs = zip(given, moves, strict=True)
            return slope(given, made, [torch.zeros_like(x) if m is None else m for x, m in pairs])

    def _kept(ctx: Any) -> tuple[Any, Any]:
        given, made = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        return given, made[0] if ctx.one else made

    applied: Callable[..., Any] = Sloped.apply
    return applied
