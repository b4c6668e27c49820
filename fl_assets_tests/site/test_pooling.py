from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.consortium import Consortium
from fl_assets.site.partitions import write_partitions
from fl_assets.site.pooling import NotSimulatedError, pooled
from fl_assets.storage import FolderStore


def consortium(simulated: bool) -> Consortium:
    return Consortium.model_validate(
        {
            "name": "test",
            "cohort": "stroke",
            "simulated": simulated,
            "split": {"salt": "test-salt"},
            "hospitals": [{"name": "a"}, {"name": "b"}],
        }
    )


def test_the_rows_of_one_part_by_name_of_hospital(
    tmp_path: Path, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    parts = np.array(["train"] * 8 + ["test"] * 2)
    stores = {}
    for name, first in (("b", 0), ("a", 10)):
        stores[name] = FolderStore(tmp_path / name)
        write_partitions(stores[name], patients[first : first + 10], parts, stroke, "none")
    train = pooled(consortium(True), stores, "train")
    expected = pd.concat([patients[10:18], patients[0:8]], ignore_index=True)
    pd.testing.assert_frame_equal(train, expected)
    assert pooled(consortium(True), stores, "test")["id"].tolist() == (
        patients["id"][[18, 19, 8, 9]].tolist()
    )
    assert pooled(consortium(True), stores, "validation").empty


class Untouchable:
    """A store that must not be used."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"somebody asked a real hospital's store for {name}")


def test_real_hospitals_are_not_pooled() -> None:
    stores: Any = {"a": Untouchable(), "b": Untouchable()}
    with pytest.raises(NotSimulatedError, match="rows stay at their hospitals"):
        pooled(consortium(False), stores, "train")
