from __future__ import annotations

import dataclasses
import json

import yaml

from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings


def test_every_setting_survives_dagsters_configuration(world: Settings) -> None:
    asked = dataclasses.replace(world, runtime="processes", metrics_port=9100, data="kaggle")
    for settings in (world, asked):
        platform = Platform.of(settings)
        assert Platform(values=json.loads(json.dumps(platform.values))).settings == settings


def test_a_run_sees_the_consortium_as_its_file_has_it_now(world: Settings) -> None:
    platform = Platform.of(world)
    assert platform.settings.consortium.name == "test-consortium"
    config = yaml.safe_load(world.consortium_file.read_text())
    world.consortium_file.write_text(yaml.safe_dump(config | {"name": "renamed"}))
    assert platform.settings.consortium.name == "renamed"
