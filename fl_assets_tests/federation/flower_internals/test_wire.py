import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fl_assets.federation.flower_internals import client_error, identify_process, stamp
from fl_assets.federation.flower_internals.wire import IncompleteMessageError, pack, unpack

ARRAYS = {
    "0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "0.bias": np.array([-0.0, np.nan], dtype=np.float64),
    "count": np.array(7, dtype=np.int64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), dtype=np.float16),
}


@pytest.fixture
def message() -> Message:
    identify_process(7)
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in ARRAYS.items()}),
            "metrics": MetricRecord({"loss": float("nan"), "n": 3, "list": [1.5, 2.5]}),
            "config": ConfigRecord({"round": 4, "nonce": "abc", "raw": b"\x00\xff", "yes": True}),
        }
    )
    return Message(content, dst_node_id=9, message_type="train.pretrain", group_id="4")


def stored(message: Message) -> bytes:
    """The one record of a packed message, as an object store has it."""
    (record,) = message.content.values()
    return record.deflate()


def test_everything_arrives_as_it_was_sent(message: Message) -> None:
    content = unpack(stored(pack(message)))

    assert list(content) == list(message.content)
    arrays = content.array_records["arrays"]
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        arrived = arrays[name].numpy()
        assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
        assert arrived.tobytes() == array.tobytes()
    assert repr(content.metric_records["metrics"]) == repr(message.content["metrics"])
    assert dict(content.config_records["config"]) == dict(message.content["config"])


def test_a_message_is_three_objects_whatever_is_in_it(message: Message) -> None:
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    assert len(get_all_nested_objects(message)) == 15
    assert len(get_all_nested_objects(pack(message))) == 3


def test_packing_leaves_the_message_alone_and_shares_its_metadata(message: Message) -> None:
    packed = pack(message)
    assert list(message.content) == ["arrays", "metrics", "config"]
    assert packed.metadata is message.metadata


def test_the_same_content_is_the_same_bytes(message: Message) -> None:
    other = Message(message.content, dst_node_id=8, message_type="train")
    assert stored(pack(message)) == stored(pack(other))


def test_an_error_is_sent_as_it_is(message: Message) -> None:
    stamp(message)
    failed = client_error(ValueError("what went wrong"), message)
    assert pack(failed) is failed


@pytest.mark.parametrize(
    "record",
    [
        ConfigRecord({"other": b""}),
        ConfigRecord({"packed": "no bytes"}),
        ConfigRecord({"packed": b"\xff\xff no protobuf"}),
        MetricRecord({"packed": 1}),
    ],
    ids=["other-name", "no-bytes", "no-protobuf", "no-config"],
)
def test_what_nobody_packed_is_refused(record: ConfigRecord | MetricRecord) -> None:
    with pytest.raises(IncompleteMessageError, match="not packed"):
        unpack(record.deflate())


def test_bytes_that_are_no_record_are_refused() -> None:
    with pytest.raises(IncompleteMessageError, match="not packed"):
        unpack(b"garbage")
