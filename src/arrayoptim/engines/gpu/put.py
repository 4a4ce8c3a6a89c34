"""The source of a kernel that writes numbers which it has as arguments.

A CUDA graph repeats its launches with the arguments that they had, and needs nothing of the host:
neither a copy out of its memory nor a call before it is replayed.
"""

from __future__ import annotations

from .program import Program

__all__ = ["MOST_PUT", "PUT"]

MOST_PUT = 448
"""How many numbers one launch writes; a kernel takes at most 4096 bytes of arguments."""

_ARGUMENTS = "".join(f", whole v{k}" for k in range(MOST_PUT))
_STORES = "\n".join(f"            if (count > {k}) at[{k}] = v{k};" for k in range(MOST_PUT))
_BODY = f"""
namespace of_put {{
KERNEL put_numbers(whole *at, whole count{_ARGUMENTS}) {{
    EACH_THREAD(u) {{
        if (u == 0) {{
{_STORES}
        }}
    }}
}}
}}
"""
PUT = Program("put_numbers", _BODY)
