"""Who may reach what, by the policies that Terraform left in its state, evaluated as AWS does.

The evaluation is a simulator's and not AWS' own. It knows nothing of the issuer's condition keys:
trust policies are compared in :mod:`fl_assets_tests.infra.test_policy_texts` and exercised in
:mod:`fl_assets_tests.infra.test_isolation_live`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fl_assets.storage.policies import MANIFESTS, ROWS
from fl_assets_tests.infra.applied import COORDINATOR, NAMES, STORE, Applied, role
from fl_assets_tests.infra.simulator import EVERYTHING, Request, Simulator

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

ROW = "records/1.parquet"
LISTING = ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads")
PREFIXES = ("incoming/a", "profile/", "", "keys/", "records/", None)
THROUGH_S3 = {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}


class Hospital:
    """Requests to a hospital's bucket and key."""

    def __init__(self, state: Applied, name: str) -> None:
        self._state, self._name = state, name
        self.bucket = f"arn:aws:s3:::acme-stroke-{name}"

    def requests(self, who: str | None, policies: list[Any], key: str = ROW) -> dict[str, Request]:
        """One request of each kind, of a role with its policies."""
        arn, key_policy = self._state.key(self._name)
        bucket, policy = self.bucket, self._state.bucket(self._name)
        context = {**THROUGH_S3, "kms:EncryptionContext:aws:s3:arn": f"{bucket}/{key}"}

        def on_object(action: str) -> Request:
            return Request(action, f"{bucket}/{key}", who, policies, policy)

        return {
            "Get": on_object("s3:GetObject"),
            "GetVersion": on_object("s3:GetObjectVersion"),
            "Put": on_object("s3:PutObject"),
            "Delete": on_object("s3:DeleteObject"),
            "List": Request("s3:ListBucket", bucket, who, policies, policy, {"s3:prefix": ""}),
            "Decrypt": Request("kms:Decrypt", arn, who, policies, key_policy, context),
        }


def in_clear(request: Request) -> Request:
    return replace(request, context={**request.context, "aws:SecureTransport": "false"})


Matrix = dict[tuple[str, str, str], Request]


def matrix(state: Applied, caller: Callable[[str], tuple[str | None, list[Any]]]) -> Matrix:
    """Every hospital's caller at every hospital's bucket."""
    found: Matrix = {}
    for me, other in itertools.product(NAMES, NAMES):
        who, policies = caller(me)
        for kind, request in Hospital(state, other).requests(who, policies).items():
            found[me, other, kind] = request
    return found


def seen(simulator: Simulator, requests: Matrix) -> set[tuple[str, str, str]]:
    """What is allowed of it."""
    allowed = simulator.allowed(list(requests.values()))
    return {key for key, yes in zip(requests, allowed, strict=True) if yes}


class TestMatrix:
    def test_a_hospitals_own_role_reaches_its_own_alone(
        self, simulator: Simulator, state: Applied
    ) -> None:
        requests = matrix(state, lambda me: (role(f"{me}-site"), state.of_role(f"{me}-site")))
        assert len(requests) == 54
        diagonal = {key for key in requests if key[0] == key[1]}
        assert seen(simulator, requests) == diagonal

    def test_a_role_that_may_everything_still_reaches_its_own_alone(
        self, simulator: Simulator, state: Applied
    ) -> None:
        requests = matrix(state, lambda me: (role(f"{me}-site"), [EVERYTHING]))
        diagonal = {key for key in requests if key[0] == key[1]}
        assert seen(simulator, requests) == diagonal

    # Dagster's own pods have the coordinator's role.
    @pytest.mark.parametrize(
        "who", ["coordinator", "node", "github-apply", "server", "mlflow", "somebody"]
    )
    def test_no_other_role_of_the_account_reaches_anything(
        self, simulator: Simulator, state: Applied, who: str
    ) -> None:
        requests = matrix(state, lambda _: (role(who), [EVERYTHING]))
        assert seen(simulator, requests) == set()

    def test_anonymous_requests_reach_nothing(self, simulator: Simulator, state: Applied) -> None:
        assert seen(simulator, matrix(state, lambda _: (None, []))) == set()

    def test_nothing_goes_without_tls(self, simulator: Simulator, state: Applied) -> None:
        requests = matrix(state, lambda me: (role(f"{me}-site"), [EVERYTHING]))
        # A key has no address of its own here: S3 asks it.
        clear = {key: in_clear(r) for key, r in requests.items() if key[2] != "Decrypt"}
        assert seen(simulator, clear) == set()

    @pytest.mark.parametrize("policies", ["own", "everything"])
    def test_the_coordinator_reads_manifests_and_nothing_else(
        self, simulator: Simulator, state: Applied, policies: str
    ) -> None:
        mine = state.of_role("coordinator") if policies == "own" else [EVERYTHING]
        keys = [*(pattern.replace("*", "1") for pattern in (*MANIFESTS, *ROWS)), "models/1.npz"]
        requests = {
            (name, key, kind): request
            for name in NAMES
            for key in keys
            for kind, request in Hospital(state, name).requests(COORDINATOR, mine, key).items()
        }
        manifests = keys[: len(MANIFESTS)]
        assert seen(simulator, requests) == {
            (name, key, kind) for name in NAMES for key in manifests for kind in ("Get", "Decrypt")
        }

    @pytest.mark.parametrize("policies", ["own", "everything"])
    @pytest.mark.parametrize(
        ("who", "seen_by_it"),
        [
            ("coordinator", {(LISTING[1], prefix) for prefix in PREFIXES[:2]}),
            (
                "north-ingest",
                # AWS knows no prefix of the last, by which an upload that broke off is found.
                {(action, "incoming/a") for action in LISTING[:2]}
                | {(LISTING[2], prefix) for prefix in PREFIXES},
            ),
            ("south-site", set()),
            ("node", set()),
        ],
    )
    def test_who_lists_what(
        self,
        simulator: Simulator,
        state: Applied,
        who: str,
        seen_by_it: set[tuple[str, str]],
        policies: str,
    ) -> None:
        mine = state.of_role(who) if policies == "own" else [EVERYTHING]
        bucket = Hospital(state, "north").bucket
        requests = {
            (action, prefix): Request(
                action, bucket, role(who), mine, state.bucket("north"),
                {} if prefix is None else {"s3:prefix": prefix},
            )
            for action in LISTING
            for prefix in PREFIXES
        }  # fmt: skip
        allowed = simulator.allowed(list(requests.values()))
        assert {key for key, yes in zip(requests, allowed, strict=True) if yes} == seen_by_it

    @pytest.mark.parametrize("policies", ["own", "everything"])
    def test_the_ingest_role_sends_into_incoming_and_reads_nothing(
        self, simulator: Simulator, state: Applied, policies: str
    ) -> None:
        def caller(me: str) -> tuple[str, list[Any]]:
            name = f"{me}-ingest"
            return role(name), state.of_role(name) if policies == "own" else [EVERYTHING]

        for key, kinds in (("incoming/1.csv", {"Put", "Decrypt"}), (ROW, set())):
            requests = {
                (me, other, kind): request
                for me, other in itertools.product(NAMES, NAMES)
                for kind, request in Hospital(state, other).requests(*caller(me), key).items()
            }
            assert seen(simulator, requests) == {(me, me, kind) for me in NAMES for kind in kinds}

    def test_who_deploys_finds_a_bucket_and_opens_no_object(
        self, simulator: Simulator, state: Applied
    ) -> None:
        bucket = state.bucket("north")
        (deployer,) = [
            arn
            for statement in bucket["Statement"]
            if statement["Sid"] == "OwnRolesListAlone"
            for arn in statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
            if "moto" in arn
        ]
        # The emulator's own caller is no role; for the policies it is a name like any other.
        named = json.loads(json.dumps(bucket).replace(deployer, role("admin")))
        requests = Hospital(state, "north").requests(role("admin"), [EVERYTHING])
        changed = {
            kind: replace(request, resource_policy=named)
            for kind, request in requests.items()
            if kind != "Decrypt"
        }
        allowed = simulator.allowed(list(changed.values()))
        assert [kind for kind, yes in zip(changed, allowed, strict=True) if yes] == ["List"]


class TestEncryption:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, True),
            ({"": "aws:kms", "-aws-kms-key-id": "own"}, True),
            ({"": "aws:kms"}, True),
            ({"": "aws:kms", "-aws-kms-key-id": "other"}, False),
            ({"": "AES256"}, False),
        ],
    )
    def test_objects_are_encrypted_with_the_hospitals_key(
        self, simulator: Simulator, state: Applied, headers: dict[str, str], expected: bool
    ) -> None:
        keys = {"own": state.key("north")[0], "other": state.key("south")[0]}
        context = {
            f"s3:x-amz-server-side-encryption{name}": keys.get(value, value)
            for name, value in headers.items()
        }
        put = Hospital(state, "north").requests(role("north-site"), state.of_role("north-site"))
        assert simulator.allowed([replace(put["Put"], context=context)]) == [expected]

    def test_a_key_is_used_through_s3_alone(self, simulator: Simulator, state: Applied) -> None:
        own = Hospital(state, "north").requests(role("north-site"), [EVERYTHING])["Decrypt"]
        elsewhere = {**own.context, "kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}
        assert simulator.allowed([own, replace(own, context=elsewhere)]) == [True, False]

    def test_who_administrates_a_key_cannot_let_itself_use_it(
        self, simulator: Simulator, state: Applied
    ) -> None:
        arn, policy = state.key("north")
        actions = ["kms:ScheduleKeyDeletion", "kms:CreateGrant", "kms:Encrypt", "kms:ReEncryptFrom"]
        requests = [
            Request(action, arn, role("github-apply"), [EVERYTHING], policy) for action in actions
        ]
        assert simulator.allowed(requests) == [True, False, False, False]


class TestTasks:
    """Requests and answers of tasks in the coordinator's bucket."""

    def test_a_hospital_reads_its_own_requests_and_puts_its_own_answers(
        self, simulator: Simulator, state: Applied
    ) -> None:
        policy = state.policy(
            'module.coordinator.module.bucket["coordinator"].aws_s3_bucket_policy.this'
        )
        keys = ["1/request.json", "1/answer.json"]
        requests = {
            (me, f"{other}/{key}", action): Request(
                f"s3:{action}", f"arn:aws:s3:::{STORE}/tasks/{other}/{key}", role(f"{me}-site"),
                state.of_role(f"{me}-site"), policy,
            )
            for me, other in itertools.product(NAMES, NAMES)
            for key in keys
            for action in ("GetObject", "PutObject", "DeleteObject")
        }  # fmt: skip
        assert seen(simulator, requests) == {
            (me, f"{me}/{key}", action)
            for me in NAMES
            for key, action in (
                (keys[0], "GetObject"), (keys[1], "GetObject"), (keys[1], "PutObject"),
            )
        }  # fmt: skip

    def test_the_server_takes_up_an_upload_that_broke_off(
        self, simulator: Simulator, state: Applied
    ) -> None:
        request = Request(
            "s3:ListBucketMultipartUploads", f"arn:aws:s3:::{STORE}", role("server"),
            state.of_role("server"), None, {"s3:prefix": "runs/1/weights.npz"},
        )  # fmt: skip
        assert simulator.allowed([request]) == [True]

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("runs/1/weights.npz", True),
            ("ledgers/north.json", True),
            ("tasks/north/1/request.json", False),
            ("releases/a.json", False),
        ],
    )
    def test_the_server_has_runs_and_what_it_witnesses_alone(
        self, simulator: Simulator, state: Applied, key: str, expected: bool
    ) -> None:
        requests = [
            Request(action, f"arn:aws:s3:::{STORE}/{key}", role("server"),
                    state.of_role("server"), None)
            for action in ("s3:GetObject", "s3:PutObject")
        ]  # fmt: skip
        assert simulator.allowed(requests) == [expected, expected]
