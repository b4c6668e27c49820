"""The ClientApp: what a hospital answers to a message of the server, in every runtime."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from fl_assets.errors import FlAssetsError
from fl_assets.federation import masked_site, rounds
from fl_assets.federation.flower_internals import ClientAppCallable
from fl_assets.federation.participant import Participant
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.site_config import SiteConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.site.egress import EgressKind, EgressLog
from fl_assets.site.training import Update, Validation
from fl_assets.storage import open_store

log = logging.getLogger(__name__)


class SiteFailedError(FlAssetsError):
    """A site failed in a way nobody foresaw; its details stay at the site."""

    def __init__(self, hospital: str, error: Exception) -> None:
        super().__init__(
            f"{hospital} failed with {type(error).__name__}: see the site's own log for details"
        )


def keep_details_home(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let no unforeseen error text out: a library may have put a patient's value into it.

    The site's log, which the coordinator's may be in a simulation, says where it happened.
    """
    try:
        return call_next(message, context)
    except FlAssetsError:
        raise
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("unforeseen %s, whose text may hold a value:\n%s", type(error).__name__, where)
        raise SiteFailedError(str(context.node_config["hospital"]), error) from None


app = ClientApp(mods=[keep_details_home])


class _Asked(NamedTuple):
    """What a context says of the run and of this site."""

    run_id: int
    run: str
    recipe: str
    preprocessor: str
    checkpoints: int
    config: SiteConfig
    witness: str

    @classmethod
    def by(cls, context: Context) -> _Asked:
        run, config = context.run_config, SiteConfig.of_node(context.node_config)
        return cls(
            context.run_id,
            str(run["run"]),
            str(run["recipe"]),
            str(run["preprocessor"]),
            int(run["keep-checkpoints"]),
            config,
            json.loads(str(run["witnesses"])).get(config.hospital, ""),
        )


class _Site:
    """A hospital in one run: its part in it, and its egress log."""

    def __init__(self, asked: _Asked) -> None:
        store = open_store(asked.config.store, asked.config.access)
        self.asked = asked
        self._egress = EgressLog(store)
        self.recipe = Recipe.model_validate_json(asked.recipe)
        self.participant = Participant(
            asked.config,
            store,
            run=asked.run,
            recipe=self.recipe,
            preprocessor=Preprocessor.model_validate_json(asked.preprocessor),
            checkpoints=asked.checkpoints,
            witnesses=(LedgerHead.model_validate_json(asked.witness),) if asked.witness else (),
        )

    def reply(
        self,
        message: Message,
        kind: EgressKind,
        detail: str,
        metrics: MetricRecord,
        arrays: ArrayRecord | None = None,
        records: Mapping[str, ConfigRecord] = MappingProxyType({}),
    ) -> Message:
        """Write the egress log, then make the reply."""
        asked = message.content.config_records[rounds.CONFIG]
        # Sent back, so that the server sees which of its messages this answers.
        echo = {name: asked[name] for name in (rounds.RUN, rounds.ROUND, rounds.NONCE)}
        about = ConfigRecord({rounds.PARTITIONS: self.participant.partitions, **echo})
        content = RecordDict({rounds.METRICS: metrics, rounds.ABOUT: about})
        leaving = repr(sorted(metrics.items())).encode()
        if arrays is not None:
            content[rounds.ARRAYS] = arrays
            leaving += b"".join(array.data for array in arrays.values())
        for name, record in records.items():
            content[name] = record
            leaving += repr(sorted(record.items())).encode()
        self._egress.release(kind, self.asked.run, leaving, detail)
        return Message(content, reply_to=message)


_sites: dict[str, _Site] = {}


def _site(context: Context) -> _Site:
    """Return this site, which opens its rows once per run and lets go of those of the last one.

    One process may play many hospitals, so there is one for each.
    """
    asked = _Asked.by(context)
    hospital = asked.config.hospital
    site = _sites.get(hospital)
    if site is None or site.asked != asked:
        site = _sites[hospital] = _Site(asked)
    return site


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round from the global weights and answer with the site's own."""
    site = _site(context)
    return _update(site, message, context, site.participant.train, "round")


@app.train("pretrain")
def pretrain(message: Message, context: Context) -> Message:
    """Pre-train the encoder for one round and answer with its weights."""
    site = _site(context)
    return _update(site, message, context, site.participant.pretrain, "pre-training round")


@app.query("reserve")
def reserve(message: Message, context: Context) -> Message:
    """Reserve what the run may cost, or refuse, before any site trains."""
    site = _site(context)
    records = {rounds.PRIVACY: _spent(site)}
    return site.reply(message, "reservation", "reserved", MetricRecord(), records=records)


@app.query("close")
def close(message: Message, context: Context) -> Message:
    """Settle by what was released: other sites have refused, and the run is not to be."""
    site = _site(context)
    site.participant.close()
    return site.reply(message, "reservation", "closed", MetricRecord())


@app.query("keys")
def keys(message: Message, context: Context) -> Message:
    """Begin a masked sum: answer with public keys."""
    return _masking(message, context, masked_site.advertise, "keys")


@app.query("shares")
def shares(message: Message, context: Context) -> Message:
    """Deal shares of this site's secrets, sealed for each of the other sites."""
    return _masking(message, context, masked_site.share, "shares dealt")


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Reveal the shares that take the masks off the sum."""
    return _masking(message, context, masked_site.unmask, "shares revealed")


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Validate the last global weights and the hospital's own, and answer with figures alone."""
    site = _site(context)
    round_ = _round(message)
    found, personal = site.participant.evaluate(_weights(message), round_)
    metrics = MetricRecord(
        {
            rounds.THRESHOLD: rounds.to_wire(found.threshold),
            **_validation_metrics(found),
            rounds.PERSONAL_VALIDATION_LOSS: rounds.to_wire(personal.loss if personal else None),
            rounds.PERSONAL_VALIDATION_AUROC: rounds.to_wire(personal.auroc if personal else None),
        }
    )
    records = {rounds.PRIVACY: _spent(site)}
    return site.reply(message, "evaluation", f"round {round_}", metrics, records=records)


def _spent(site: _Site) -> ConfigRecord:
    return ConfigRecord({rounds.PRIVACY: site.participant.statement().model_dump_json()})


def _masking(
    message: Message,
    context: Context,
    step: Callable[[Message, Context, Recipe], Mapping[str, ConfigRecord]],
    what: str,
) -> Message:
    site = _site(context)
    records = step(message, context, site.recipe)
    detail = f"{what}, round {_round(message)}"
    return site.reply(message, "secure_sum", detail, MetricRecord(), records=records)


def _update(
    site: _Site,
    message: Message,
    context: Context,
    work: Callable[[Mapping[str, Tensor], int], Update],
    what: str,
) -> Message:
    round_ = _round(message)
    update = work(_weights(message), round_)
    metrics = MetricRecord(
        {
            rounds.EXAMPLES: update.examples,
            rounds.TRAIN_LOSS: rounds.to_wire(update.loss),
            rounds.SECONDS: update.seconds,
            **_validation_metrics(update.validation),
        }
    )
    if site.recipe.secure_aggregation is None:
        arrays = ArrayRecord(update.weights)
    else:
        arrays, what = masked_site.masked(message, context, site.recipe, update), f"masked {what}"
    return site.reply(message, "update", f"{what} {round_}", metrics, arrays)


def _weights(message: Message) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = message.content.array_records[rounds.ARRAYS].to_torch_state_dict()
    return weights


def _round(message: Message) -> int:
    return int(message.content.config_records[rounds.CONFIG][rounds.ROUND])  # type: ignore[arg-type]


def _validation_metrics(validation: Validation) -> dict[str, float | int]:
    return {
        rounds.VALIDATION_EXAMPLES: validation.examples,
        rounds.VALIDATION_LOSS: rounds.to_wire(validation.loss),
        rounds.VALIDATION_AUROC: rounds.to_wire(validation.auroc),
    }
