"""The roster sensor keeps hospitals and partitions in step."""

from __future__ import annotations

import dataclasses

import dagster as dg
import yaml

from fl_assets.defs.partitions import sync_hospitals
from fl_assets.defs.resources import Platform
from fl_assets.defs.sensors import hospital_roster
from fl_assets.settings import Settings


def tick(world: Settings, instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"platform": Platform.of(world)})
    found = hospital_roster(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def test_a_hospital_that_joins_and_one_that_leaves(world: Settings) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        sync_hospitals(instance, world.consortium)
        assert isinstance(tick(world, instance), dg.SkipReason)

        config = yaml.safe_load(world.consortium_file.read_text())
        config["hospitals"] = [*config["hospitals"][1:], {"name": "hospital-new"}]
        world.consortium_file.write_text(yaml.safe_dump(config))

        found = tick(world, instance)
        assert isinstance(found, dg.SensorResult)
        asked = found.dynamic_partitions_requests or []
        assert {type(request).__name__: request.partition_keys for request in asked} == {
            "AddDynamicPartitionsRequest": ["hospital-new"],
            "DeleteDynamicPartitionsRequest": ["hospital-a"],
        }

        sync_hospitals(instance, dataclasses.replace(world).consortium)
        assert set(instance.get_dynamic_partitions("hospital")) == {
            "hospital-b",
            "hospital-c",
            "hospital-new",
        }


def test_an_unreadable_file_takes_no_hospital_away(world: Settings) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        sync_hospitals(instance, world.consortium)
        world.consortium_file.write_text("hospitals: [")

        found = tick(world, instance)

        assert isinstance(found, dg.SkipReason)
        assert "left as they are" in str(found.skip_message)
