"""What a round reports: the names on the wire and the record that is kept."""

from __future__ import annotations

import math
from typing import Literal, Protocol

from fl_assets.config import StrictModel
from fl_assets.learning.metrics import weighted_mean

# Records of a message. Flower's strategies insist on these two names ...
ARRAYS = "arrays"
CONFIG = "config"
# ... and take exactly one metric record; ours of words goes beside it.
METRICS = "metrics"
ABOUT = "about"

# Keys within them. Run, round and nonce go out with every message and must come back with its
# reply, so that a reply to anything else is refused.
ROUND = "server-round"
RUN = "run"
NONCE = "nonce"
EXAMPLES = "num-examples"
TRAIN_LOSS = "train_loss"
VALIDATION_EXAMPLES = "validation_examples"
VALIDATION_LOSS = "validation_loss"
VALIDATION_AUROC = "validation_auroc"
PERSONAL_VALIDATION_LOSS = "personal_validation_loss"
PERSONAL_VALIDATION_AUROC = "personal_validation_auroc"
THRESHOLD = "threshold"
SECONDS = "seconds"
PARTITIONS = "partitions"
PRIVACY = "privacy"

_VALIDATION = {VALIDATION_EXAMPLES, VALIDATION_LOSS, VALIDATION_AUROC}
UPDATE_METRICS = frozenset({EXAMPLES, TRAIN_LOSS, SECONDS} | _VALIDATION)
_PERSONAL = {PERSONAL_VALIDATION_LOSS, PERSONAL_VALIDATION_AUROC}
EVALUATION_METRICS = frozenset({THRESHOLD} | _VALIDATION | _PERSONAL)


Phase = Literal["pretraining", "training"]
"""Part of a run, in this order; the first only where the recipe asks for it."""


class SiteReport(StrictModel):
    """One site's part in a round.

    Attributes:
        examples: training rows.
        train_loss: mean over the last local epoch; None where it is withheld for privacy.
        validation_examples: rows behind the validation figures.
        validation_loss, validation_auroc: of the model that the site received, None where the
            metric does not exist.
        seconds: the site's own time.
        partitions: version of the partitions it used.
    """

    examples: int
    train_loss: float | None
    validation_examples: int
    validation_loss: float | None
    validation_auroc: float | None
    seconds: float
    partitions: str


class RoundReport(StrictModel):
    """One round, as it is logged, shown and kept.

    Attributes:
        round: from 1.
        rounds: of the whole run.
        sites: that took part, by hospital.
        dropouts: cause by hospital, of every site that was asked and does not count, and of every
            hospital of the run that was not online.
        rejected: sites with a reply that was refused; dropouts as well, unless another reply of
            theirs counts.
        seconds: from the first message out to the new global model.
        aggregation: of these, from the last reply in to the new global model.
        gap: seconds before this round, from the last reply of the round before to the first
            message out; None for the first round of a run or of its resumption.
        sent, received: bytes of arrays, over all sites; where sums are masked also of keys and
            shares.
    """

    round: int
    rounds: int
    sites: dict[str, SiteReport]
    dropouts: dict[str, str]
    rejected: tuple[str, ...] = ()
    seconds: float
    sent: int
    received: int
    # Reports stored by earlier versions lack these.
    aggregation: float = 0.0
    gap: float | None = None

    @property
    def train_loss(self) -> float | None:
        """Mean over sites, weighted by training rows."""
        return weighted_mean([(s.train_loss, s.examples) for s in self.sites.values()])

    @property
    def validation_loss(self) -> float | None:
        """Mean over sites, weighted by validation rows, of the model the round began with."""
        return weighted_mean(
            [(s.validation_loss, s.validation_examples) for s in self.sites.values()]
        )

    @property
    def validation_auroc(self) -> float | None:
        """Mean over the sites where it exists, weighted by validation rows."""
        return weighted_mean(
            [(s.validation_auroc, s.validation_examples) for s in self.sites.values()]
        )


class RoundObserver(Protocol):
    """Is told of every round as it ends."""

    def __call__(self, report: RoundReport) -> None:
        """Take note of a round."""


def to_wire(value: float | None) -> float:
    """Metric records hold numbers only: what does not exist travels as NaN."""
    return math.nan if value is None else float(value)


def from_wire(value: float) -> float | None:
    """Undo :func:`to_wire`."""
    return None if math.isnan(value) else value
