"""Who may do what in whose bucket, asked of two servers that enforce it.

Neither is AWS. Moto knows no conditions and does not check the source of a copy; SeaweedFS takes
no condition on a principal. So each leaves out what the other has: moto AssumeRole and trust in a
principal, SeaweedFS web identities, signed tokens and conditions on prefixes. What both check are
actions and resources of the policies in :mod:`fl_assets.storage.policies`.
"""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import pytest

from fl_assets.storage import ObjectNotFoundError, SiteStore, multipart, open_store, policies
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.policies import hospital_policy, task_policy
from fl_assets.storage.s3_client import make_client
from fl_assets.storage.s3_errors import (
    CredentialsMissingError,
    CredentialsRefusedError,
    RoleRefusedError,
)
from fl_assets_tests.storage.hospitals import (
    COORDINATOR,
    NAMES,
    OBJECTS,
    ROWS,
    Hospitals,
    WebHospitals,
    bucket,
    give,
    role_arn,
    user_with,
)
from fl_assets_tests.storage.operations import (
    OPERATIONS,
    REQUESTS,
    allowed,
    granted,
    own_store,
)
from fl_assets_tests.storage.s3_servers import identity

pytestmark = pytest.mark.services

MIB = 2**20


@pytest.fixture(params=["moto", "seaweedfs"])
def hospitals(request: Any) -> Hospitals:
    if request.param == "moto":
        found: Hospitals = request.getfixturevalue("strict_moto")
        return found
    web: WebHospitals = request.getfixturevalue("web_hospitals")
    return web.consortium


def test_a_hospital_reaches_its_own_bucket_alone(hospitals: Hospitals) -> None:
    seen = {}
    for me in NAMES:
        with hospitals.acting(me) as settings:
            for other in NAMES:
                store = own_store(settings, me, other)
                for name, operation in OPERATIONS.items():
                    seen[me, other, name] = allowed(operation, store)
    assert seen == {(m, o, name): m == o for m in NAMES for o in NAMES for name in OPERATIONS}
    assert list(seen.values()).count(False) == len(NAMES) * (len(NAMES) - 1) * 4


def test_every_single_request_to_another_bucket_is_denied(hospitals: Hospitals) -> None:
    seen = {}
    for me in NAMES:
        with hospitals.acting(me) as settings:
            client = make_client(settings.site_access(me))
            for other in NAMES:
                for name, request in REQUESTS.items():
                    seen[me, other, name] = granted(
                        request, client, bucket(other), hospitals.prefix
                    )
    assert seen == {(m, o, name): m == o for m in NAMES for o in NAMES for name in REQUESTS}


def test_the_coordinator_sees_uploads_and_reads_manifests_and_no_row(
    hospitals: Hospitals,
) -> None:
    admin = hospitals.server.client("s3")
    with hospitals.acting(COORDINATOR) as settings:
        for name in NAMES:
            store = settings.listing_store(name)
            assert [info.key for info in store.list("incoming/")] == ["incoming/upload.csv"]
            assert {key: store.get(key) for key in OBJECTS} == OBJECTS
            for key in ROWS:
                found = admin.head_object(Bucket=bucket(name), Key=hospitals.prefix + key)
                for version in (None, found["VersionId"]):
                    assert not allowed(store.get, key, version)
                assert not allowed(store.put, key, b"")
                assert not allowed(store.delete, key)


def test_every_pattern_of_the_policies_is_tried() -> None:
    for patterns, keys in ((policies.ROWS, ROWS), (policies.MANIFESTS, OBJECTS)):
        for pattern in patterns:
            assert fnmatch.filter(keys, pattern), pattern


def test_the_coordinator_lists_nothing_but_uploads(web_hospitals: WebHospitals) -> None:
    with web_hospitals.consortium.acting(COORDINATOR) as settings:
        store = settings.listing_store(NAMES[0])
        for prefix in ("", "quarantine/", "keys/", "records/", "partitions/"):
            with pytest.raises(AccessDeniedError):
                store.list(prefix)
        # What is not there is absent and not denied.
        assert not store.exists("profile/2.json")
        with pytest.raises(ObjectNotFoundError):
            store.get("ledger/000009.json")


def exercise(store: SiteStore, file: Path, other: Path) -> None:
    """Use every request of a store."""
    old = store.put("egress/1", b"1")
    store.put("egress/1", b"2")
    store.put_if_absent("ledger/1", b"1")
    assert store.get("egress/1", old.version) == b"1"
    assert store.exists("egress/1")
    assert not store.exists("egress/9")
    assert len(store.versions("egress/1")) == 2
    store.delete("egress/1")
    assert store.purge("egress/1") == 2
    assert store.purge("ledger/1") == 1

    def break_off(_: int) -> None:
        raise InterruptedError

    for path in (file, other):
        with pytest.raises(InterruptedError):
            store.put_file("incoming/large.csv", path, break_off)
    # Takes up the second, for which the first was aborted.
    store.put_file("incoming/large.csv", other)
    assert store.purge("incoming/large.csv") == 1
    with store.lock("rows") as held:
        held.check()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(multipart, "PART", 5 * MIB)
    paths = (tmp_path / "1.csv", tmp_path / "2.csv")
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (5 * MIB + 1))
    return paths


def test_its_role_lets_a_hospital_do_all_that_a_store_does(
    hospitals: Hospitals, files: tuple[Path, Path]
) -> None:
    with hospitals.acting(NAMES[1]) as settings:
        exercise(settings.site_store(NAMES[1]), *files)


def test_it_needs_all_that_its_role_lets_it_do(
    strict_moto: Hospitals, files: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    name, iam = NAMES[2], strict_moto.server.client("iam")
    whole = hospital_policy(bucket(name))
    request.addfinalizer(lambda: give(iam, name, whole))
    actions = [action for statement in whole["Statement"] for action in statement["Action"]]
    # On AWS it tells "not there" from "denied"; moto asks nobody for it.
    actions.remove("s3:ListBucket")
    assert len(actions) == 10
    with strict_moto.acting(name) as settings:
        store = settings.site_store(name)
        for action in actions:
            fewer = json.loads(json.dumps(whole).replace(f'"{action}"', '"s3:GetBucketTagging"'))
            give(iam, name, fewer)
            with pytest.raises(AccessDeniedError):
                exercise(store, *files)
            give(iam, name, whole)
            for info in store.history():
                if info.key not in OBJECTS and info.key not in ROWS:
                    store.purge(info.key)
            store.purge("incoming/large.csv")


class TestIdentities:
    def test_a_role_is_refused_to_another_hospital(self, strict_moto: Hospitals) -> None:
        for me in (NAMES[0], COORDINATOR):
            with strict_moto.acting(me) as settings:
                store = settings.site_store(NAMES[1])
                with pytest.raises(RoleRefusedError, match=r"AssumeRole .*trust policy"):
                    store.list("incoming/")

    def test_a_role_that_trusts_another_is_refused(self, strict_moto: Hospitals) -> None:
        iam = strict_moto.server.client("iam")
        take = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn(NAMES[1])}
        document = json.dumps({"Version": "2012-10-17", "Statement": [take]})
        iam.put_user_policy(UserName=NAMES[0], PolicyName="greedy", PolicyDocument=document)
        try:
            with strict_moto.acting(NAMES[0]) as settings, pytest.raises(RoleRefusedError):
                settings.site_store(NAMES[1]).list()
        finally:
            iam.delete_user_policy(UserName=NAMES[0], PolicyName="greedy")

    def test_unknown_and_wrong_keys(self, hospitals: Hospitals) -> None:
        known = hospitals.server.admin
        for variables in (
            {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN000000000", "AWS_SECRET_ACCESS_KEY": "x"},
            {**known, "AWS_SECRET_ACCESS_KEY": "wrong"},
        ):
            with (
                identity(hospitals.server.environment(variables)),
                pytest.raises(CredentialsRefusedError, match="renew"),
            ):
                hospitals.settings.listing_store(NAMES[0]).list()

    @pytest.mark.parametrize("claim", ["other hospital", "other account", "audience", "junk"])
    def test_a_token_of_another_does_not_open_a_role(
        self, web_hospitals: WebHospitals, claim: str
    ) -> None:
        issuer, mine = web_hospitals.issuer, web_hospitals.subject(NAMES[0])
        token = {
            "other hospital": issuer.token(web_hospitals.subject(NAMES[1])),
            "other account": issuer.token(mine.replace(":site", ":default")),
            "audience": issuer.token(mine, audience="elsewhere"),
            "junk": "junk",
        }[claim]
        pod = web_hospitals.pod(NAMES[0], token)
        with (
            identity(web_hospitals.server.environment(pod)),
            pytest.raises(RoleRefusedError, match="trust policy"),
        ):
            web_hospitals.consortium.settings.site_store(NAMES[0]).list()

    def test_an_expired_token(self, web_hospitals: WebHospitals) -> None:
        token = web_hospitals.issuer.token(web_hospitals.subject(NAMES[0]), seconds=-60)
        pod = web_hospitals.pod(NAMES[0], token)
        with (
            identity(web_hospitals.server.environment(pod)),
            pytest.raises(CredentialsRefusedError, match=r"expired.*renew"),
        ):
            web_hospitals.consortium.settings.site_store(NAMES[0]).list()

    def test_a_token_file_that_is_gone(self, web_hospitals: WebHospitals) -> None:
        pod = web_hospitals.pod(NAMES[0], "token")
        Path(pod["AWS_WEB_IDENTITY_TOKEN_FILE"]).unlink()
        with (
            identity(web_hospitals.server.environment(pod)),
            pytest.raises(CredentialsMissingError, match=r"\.token"),
        ):
            web_hospitals.consortium.settings.site_store(NAMES[0]).list()


def test_a_hospital_reads_its_tasks_and_answers_them_alone(strict_moto: Hospitals) -> None:
    server, name = strict_moto.server, "bucket-of-the-coordinator"
    server.make_bucket(name)
    mine, other = f"tasks/{NAMES[0]}/1/", f"tasks/{NAMES[1]}/1/"
    admin = server.client("s3")
    for key in (f"{mine}request.json", f"{other}request.json", "models/1.npz"):
        admin.put_object(Bucket=name, Key=key, Body=b"{}")
    with user_with(server, "site", task_policy(name, NAMES[0])):
        store = open_store(f"s3://{name}")
        assert store.get(f"{mine}request.json") == b"{}"
        store.put(f"{mine}answer.json", b"[]")
        for key in (f"{mine}request.json", f"{other}answer.json", "models/1.npz"):
            assert not allowed(store.put, key, b"")
        for key in (f"{other}request.json", "models/1.npz"):
            assert not allowed(store.get, key)
        assert not allowed(store.purge, f"{mine}request.json")
        assert not allowed(store.list, mine)
    assert admin.get_object(Bucket=name, Key=f"{mine}answer.json")["Body"].read() == b"[]"
