from __future__ import annotations

import dagster as dg

from fl_assets.definitions import build
from fl_assets.settings import Settings


def test_one_run_may_ask_for_another_runtime(world: Settings) -> None:
    """As in the launchpad of the UI; a name that is none shows that it was taken from there."""
    job = build(world).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey("federated_model")],
        partition_key="small-lr",
        run_config={
            "ops": {"federated_model": {"config": {"runtime": "cloud"}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            "execution": {"config": {"retries": {"disabled": {}}}},
        },
        raise_on_error=False,
    )
    failures = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    assert "no runtime is named 'cloud'" in str(failures[0].user_failure_data)
