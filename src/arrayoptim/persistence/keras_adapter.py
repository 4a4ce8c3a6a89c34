"""The variables of `arrayoptim.keras` optimizers in Keras files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config.registry import lookup
from .weight_lists import Layout

ELSEWHERE = frozenset({"constraint", "ema_momentum", "exclude", "groups", "offload"})
"""Settings without variables, or handled by Keras; patterns would need the model's paths."""


def order(class_name: str, config: Mapping[str, Any], half: bool) -> tuple[list[str], Layout]:
    """Return the scalar names and the slot order of a new optimizer.

    Parameters
    ----------
    class_name : str
        The class name in this library.
    config : mapping
        From ``get_config`` of the Keras class.
    half : bool
        Whether the model's variables have a 16-bit dtype.

    Raises
    ------
    ValueError
        If the class is unknown, or its slots differ between variables.
    """
    cls = lookup(class_name)
    known = set(cls.hyperparameters) - ELSEWHERE
    optimizer = cls.from_config({name: v for name, v in config.items() if name in known})
    params = [np.zeros(shape, "float16" if half else "float32") for shape in ((3, 2), (2,))]
    state = optimizer.init_state(params)
    shapes = [[getattr(x, "shape", None) for x in column] for column in state["slots"].values()]
    own = any(group.get("optimizer") for group in config.get("groups", ()))
    if own or any(row != [p.shape for p in params] for row in shapes):
        raise ValueError(
            f"found the state of {class_name} of arrayoptim.keras, whose slots are not all alike, "
            "so that their order in the file does not tell them apart; keras.models.load_model "
            "loads it"
        )
    counts = ["skipped"] * (optimizer.nonfinite == "skip")
    return [*state["scalars"], *counts], Layout((), tuple(state["slots"]))
