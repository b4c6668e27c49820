"""Checks of the stores, as whoever runs them: what may be done, and what must be denied."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from fl_assets.doctor.checks import Check, NotCheckedError, ProblemError
from fl_assets.settings import Settings
from fl_assets.site.partitions import MANIFEST, load_manifest
from fl_assets.storage import Access, ObjectExistsError, ObjectNotFoundError, SiteStore
from fl_assets.storage.probing import Answer, ask_for

KUBERNETES = "kubernetes"
"""The runtime whose processes each have the rights of one place alone."""

_PROBE = b"fla doctor"
_OPEN = (
    "Give every identity its own policy of fl_assets.storage.policies alone (terraform/ does), and "
    "take away what is broader."
)


def coordinator_checks(settings: Settings) -> Iterator[Check]:
    """Return what has to be right where the coordinator runs.

    Where hospitals have a role of their own, or pods of their own, it must not get at a row; where
    their code runs in the coordinator's process, this must be able to act for them.
    """
    yield Check(
        "coordinator's store",
        partial(_conditional_writes, settings),
        "Set FLA_COORDINATOR to a store that this process may write to and delete from, on a "
        "server with conditional writes.",
    )
    whole = settings.whole_consortium
    for name in whole.hospital_names:
        in_pods = settings.runtime == KUBERNETES
        if not in_pods:
            yield _own_store_check(settings, name)
        if _on_s3(settings, name) and (in_pods or whole.role_of(name) is not None):
            yield Check(
                f"rows of {name} are closed to the coordinator",
                partial(_rows_are_closed, settings, name),
                _OPEN,
            )


def hospital_checks(settings: Settings, hospital: str) -> Iterator[Check]:
    """Return what has to be right where a hospital runs: its own store works, others are closed."""
    yield _own_store_check(settings, hospital)
    for other in settings.whole_consortium.hospital_names:
        if other != hospital:
            yield Check(
                f"store of {other} is closed to {hospital}",
                partial(_other_is_closed, settings, hospital, other),
                _OPEN,
            )


def _own_store_check(settings: Settings, hospital: str) -> Check:
    return Check(
        f"store of {hospital}",
        partial(_round_trip, settings, hospital),
        "Correct bucket, role or credentials of this hospital; its code needs the rights of "
        "fl_assets.storage.policies.hospital_policy, in a bucket that keeps versions.",
    )


def _conditional_writes(settings: Settings) -> str:
    store = settings.coordinator_store()
    with _probe(store) as key:
        try:
            store.put_if_absent(key, b"another")
        except ObjectExistsError:
            return f"{store.uri} can be written to, and keeps what is there if told to"
        raise ProblemError(f"{store.uri} takes no notice of If-None-Match and overwrites")


def _round_trip(settings: Settings, hospital: str) -> str:
    store = settings.site_store(hospital)
    with _probe(store) as key:
        if store.get(key) != _PROBE:
            raise ProblemError(f"{store.uri} returned something else than was put there")
        store.delete(key)
        if store.exists(key) or not store.versions(key):
            raise ProblemError(f"{store.uri} does not keep the versions of what is deleted")
    return f"{store.uri}: put, read, deleted, versions kept; {_dealt(store)}"


def _dealt(store: SiteStore) -> str:
    try:
        store.get(MANIFEST)
    except ObjectNotFoundError:
        return "no partitions yet"
    return "the manifest of its partitions read"


@contextmanager
def _probe(store: SiteStore) -> Iterator[str]:
    """Put an object that is gone for good afterwards."""
    key = f"doctor/{uuid.uuid4().hex}"
    store.put_if_absent(key, _PROBE)
    try:
        yield key
    finally:
        store.purge(key)


def _rows_are_closed(settings: Settings, hospital: str) -> str:
    key = _some_rows(settings.listing_store(hospital))
    if key is None:
        raise NotCheckedError("there are no rows yet that could be asked for")
    access = Access(region=settings.whole_consortium.region)
    if ask_for(settings.site_uri(hospital), key, access) != Answer.DENIED:
        raise ProblemError(f"this process may read patients' rows at {hospital}")
    return "a request for rows was denied, as it must be"


def _some_rows(store: SiteStore) -> str | None:
    uploads = store.list("incoming/")
    if uploads:
        return uploads[0].key
    try:
        return load_manifest(store).files["train"].key
    except ObjectNotFoundError:
        return None


def _other_is_closed(settings: Settings, hospital: str, other: str) -> str:
    if not _on_s3(settings, other):
        raise NotCheckedError("a folder has the rights of the operating system alone")
    answer = ask_for(settings.site_uri(other), MANIFEST, settings.site_access(hospital))
    if answer == Answer.GIVEN:
        raise ProblemError(f"{hospital} may read what is {other}'s")
    if answer == Answer.ABSENT:
        raise ProblemError(f"{hospital} may see which objects {other} has")
    return f"a request for {MANIFEST} was denied, as it must be"


def _on_s3(settings: Settings, hospital: str) -> bool:
    return settings.site_uri(hospital).startswith("s3://")
