"""Real hospitals in a masked sum, and what a server that goes its own way gets from them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fl_assets.federation import masking_records as records
from fl_assets.federation import rounds
from fl_assets.federation.client_app import app
from fl_assets.federation.job import FederationJob
from fl_assets.federation.runtimes.inprocess import InProcessGrid
from fl_assets.learning.models import model_for
from fl_assets.privacy.masking.roster import PublicKeys
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets_tests.federation.conftest import MakeJob

ME, PEER, OTHER = SITES = ("hospital-a", "hospital-b", "hospital-c")
BOTH = "asks for both a site's mask seed and its personal seed is refused"


class Coordinator:
    """Asks the real client app, one message at a time, and may ask for anything."""

    def __init__(self, job: FederationJob, run_id: int = 1) -> None:
        self.grid = InProcessGrid(app, job.nodes(), job.run_config(), run_id)
        self.nodes = {node.name: node.node_id for node in self.grid.get_nodes()}
        self._run = job.run
        model = model_for(job.recipe.model, job.preprocessor, job.recipe.seed)
        self._arrays = ArrayRecord(model.state_dict())

    def ask(
        self,
        hospital: str,
        kind: str,
        content: Mapping[str, ConfigRecord] | None = None,
        round_: int = 1,
    ) -> Message:
        marks = {rounds.RUN: self._run, rounds.ROUND: round_, rounds.NONCE: f"nonce-{round_}"}
        records_: dict[str, Any] = {rounds.CONFIG: ConfigRecord({**marks, "proximal-mu": 0.0})}
        if kind == "train":
            records_[rounds.ARRAYS] = self._arrays
        message = Message(
            RecordDict(records_ | dict(content or {})),
            dst_node_id=self.nodes[hospital],
            message_type=kind,
        )
        (reply,) = self.grid.send_and_receive([message], timeout=60)
        return reply

    def keys(self, round_: int = 1) -> dict[str, PublicKeys]:
        found: dict[str, PublicKeys] = {}
        for name in SITES:
            found |= records.keys_from(self.ask(name, "query.keys", round_=round_).content)
        return found

    def shares(self, keys: Mapping[str, PublicKeys], round_: int = 1) -> dict[str, Any]:
        """The dealings' sealed shares by receiver."""
        asked = records.keys_to_records(keys)
        dealt = {
            name: records.dealing_from(self.ask(name, "query.shares", asked, round_).content)
            for name in SITES
        }
        return {
            name: {
                records.SEALED: records.record_of(
                    {d: dealt[d].sealed[name] for d in SITES if d != name}
                )
            }
            for name in SITES
        }

    def unmask(
        self, hospital: str, survivors: Collection[str], dropped: Collection[str], round_: int = 1
    ) -> Message:
        told = {records.SURVIVORS: list(survivors), records.DROPPED: list(dropped)}
        return self.ask(hospital, "query.unmask", {records.SURVIVAL: ConfigRecord(told)}, round_)

    def kept(self, hospital: str) -> dict[str, Any] | None:
        """What is in the hospital's context."""
        state = self.grid._contexts[self.nodes[hospital]].state.config_records
        return json.loads(bytes(state["masking"]["masking"])) if "masking" in state else None


@pytest.fixture
def job(make_job: MakeJob) -> FederationJob:
    return make_job("masked-test", secure_aggregation={})


@pytest.fixture
def server(job: FederationJob) -> Coordinator:
    return Coordinator(job)


def trained(server: Coordinator) -> Coordinator:
    sealed = server.shares(server.keys())
    for name in SITES:
        assert not server.ask(name, "train", sealed[name]).has_error()
    return server


def reason(reply: Message) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


def test_a_server_that_asks_for_both_seeds_gets_an_error(server: Coordinator) -> None:
    trained(server)
    before = server.kept(ME)
    found = reason(server.unmask(ME, SITES, [PEER]))
    assert found.startswith("BothSeedsError: hospital-b is named as a survivor and as dropped")
    assert BOTH in found
    assert server.kept(ME) == before
    # An honest question is still answered ...
    assert not server.unmask(ME, SITES, []).has_error()
    # ... and the other half of the shares cannot be had with a second one.
    assert reason(server.unmask(ME, [ME, OTHER], [PEER])).startswith("OutOfTurnError")


def test_after_its_last_answer_a_site_has_forgotten_the_round(server: Coordinator) -> None:
    trained(server)
    assert server.kept(ME) is not None
    server.unmask(ME, SITES, [])
    assert server.kept(ME) is None


@pytest.mark.parametrize("kind", ["query.shares", "train", "query.unmask"])
def test_a_site_never_sends_an_update_or_a_share_out_of_turn(
    server: Coordinator, kind: str
) -> None:
    content = {
        records.SEALED: records.record_of({}),
        records.KEYS: records.record_of({}),
        records.SURVIVAL: ConfigRecord({records.SURVIVORS: [], records.DROPPED: []}),
    }
    assert reason(server.ask(ME, kind, content)).startswith("OutOfTurnError")


def test_an_update_is_masked_once(server: Coordinator) -> None:
    sealed = server.shares(server.keys())
    assert not server.ask(ME, "train", sealed[ME]).has_error()
    assert reason(server.ask(ME, "train", sealed[ME])).startswith("OutOfTurnError")


def test_shares_are_dealt_once(server: Coordinator) -> None:
    keys = server.keys()
    server.shares(keys)
    again = server.ask(ME, "query.shares", records.keys_to_records(keys))
    assert reason(again).startswith("OutOfTurnError")


def test_what_was_dealt_in_one_round_is_of_no_use_in_the_next(server: Coordinator) -> None:
    old = server.shares(server.keys())
    assert "OutOfTurnError" in reason(server.ask(ME, "train", old[ME], round_=2))
    server.shares(server.keys(round_=2), round_=2)
    assert reason(server.ask(ME, "train", old[ME], round_=2)).startswith("SealedShareError")


def test_a_new_round_has_new_keys_and_another_masked_update(server: Coordinator) -> None:
    seen = []
    for _ in range(2):
        keys = server.keys()
        reply = server.ask(ME, "train", server.shares(keys)[ME])
        seen.append((keys, reply.content.array_records[rounds.ARRAYS][records.MASKED].numpy()))
    (first_keys, first), (second_keys, second) = seen
    every = [key for keys in (first_keys, second_keys) for pair in keys.values() for key in pair]
    assert len(set(every)) == 12
    assert not np.any(first == second)


def test_a_server_that_replaces_a_sites_key_is_refused(server: Coordinator) -> None:
    keys = server.keys()
    keys[ME] = keys[ME]._replace(sealing=b"x" * 32)
    reply = server.ask(ME, "query.shares", records.keys_to_records(keys))
    assert "OwnKeyError: the keys of hospital-a are missing or altered" in reason(reply)


def test_two_sites_are_too_few(server: Coordinator) -> None:
    keys = {name: pair for name, pair in server.keys().items() if name != OTHER}
    reply = server.ask(ME, "query.shares", records.keys_to_records(keys))
    assert "TooFewPeersError: the round has 2 sites" in reason(reply)


@pytest.mark.parametrize("kind", ["keys", "shares", "unmask"])
def test_a_recipe_without_masked_sums_has_no_part_in_them(make_job: MakeJob, kind: str) -> None:
    reply = Coordinator(make_job("plain-test")).ask(ME, f"query.{kind}")
    assert "NoSecureSumsError: recipe small asks for no secure aggregation" in reason(reply)


def test_no_secret_of_a_site_leaves_it(server: Coordinator) -> None:
    secrets: set[bytes] = set()
    replies = []

    def note() -> None:
        kept = server.kept(ME) or {}
        fields = [kept[f] for f in ("masking", "sealing", "seed", "own") if f in kept]
        secrets.update(base64.urlsafe_b64decode(field) for field in fields)

    def said(kind: str, content: Mapping[str, ConfigRecord] | None = None) -> Message:
        replies.append(server.ask(ME, kind, content))
        note()
        return replies[-1]

    keys = server.keys()
    keys |= records.keys_from(said("query.keys").content)
    said("query.shares", records.keys_to_records(keys))
    assert len(secrets) == 4
    for reply in replies:
        sent = reply.content.config_records
        values = [v for name in sent for v in sent[name].values() if isinstance(v, list)]
        said_ = b"".join(each for value in values for each in value if isinstance(each, bytes))
        assert said_
        assert not any(secret in said_ for secret in secrets)


def test_what_leaves_is_in_the_egress_log(server: Coordinator, world: Settings) -> None:
    log = EgressLog(world.site_store(ME))
    before = len(log.entries())
    trained(server)
    reply = server.unmask(ME, SITES, [])
    entries = log.entries()[before:]
    assert [(e.kind, e.detail) for e in entries] == [
        ("secure_sum", "keys, round 1"),
        ("secure_sum", "shares dealt, round 1"),
        ("update", "masked round 1"),
        ("secure_sum", "shares revealed, round 1"),
    ]
    shares = reply.content.config_records[records.SHARES]
    left = repr([]).encode() + repr(sorted(shares.items())).encode()
    assert entries[-1].sha256 == hashlib.sha256(left).hexdigest()


def test_a_masked_update_has_the_figures_of_any_other(server: Coordinator) -> None:
    sealed = server.shares(server.keys())
    content = server.ask(ME, "train", sealed[ME]).content
    assert set(content) == {rounds.ARRAYS, rounds.METRICS, rounds.ABOUT}
    assert set(content.metric_records[rounds.METRICS]) == rounds.UPDATE_METRICS
    assert set(content.array_records[rounds.ARRAYS]) == {records.MASKED}
