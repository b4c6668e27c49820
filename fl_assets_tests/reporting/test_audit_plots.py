import numpy as np

from fl_assets.reporting.audit_plots import LOWEST, attack_roc
from fl_assets.reporting.images import MUTED, PALETTE

RATES = np.linspace(0, 1, 64)


def points(power):
    return [(float(x), float(x**power)) for x in RATES]


def test_every_attack_has_a_curve_beside_chance(look):
    shot = look(attack_roc({"candidate": points(1.0), "control": points(0.2)}))
    assert shot.count(PALETTE[0]) > 200
    assert shot.count(PALETTE[1]) > 200
    assert shot.count(MUTED) > 50


def test_a_strong_attack_is_seen_at_few_false_alarms(look):
    """On linear axes the curve of the first thousandth would be a stroke at the left edge."""
    strong = [(0.0, 0.0), (2 * LOWEST, 0.5), (1.0, 1.0)]
    shot = look(attack_roc({"control": strong}))
    drawn = (np.abs(shot.pixels - [0x00, 0x72, 0xB2]).max(axis=-1) < 12).any(axis=0)
    assert drawn.sum() > 0.5 * shot.width


def test_without_a_result_it_says_so(look):
    look(attack_roc({}))
