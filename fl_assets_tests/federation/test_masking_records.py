from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fl_assets.federation import masking_records as records
from fl_assets.federation.flower_internals import identify_process, message_over_the_wire
from fl_assets.privacy.masking.errors import MalformedMessageError
from fl_assets.privacy.masking.keys import Scope
from fl_assets.privacy.masking.site import Advertised


def over_the_wire(content: dict[str, ConfigRecord]) -> RecordDict:
    identify_process(1)
    message = Message(RecordDict({**content}), dst_node_id=5, message_type="query")
    return message_over_the_wire(message).content


def test_keys_and_dealings_come_back() -> None:
    sites = {name: Advertised.begin(Scope("run", 1), name) for name in ("a", "b", "c")}
    keys = {name: site.public for name, site in sites.items()}
    _, dealing = sites["a"].share(keys, 2)
    assert records.keys_from(over_the_wire(records.keys_to_records(keys))) == keys
    assert records.dealing_from(over_the_wire(records.dealing_to_records(dealing))) == dealing


def test_nobody_has_dropped_out() -> None:
    told = ConfigRecord({records.SURVIVORS: ["a", "b"], records.DROPPED: []})
    assert records.survival_from(over_the_wire({records.SURVIVAL: told})) == (["a", "b"], [])


@pytest.mark.parametrize(
    "told", [ConfigRecord(), ConfigRecord({records.SURVIVORS: "a", records.DROPPED: []})]
)
def test_without_lists_nobody_is_said_to_have_survived(told: ConfigRecord) -> None:
    for content in (RecordDict({records.SURVIVAL: told}), RecordDict()):
        with pytest.raises(MalformedMessageError, match="does not say who survived"):
            records.survival_from(content)


@pytest.mark.parametrize(
    "record",
    [
        None,
        ConfigRecord({"a": b"1"}),
        ConfigRecord({"names": ["a"], "values": b"1"}),
        ConfigRecord({"names": ["a"], "values": ["words"]}),
        ConfigRecord({"names": ["a", "b"], "values": [b"1"]}),
        ConfigRecord({"names": ["a", "a"], "values": [b"1", b"2"]}),
    ],
)
def test_a_record_of_something_else_is_refused(record: ConfigRecord | None) -> None:
    content = RecordDict({} if record is None else {records.KEYS: record})
    with pytest.raises(MalformedMessageError, match=r"no keys of the form.*same version"):
        records.keys_from(content)


def test_a_vector_is_the_arrays_by_name_and_comes_back_in_any_order() -> None:
    arrays = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(-1.5, dtype=np.float32),
        "a": np.zeros((0, 2), dtype=np.float32),
    }
    vector = records.flat(arrays)
    assert vector.tolist() == [-1.5, 0, 1, 2, 3, 4, 5]
    assert vector.tolist() == records.flat(dict(reversed(arrays.items()))).tolist()
    for like in (arrays, dict(reversed(arrays.items()))):
        back = records.shaped(vector, like)
        assert list(back) == list(like)
        for name, array in back.items():
            np.testing.assert_array_equal(array, arrays[name])
