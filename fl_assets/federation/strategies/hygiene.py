"""The checks that a reply must pass before it counts. Trusts nothing that a site sends."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from numpy.typing import NDArray
from pydantic import ValidationError

from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError, FinalReport
from fl_assets.federation.masking_records import MASKED
from fl_assets.federation.rounds import SiteReport
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.federation.strategies.configs import NormBound

MINIMUM_FOR_RELATIVE_BOUND = 3
"""With two updates the median norm lies between them, and either could be the wrong one."""

_UPDATE_IT = "bring its software up to date"
_SHOWN = 60  # characters of a word that a site sent

Model = Mapping[str, NDArray[np.generic]]


class BadReplyError(FederationError):
    """A site's reply that must not count."""


class NotAskedError(BadReplyError):
    """A reply of a site that was not asked in this round."""


class SecondReplyError(BadReplyError):
    """Another reply of a site that has answered this round."""


class UnmarkedReplyError(BadReplyError):
    """A reply that does not say what it answers."""


class OtherRunError(BadReplyError):
    """A reply to a message of another run."""


class OtherRoundError(BadReplyError):
    """A reply to a message of another round."""


class ReplayedReplyError(BadReplyError):
    """A reply to another message of this round."""


class OtherModelError(BadReplyError):
    """An update whose arrays are not those of the global model."""


class NotFiniteError(BadReplyError):
    """An update or a figure that is infinite or not a number."""


class NormError(BadReplyError):
    """An update too far from the global model."""


class FiguresError(BadReplyError):
    """Metrics that were not asked for, or that nothing real could give."""


class UnknownRowsError(BadReplyError):
    """An update that does not say which rows it is from."""


@dataclass(frozen=True)
class Update:
    """A reply to a train message that passed every check of its own.

    Attributes:
        arrays: the new weights, in the order of the global model's.
        site: what goes into the round's report.
        norm: L2 norm of the difference from the global model; 0 for a masked one, of which it
            cannot be known.
    """

    arrays: ArrayRecord
    site: SiteReport
    norm: float


def check_echo(reply: Message, message: Message) -> None:
    """Check that a reply answers this very message.

    Raises:
        UnmarkedReplyError: no run, round or nonce in it.
        OtherRunError, OtherRoundError, ReplayedReplyError: it answers another message.
    """
    asked = message.content.config_records[rounds.CONFIG]
    about = reply.content.config_records.get(rounds.ABOUT, ConfigRecord())
    marks = (rounds.RUN, rounds.ROUND, rounds.NONCE)
    if missing := [mark for mark in marks if mark not in about]:
        raise UnmarkedReplyError(
            f"its reply does not say what it answers, without {', '.join(missing)}: {_UPDATE_IT}"
        )
    run, round_, nonce = (asked[mark] for mark in marks)
    if about[rounds.RUN] != run:
        raise OtherRunError(
            f"its reply is to run {_shown(about[rounds.RUN])}, this is {_shown(run)}: replayed "
            "from an earlier run; restart the site if it did not mean to"
        )
    if about[rounds.ROUND] != round_:
        raise OtherRoundError(
            f"its reply is to round {_shown(about[rounds.ROUND])}, this is {_shown(round_)}: "
            "replayed, or too late to count"
        )
    if about[rounds.NONCE] != nonce:
        raise ReplayedReplyError(
            f"its reply is to another message of round {_shown(round_)}: replayed, or from before "
            "the server was restarted"
        )


def read_update(reply: Message, model: Model, *, withheld: bool = False) -> Update:
    """Return a reply to a train message, checked against the global model it was sent.

    Args:
        reply: of a site.
        model: the global weights that it was sent.
        withheld: whether the site tells no loss, as under differential privacy.

    Raises:
        OtherModelError, NotFiniteError, FiguresError, UnknownRowsError: see there.
    """
    records = reply.content.array_records
    if set(records) != {rounds.ARRAYS}:
        raise OtherModelError(
            f"its update has {len(records)} array records in place of one: {_UPDATE_IT}"
        )
    sent = records[rounds.ARRAYS]
    if sent.keys() != model.keys():
        odd = sorted(sent.keys() ^ model.keys())
        raise OtherModelError(
            f"its update is of another model, {len(odd)} arrays such as {_shown(odd[0])} on one "
            f"side alone: {_UPDATE_IT}"
        )
    square = sum(_squared_distance(name, sent[name], model[name]) for name in model)
    return Update(
        arrays=ArrayRecord({name: sent[name] for name in model}),
        site=_site_report(reply, withheld),
        norm=math.sqrt(square),
    )


def read_masked_update(reply: Message, size: int, *, withheld: bool = False) -> Update:
    """Return a reply to a train message whose update is masked: one vector of noise.

    Args:
        reply: of a site.
        size: number of the model's weights.
        withheld: as for :func:`read_update`.

    Raises:
        OtherModelError, NotFiniteError, FiguresError, UnknownRowsError: see there.
    """
    records = reply.content.array_records
    if set(records) != {rounds.ARRAYS} or set(records[rounds.ARRAYS]) != {MASKED}:
        raise OtherModelError(f"its update is not one masked array: {_UPDATE_IT}")
    _decoded(MASKED, records[rounds.ARRAYS][MASKED], np.dtype(np.uint64), (size,))
    return Update(records[rounds.ARRAYS], _site_report(reply, withheld), norm=0.0)


def read_evaluation(reply: Message) -> FinalReport:
    """Return a reply to an evaluate message.

    Raises:
        FiguresError, NotFiniteError: see there.
    """
    figures = _figures(reply, rounds.EVALUATION_METRICS)
    return FinalReport(
        examples=int(figures[rounds.VALIDATION_EXAMPLES]),
        loss=rounds.from_wire(figures[rounds.VALIDATION_LOSS]),
        auroc=rounds.from_wire(figures[rounds.VALIDATION_AUROC]),
        threshold=rounds.from_wire(figures[rounds.THRESHOLD]),
        personal_loss=rounds.from_wire(figures[rounds.PERSONAL_VALIDATION_LOSS]),
        personal_auroc=rounds.from_wire(figures[rounds.PERSONAL_VALIDATION_AUROC]),
        privacy=read_statement(reply),
    )


def read_statement(reply: Message) -> PrivacyStatement:
    """Return what a site says of its patients' privacy.

    Raises:
        FiguresError: it says nothing, or what cannot be read.
    """
    told = reply.content.config_records.get(rounds.PRIVACY, ConfigRecord())
    try:
        return PrivacyStatement.model_validate_json(str(told.get(rounds.PRIVACY)))
    except ValidationError as error:
        raise FiguresError(
            f"it does not say what the run cost its patients: {_UPDATE_IT}"
        ) from error


def check_norms(norms: Mapping[str, float], bound: NormBound) -> dict[str, NormError]:
    """Return what is wrong with the norms of a round's updates, by hospital.

    The relative bound needs 3 updates, and a median above 0: where most sites send the global
    model back there is no scale to measure another one by.
    """
    found: dict[str, NormError] = {}
    middle = median(norms.values()) if len(norms) >= MINIMUM_FOR_RELATIVE_BOUND else 0.0
    for name, norm in norms.items():
        if bound.absolute is not None and norm > bound.absolute:
            found[name] = NormError(
                f"its update has norm {norm:.4g}, the bound is {bound.absolute:g}: poisoned or "
                "diverging; lower the learning rate, or raise `norm_bound.absolute`"
            )
        elif bound.relative is not None and middle and norm > bound.relative * middle:
            found[name] = NormError(
                f"its update has norm {norm:.4g}, {norm / middle:.3g} times the round's median "
                f"{middle:.4g}, and the bound is {bound.relative:g} times: poisoned or diverging; "
                "lower the learning rate, or raise `norm_bound.relative`"
            )
    return found


def _decoded(
    name: str, sent: Array, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> NDArray[np.generic]:
    try:
        value = sent.numpy()
    except Exception as error:
        # Whatever bytes a site sends must not end the run, whatever they do to the decoder.
        raise OtherModelError(
            f"its update's {name} cannot be read ({type(error).__name__}): {_UPDATE_IT}"
        ) from error
    # Of the decoded array: what the record says beside it is the site's word alone.
    found = getattr(value, "dtype", None), getattr(value, "shape", None)
    if found != (dtype, shape):
        raise OtherModelError(
            f"its update is of another model, {name} is {found[0]}{list(found[1] or ())} in place "
            f"of {dtype}{list(shape)}: {_UPDATE_IT}"
        )
    return value


def _squared_distance(name: str, sent: Array, expected: NDArray[np.generic]) -> float:
    value = _decoded(name, sent, expected.dtype, expected.shape)
    if not (finite := np.isfinite(value)).all():
        raise NotFiniteError(
            f"its update is not finite, {value.size - int(finite.sum())} of {value.size} values of "
            f"{name}: training diverged; lower the learning rate"
        )
    difference = value.astype(np.float64).ravel() - expected.astype(np.float64).ravel()
    return float(difference @ difference)


def _site_report(reply: Message, withheld: bool) -> SiteReport:
    figures = _figures(reply, rounds.UPDATE_METRICS, {rounds.TRAIN_LOSS} if withheld else set())
    about = reply.content.config_records.get(rounds.ABOUT, ConfigRecord())
    partitions = about.get(rounds.PARTITIONS)
    if figures[rounds.EXAMPLES] < 1 or not isinstance(partitions, str):
        raise UnknownRowsError(
            f"its update does not say which rows it is from, {figures[rounds.EXAMPLES]:g} rows of "
            f"partitions {_shown(partitions)}: {_UPDATE_IT}"
        )
    return SiteReport(
        examples=int(figures[rounds.EXAMPLES]),
        train_loss=rounds.from_wire(figures[rounds.TRAIN_LOSS]),
        validation_examples=int(figures[rounds.VALIDATION_EXAMPLES]),
        validation_loss=rounds.from_wire(figures[rounds.VALIDATION_LOSS]),
        validation_auroc=rounds.from_wire(figures[rounds.VALIDATION_AUROC]),
        seconds=figures[rounds.SECONDS],
        partitions=partitions,
    )


def _figures(
    reply: Message, expected: frozenset[str], withheld: Collection[str] = ()
) -> dict[str, float]:
    """Return a reply's metrics; Flower gives up the whole run where sites send different ones."""
    records = reply.content.metric_records
    sent = records[rounds.METRICS] if set(records) == {rounds.METRICS} else MetricRecord()
    figures = {name: value for name, value in sent.items() if not isinstance(value, list)}
    if figures.keys() != expected or len(sent) != len(expected):
        raise FiguresError(f"its figures are not the ones asked for: {_UPDATE_IT}")
    for name, value in figures.items():
        _check_figure(name, value, name in withheld)
    return {name: float(value) for name, value in figures.items()}


def _check_figure(name: str, value: float, withheld: bool) -> None:
    if name in (rounds.EXAMPLES, rounds.VALIDATION_EXAMPLES):
        if not isinstance(value, int) or value < 0:
            raise FiguresError(f"its {name} is {value!r}, not a number of rows: {_UPDATE_IT}")
    elif math.isinf(value) or (
        math.isnan(value) and name in (rounds.TRAIN_LOSS, rounds.SECONDS) and not withheld
    ):
        raise NotFiniteError(f"its {name} is {value}: training diverged; lower the learning rate")


def _shown(word: object) -> str:
    return repr(word)[:_SHOWN]
