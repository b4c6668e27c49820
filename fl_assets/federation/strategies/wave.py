"""One wave of messages to named hospitals, and the sorting of what comes back."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fl_assets.federation import rounds
from fl_assets.federation.strategies.hygiene import (
    BadReplyError,
    NotAskedError,
    SecondReplyError,
    check_echo,
)

log = logging.getLogger(__name__)

NO_REPLY = "no reply before the round's deadline"

Read = TypeVar("Read")


class Wave:
    """Messages of one round, marked so that a reply to anything else is refused.

    Args:
        messages: of Flower's strategy, one for each hospital that is asked.
        names: by node id.
        run, round_: that the messages belong to.
        action: after the message's type, as in ``train.pretrain``; none if None.

    Attributes:
        run, round: as given.
        sent: message by hospital, in the order of names, which Flower's sampling shuffles.
        replies: that count so far, by hospital.
        dropouts: cause by hospital.
        rejected: hospitals with a reply that was refused.
    """

    def __init__(
        self,
        messages: Iterable[Message],
        names: Mapping[int, str],
        run: str,
        round_: int,
        action: str | None = None,
    ) -> None:
        self.run = run
        self.round = round_
        self._names = names
        by_name = {names[message.metadata.dst_node_id]: message for message in messages}
        self.sent = {name: _marked(by_name[name], run, round_, action) for name in sorted(by_name)}
        self.replies: dict[str, Message] = {}
        self.dropouts: dict[str, str] = {}
        self.rejected: set[str] = set()

    @property
    def messages(self) -> list[Message]:
        """To send, in the order of the hospitals' names."""
        return list(self.sent.values())

    def query(
        self, action: str, records: Mapping[str, ConfigRecord], hospitals: Collection[str]
    ) -> Wave:
        """Return a wave that asks some of its hospitals something else in the same round."""
        messages = [
            Message(
                RecordDict({rounds.CONFIG: ConfigRecord(), **records}),
                dst_node_id=self.sent[name].metadata.dst_node_id,
                message_type=MessageType.QUERY,
            )
            for name in hospitals
        ]
        return Wave(messages, self._names, self.run, self.round, action)

    def leave_out(self, dropouts: Mapping[str, str], rejected: Collection[str]) -> None:
        """Do not ask hospitals that have failed in this round already; they are its dropouts."""
        self.sent = {name: m for name, m in self.sent.items() if name not in dropouts}
        self.dropouts |= dropouts
        self.rejected |= set(rejected)

    def receive(
        self, replies: Iterable[Message], read: Callable[[Message], Read]
    ) -> dict[str, Read]:
        """Sort the replies and return what is in those that count, in the order of names.

        A hospital's first reply decides; any other one is refused.

        Args:
            read: raises BadReplyError where a reply must not count.
        """
        first = self._first_of_each(replies)
        found: dict[str, Read] = {}
        for name, message in self.sent.items():
            reply = first.get(name)
            if reply is None:
                self.dropouts[name] = NO_REPLY
            elif reply.has_error():
                self.dropouts[name] = reply.error.reason or "failed without a reason"
            else:
                try:
                    check_echo(reply, message)
                    found[name] = read(reply)
                    self.replies[name] = reply
                except BadReplyError as error:
                    self.reject(name, error)
        return found

    def reject(self, name: str, error: BadReplyError) -> None:
        """Make a hospital a dropout for what it sent."""
        log.warning("%s: %s", name, error)
        self.replies.pop(name, None)
        self.dropouts[name] = str(error)
        self.rejected.add(name)

    def _first_of_each(self, replies: Iterable[Message]) -> dict[str, Message]:
        first: dict[str, Message] = {}
        for reply in replies:
            name = self.sender(reply)
            if name not in self.sent:
                self.reject(name, NotAskedError("it was not asked in this round"))
            elif name in first:
                log.warning("%s: %s", name, SecondReplyError("it has answered this round already"))
                self.rejected.add(name)
            else:
                first[name] = reply
        return first

    def sender(self, reply: Message) -> str:
        """Return whose reply this is.

        A link that lost a reply answers for the site, in its own name: what it answers then says
        which site is meant.
        """
        node = reply.metadata.src_node_id
        found = self._names.get(node, f"node {node}")
        if reply.has_error() and found not in self.sent:
            answered = reply.metadata.reply_to_message_id
            asked = (n for n, m in self.sent.items() if m.metadata.message_id == answered)
            return next(asked, found)
        return found


def _marked(message: Message, run: str, round_: int, action: str | None) -> Message:
    """Return a message with a content and marks of its own; Flower's all share one content."""
    records = dict(message.content)
    config = ConfigRecord(dict(message.content.config_records[rounds.CONFIG]))
    config[rounds.RUN], config[rounds.ROUND] = run, round_
    config[rounds.NONCE] = secrets.token_hex()
    records[rounds.CONFIG] = config
    kind = message.metadata.message_type
    return Message(
        RecordDict(records),
        dst_node_id=message.metadata.dst_node_id,
        message_type=f"{kind}.{action}" if action else kind,
        group_id=str(round_),
    )
