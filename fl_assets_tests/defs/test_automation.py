"""What follows new records by itself, hospital by hospital."""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData

from fl_assets.definitions import build
from fl_assets.defs.automation import REFRESHED, refresh_condition
from fl_assets.settings import Settings

HOSPITALS = dg.StaticPartitionsDefinition(["a", "b", "c"])
VERSIONS: dict[str, str] = {}


def _asset(name: str, deps: list[str]) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        deps=deps,
        partitions_def=HOSPITALS,
        automation_condition=refresh_condition() if deps else None,
    )
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        version = VERSIONS.get(context.partition_key, "1")
        if version == "broken":
            raise ValueError(version)
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    return made


DEFINITIONS = dg.Definitions(
    [
        _asset("records", []),
        _asset("partitions", ["records"]),
        _asset("profile", ["partitions"]),
        _asset("baseline", ["partitions"]),
    ]
)
FOLLOWING = {"partitions", "profile", "baseline"}


class Daemon:
    """Evaluates the conditions as Dagster's daemon does, and runs what they ask for."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: dg.AutomationConditionEvaluation | None = None

    def tick(self) -> set[tuple[str, str]]:
        """Return the assets that were asked for, with their hospital, and make them."""
        result = dg.evaluate_automation_conditions(DEFINITIONS, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        asked = {
            (name, hospital)
            for name in FOLLOWING
            for hospital in result.get_requested_partitions(dg.AssetKey(name))
            if hospital is not None
        }
        for hospital in sorted({hospital for _, hospital in asked}):
            self.make(hospital, *sorted(name for name, where in asked if where == hospital))
        return asked

    def make(self, hospital: str, *names: str, version: str | None = None) -> None:
        if version is not None:
            VERSIONS[hospital] = version
        DEFINITIONS.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(name) for name in names],
            partition_key=hospital,
            raise_on_error=False,
        )


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    VERSIONS.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


class RunOfOne:
    """A run that makes what follows a hospital's partitions at the times that a test says."""

    def __init__(self, instance: dg.DagsterInstance, hospital: str, *names: str) -> None:
        self.instance, self.hospital = instance, hospital
        job = DEFINITIONS.resolve_implicit_global_asset_job_def()
        self.run = instance.create_run_for_job(
            job_def=job,
            tags={"dagster/partition": hospital},
            status=dg.DagsterRunStatus.STARTED,
            asset_selection={dg.AssetKey(name) for name in names},
        )

    def read(self, name: str) -> dict[str, str]:
        """Return what a step records of the newest content that it has read."""
        wanted = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=[self.hospital])
        newest = self.instance.fetch_materializations(wanted, limit=1).records[0]
        return {f"dagster/input_event_pointer/{name}": str(newest.storage_id)}

    def make(self, name: str, version: str, read: dict[str, str]) -> None:
        tags = {"dagster/data_version": version, **read}
        made = dg.AssetMaterialization(name, partition=self.hospital, tags=tags)
        event = dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name="__ASSET_JOB",
            event_specific_data=StepMaterializationData(made),
        )
        self.instance.report_dagster_event(event, self.run.run_id)

    def end(self) -> None:
        event = dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name="__ASSET_JOB"
        )
        self.instance.report_dagster_event(event, self.run.run_id)


class Reads:
    """Lets something happen before one of the coming reads of an instance."""

    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.happens: Callable[[], None] | None = None
        for storage, name in (
            (instance.event_log_storage, "index_connection"),
            (instance.run_storage, "connect"),
        ):
            monkeypatch.setattr(storage, name, self._counted(getattr(storage, name)))

    def before(self, read: int, happens: Callable[[], None]) -> None:
        self.left, self.happens = read, happens

    def _counted(self, connect: Callable[[], Any]) -> Callable[[], Any]:
        def connected() -> Any:
            self.left -= 1
            if self.left == 0 and self.happens is not None:
                happens, self.happens = self.happens, None
                happens()
            return connect()

        return connected


def all_of(hospital: str) -> set[tuple[str, str]]:
    return {(name, hospital) for name in FOLLOWING}


def test_all_that_follows_is_asked_for_at_once_and_once(daemon: Daemon) -> None:
    assert daemon.tick() == set()
    daemon.make("a", "records")
    assert daemon.tick() == all_of("a")
    assert daemon.tick() == set()

    daemon.make("a", "records", version="2")
    daemon.make("b", "records")
    assert daemon.tick() == all_of("a") | all_of("b")
    assert daemon.tick() == set()


def test_records_that_were_there_before_the_daemon_are_not_forgotten(daemon: Daemon) -> None:
    daemon.make("a", "records")
    assert daemon.tick() | daemon.tick() == all_of("a")
    assert daemon.tick() == set()


def test_the_same_content_again_starts_nothing(daemon: Daemon) -> None:
    daemon.tick()
    daemon.make("a", "records")
    daemon.tick()
    daemon.make("a", "records")
    assert daemon.tick() == set()


def test_a_run_that_made_everything_itself_is_not_followed(daemon: Daemon) -> None:
    daemon.tick()
    daemon.make("a", "records", *FOLLOWING)
    assert daemon.tick() == set()


def test_what_is_made_while_a_tick_looks_is_not_made_again(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.make("a", "records", *FOLLOWING)
    assert daemon.tick() == set()
    reads = Reads(daemon.instance, monkeypatch)
    # One tick for each of its reads, before which a run makes the last that follows, and ends.
    for place in range(1, 1000):
        run, version = RunOfOne(daemon.instance, "a", "records", *FOLLOWING), f"v{place}"
        run.make("records", version, {})
        run.make("partitions", version, run.read("records"))
        run.make("baseline", version, run.read("partitions"))

        def finish(run: RunOfOne = run, version: str = version) -> None:
            run.make("profile", version, run.read("partitions"))
            run.end()

        reads.before(place, finish)
        assert daemon.tick() == set(), place
        if reads.happens:
            break
        assert daemon.tick() == set(), place
    assert place > 5


def test_what_changes_while_a_run_follows_is_followed_after_it(daemon: Daemon) -> None:
    daemon.make("a", "records", *FOLLOWING)
    run = RunOfOne(daemon.instance, "a", *FOLLOWING)
    records = run.read("records")
    daemon.make("a", "records", version="2")
    assert daemon.tick() == set()
    run.make("partitions", "1", records)
    for name in ("profile", "baseline"):
        run.make(name, "1", run.read("partitions"))
    run.end()
    assert daemon.tick() == all_of("a")
    assert daemon.tick() == set()


def test_a_hospital_that_breaks_is_tried_once_and_holds_up_no_other(daemon: Daemon) -> None:
    daemon.tick()
    daemon.make("a", "records")
    VERSIONS["a"] = "broken"
    assert daemon.tick() == all_of("a")
    daemon.make("b", "records")
    assert daemon.tick() == all_of("b")
    assert daemon.tick() == set()

    daemon.make("a", "records", version="2")
    assert daemon.tick() == all_of("a")


def test_the_real_assets_follow_and_the_ledger_and_the_models_do_not(world: Settings) -> None:
    graph = build(world).resolve_asset_graph()
    automatic = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition is not None
    }
    assert automatic == set(REFRESHED)
