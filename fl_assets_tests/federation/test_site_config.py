from __future__ import annotations

import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.federation.job import FederationJob
from fl_assets.federation.site_config import SiteConfig
from fl_assets.storage import Access
from fl_assets_tests.federation.conftest import MakeJob


@pytest.mark.parametrize("seed", [None, 7])
def test_a_config_survives_flowers_flat_form(seed: int | None) -> None:
    config = SiteConfig(
        hospital="a",
        store="s3://a",
        access=Access(role="arn:aws:iam::123456789012:role/a", session="fl-assets-a"),
        budget=PrivacyBudget(epsilon=2),
        noise_seed=seed,
    )
    node = config.to_node()
    assert SiteConfig.of_node(node) == config
    assert all(isinstance(value, str) for value in node.values())
    assert ("noise-seed" in node) == (seed is not None)


def test_a_node_without_a_budget_has_the_cap_and_allows_nothing_unprotected() -> None:
    budget = SiteConfig.of_node({"hospital": "a", "store": "file:///a"}).budget
    assert (budget.epsilon, budget.unprotected_runs) == (3.0, False)


def test_the_role_is_in_its_own_node_alone(make_job: MakeJob) -> None:
    access = Access(role="arn:aws:iam::123456789012:role/b", region="eu-central-1")
    job = make_job().model_copy(update={"access": {"hospital-b": access}})
    assert job.nodes()["hospital-b"].access == access
    assert job.nodes()["hospital-a"].access == Access()
    assert "123456789012" not in str(job.run_config())


def test_budget_and_noise_seed_are_in_nodes_alone(make_job: MakeJob) -> None:
    name = "hospital-b"
    job: FederationJob = make_job().model_copy(
        update={"budgets": {name: PrivacyBudget(epsilon=0.7654)}, "noise_seed": 918273}
    )
    assert job.nodes()[name].budget.epsilon == 0.7654
    assert job.nodes()["hospital-a"].budget == PrivacyBudget()
    sent = str(job.run_config())
    assert "0.7654" not in sent
    assert "918273" not in sent
