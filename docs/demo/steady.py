"""Settings of other libraries under which the demo's runs can be compared."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Keep BLAS and torch to one thread, and JAX to whole float32 products, while the demo runs.

    Only libraries that have been imported are touched, and they get their settings back.
    """
    from threadpoolctl import threadpool_limits

    with contextlib.ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        torch = sys.modules.get("torch")
        if torch is not None:
            # Arrays as small as these take less time than threads take to meet.
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        jax = sys.modules.get("jax")
        if jax is not None:
            # On recent GPUs the default drops 13 bits of each factor.
            stack.enter_context(jax.default_matmul_precision("float32"))
        yield
