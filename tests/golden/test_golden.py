"""Every recorded case of Keras 2.0.9 and natural_bm, on every backend and engine."""

from __future__ import annotations

import pytest

import arrayoptim as ao
from backends import TestBackend
from golden_cases import GOLDEN, replay


@pytest.mark.parametrize(
    "case_id",
    [
        pytest.param(row["id"], id=f"{row['id']}-{row['class_name']}")
        for row in GOLDEN.index["cases"]
    ],
)
def test_case(case_id: str, backend: TestBackend, engine: str) -> None:
    """Parameters, weights and scalars agree at every recorded step."""
    with ao.engine(engine):
        replay(GOLDEN.case(case_id), backend)
