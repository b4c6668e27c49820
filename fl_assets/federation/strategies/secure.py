"""The server's side of masked sums: two waves before the train messages and one after them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fl_assets.federation import masking_records as records
from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError
from fl_assets.federation.strategies.hygiene import BadReplyError, Model, Update
from fl_assets.federation.strategies.wave import Read, Wave
from fl_assets.privacy.configs import SecureAggregationConfig
from fl_assets.privacy.masking.errors import MaskingError
from fl_assets.privacy.masking.keys import Scope
from fl_assets.privacy.masking.roster import Dealing, PublicKeys, duplicates, threshold_of
from fl_assets.privacy.masking.server import ServerRound, check_keys

log = logging.getLogger(__name__)


class BadMaskingError(BadReplyError):
    """A site's keys or shares that must not count."""


class SecureSumFailedError(FederationError):
    """A round of masked sums that ends without a sum."""

    def __init__(self, round_: int, error: MaskingError, dropouts: Mapping[str, str]) -> None:
        causes = "; ".join(f"{name}: {cause}" for name, cause in sorted(dropouts.items()))
        super().__init__(f"round {round_} has no secure sum: {error} ({causes or 'no dropouts'})")


class MeanTooLargeError(FederationError):
    """The mean of a round's updates is beyond the absolute norm bound."""

    def __init__(self, round_: int, norm: float, bound: float) -> None:
        super().__init__(
            f"round {round_}: the mean update has norm {norm:.4g}, the bound is {bound:g}, and "
            "masked sums do not show which site's is too large: lower the learning rate, raise "
            "`norm_bound.absolute`, or find the site by a run without `secure_aggregation`"
        )


class SecureRound:
    """One round's masked sum.

    Of single updates only the form and the figures can be checked. The absolute norm bound is
    checked on their mean; the relative one, which compares updates with each other, cannot be.
    Each of the waves may last a round's deadline.

    On construction the sites exchange keys and shares. Those that fail to are left out of the
    train messages as dropouts, and the messages to the others get the shares dealt to each.

    Args:
        asked: threshold and precision.
        wave: of the train messages.
        grid: to the sites.
        deadline: of each wave, seconds.

    Attributes:
        sent, received: bytes of keys and shares so far, over all sites.

    Raises:
        SecureSumFailedError: too few sites take part.
    """

    def __init__(
        self, asked: SecureAggregationConfig, wave: Wave, grid: Grid, deadline: float
    ) -> None:
        self._wave = wave
        self._grid = grid
        self._deadline = deadline
        self._shares: dict[str, dict[str, bytes]] = {}
        self._silent: dict[str, str] = {}
        self.sent = self.received = 0
        keys = self._exchange_keys()
        try:
            threshold = threshold_of(asked.threshold, len(keys))
            scope = Scope(wave.run, wave.round)
            self._round = ServerRound(scope, keys, threshold, asked.fractional_bits)
            dealings = self._join("shares", records.keys_to_records(keys), self._read_dealing)
            sealed = self._round.route(dealings)
        except MaskingError as error:
            raise self._failed(error) from error
        for name, message in wave.sent.items():
            message.content[records.SEALED] = records.record_of(sealed[name])
            self.sent += _payload(message)

    def reveal(self, survivors: Collection[str]) -> None:
        """Have those whose updates count reveal what takes the masks off their sum.

        A site that fails at this counts all the same, if enough others do not.

        Raises:
            SecureSumFailedError: fewer than the threshold survived.
        """
        try:
            dropped = self._round.dropped(survivors)
        except MaskingError as error:
            raise self._failed(error) from error
        told = ConfigRecord({records.SURVIVORS: sorted(survivors), records.DROPPED: dropped})
        wave = self._wave.query("unmask", {records.SURVIVAL: told}, survivors)
        self._shares = self._receive(wave, _read_shares)
        self._wave.rejected |= wave.rejected
        self._silent = wave.dropouts
        for name, cause in self._silent.items():
            log.warning("%s counts and reveals no share: %s", name, cause)

    def mean(self, updates: Mapping[str, Update], model: Model, bound: float | None) -> Message:
        """Return one reply with the mean of all updates, as if a single site had all rows.

        Args:
            updates: masked ones that count, by hospital.
            model: the global weights that were sent.
            bound: on the norm of the mean update; none if None.

        Raises:
            SecureSumFailedError: too few sites revealed what they should.
            MeanTooLargeError: the mean is beyond the bound.
        """
        vectors = {name: u.arrays[records.MASKED].numpy() for name, u in updates.items()}
        try:
            found = self._round.unmask(vectors, self._shares)
        except MaskingError as error:
            raise self._failed(error) from error
        self._wave.rejected |= found.wrong.keys()
        rows = sum(update.site.examples for update in updates.values())
        mean = found.total / rows
        norm = math.sqrt(float(mean @ mean))
        if bound is not None and norm > bound:
            raise MeanTooLargeError(self._wave.round, norm, bound)
        changes = records.shaped(mean, model)
        arrays = {
            name: Array((weight.astype(np.float64) + changes[name]).astype(weight.dtype))
            for name, weight in model.items()
        }
        reply = next(iter(self._wave.replies.values()))
        reply.content = RecordDict(
            {
                rounds.ARRAYS: ArrayRecord(arrays),
                rounds.METRICS: MetricRecord({rounds.EXAMPLES: rows}),
            }
        )
        return reply

    def _exchange_keys(self) -> dict[str, PublicKeys]:
        keys = self._join("keys", {}, self._read_keys)
        twice = duplicates(keys)
        copied = "its public key is another site's as well: see which of them copies it"
        self._wave.leave_out(dict.fromkeys(twice, copied), twice)
        return {name: pair for name, pair in keys.items() if name not in twice}

    def _join(
        self, action: str, content: records.Records, read: Callable[[Message], Read]
    ) -> dict[str, Read]:
        """Ask all that are left, and leave those out of the round that fail."""
        wave = self._wave.query(action, content, self._wave.sent)
        found = self._receive(wave, read)
        self._wave.leave_out(wave.dropouts, wave.rejected)
        return found

    def _receive(self, wave: Wave, read: Callable[[Message], Read]) -> dict[str, Read]:
        replies = list(self._grid.send_and_receive(wave.messages, timeout=self._deadline))
        self.sent += sum(map(_payload, wave.messages))
        self.received += sum(_payload(r) for r in replies if r.has_content())
        return wave.receive(replies, _strictly(read))

    def _read_keys(self, reply: Message) -> PublicKeys:
        name = self._wave.sender(reply)
        return check_keys(name, records.keys_from(reply.content).get(name, PublicKeys(b"", b"")))

    def _read_dealing(self, reply: Message) -> Dealing:
        dealing = records.dealing_from(reply.content)
        return self._round.check_dealing(self._wave.sender(reply), dealing)

    def _failed(self, error: MaskingError) -> SecureSumFailedError:
        return SecureSumFailedError(self._wave.round, error, self._wave.dropouts | self._silent)


def _read_shares(reply: Message) -> dict[str, bytes]:
    return records.bytes_from(reply.content, records.SHARES)


def _strictly(read: Callable[[Message], Read]) -> Callable[[Message], Read]:
    """Return a reader in whose errors a wave sees a reply that must not count."""

    def reading(reply: Message) -> Read:
        try:
            return read(reply)
        except MaskingError as error:
            raise BadMaskingError(str(error)) from error

    return reading


def _payload(message: Message) -> int:
    """Return the bytes of keys and shares in a message."""
    values = (v for record in message.content.config_records.values() for v in record.values())
    lists = (value for value in values if isinstance(value, list))
    return sum(len(each) for value in lists for each in value if isinstance(each, bytes))
