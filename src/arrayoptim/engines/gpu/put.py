"""The source of a kernel that writes numbers which are its own arguments.

A CUDA graph replays its launches with the arguments of the capture. So it needs nothing from the
host: neither a copy out of host memory nor a call before a replay.
"""

from __future__ import annotations

from .program import Program

__all__ = ["MOST_PUT", "PUT"]

MOST_PUT = 448
"""Most numbers that one launch writes; a kernel takes at most 4096 bytes of arguments."""

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
