from __future__ import annotations

import dagster as dg
import pytest

from fl_assets.defs.federation import TrainingConfig, federation_assets
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings


def test_one_run_may_ask_for_another_runtime(world: Settings) -> None:
    """As in the launchpad of the UI; a name that is none shows that it was taken from there."""
    recipes = dg.StaticPartitionsDefinition(["small-lr"])
    assets = {a.key.to_user_string(): a for a in federation_assets(world, recipes)}
    with pytest.raises(dg.Failure) as failure:
        assets["federated_model"](
            dg.build_asset_context(partition_key="small-lr"),
            config=TrainingConfig(runtime="cloud"),
            platform=Platform.of(world),
        )
    assert "no runtime is named 'cloud'" in str(failure.value.description)
