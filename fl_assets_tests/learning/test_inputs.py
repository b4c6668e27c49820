import numpy as np
import pytest

from fl_assets.errors import BadDataError
from fl_assets.learning.inputs import (
    BadLabelError,
    BadScoreError,
    EmptyInputError,
    LengthMismatchError,
    checked,
)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, np.float64])
def test_any_type_of_label_is_taken(dtype):
    positive, score = checked(np.array([0, 1, 1], dtype), np.array([0, 0.5, 1], np.float32))
    assert positive.tolist() == [False, True, True]
    assert score.dtype == np.float64


@pytest.mark.parametrize(
    ("y", "score", "error"),
    [
        ([], [], EmptyInputError),
        ([0, 1], [0.5], LengthMismatchError),
        ([[0, 1]], [[0.5, 0.5]], LengthMismatchError),
        ([0, 2], [0.5, 0.5], BadLabelError),
        ([0, np.nan], [0.5, 0.5], BadLabelError),
        ([0, 1], [0.5, np.nan], BadScoreError),
        ([0, 1], [0.5, np.inf], BadScoreError),
        ([0, 1], [-0.1, 0.5], BadScoreError),
        ([0, 1], [0.5, 1.1], BadScoreError),
    ],
)
def test_what_no_metric_can_be_computed_from(y, score, error):
    with pytest.raises(error) as caught:
        checked(np.array(y), np.array(score))
    assert isinstance(caught.value, BadDataError)


def test_the_message_counts_and_quotes_no_value():
    with pytest.raises(BadScoreError, match="2 of 3 scores") as caught:
        checked(np.array([0, 1, 1]), np.array([0.25, 7.125, np.nan]))
    assert "7.125" not in str(caught.value)
