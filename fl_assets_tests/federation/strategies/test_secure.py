"""Masked sums over hospitals that do what a test tells them to; the site's side is the real one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fl_assets.errors import FlAssetsError
from fl_assets.federation import masked_site, rounds
from fl_assets.federation import masking_records as records
from fl_assets.federation.client_app import keep_details_home
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.strategies.consortium import ConsortiumStrategy, QuorumNotReachedError
from fl_assets.federation.strategies.flower import TooFewForSumsError, build_strategy
from fl_assets.federation.strategies.secure import MeanTooLargeError, SecureSumFailedError
from fl_assets.site.training import Update, Validation
from fl_assets_tests.federation.little import (
    RUN,
    Grid,
    answer,
    arrays_of,
    little_recipe,
    reply,
    round_of,
    values_of,
)

FIVE = tuple(f"hospital-{letter}" for letter in "abcde")
ROWS = dict(zip(FIVE, (170, 140, 201, 35, 90), strict=True))
STEPS = ("keys", "shares", "train", "unmask")
START = (0.5, -1.0, 2.0)
Change = Callable[[RecordDict], None]


class ClosedWardError(FlAssetsError):
    """A failure of ours, whose message is written for everyone to read."""


def update_of(hospital: str, round_: int = 1) -> torch.Tensor:
    """What a hospital has after a round, whatever came in."""
    random = np.random.default_rng([FIVE.index(hospital), round_])
    return torch.from_numpy(random.normal(size=3).astype(np.float32))


def mean_of(hospitals: Collection[str], round_: int = 1) -> list[float]:
    """The weighted mean, computed without masks."""
    names = sorted(hospitals)
    stacked = [update_of(name, round_).double().numpy() for name in names]
    return np.average(stacked, axis=0, weights=[ROWS[name] for name in names]).tolist()


class MaskedGrid(Grid):
    """Hospitals that take part in masked sums.

    Args:
        recipe: of the run.
        names: of the hospitals.
        fails: step and round in which a hospital fails, by hospital.
        changes: to what a hospital answers, by hospital and step.
    """

    def __init__(
        self,
        recipe: Recipe,
        names: Collection[str] = FIVE,
        fails: Mapping[str, tuple[str, int]] | None = None,
        changes: Mapping[tuple[str, str], Change] | None = None,
    ) -> None:
        super().__init__({}, names=tuple(names))
        self._fails, self._changes = fails or {}, changes or {}
        self._app = app = ClientApp(mods=[keep_details_home])
        self.replies: list[Message] = []

        @app.query("keys")
        def keys(message: Message, context: Context) -> Message:
            return self._take_part(message, context, "keys", masked_site.advertise, recipe)

        @app.query("shares")
        def shares(message: Message, context: Context) -> Message:
            return self._take_part(message, context, "shares", masked_site.share, recipe)

        @app.query("unmask")
        def unmask(message: Message, context: Context) -> Message:
            return self._take_part(message, context, "unmask", masked_site.unmask, recipe)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            hospital = self._arrive(message, context, "train")
            trained = update_of(hospital, round_of(message))
            update = Update({"w": trained}, ROWS[hospital], 0.4, Validation(10, 0.5, 0.75), 0.01)
            masked = masked_site.masked(message, context, recipe, update)
            return self._leave(message, hospital, "train", reply(masked, ROWS[hospital]))

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return answer(message, reply())

    def _take_part(self, message: Message, context: Context, name: str, step: Any, recipe: Recipe):
        hospital = self._arrive(message, context, name)
        content = RecordDict({**step(message, context, recipe), rounds.ABOUT: ConfigRecord()})
        return self._leave(message, hospital, name, content)

    def _arrive(self, message: Message, context: Context, step: str) -> str:
        hospital = str(context.node_config["hospital"])
        if self._fails.get(hospital) == (step, round_of(message)):
            raise ClosedWardError(f"no {step} today: ask again tomorrow")
        return hospital

    def _leave(self, message: Message, hospital: str, step: str, content: RecordDict) -> Message:
        self._changes.get((hospital, step), lambda content: None)(content)
        content[rounds.ABOUT].update(dict(message.content.config_records[rounds.CONFIG]))
        return answer(message, content)


def federate(
    fails: Mapping[str, tuple[str, int]] | None = None,
    changes: Mapping[tuple[str, str], Change] | None = None,
    names: Collection[str] = FIVE,
    **asked: Any,
) -> tuple[list[float], ConsortiumStrategy]:
    """Run the real strategy; return the global weights and the strategy."""
    recipe = little_recipe(**{"secure_aggregation": {}, "quorum": min(3, len(names))} | asked)
    grid = MaskedGrid(recipe, names, fails, changes)
    inner = build_strategy(recipe, len(names))
    strategy = ConsortiumStrategy(inner, recipe, RUN, grid.hospitals)
    result = strategy.start(
        grid, arrays_of(*START), num_rounds=recipe.rounds, timeout=recipe.round_deadline
    )
    return values_of(result.arrays), strategy


def test_the_global_model_is_the_mean_weighted_by_training_rows() -> None:
    found, strategy = federate(rounds=2)
    np.testing.assert_allclose(found, mean_of(FIVE, 2), atol=1e-6)
    for report in strategy.reports:
        assert {name: site.examples for name, site in report.sites.items()} == ROWS
        assert (report.dropouts, report.rejected) == ({}, ())
    assert set(strategy.final) == set(FIVE)


def test_a_report_counts_the_bytes_of_keys_and_shares_too() -> None:
    _, strategy = federate()
    (report,) = strategy.reports
    sealed, share = 12 + 66 + 16, 33
    model, masked = len(arrays_of(*START)["w"].data), len(Array(np.zeros(3, np.uint64)).data)
    assert report.sent == 5 * model + 25 * 64 + 20 * sealed
    assert report.received == 5 * masked + 5 * 64 + 20 * sealed + 25 * 64 + 25 * share


@pytest.mark.parametrize("away", [FIVE[:1], FIVE[3:], FIVE[1:3]])
@pytest.mark.parametrize("step", STEPS)
def test_dropouts_of_five_are_recovered_whenever_they_fail(step: str, away: list[str]) -> None:
    found, strategy = federate(dict.fromkeys(away, (step, 1)))
    counted = FIVE if step == "unmask" else [name for name in FIVE if name not in away]
    np.testing.assert_allclose(found, mean_of(counted), atol=1e-6)
    (report,) = strategy.reports
    assert list(report.sites) == list(counted)
    assert report.dropouts.keys() == set(FIVE) - set(counted)
    for cause in report.dropouts.values():
        assert cause == f"ClosedWardError: no {step} today: ask again tomorrow"


def test_dropouts_at_different_steps_rejoin_in_the_next_round() -> None:
    fails = {FIVE[0]: ("keys", 1), FIVE[4]: ("train", 1), FIVE[2]: ("shares", 2)}
    found, strategy = federate(fails, rounds=2)
    first, second = strategy.reports
    assert set(first.sites) == set(FIVE[1:4])
    assert second.dropouts.keys() == {FIVE[2]}
    np.testing.assert_allclose(found, mean_of(second.sites, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("keys", r"round has 2 sites, and masked sums need 3"),
        ("shares", r"2 sites have dealt shares, and the sum stays masked below 3"),
        ("train", r"2 sites delivered a masked vector, and the sum stays masked below 3"),
        ("unmask", r"2 sites revealed a right share of hospital-a's secret"),
    ],
)
def test_below_the_threshold_the_round_fails_with_every_cause(step: str, words: str) -> None:
    with pytest.raises(SecureSumFailedError, match=rf"^round 1 has no secure sum: .*{words}") as e:
        federate(dict.fromkeys(FIVE[2:], (step, 1)), quorum=1)
    for name in FIVE[2:]:
        assert f"{name}: ClosedWardError: no {step} today" in str(e.value)


@pytest.mark.parametrize("step", STEPS[:3])
def test_a_quorum_holds_for_masked_sums_too(step: str) -> None:
    with pytest.raises(QuorumNotReachedError, match=rf"quorum is 5 \(hospital-b: .*no {step}"):
        federate({FIVE[1]: (step, 1)}, quorum=5)


@pytest.mark.parametrize(("sites", "changes"), [(2, {}), (5, {"fraction": 0.3, "quorum": 1})])
def test_a_run_of_too_few_sites_is_refused_at_its_start(sites: int, changes: Any) -> None:
    with pytest.raises(TooFewForSumsError, match=r"has 2 sites and .secure_aggregation. needs 3"):
        federate(names=FIVE[:sites], **changes)


def test_three_sites_of_which_one_drops_out() -> None:
    found, _ = federate({FIVE[1]: ("train", 1)}, names=FIVE[:3], quorum=2)
    np.testing.assert_allclose(found, mean_of([FIVE[0], FIVE[2]]), atol=1e-6)


def plain(content: RecordDict) -> None:
    content[rounds.ARRAYS] = arrays_of(1.0, 2.0, 3.0)


def float_vector(content: RecordDict) -> None:
    content[rounds.ARRAYS] = ArrayRecord({records.MASKED: arrays_of(1.0, 2.0, 3.0)["w"]})


def short_vector(content: RecordDict) -> None:
    content[rounds.ARRAYS] = ArrayRecord({records.MASKED: Array(np.zeros(2, dtype=np.uint64))})


def set_record(name: str, **values: Any) -> Change:
    return lambda content: content.__setitem__(name, records.record_of(values))


def without(name: str) -> Change:
    return lambda content: content.__delitem__(name)


BAD = {
    "keys of another": ("keys", set_record(records.KEYS, other=bytes(64)), "another length"),
    "keys too short": ("keys", set_record(records.KEYS, **{FIVE[1]: b"ab"}), "another length"),
    "weak keys": ("keys", set_record(records.KEYS, **{FIVE[1]: bytes(64)}), "protects nobody"),
    "keys of words": ("keys", set_record(records.KEYS, **{FIVE[1]: "abc"}), "no keys of the form"),
    "no keys": ("keys", without(records.KEYS), "no keys of the form"),
    "no shares": ("shares", without(records.SEALED), "no sealed of the form"),
    "shares for strangers": ("shares", set_record(records.SEALED, x=b"1"), "two shares to every"),
    "no digests": ("shares", set_record(records.DIGESTS), "two shares to every"),
    "a plain update": ("train", plain, "not one masked array"),
    "floats": ("train", float_vector, "masked is float32"),
    "a short vector": ("train", short_vector, r"uint64\[2\] in place of uint64\[3\]"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_answer_is_rejected_and_the_others_go_on(kind: str) -> None:
    step, change, cause = BAD[kind]
    found, strategy = federate(changes={(FIVE[1], step): change})
    (report,) = strategy.reports
    assert report.rejected == (FIVE[1],)
    np.testing.assert_allclose(found, mean_of(report.sites), atol=1e-6)
    with pytest.raises(QuorumNotReachedError, match=rf"hospital-b: .*{cause}"):
        federate(changes={(FIVE[1], step): change}, quorum=5)


def test_who_copies_a_public_key_is_left_out_with_its_owner() -> None:
    taken: dict[str, bytes] = {}

    def take(content: RecordDict) -> None:
        taken.update(records.bytes_from(content, records.KEYS))

    def copy(content: RecordDict) -> None:
        content[records.KEYS] = records.record_of({FIVE[1]: taken[FIVE[0]]})

    found, strategy = federate(changes={(FIVE[0], "keys"): take, (FIVE[1], "keys"): copy})
    (report,) = strategy.reports
    assert report.rejected == FIVE[:2]
    assert all("another site's as well" in report.dropouts[name] for name in FIVE[:2])
    np.testing.assert_allclose(found, mean_of(FIVE[2:]), atol=1e-6)


@pytest.mark.parametrize("change", [without(records.SHARES), set_record(records.SHARES, x=b"1")])
def test_a_site_that_reveals_wrong_shares_counts_and_is_named(change: Change) -> None:
    found, strategy = federate(changes={(FIVE[3], "unmask"): change})
    (report,) = strategy.reports
    np.testing.assert_allclose(found, mean_of(FIVE), atol=1e-6)
    assert report.rejected == (FIVE[3],)
    assert report.dropouts == {}


def test_a_vector_under_other_masks_ends_the_run() -> None:
    def scramble(content: RecordDict) -> None:
        noise = np.random.default_rng(1).integers(0, 2**64, 3, dtype=np.uint64)
        noise[0] = 2**63
        vector = content[rounds.ARRAYS][records.MASKED].numpy() + noise
        content[rounds.ARRAYS] = ArrayRecord({records.MASKED: Array(vector)})

    with pytest.raises(SecureSumFailedError, match="mask is left"):
        federate(changes={(FIVE[0], "train"): scramble})


def test_the_absolute_bound_is_on_the_mean() -> None:
    norm = float(np.linalg.norm(np.subtract(mean_of(FIVE), START)))
    federate(norm_bound={"absolute": norm * 1.001})
    with pytest.raises(
        MeanTooLargeError, match=rf"norm {norm:.4g}, the bound is .*without `secure_aggregation`"
    ):
        federate(norm_bound={"absolute": norm * 0.999})


def test_the_wave_after_a_late_site_asks_only_the_others() -> None:
    asked: list[tuple[str, str]] = []

    def note(hospital: str, step: str) -> Change:
        return lambda content: asked.append((step, hospital))

    changes = {(name, step): note(name, step) for name in FIVE for step in STEPS}
    federate({FIVE[0]: ("keys", 1), FIVE[2]: ("train", 1)}, changes)
    assert asked == [
        *(("keys", name) for name in FIVE[1:]),
        *(("shares", name) for name in FIVE[1:]),
        *(("train", name) for name in (FIVE[1], *FIVE[3:])),
        *(("unmask", name) for name in (FIVE[1], *FIVE[3:])),
    ]
