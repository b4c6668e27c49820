from typing import Any

import pytest
from pydantic import ValidationError

from fl_assets.cohorts.synthetic_spec import Mixture, Mode, Piece, Piecewise

MODE: dict[str, Any] = {"mean": {"base": 5}, "sd": {"base": 2}}


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"low": 7, "high": 6}, "low 7 must not be above high 6"),
        ({"low": 1.0005, "high": 6}, r"1\.0005 has more than 3 decimals"),
        ({"low": 1, "high": 6.12345}, r"6\.12345 has more than 3 decimals"),
    ],
)
def test_bounds_are_in_order_and_on_the_grid(bounds: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Piece.model_validate({**bounds, "weight": 1, "decimals": 3})
    with pytest.raises(ValidationError, match=message):
        Mixture.model_validate(
            {"kind": "mixture", "name": "x", **bounds, "decimals": 3, "modes": [MODE]}
        )


@pytest.mark.parametrize(
    ("effects", "positive"),
    [
        ({"flag": {1: -1.9}}, True),
        ({"flag": {1: -2}}, False),
        ({"flag": {1: -1.5}, "number": {0: -0.5, 9: 3}}, False),
        ({"flag": {1: 5}, "number": {0: 4, 9: 3}}, True),
    ],
)
def test_sd_stays_positive(effects: dict[str, dict[float, float]], positive: bool) -> None:
    document = {"mean": {}, "sd": {"base": 2, "by": effects}}
    if positive:
        assert Mode.model_validate(document).sd.base == 2
    else:
        with pytest.raises(ValidationError, match="sd may fall to 0"):
            Mode.model_validate(document)


def test_range_of_a_piecewise_number() -> None:
    pieces = [{"low": 5, "high": 8, "weight": 1}, {"low": 1, "high": 2, "weight": 1}]
    generator = Piecewise.model_validate({"kind": "piecewise", "name": "x", "pieces": pieces})
    assert (generator.low, generator.high) == (1, 8)
