"""The sensor on new uploads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from fl_assets.coordinator.chain import CHAIN
from fl_assets.defs.common import COORDINATOR
from fl_assets.defs.outside import seen
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform
from fl_assets.defs.runs import hospitals_under_way
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.coordinator.arrivals import Look, Past, Request

HOSPITAL_TAG = "fl/hospital"
STATE_TAG = "fl/uploads_state"
UPLOADS_TAG = "fl/uploads"
# Of a tick, which Dagster ends after 60 s; what is left over comes first at the next one.
TICK_SECONDS = 20.0
# With a queue: all hospitals are looked at so often all the same, for messages can get lost.
SAFETY_SECONDS = 600.0


def upload_sensor(seconds: int) -> dg.SensorDefinition:
    """Return the sensor that looks for new uploads every so many seconds."""

    @dg.sensor(
        name="hospital_uploads_arrived",
        target=dg.AssetSelection.assets(*CHAIN),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        owners=COORDINATOR,
        description="Collects a hospital's records when its incoming/ holds something else than "
        "was read last: one run per hospital. Told by SQS messages where there is a queue. Makes "
        "known to Dagster what a hospital has made without it.",
    )
    def hospital_uploads_arrived(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            settings = platform.settings
            names = settings.consortium.hospital_names
        except FlAssetsError as error:
            return dg.SkipReason(f"nobody was looked at: {error}")
        return _look_around(context, settings, names)

    return hospital_uploads_arrived


def _look_around(
    context: dg.SensorEvaluationContext, settings: Settings, names: list[str]
) -> dg.SensorResult:
    from fl_assets.coordinator.arrivals import Cursor, judge, look
    from fl_assets.coordinator.polling import poll

    instance, now = context.instance, datetime.now(UTC)

    def ask(name: str) -> Look:
        return look(settings.listing_store(name), partial(seen, instance, hospital=name), now)

    told, every, messages = _told(context, settings)
    cursor = Cursor.parse(context.cursor).turn(names, told, now, every)
    # Also before the look: a run that ends meanwhile has changed what the look has seen.
    under_way = hospitals_under_way(instance)
    polled = poll(cursor.due, ask, TICK_SECONDS)
    under_way |= hospitals_under_way(instance)
    found = judge(cursor, polled, _past(instance, under_way), datetime.now(UTC))
    for name, note in found.notes.items():
        context.log.warning(f"{name} {note}")
    for request in found.requests:
        context.log.info(f"{request.hospital}: {', '.join(request.about)}")
    absent = set(names) - set(instance.get_dynamic_partitions("hospital"))
    waiting = [f"{name} {note}" for name, note in found.notes.items()]
    if polled.not_asked:
        waiting.append(f"{len(polled.not_asked)} hospitals have their turn at the next look")
    return dg.SensorResult(
        run_requests=[_run_request(request) for request in found.requests],
        # A tick that starts a run can have no message; the log has it all the same.
        skip_reason=None
        if found.requests
        else dg.SkipReason("; ".join([*messages, *waiting]) or "no new uploads"),
        cursor=found.cursor.model_dump_json(),
        # One that joined a moment ago, before the roster sensor has seen it.
        dynamic_partitions_requests=[HOSPITALS.build_add_request(sorted(absent))] if absent else [],
    )


def _told(
    context: dg.SensorEvaluationContext, settings: Settings
) -> tuple[list[str], float, list[str]]:
    """Hospitals that messages name, the seconds between looks at all, and what to tell people."""
    if settings.upload_queue is None:
        return [], 0.0, []
    from fl_assets.coordinator.notices import hospitals_of
    from fl_assets.storage.queue import UploadQueue

    try:
        queue = UploadQueue(settings.upload_queue)
        notices = queue.receive()
        # Before the tick is recorded. If it never is, the look at all hospitals finds the uploads.
        queue.delete(notices)
    except FlAssetsError as error:
        context.log.warning(f"all hospitals are looked at, for the queue cannot be read: {error}")
        return [], 0.0, [f"the queue cannot be read: {error}"]
    uris = {name: settings.site_uri(name) for name in settings.consortium.hospital_names}
    return hospitals_of(notices, uris), SAFETY_SECONDS, []


def _past(instance: dg.DagsterInstance, under_way: set[str]) -> Callable[[str, str], Past]:
    from fl_assets.coordinator.arrivals import Past

    def past(hospital: str, state: str) -> Past:
        tags = {HOSPITAL_TAG: hospital, STATE_TAG: state}
        ended = [
            datetime.fromtimestamp(record.end_time or 0, UTC)
            for record in instance.get_run_records(dg.RunsFilter(tags=tags))
            if record.dagster_run.is_finished
        ]
        return Past(hospital in under_way, tuple(ended))

    return past


def _run_request(request: Request) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=request.key,
        partition_key=request.hospital,
        asset_selection=[dg.AssetKey(request.asset)],
        tags={
            HOSPITAL_TAG: request.hospital,
            STATE_TAG: request.state,
            UPLOADS_TAG: ", ".join(request.about)[:200],
        },
    )
