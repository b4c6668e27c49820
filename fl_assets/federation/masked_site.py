"""A site's side of masked sums: its answers, and its phase in the context between messages.

The phase holds the secrets of one round. It stays at the site, where Flower keeps the context, and
is deleted with the last answer of the round; a new round begins with new keys.
"""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message

from fl_assets.federation import masking_records as records
from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError
from fl_assets.federation.recipe import Recipe
from fl_assets.privacy.configs import SecureAggregationConfig
from fl_assets.privacy.masking import site
from fl_assets.privacy.masking.keys import Scope
from fl_assets.privacy.masking.roster import threshold_of
from fl_assets.site.training import Update

_STATE = "masking"


class NoSecureSumsError(FederationError):
    """A site was asked for a part in masked sums though its recipe says nothing of them."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"recipe {recipe} asks for no secure aggregation: bring server and site to the same "
            "version of the software"
        )


def advertise(message: Message, context: Context, recipe: Recipe) -> records.Records:
    """Begin a round with new keys, and forget the last one.

    Raises:
        NoSecureSumsError: the recipe asks for none.
    """
    _asked(recipe)
    hospital = str(context.node_config["hospital"])
    phase = site.Advertised.begin(_scope(message), hospital)
    _keep(context, phase)
    return records.keys_to_records({hospital: phase.public})


def share(message: Message, context: Context, recipe: Recipe) -> records.Records:
    """Deal shares of this site's secrets to those whose keys came.

    Raises:
        NoSecureSumsError: the recipe asks for none.
        MaskingError: this site does not take part, see ``privacy/masking/errors.py``.
    """
    asked = _asked(recipe)
    peers = records.keys_from(message.content)
    threshold = threshold_of(asked.threshold, len(peers))
    after, dealing = _phase(message, context, site.Advertised).share(peers, threshold)
    _keep(context, after)
    return records.dealing_to_records(dealing)


def masked(message: Message, context: Context, recipe: Recipe, update: Update) -> ArrayRecord:
    """Return an update as one masked vector of its change times its number of rows, uint64 [d].

    Args:
        message: to train, with the global weights and the shares dealt to this site.
        context: of the site.
        recipe: of the run.
        update: final, as it would leave without masks.

    Raises:
        NoSecureSumsError: the recipe asks for none.
        MaskingError: the site does not send it, see ``privacy/masking/errors.py``.
    """
    bits = _asked(recipe).fractional_bits
    phase = _phase(message, context, site.Shared)
    sealed = records.bytes_from(message.content, records.SEALED)
    sent = message.content.array_records[rounds.ARRAYS]
    before = records.flat({name: sent[name].numpy() for name in update.weights})
    after = records.flat({name: weight.numpy() for name, weight in update.weights.items()})
    kept, vector = phase.mask(sealed, update.examples * (after - before), bits)
    _keep(context, kept)
    return ArrayRecord({records.MASKED: Array(vector)})


def unmask(message: Message, context: Context, recipe: Recipe) -> records.Records:
    """Reveal what takes the masks off the sum, once, and forget the round.

    Raises:
        NoSecureSumsError: the recipe asks for none.
        MaskingError: this site reveals nothing, see ``privacy/masking/errors.py``.
    """
    _asked(recipe)
    phase = _phase(message, context, site.Masked)
    revealed = phase.unmask(*records.survival_from(message.content))
    del context.state[_STATE]
    return {records.SHARES: records.record_of(revealed)}


def _asked(recipe: Recipe) -> SecureAggregationConfig:
    if recipe.secure_aggregation is None:
        raise NoSecureSumsError(recipe.name)
    return recipe.secure_aggregation


def _phase(message: Message, context: Context, expected: type[site.Phase]) -> site.Phase:
    kept = context.state.config_records.get(_STATE, ConfigRecord()).get(_STATE)
    return site.opened(kept if isinstance(kept, bytes) else None, expected, _scope(message))


def _keep(context: Context, phase: site.Advertised | site.Shared | site.Masked) -> None:
    context.state[_STATE] = ConfigRecord({_STATE: phase.to_bytes()})


def _scope(message: Message) -> Scope:
    config = message.content.config_records[rounds.CONFIG]
    return Scope(str(config[rounds.RUN]), int(config[rounds.ROUND]))  # type: ignore[arg-type]
