from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fl_assets.federation import rounds
from fl_assets.federation.flower_internals import identify_process, stamp
from fl_assets.federation.strategies.hygiene import FiguresError
from fl_assets.federation.strategies.wave import NO_REPLY, Wave
from fl_assets_tests.federation.little import answer, arrays_of, reply, values_of

NAMES = {11: "hospital-c", 12: "hospital-a", 13: "hospital-b"}


def shared_messages(nodes: Sequence[int] = tuple(NAMES)) -> list[Message]:
    """Messages as Flower's strategies make them: with one content for all."""
    identify_process(1)
    config = ConfigRecord({rounds.ROUND: 4, "proximal-mu": 0.1})
    content = RecordDict({rounds.ARRAYS: arrays_of(1.0), rounds.CONFIG: config})
    return [Message(content, dst_node_id=node, message_type="train") for node in nodes]


def sent(nodes: Sequence[int] = tuple(NAMES), action: str | None = None) -> Wave:
    wave = Wave(shared_messages(nodes), NAMES, "monday", 4, action)
    for message in wave.messages:
        stamp(message)
    return wave


def value(message: Message) -> float:
    return values_of(message.content.array_records[rounds.ARRAYS])[0]


def answers(wave: Wave, *values: float) -> list[Message]:
    return [
        answer(message, reply(arrays_of(v)))
        for message, v in zip(wave.messages, values, strict=False)
    ]


def test_messages_go_in_the_order_of_names_with_marks_of_their_own() -> None:
    wave = sent()
    assert [m.metadata.dst_node_id for m in wave.messages] == [12, 13, 11]
    configs = [m.content.config_records[rounds.CONFIG] for m in wave.messages]
    assert [(c[rounds.RUN], c[rounds.ROUND]) for c in configs] == [("monday", 4)] * 3
    assert [c["proximal-mu"] for c in configs] == [0.1] * 3
    nonces = {str(c[rounds.NONCE]) for c in configs}
    assert len(nonces) == 3
    assert all(len(nonce) == 64 for nonce in nonces)
    assert {m.metadata.group_id for m in wave.messages} == {"4"}


@pytest.mark.parametrize(
    ("action", "kind"), [(None, "train"), ("", "train"), ("pretrain", "train.pretrain")]
)
def test_an_action_goes_behind_the_messages_type(action: str | None, kind: str) -> None:
    assert {m.metadata.message_type for m in sent(action=action).messages} == {kind}


def test_replies_come_in_the_order_of_names_whatever_the_order_of_arrival() -> None:
    wave = sent()
    found = wave.receive(reversed(answers(wave, 1.0, 2.0, 3.0)), value)
    assert list(found.items()) == [("hospital-a", 1.0), ("hospital-b", 2.0), ("hospital-c", 3.0)]
    assert list(wave.replies) == list(found)
    assert (wave.dropouts, wave.rejected) == ({}, set())


def test_who_does_not_answer_and_who_fails_are_dropouts_but_not_rejected() -> None:
    wave = sent()
    first, second, _ = wave.messages
    failed = Message(Error(2, "the ward is closed"), reply_to=second)
    assert wave.receive([failed, answer(first, reply(arrays_of(1.0)))], value) == {
        "hospital-a": 1.0
    }
    assert wave.dropouts == {"hospital-b": "the ward is closed", "hospital-c": NO_REPLY}
    assert wave.rejected == set()


def test_what_cannot_be_read_is_rejected_by_name(caplog: pytest.LogCaptureFixture) -> None:
    def read(message: Message) -> float:
        if value(message) == 2.0:
            raise FiguresError("its figures are odd")
        return value(message)

    wave = sent()
    with caplog.at_level(logging.WARNING):
        assert list(wave.receive(answers(wave, 1.0, 2.0, 3.0), read)) == [
            "hospital-a",
            "hospital-c",
        ]
    assert wave.dropouts == {"hospital-b": "its figures are odd"}
    assert wave.rejected == {"hospital-b"}
    assert list(wave.replies) == ["hospital-a", "hospital-c"]
    assert "hospital-b: its figures are odd" in caplog.text


def test_the_first_reply_counts_and_a_second_one_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wave = sent()
    again = answer(wave.messages[0], reply(arrays_of(9.0)))
    with caplog.at_level(logging.WARNING):
        found = wave.receive([*answers(wave, 1.0, 2.0, 3.0), again], value)
    assert found["hospital-a"] == 1.0
    assert wave.rejected == {"hospital-a"}
    assert wave.dropouts == {}
    assert "hospital-a: it has answered this round already" in caplog.text


def test_a_good_reply_does_not_make_up_for_a_bad_first_one() -> None:
    wave = sent()
    forged = answer(wave.messages[0], reply(arrays_of(9.0)))
    forged.content[rounds.ABOUT][rounds.NONCE] = "guess"
    assert "hospital-a" not in wave.receive([forged, *answers(wave, 1.0, 2.0, 3.0)], value)
    assert "another message of round 4" in wave.dropouts["hospital-a"]
    assert wave.rejected == {"hospital-a"}


def test_an_earlier_waves_reply_of_the_same_round_is_refused() -> None:
    captured = answers(sent(), 5.0, 5.0, 5.0)
    wave = sent()
    assert wave.receive(captured, value) == {}
    assert all("replayed" in cause for cause in wave.dropouts.values())
    assert wave.rejected == set(NAMES.values())


def test_one_site_cannot_send_what_another_one_was_asked_for() -> None:
    wave = sent()
    first, second, third = wave.messages
    stolen = answer(second, reply(arrays_of(2.0)))
    stolen.content[rounds.ABOUT][rounds.NONCE] = first.content[rounds.CONFIG][rounds.NONCE]
    found = wave.receive([stolen, answer(third, reply(arrays_of(3.0)))], value)
    assert found == {"hospital-c": 3.0}
    assert "another message" in wave.dropouts["hospital-b"]


def test_whoever_was_not_asked_is_refused() -> None:
    wave = sent((11, 12))
    idle, stranger = shared_messages((13, 99))
    intruders = [Message(reply(arrays_of(7.0)), reply_to=m) for m in (idle, stranger)]
    found = wave.receive([*intruders, *answers(wave, 1.0, 3.0)], value)
    assert found == {"hospital-a": 1.0, "hospital-c": 3.0}
    assert wave.dropouts == dict.fromkeys(
        ("hospital-b", "node 99"), "it was not asked in this round"
    )
    assert wave.rejected == {"hospital-b", "node 99"}


def test_a_reply_that_the_link_lost_is_the_sites_dropout() -> None:
    wave = sent()
    # As the link answers: in its own name, for what it was given.
    (from_link,) = shared_messages((1,))
    from_link.metadata.__dict__["_message_id"] = wave.messages[1].metadata.message_id
    lost = Message(Error(6, "the reply's objects are unavailable"), reply_to=from_link)
    found = wave.receive([lost], value)
    assert found == {}
    assert wave.dropouts["hospital-b"] == "the reply's objects are unavailable"
    assert wave.rejected == set()


def test_a_query_asks_the_same_hospitals_something_else_in_the_same_round() -> None:
    wave = sent()
    record = ConfigRecord({"a": b"1"})
    query = wave.query("keys", {"masks": record}, ["hospital-c", "hospital-a"])
    assert list(query.sent) == ["hospital-a", "hospital-c"]
    assert [m.metadata.dst_node_id for m in query.messages] == [12, 11]
    for message in query.messages:
        assert message.metadata.message_type == "query.keys"
        assert set(message.content) == {rounds.CONFIG, "masks"}
        config = message.content.config_records[rounds.CONFIG]
        assert (config[rounds.RUN], config[rounds.ROUND]) == ("monday", 4)
    assert len({m.content[rounds.CONFIG][rounds.NONCE] for m in query.messages}) == 2


def test_who_is_left_out_is_not_asked_and_is_a_dropout_with_its_cause() -> None:
    wave = sent()
    wave.leave_out({"hospital-b": "no keys"}, {"hospital-b", "hospital-c"})
    assert [m.metadata.dst_node_id for m in wave.messages] == [12, 11]
    assert list(wave.receive(answers(wave, 1.0, 3.0), value)) == ["hospital-a", "hospital-c"]
    assert wave.dropouts == {"hospital-b": "no keys"}
    assert wave.rejected == {"hospital-b", "hospital-c"}
