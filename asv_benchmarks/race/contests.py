"""The table of contests: which peers run, on which shapes."""

from __future__ import annotations

from .peer import Contest, Peer
from .shapes import ROWS, SHAPES

OURS = Peer("ours", "this library, NumPy arrays", "ours")
LIMIT = Peer("limit", "limit", "limit")
TENSORS = Peer("ours-torch", "this library, torch tensors", "ours", "torch", ("torch",))
FUSED = Peer("torch-fused", "torch, fused", "torch_forms", "fused", ("torch",))
FOREACH = Peer("torch-foreach", "torch, foreach", "torch_forms", "foreach", ("torch",), memory=2.0)
LOOP = Peer("torch-loop", "torch, for-loop", "torch_forms", "loop", ("torch",), memory=1.5)
DEEPSPEED = Peer(
    "deepspeed",
    "DeepSpeedCPUAdam",
    "deepspeed_forms",
    needs=("torch", "deepspeed"),
    environment={"DS_ACCELERATOR": "cpu"},
)
OPTAX = Peer("optax", "optax, jax.jit, donated", "optax_forms", "", ("jax", "optax"), memory=2.0)
KERAS_JAX = Peer(
    "keras-jax",
    "Keras 3 on jax, jitted, donated",
    "keras_forms",
    needs=("keras", "jax"),
    environment={"KERAS_BACKEND": "jax"},
    memory=2.0,
)
KERAS_TORCH = Peer(
    "keras-torch",
    "Keras 3 on torch",
    "keras_forms",
    needs=("keras", "torch"),
    environment={"KERAS_BACKEND": "torch"},
    memory=2.0,
)
THINC = Peer("thinc", "Thinc", "thinc_forms", needs=("thinc",), memory=1.5)
NUMPY = Peer("numpy", "plain NumPy", "numpy_forms", memory=1.5)

ADAM = (
    *(OURS, TENSORS, LIMIT, FUSED, DEEPSPEED, OPTAX, KERAS_JAX),
    *(FOREACH, LOOP, NUMPY, THINC, KERAS_TORCH),
)
# Those that torch has fused, and those that it has not.
SOME = (OURS, LIMIT, FUSED, FOREACH)
OTHER = (OURS, LIMIT, FOREACH, LOOP)
# Those that torch has not.
ALONE = (OURS, LIMIT)
# Those of whole matrices, which torch has in no fused form.
WHOLE = (OURS, TENSORS, LIMIT, FOREACH, LOOP)
COMPOSITE = (
    OURS,
    TENSORS,
    LIMIT,
    Peer(
        "torch-lerp",
        "torch: `clip_grad_norm_`, AdamW fused, `_foreach_lerp_`",
        "torch_forms",
        "lerp",
        ("torch",),
        memory=1.3,
    ),
    Peer(
        "torch-averaged",
        "torch: `clip_grad_norm_`, AdamW fused, `AveragedModel`",
        "torch_forms",
        "averaged",
        ("torch",),
        memory=1.3,
    ),
    Peer(
        "torch-scaled",
        "torch: norm as `grad_scale` of AdamW fused, `_foreach_lerp_`",
        "torch_forms",
        "scaled",
        ("torch",),
        memory=1.3,
    ),
)
STATE = (
    Peer("ours", "this library, state in float32", "ours"),
    Peer("ours-bfloat16", "this library, state in bfloat16", "ours", "bfloat16"),
    Peer("ours-int8", "this library, state in int8", "ours", "int8"),
    LIMIT,
)

SPARSE = (
    OURS,
    TENSORS,
    Peer("torch-sparse", "torch, SparseAdam", "torch_forms", "sparse", ("torch",)),
    Peer("ours-exact", "this library, all rows stepped", "ours", "exact", memory=1.4),
)
SHARE = ROWS / SHAPES["S7"][1][0][0]

# Bytes per element: parameters and slots are read and written, gradients read.
CONTESTS: dict[str, list[Contest]] = {
    "adam": [Contest("Adam", "adam", name, ADAM, 28, 16) for name in SHAPES if name != "S7"],
    "others": [
        Contest("SGD with momentum", "sgd", "S3", SOME, 20, 12),
        Contest("SGD with Nesterov's momentum", "nesterov", "S3", SOME, 20, 12),
        Contest("RMSprop", "rmsprop", "S3", OTHER, 20, 12),
        Contest("Adagrad", "adagrad", "S3", SOME, 20, 12),
        Contest("Adadelta", "adadelta", "S3", OTHER, 28, 16),
        Contest("Adamax", "adamax", "S3", OTHER, 28, 16),
        Contest("Nadam", "nadam", "S3", OTHER, 28, 16),
        Contest("ASGD", "asgd", "S3", OTHER, 20, 12),
        Contest("Rprop", "rprop", "S3", OTHER, 28, 16),
        Contest("FTRL-Proximal", "ftrl", "S3", ALONE, 28, 16),
        Contest("Schedule-free SGD", "schedule-free-sgd", "S3", ALONE, 20, 12),
        Contest("Schedule-free AdamW", "schedule-free-adamw", "S3", ALONE, 28, 16),
        Contest("AdamW", "adamw", "S3", SOME, 28, 16),
        Contest("NadamW", "nadamw", "S3", OTHER, 28, 16),
        Contest("RAdam", "radam", "S3", OTHER, 28, 16),
        Contest("AdaBelief", "adabelief", "S3", ALONE, 28, 16),
        Contest("Yogi", "yogi", "S3", ALONE, 28, 16),
        Contest("Adan", "adan", "S3", ALONE, 44, 24),
        Contest("AdEMAMix", "ademamix", "S3", ALONE, 36, 20),
        Contest("ADOPT", "adopt", "S3", ALONE, 28, 16),
        Contest("Lion", "lion", "S3", ALONE, 20, 12),
        Contest("Signum", "signum", "S3", ALONE, 20, 12),
    ],
    # Bytes are those of arrays that are no matrices: what counts there is arithmetic.
    "matrices": [
        Contest("Muon", "muon", "S6", WHOLE, 28, 16),
        Contest("Adafactor", "adafactor", "S6", WHOLE, 20, 12),
    ],
    # Clipping by the norm has to read the gradients once more.
    "composite": [
        Contest("Adam, clipped, decayed and averaged", "composite", "S5", COMPOSITE, 40, 20)
    ],
    # What a step of the rows has to move, spread over all of the table.
    "sparse": [Contest("Adam, sparse gradients", "sparse-adam", "S7", SPARSE, 28 * SHARE, 12)],
    "state": [Contest("Adam, state in fewer bits", "adam", "S5", STATE, 28, 16)],
}


def peers() -> list[str]:
    """Return the names of all that can be left out."""
    found = [p.name for rows in CONTESTS.values() for c in rows for p in c.peers]
    return [name for name in dict.fromkeys(found) if name not in ("ours", "limit")]
