"""What users of other libraries write, and the answer that they get."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import adapters
from arrayoptim.config import elsewhere

ROWS = [*elsewhere.ARGUMENTS, *elsewhere.METHODS, *elsewhere.NAMES]


@pytest.mark.parametrize("row", elsewhere.ARGUMENTS, ids=lambda row: f"{row.word}-{row.of}")
def test_arguments(row: Any) -> None:
    cls = getattr(ao, row.of or "Adam")
    with pytest.raises(TypeError, match=re.escape(row.told(cls.__name__))):
        cls(**{row.word: 0.5})


@pytest.mark.parametrize("row", elsewhere.METHODS, ids=lambda row: row.word)
def test_methods(row: Any) -> None:
    for optimizer in (ao.Adam(), ao.Lookahead("adam")):
        with pytest.raises(AttributeError, match=re.escape(row.told("Adam"))):
            getattr(optimizer, row.word)
        assert not hasattr(optimizer, row.word)
    with pytest.raises(AttributeError, match="to set; what"):
        setattr(ao.Adam(), row.word, 1)


@pytest.mark.parametrize("row", elsewhere.NAMES, ids=lambda row: row.word)
def test_names(row: Any) -> None:
    with pytest.raises(AttributeError, match=re.escape(row.told(""))):
        getattr(ao, row.word)


@pytest.mark.parametrize(
    ("word", "here"),
    [
        ("adam", "arrayoptim.Adam"),
        ("RMSProp", "arrayoptim.RMSprop"),
        ("NAdam", "arrayoptim.Nadam"),
        ("CosineDecay", "arrayoptim.schedules.CosineDecay"),
        ("maxnorm", "arrayoptim.constraints.MaxNorm"),
    ],
)
def test_classes_in_other_capitals_and_places(word: str, here: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(f"; it is {here}")):
        getattr(ao, word)


def test_a_misspelt_name() -> None:
    with pytest.raises(AttributeError, match="did you mean 'Optimizer'"):
        ao.Optimiser  # noqa: B018


def test_what_the_table_says_is_there() -> None:
    """Everything under ``arrayoptim`` that an answer names exists, in an adapter or outside."""
    for row in ROWS:
        for name in re.findall(r"arrayoptim\.([A-Za-z_]+)", row.here):
            assert name in adapters.MODULES or hasattr(ao, name), row
        assert row.word not in ao.Adam.hyperparameters


def test_parameters_in_the_place_of_hyperparameters() -> None:
    w = np.zeros(2)
    for found in (iter([w]), [w], {"w": w}, [{"params": [w]}], w):
        with pytest.raises(TypeError, match=r"Adam: found parameters .*arrayoptim.torch.Adam\("):
            ao.Adam(found, lr=0.1)
    assert ao.Adam(np.float32(0.5)).lr == 0.5
    assert ao.Adam(np.array(0.5)).lr == 0.5
