"""Privacy over real processes: the same bits as in process, the same refusal, killed sites."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.federation.deployment.local import Deployment
from fl_assets.federation.deployment.server import RunFailedError
from fl_assets.federation.job import FederationJob
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.privacy.ledger import Ledger
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets_tests.federation.absence import without_dropouts
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.deployment.processes import wait_for
from fl_assets_tests.federation.deployment.test_local import Background
from fl_assets_tests.world import settings_of

pytestmark = pytest.mark.services

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 1.0, "minimum_rows": 20, "sampling_rate": 0.5, "steps": 2},
    "rounds": 2,
    "secure_aggregation": {},
}


def job_over(
    world: Settings, make_job: MakeJob, run: str, epsilon: float, **recipe: Any
) -> FederationJob:
    job = make_job(run, settings=world, **PRIVATE | recipe)
    budgets = dict.fromkeys(job.sites, PrivacyBudget(epsilon=epsilon))
    return job.model_copy(update={"budgets": budgets, "noise_seed": 5})


def test_a_private_run_is_the_in_process_one_and_the_next_one_is_refused(
    shared_world: Settings, world: Settings, make_job: MakeJob, tmp_path: Path
) -> None:
    here = InProcessRuntime().run(job_over(world, make_job, "private", 1.2))
    job = job_over(shared_world, make_job, "private", 1.2)
    with Deployment(job.nodes(), work=tmp_path) as deployment:
        there = deployment.run(job)
        with pytest.raises(RunFailedError, match=r"asks 1\.00, lifetime would be 1\.\d\d of 1\.20"):
            deployment.run(job_over(shared_world, make_job, "once-more", 1.2))
    for name, weights in here.weights.items():
        np.testing.assert_array_equal(there.weights[name], weights)
    for name in shared_world.consortium.hospital_names:
        ledger = Ledger(shared_world.site_store(name), name)
        assert [entry.act.kind for entry in ledger.entries()] == ["reserve", "settle", "refuse"]
        told = there.history.final[name].privacy
        assert told is not None
        assert (told.noise, told.steps, told.cap) == ("predictable", 4, 1.2)


@pytest.mark.faults
def test_a_site_that_is_killed_and_started_again_makes_no_step_without_its_noise(
    world: Settings, make_job: MakeJob, tmp_path: Path
) -> None:
    """Equal bits say so: a step without its noise, or with another one, would lead elsewhere."""
    asked: dict[str, Any] = {
        "rounds": 12,
        "quorum": 2,
        "round_deadline": 120,
        "secure_aggregation": None,
    }
    shutil.copytree(world.home, tmp_path / "reference")
    job = job_over(world, make_job, "killed", 1.2, **asked)
    site, store = "hospital-b", world.site_store("hospital-b")

    def updates() -> list[str]:
        entries = EgressLog(store).entries()
        return [e.detail for e in entries if e.run == job.run and e.kind == "update"]

    with Deployment(job.nodes(), work=tmp_path / "deployment") as deployment:
        processes = {child.name: child.pid for child in deployment.processes}
        run = Background(deployment, job)
        try:
            wait_for(lambda: len(updates()) >= 2 or not run.running)
            assert run.running, run.error
            for half in ("node", "executor"):
                os.kill(processes[f"{site}-{half}"], signal.SIGKILL)
            wait_for(lambda: not any(c.name.startswith(site) for c in deployment.processes))
            # Else the run would be over before the site is back.
            os.kill(processes["hospital-a-executor"], signal.SIGSTOP)
            deployment.start_site(site)
        finally:
            os.kill(processes["hospital-a-executor"], signal.SIGCONT)
            run.join()

    assert run.result is not None, run.error
    history = run.result.history
    assert {name for report in history.rounds for name in report.dropouts} <= {site}
    assert site in history.rounds[-1].sites
    here = job_over(settings_of(tmp_path / "reference"), make_job, "killed", 1.2, **asked)
    reference = without_dropouts(here, history, run=here.run)
    for name, weights in reference.weights.items():
        np.testing.assert_array_equal(run.result.weights[name], weights)
    spent = Ledger(store, site).account(job.run)
    assert spent is not None
    assert spent.closed
    assert spent.spent[0].steps >= len(set(updates())) * job.recipe.privacy.steps  # type: ignore[union-attr]
