from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fl_assets.federation import rounds
from fl_assets.federation.flower_internals import identify_process
from fl_assets.federation.masking_records import MASKED
from fl_assets.federation.strategies.configs import NormBound
from fl_assets.federation.strategies.hygiene import (
    BadReplyError,
    FiguresError,
    NormError,
    NotFiniteError,
    OtherModelError,
    OtherRoundError,
    OtherRunError,
    ReplayedReplyError,
    UnknownRowsError,
    UnmarkedReplyError,
    check_echo,
    check_norms,
    read_evaluation,
    read_masked_update,
    read_update,
)
from fl_assets_tests.federation.little import STATEMENT, arrays_of, reply

MODEL = {"w": np.array([1.0, 2.0], dtype=np.float32), "b": np.array(5.0, dtype=np.float32)}
MARKS = {rounds.RUN: "monday", rounds.ROUND: 3, rounds.NONCE: "aa"}


def message(**changes: Any) -> Message:
    identify_process(1)
    marks = ConfigRecord(MARKS | {key.replace("_", "-"): value for key, value in changes.items()})
    return Message(RecordDict({rounds.CONFIG: marks}), dst_node_id=5, message_type="train")


def answered(content: RecordDict, asked: Message | None = None) -> Message:
    asked = message() if asked is None else asked
    content[rounds.ABOUT].update(dict(asked.content.config_records[rounds.CONFIG]))
    return Message(content, reply_to=asked)


def update(w: Any = (1.0, 2.0), b: Any = 5.0, **figures: Any) -> RecordDict:
    arrays = {"w": np.asarray(w, dtype=np.float32), "b": np.asarray(b, dtype=np.float32)}
    return reply(ArrayRecord({k: Array(v) for k, v in arrays.items()}), **figures)


def test_a_reply_with_its_messages_marks_passes() -> None:
    check_echo(answered(update()), message())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"run": "sunday"}, OtherRunError, "to run 'sunday', this is 'monday'.*earlier run"),
        ({"server_round": 2}, OtherRoundError, "to round 2, this is 3: replayed"),
        ({"nonce": "bb"}, ReplayedReplyError, "another message of round 3: replayed"),
        ({"run": 7}, OtherRunError, "to run 7"),
        ({"run": "x" * 10_000}, OtherRunError, "to run 'x{59}, this"),
    ],
)
def test_a_reply_to_another_message_is_named(
    changes: dict[str, Any], error: type[BadReplyError], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_echo(answered(update(), message(**changes)), message())


@pytest.mark.parametrize("mark", MARKS)
def test_a_reply_without_a_mark_is_named(mark: str) -> None:
    found = answered(update())
    del found.content[rounds.ABOUT][mark]
    with pytest.raises(UnmarkedReplyError, match=f"without {mark}: bring its software"):
        check_echo(found, message())


def test_a_good_update_is_read_in_the_global_models_order() -> None:
    content = update((4.0, 6.0), 17.0, examples=9)
    content[rounds.ARRAYS] = ArrayRecord(dict(reversed(content[rounds.ARRAYS].items())))
    found = read_update(answered(content), MODEL)
    assert list(found.arrays) == ["w", "b"]
    assert found.norm == pytest.approx(13.0)
    assert (found.site.examples, found.site.partitions) == (9, "p1")


def test_a_huge_update_has_a_norm() -> None:
    found = read_update(answered(update((3e38, -3e38))), MODEL)
    assert found.norm == pytest.approx(3e38 * math.sqrt(2), rel=1e-6)


def lying(claimed: Array, truth: Array) -> Array:
    return Array(claimed.dtype, claimed.shape, truth.stype, truth.data)


def with_array(name: str, array: Array) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        content[rounds.ARRAYS][name] = array

    return change


def with_record(name: str, record: ArrayRecord | MetricRecord) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        content[name] = record

    return change


def without(record: str, key: str | None = None) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        if key is None:
            del content[record]
        else:
            del content[record][key]

    return change


def figure(name: str, value: Any) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        content[rounds.METRICS][name] = value

    return change


def anonymous(content: RecordDict) -> None:
    content[rounds.ABOUT][rounds.PARTITIONS] = b"\x00"


W, B = (Array(MODEL[name]) for name in "wb")
BROKEN = Array("float32", (2,), "numpy.ndarray", b"\x93NUMPY nonsense")
PICKLED = Array("float32", (2,), "pickle", b"cos\nsystem\n(S'true'\ntR.")

BAD: dict[str, tuple[Callable[[RecordDict], None], type[BadReplyError], str]] = {
    "shape": (
        with_array("w", arrays_of(1.0, 2.0, 3.0)["w"]),
        OtherModelError,
        r"w is float32\[3\] in place of float32\[2\]",
    ),
    "turned": (with_array("w", Array(np.ones((2, 1), np.float32))), OtherModelError, r"\[2, 1\]"),
    "dtype": (with_array("w", Array(np.ones(2))), OtherModelError, r"w is float64\[2\] in place"),
    "shape against its word": (
        with_array("w", lying(W, Array(np.ones(3, np.float32)))),
        OtherModelError,
        r"w is float32\[3\]",
    ),
    "dtype against its word": (
        with_array("w", lying(W, Array(np.ones(2)))),
        OtherModelError,
        r"w is float64\[2\]",
    ),
    "broken bytes": (with_array("w", BROKEN), OtherModelError, "w cannot be read"),
    "no bytes of numpy": (with_array("w", PICKLED), OtherModelError, "w cannot be read"),
    "a name more": (with_array("v", W), OtherModelError, "1 arrays such as 'v' on one side alone"),
    "a name less": (
        without(rounds.ARRAYS, "b"),
        OtherModelError,
        "1 arrays such as 'b' on one side alone",
    ),
    "no arrays": (without(rounds.ARRAYS), OtherModelError, "0 array records"),
    "more arrays": (with_record("more", arrays_of(1.0)), OtherModelError, "2 array records"),
    "nan": (
        with_array("w", arrays_of(math.nan, 1.0)["w"]),
        NotFiniteError,
        "1 of 2 values of w: training diverged; lower the learning rate",
    ),
    "infinite": (
        with_array("b", Array(np.array(np.inf, np.float32))),
        NotFiniteError,
        "1 of 1 values of b",
    ),
    "a figure missing": (
        without(rounds.METRICS, rounds.TRAIN_LOSS),
        FiguresError,
        "not the ones asked for",
    ),
    "a figure more": (figure("extra", 1.0), FiguresError, "not the ones asked for"),
    "a list": (figure(rounds.TRAIN_LOSS, [0.1, 0.2]), FiguresError, "not the ones asked for"),
    "more metrics": (
        with_record("more", MetricRecord({"x": 1})),
        FiguresError,
        "not the ones asked for",
    ),
    "no metrics": (without(rounds.METRICS), FiguresError, "not the ones asked for"),
    "half a row": (figure(rounds.EXAMPLES, 1.5), FiguresError, "num-examples is 1.5, not a number"),
    "nan rows": (figure(rounds.EXAMPLES, math.nan), FiguresError, "num-examples is nan"),
    "less than no rows": (figure(rounds.EXAMPLES, -3), FiguresError, "num-examples is -3"),
    "less than no validation rows": (
        figure(rounds.VALIDATION_EXAMPLES, -1),
        FiguresError,
        "validation_examples is -1",
    ),
    "no loss": (figure(rounds.TRAIN_LOSS, math.nan), NotFiniteError, "train_loss is nan"),
    "endless": (figure(rounds.SECONDS, math.inf), NotFiniteError, "seconds is inf"),
    "infinite loss": (
        figure(rounds.VALIDATION_LOSS, math.inf),
        NotFiniteError,
        "validation_loss is inf",
    ),
    "no rows": (figure(rounds.EXAMPLES, 0), UnknownRowsError, "0 rows of partitions 'p1'"),
    "rows of no version": (
        without(rounds.ABOUT, rounds.PARTITIONS),
        UnknownRowsError,
        "partitions None",
    ),
    "a version in bytes": (anonymous, UnknownRowsError, "which rows"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_update_has_an_error_of_its_own(kind: str) -> None:
    change, error, words = BAD[kind]
    found = answered(update())
    change(found.content)
    with pytest.raises(error, match=words):
        read_update(found, MODEL)


def test_a_figure_that_does_not_exist_is_none() -> None:
    found = read_update(answered(update(validation_auroc=math.nan)), MODEL)
    assert found.site.validation_auroc is None
    assert found.site.validation_loss == 0.5


def test_an_evaluation_is_read_and_another_one_refused() -> None:
    found = read_evaluation(answered(reply(personal_validation_auroc=0.8)))
    assert (found.examples, found.loss, found.auroc, found.threshold) == (10, 0.5, 0.75, 0.1)
    assert (found.personal_loss, found.personal_auroc) == (None, 0.8)
    assert found.privacy == STATEMENT
    silent = reply()
    del silent[rounds.PRIVACY]
    with pytest.raises(FiguresError, match="what the run cost its patients"):
        read_evaluation(answered(silent))
    with pytest.raises(FiguresError):
        read_evaluation(answered(update()))


def test_the_absolute_bound_names_the_norm() -> None:
    found = check_norms({"a": 3.0, "b": 3.1}, NormBound(absolute=3.0, relative=None))
    assert found.keys() == {"b"}
    assert isinstance(found["b"], NormError)
    assert "norm 3.1, the bound is 3:" in str(found["b"])


def test_the_relative_bound_is_a_multiple_of_the_rounds_median() -> None:
    bound = NormBound(relative=10.0)
    assert check_norms({"a": 1.0, "b": 2.0, "c": 20.0}, bound) == {}
    found = check_norms({"a": 1.0, "b": 2.0, "c": 20.5}, bound)
    assert found.keys() == {"c"}
    assert "norm 20.5, 10.2 times the round's median 2, and the bound is 10" in str(found["c"])


@pytest.mark.parametrize(
    "norms",
    [{"a": 1.0, "b": 1e6}, {"a": 0.0, "b": 0.0, "c": 5.0}, {"a": 0.0, "b": 0.0, "c": 0.0}, {}],
    ids=["two updates", "most stood still", "all stood still", "none"],
)
def test_without_a_scale_there_is_no_relative_bound(norms: dict[str, float]) -> None:
    assert check_norms(norms, NormBound()) == {}


def test_no_bound_bounds_nothing() -> None:
    assert check_norms({"a": 1.0, "b": 1.0, "c": 1e30}, NormBound(relative=None)) == {}


def test_an_infinite_norm_passes_no_bound() -> None:
    norms = {"a": 1.0, "b": 2.0, "c": math.inf}
    assert check_norms(norms, NormBound()).keys() == {"c"}
    assert check_norms(norms, NormBound(absolute=1e300, relative=None)).keys() == {"c"}


def masked(values: Any, name: str = MASKED, **figures: Any) -> RecordDict:
    return reply(ArrayRecord({name: Array(np.asarray(values))}), **figures)


def test_a_masked_update_is_taken_as_it_is_with_its_figures() -> None:
    vector = np.array([0, 2**64 - 1, 7], dtype=np.uint64)
    found = read_masked_update(answered(masked(vector, examples=12)), 3)
    assert found.arrays[MASKED].numpy().tolist() == vector.tolist()
    assert (found.site.examples, found.site.partitions) == (12, "p1")


@pytest.mark.parametrize(
    "content",
    [
        update(),
        masked(np.zeros(3, np.uint64), name="w"),
        masked(np.zeros(2, np.uint64)),
        masked(np.zeros((3, 1), np.uint64)),
        masked(np.zeros(3, np.int64)),
        masked(np.zeros(3, np.float32)),
        reply(),
    ],
    ids=["plain", "name", "short", "shape", "signed", "floats", "none"],
)
def test_what_is_not_one_masked_vector_is_refused(content: RecordDict) -> None:
    with pytest.raises(OtherModelError):
        read_masked_update(answered(content), 3)


def test_the_figures_of_a_masked_update_are_checked() -> None:
    with pytest.raises(UnknownRowsError):
        read_masked_update(answered(masked(np.zeros(3, np.uint64), examples=0)), 3)
    with pytest.raises(FiguresError):
        read_masked_update(answered(masked(np.zeros(3, np.uint64), train_loss=None)), 3)
