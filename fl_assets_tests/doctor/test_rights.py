"""What the doctor asks of the coordinator's account is what the chart grants it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fl_assets.doctor.rights import IN_HOSPITAL, IN_TRAINING, REFUSED, REFUSED_IN_HOSPITAL, Rights
from fl_assets_tests.conftest import REPOSITORY

RULES = REPOSITORY / "charts" / "fl-consortium" / "files" / "rbac.yaml"


def granted(rules: list[dict[str, Any]]) -> Rights:
    return frozenset(
        (
            verb,
            f"{group}/{resource}".lstrip("/")
            if "/" not in resource
            else resource.replace("/", ":"),
        )
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


@pytest.mark.parametrize(
    ("part", "allowed", "refused"),
    [("training", IN_TRAINING, REFUSED), ("hospital", IN_HOSPITAL, REFUSED_IN_HOSPITAL)],
)
def test_the_chart_grants_exactly_what_is_asked_for(
    part: str, allowed: Rights, refused: Rights
) -> None:
    found = granted(yaml.safe_load(RULES.read_text())[part])

    assert found == allowed
    assert not found & refused
