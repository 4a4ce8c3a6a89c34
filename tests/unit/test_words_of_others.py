"""What users of other libraries write, and the answer that they get."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import adapters
from arrayoptim.config import other_libraries

ROWS = [
    *other_libraries.ARGUMENTS,
    *other_libraries.METHODS,
    *other_libraries.NAMES,
    *other_libraries.RATES,
]


@pytest.mark.parametrize("row", other_libraries.ARGUMENTS, ids=lambda row: f"{row.word}-{row.of}")
def test_arguments(row: Any) -> None:
    cls = getattr(ao, row.of or "Adam")
    with pytest.raises(TypeError, match=re.escape(row.told(cls.__name__))):
        cls(**{row.word: 0.5})


@pytest.mark.parametrize("row", other_libraries.METHODS, ids=lambda row: row.word)
def test_methods(row: Any) -> None:
    for optimizer in (ao.Adam(), ao.Lookahead("adam")):
        with pytest.raises(AttributeError, match=re.escape(row.told("Adam"))):
            getattr(optimizer, row.word)
        assert not hasattr(optimizer, row.word)
    with pytest.raises(AttributeError, match="to set; what"):
        setattr(ao.Adam(), row.word, 1)


@pytest.mark.parametrize("row", other_libraries.NAMES, ids=lambda row: row.word)
def test_names(row: Any) -> None:
    with pytest.raises(AttributeError, match=re.escape(row.told(""))):
        getattr(ao, row.word)


@pytest.mark.parametrize("row", other_libraries.RATES, ids=lambda row: row.word)
def test_schedules(row: Any) -> None:
    for module in (ao, ao.schedules):
        with pytest.raises(AttributeError, match=re.escape(row.told(""))):
            getattr(module, row.word)


@pytest.mark.parametrize("module", adapters.installed())
def test_names_in_the_modules_of_frameworks(module: str) -> None:
    """They have the optimizers by the same names as the package, and say so."""
    place = adapters.adapter(module)
    for word in ("RMSProp", "ADAMw"):
        right = {"RMSProp": "RMSprop", "ADAMw": "AdamW"}[word]
        with pytest.raises(AttributeError, match=f"it is arrayoptim.{module}.{right}$"):
            getattr(place, word)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'.*Adam, .*SGD"):
        place.nothing  # noqa: B018


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


@pytest.mark.parametrize("library", sorted(other_libraries.PLAIN))
def test_a_module_for_arrays_that_need_none(library: str) -> None:
    assert library not in adapters.MODULES
    with pytest.raises(AttributeError, match=r"need no module of their own: arrayoptim\.Adam"):
        getattr(ao, library)


def test_a_misspelt_name() -> None:
    with pytest.raises(AttributeError, match="did you mean 'Optimizer'"):
        ao.Optimiser  # noqa: B018


def test_what_the_table_says_is_there() -> None:
    """Everything under ``arrayoptim`` that an answer names exists, in an adapter or outside."""
    for row in ROWS:
        for name in re.findall(r"arrayoptim\.([A-Za-z_]+)", row.here):
            assert name in adapters.MODULES or hasattr(ao, name), row
        for name in re.findall(r"\bschedules\.([A-Za-z_]+)", row.here):
            assert hasattr(ao.schedules, name), row
        assert row.word not in ao.Adam.hyperparameters


def test_misspelt_attributes_and_known_arguments() -> None:
    with pytest.raises(AttributeError, match="did you mean 'minimize'"):
        ao.Adam().minimise  # noqa: B018
    # Where the answer is known, it is not followed by all that there is besides.
    with pytest.raises(TypeError, match=r"beta_1 and beta_2, one argument each$"):
        ao.Adam(betas=(0.9, 0.99))
    with pytest.raises(TypeError, match="it takes lr, beta_1, "):
        ao.Adam(nothing=1)


class Model:
    """As models of torch and Keras are: callable, so that it would pass for a schedule."""

    def __call__(self, x: Any) -> Any:
        """Return the same."""
        return x

    def named_parameters(self) -> Any:
        """Return none."""
        return iter(())


def test_parameters_in_the_place_of_hyperparameters() -> None:
    w = np.zeros(2)
    for found in (iter([w]), [w], {"w": w}, [{"params": [w]}], w, Model()):
        with pytest.raises(TypeError, match=r"Adam: found parameters .*arrayoptim.torch.Adam\("):
            ao.Adam(found, lr=0.1)
    with pytest.raises(TypeError, match=r"LBFGS: found parameters .*such as memory=10"):
        ao.LBFGS(iter([w]))  # type: ignore[arg-type]
    assert ao.Adam(np.float32(0.5)).lr == 0.5
    assert ao.Adam(np.array(0.5)).lr == 0.5
