"""One deployment for the tests of a file, since it takes seconds to start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.federation.deployment.local import Deployment
from fl_assets.federation.site_config import SiteConfig
from fl_assets.settings import Settings
from fl_assets_tests.world import settings_of


@pytest.fixture(scope="module")
def shared_world(_pristine_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small consortium for the tests of a file; each uses a run of its own."""
    home = tmp_path_factory.mktemp("shared") / "world"
    shutil.copytree(_pristine_world, home)
    return settings_of(home)


@pytest.fixture(scope="module")
def deployment(
    shared_world: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of the consortium, with a secret in each hospital's environment."""
    names = shared_world.consortium.hospital_names
    with Deployment(
        {
            name: SiteConfig(
                hospital=name,
                store=shared_world.site_uri(name),
                budget=PrivacyBudget(unprotected_runs=True),
            )
            for name in names
        },
        {name: {"AWS_SECRET_ACCESS_KEY": f"secret of {name}"} for name in names},
        tmp_path_factory.mktemp("deployment"),
    ) as started:
        yield started
