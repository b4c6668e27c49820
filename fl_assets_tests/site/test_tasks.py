"""Tasks of a hospital: a closed set, by its own settings, told in the coordinator's store alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from fl_assets.consortium import UnknownHospitalError
from fl_assets.errors import FlAssetsError
from fl_assets.learning.configs import (
    BCEConfig,
    LocalTraining,
    LogisticRegressionConfig,
    OptimizerConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.ledger import BudgetExceededError
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.settings import Settings
from fl_assets.site import partitions
from fl_assets.site.egress import EgressLog
from fl_assets.site.intake import BlockedUploadsError
from fl_assets.site.model_data import ModelData
from fl_assets.site.shadows import ShadowPlan
from fl_assets.site.tasks import data, models, wire
from fl_assets.site.tasks.base import Request, answer_type, perform
from fl_assets.storage import ObjectNotFoundError, StorageError

ID = "0123456789abcdef" * 2
ME = "hospital-a"


def a_model(settings: Settings) -> ModelData:
    preprocessor = Preprocessor.public(settings.cohort)
    weight = np.linspace(-1, 1, len(preprocessor.feature_names), dtype=np.float32)[None]
    return ModelData(
        config=LogisticRegressionConfig(),
        preprocessor=preprocessor,
        weights={"0.weight": weight, "0.bias": np.array([-2], np.float32)},
        threshold=0.1,
    )


def all_requests(settings: Settings, hospital: str = ME) -> list[Request[Any]]:
    model = a_model(settings)
    training = LocalTraining(
        model=LogisticRegressionConfig(),
        loss=BCEConfig(),
        optimizer=OptimizerConfig(),
        epochs=1,
        batch_size=64,
        proximal_mu=0.0,
        seed=1,
    )
    version = partitions.load_manifest(settings.site_store(hospital)).version
    return [
        data.CollectRecords(run="r"),
        data.BuildPartitions(run="r"),
        data.VerifyPartitions(run="r"),
        data.BuildProfile(run="r"),
        data.ShowLedger(run="r"),
        data.ShowEgress(run="r"),
        models.FitBaseline(run="r", seed=0),
        models.EvaluateModel(run="r", model=model),
        models.CompareModels(run="r", a=model, b=model),
        models.AuditModel(
            run="r", model=model, plan=ShadowPlan(training=training), trained_on=version
        ),
    ]


def changed(settings: Settings, **changes: Any) -> Settings:
    """A hospital with another consortium.yaml of its own."""
    config = yaml.safe_load(settings.consortium_file.read_text()) | changes
    config["bucket"] = f"file://{settings.home}/sites/{{hospital}}"
    file = settings.home / "own.yaml"
    file.write_text(yaml.safe_dump(config))
    return dataclasses.replace(settings, consortium_file=file)


def put(settings: Settings, request: Request[Any] | bytes) -> None:
    text = request if isinstance(request, bytes) else request.model_dump_json().encode()
    settings.coordinator_store().put(wire.request_key(ME, ID), text)


def reply_of(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(settings.coordinator_store().get(wire.answer_key(ME, ID)))
    return found


class TestRequests:
    def test_all_that_a_hospital_may_be_asked(self, world: Settings) -> None:
        requests = all_requests(world)
        known = {
            kind
            for union in (data.DataRequest, models.ModelRequest)
            for kind in get_args(get_args(union)[0])
        }
        assert {type(request) for request in requests} == known
        for request in requests:
            arrived = wire.parse_request(request.model_dump_json().encode())
            assert type(arrived) is type(request)
            assert arrived.model_dump_json() == request.model_dump_json()

    def test_what_protects_patients_is_in_no_request(self, world: Settings) -> None:
        fields = {name for request in all_requests(world) for name in type(request).model_fields}
        assert fields == {
            "task", "run", "witness", "seed", "model", "personal", "privacy", "a", "b", "plan",
            "trained_on",
        }  # fmt: skip
        text = json.loads(data.BuildProfile(run="r").model_dump_json())
        put(world, json.dumps(text | {"minimum_cell": 1}).encode())
        with pytest.raises(wire.BadRequestError, match="1 fields do not fit"):
            wire.answer(world, ME, ID)

    def test_something_else(self, world: Settings) -> None:
        for text in (b'{"task": "delete-data", "run": "Ann Smith"}', b"Ann Smith", b"[]"):
            put(world, text)
            with pytest.raises(wire.BadRequestError) as caught:
                wire.answer(world, ME, ID)
            assert "Ann" not in str(caught.value)
            assert reply_of(world)["failure"]["error"] == "BadRequestError"


class TestAnswers:
    def test_every_answer_is_the_same_after_a_journey(self, world: Settings) -> None:
        for request in all_requests(world):
            put(world, request)
            wire.answer(world, ME, ID)
            sent = world.coordinator_store().get(wire.answer_key(ME, ID))
            found = wire.parse_reply(request, sent)
            assert type(found) is answer_type(request)
            if isinstance(request, data.ShowEgress):
                continue  # is another by now
            assert found == perform(world, ME, request), request.task

    def test_an_answer_to_another_request_is_none(self, world: Settings) -> None:
        put(world, data.BuildPartitions(run="r"))
        wire.answer(world, ME, ID)
        sent = world.coordinator_store().get(wire.answer_key(ME, ID))
        with pytest.raises(ValueError, match="Field required"):
            wire.parse_reply(data.CollectRecords(run="r"), sent)
        with pytest.raises(ValueError, match="an answer or a failure"):
            wire.parse_reply(data.CollectRecords(run="r"), b"{}")

    def test_an_error_by_type_and_message(self, world: Settings) -> None:
        world.site_store(ME).delete("partitions/manifest.json")
        put(world, data.BuildProfile(run="r"))
        with pytest.raises(ObjectNotFoundError) as caught:
            wire.answer(world, ME, ID)
        assert reply_of(world) == {
            "answer": None,
            "failure": {
                "error": "ObjectNotFoundError", "message": str(caught.value), "final": False
            },
        }  # fmt: skip

    @pytest.mark.parametrize("task", ["../../x", ID.upper(), ID[:-1], ""])
    def test_an_id_is_an_id(self, world: Settings, task: str) -> None:
        with pytest.raises(wire.BadRequestError, match="32 hexadecimal"):
            wire.answer(world, ME, task)

    def test_an_object_that_is_too_large_is_not_read(
        self, world: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wire, "LARGEST_REQUEST", 20)
        put(world, data.BuildProfile(run="r" * 20))
        with pytest.raises(wire.TooLargeError, match="more than 20 bytes"):
            wire.answer(world, ME, ID)

    def test_a_hospital_alone_needs_nothing_of_the_coordinator(
        self, world: Settings, tmp_path: Path
    ) -> None:
        alone = dataclasses.replace(world, coordinator_uri="s3://out-of-reach/x")
        for request in all_requests(world):
            perform(alone, ME, request)
        with pytest.raises(UnknownHospitalError):
            perform(alone, "hospital-z", data.CollectRecords(run="r"))


class TestPolicies:
    """They are the hospital's, whatever the coordinator has in its own file."""

    def test_the_floor(self, world: Settings) -> None:
        request = models.EvaluateModel(run="r", model=a_model(world))
        assert perform(world, ME, request).evaluation is not None
        strict = changed(world, minimum_cell=100_000)
        assert perform(strict, ME, request).evaluation is None
        assert perform(strict, ME, data.BuildProfile(run="r")).moments["age"] is None

    def test_the_budget_and_the_noise(self, world: Settings) -> None:
        assert perform(world, ME, data.BuildProfile(run="r")).noised is None
        noised = changed(world, profile_epsilon=0.5)
        assert perform(noised, ME, data.BuildProfile(run="r")).noised is not None
        poor = changed(world, privacy_budget={"epsilon": 0.7})
        privacy = PrivacyConfig(epsilon=1.0, evaluation_epsilon=1.0)
        request = models.EvaluateModel(run="r", model=a_model(world), privacy=privacy)
        with pytest.raises(BudgetExceededError, match="hospital-a: run r asks"):
            perform(poor, ME, request)

    def test_the_split(self, world: Settings) -> None:
        before = partitions.load_manifest(world.site_store(ME))
        other = changed(world, split={"salt": "another salt", "train": 0.5, "test": 0.4})
        dealt = perform(other, ME, data.BuildPartitions(run="r"))
        assert dealt.version != before.version
        assert dealt.rows == before.rows

    def test_the_rules_of_intake(self, world: Settings) -> None:
        store = world.site_store(ME)
        (upload,) = store.list("incoming/")
        header, row, *_ = store.get(upload.key).decode().splitlines()
        cells = dict(zip(header.split(","), row.split(","), strict=True))
        bad = ",".join((cells | {"id": "new", "age": "old"}).values())
        store.put("incoming/more.csv", f"{header}\n{row}\n{bad}\n".encode())
        strict = changed(world, intake={"max_quarantined": 0.4})
        with pytest.raises(BlockedUploadsError, match="1 of 2 rows are in quarantine"):
            perform(strict, ME, data.CollectRecords(run="r"))
        lenient = changed(world, intake={"max_quarantined": 0.6})
        assert perform(lenient, ME, data.CollectRecords(run="r")).counts.quarantined == 1


class TestLogs:
    def test_what_leaves_is_written_down_under_who_asked(self, world: Settings) -> None:
        log = EgressLog(world.site_store(ME))
        before = len(log.entries())
        for request in all_requests(world):
            perform(world, ME, request.model_copy(update={"run": f"run-{request.task}"}))
        # Manifests that are the same again are no news.
        assert [(entry.kind, entry.run) for entry in log.entries()[before:]] == [
            ("partitions", "run-verify"),
            ("profile", "run-profile"),
            ("ledger", "run-ledger"),
            ("evaluation", "run-baseline"),
            ("evaluation", "run-baseline"),
            ("evaluation", "run-evaluate"),
            ("evaluation", "run-compare"),
            ("audit", "run-audit"),
        ]

    def test_new_records_and_partitions_are_found_by_the_run_that_made_them(
        self, world: Settings
    ) -> None:
        store = world.site_store(ME)
        (upload,) = store.list("incoming/")
        lines = store.get(upload.key).splitlines(keepends=True)
        store.put(upload.key, b"".join(lines[:-1]))
        perform(world, ME, data.CollectRecords(run="run-1"))
        perform(world, ME, data.BuildPartitions(run="run-2"))
        found = [(e.kind, e.detail) for e in EgressLog(store).entries() if e.run == "run-1"]
        assert found == [("records", "records/manifest.json"), ("records", "records/intake.json")]
        found = [(e.kind, e.detail) for e in EgressLog(store).entries() if e.run == "run-2"]
        assert found == [("partitions", "partitions/manifest.json")]

    def test_why_a_task_failed_is_written_down_before_it_is_told(self, world: Settings) -> None:
        store = world.site_store(ME)
        store.delete("partitions/manifest.json")
        put(world, data.BuildProfile(run="run-9"))
        with pytest.raises(ObjectNotFoundError):
            wire.answer(world, ME, ID)
        sent = world.coordinator_store().get(wire.answer_key(ME, ID))
        (entry,) = [e for e in EgressLog(store).entries() if e.run == "run-9"]
        assert (entry.kind, entry.detail) == ("failure", f"task {ID}")
        assert entry.sha256 == hashlib.sha256(sent).hexdigest()

    def test_what_cannot_be_written_down_is_not_told(
        self, world: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise StorageError("disk full")

        put(world, data.VerifyPartitions(run="r"))
        monkeypatch.setattr(EgressLog, "release", fail)
        with pytest.raises(StorageError, match="disk full"):
            wire.answer(world, ME, ID)
        assert not world.coordinator_store().exists(wire.answer_key(ME, ID))

    def test_the_ledger_must_hold_what_the_coordinator_saw(self, world: Settings) -> None:
        seen = LedgerHead(sequence=3, digest="0" * 64)
        with pytest.raises(FlAssetsError, match="the coordinator saw 3 entries"):
            perform(world, ME, data.ShowLedger(run="r", witness=seen))
        assert perform(world, ME, data.ShowLedger(run="r")).budget.entries == 0
