"""The noised updates of a run, stored at the hospital before they leave."""

from __future__ import annotations

import io
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from fl_assets.learning.weights import Weights
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_balance import RunClosedError
from fl_assets.site.egress import EgressLog
from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, SiteStore


@dataclass(frozen=True)
class Answer:
    """A noised update.

    Attributes:
        arrays: by parameter name, float32.
        examples: training rows, which is public.
    """

    arrays: Weights
    examples: int


class Stored(NamedTuple):
    """An answer as it is stored, with the digest of the weights it is from and its steps."""

    answer: Answer
    asked: bytes
    steps: int

    def to_bytes(self) -> bytes:
        """Return it as a store holds it."""
        arrays = {f"arrays/{name}": array for name, array in self.answer.arrays.items()}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            asked=np.frombuffer(self.asked, np.uint8),
            figures=np.array([self.answer.examples, self.steps], np.int64),
            **arrays,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Stored:
        """Read what :meth:`to_bytes` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            names = [name for name in archive.files if name.startswith("arrays/")]
            arrays = {name.removeprefix("arrays/"): archive[name] for name in names}
            examples, steps = archive["figures"].tolist()
            return cls(Answer(arrays, examples), archive["asked"].tobytes(), steps)


class Answers:
    """The stored answers of a run, and the mark that it takes no more.

    An answer is stored, then the mark is looked for, then it leaves; closing sets the mark, then
    counts. So of an answer that races with the closing it is counted or it does not leave.
    """

    def __init__(self, store: SiteStore, run: str) -> None:
        self._store = store
        self._run = run
        # The mark stays for good: a process that is very late must still find it.
        self._mark = f"answers/{run}/closed"
        self._folder = f"answers/{run}/rounds/"

    def load(self, round_: int) -> Stored | None:
        """Return the answer to a round, None where none is stored."""
        try:
            return Stored.from_bytes(self._store.get(self._key(round_)))
        except ObjectNotFoundError:
            return None

    def keep(self, round_: int, stored: Stored) -> Stored:
        """Store an answer durably, and return the one that a racing process stored first."""
        data = stored.to_bytes()
        try:
            self._store.put_if_absent(self._key(round_), data)
        except ObjectExistsError:
            data = self._store.get(self._key(round_))
        return Stored.from_bytes(data)

    def check_open(self) -> None:
        """Refuse where the run takes no more answers.

        Raises:
            RunClosedError: it does not.
        """
        if self._store.exists(self._mark):
            raise RunClosedError(self._run)

    def left(self) -> set[int]:
        """Return the rounds whose answers have left, by the egress log; see the ClientApp."""
        entries = EgressLog(self._store).entries()
        return {
            int(entry.detail.rpartition(" ")[2])
            for entry in entries
            if entry.kind == "update" and entry.run == self._run
        }

    def close(self, ledger: Ledger, event: MechanismEvent, left: Set[int]) -> str:
        """Take no more answers, and close the run in the ledger by those that are stored.

        Args:
            ledger: in which the run is open.
            event: that it reserved.
            left: rounds whose answers have left. Where one is not stored everything is forfeited.

        Returns:
            What was done, for people.
        """
        with suppress(ObjectExistsError):
            self._store.put_if_absent(self._mark, b"")
        stored = self._keys()
        if lost := left - {int(PurePosixPath(key).stem) for key in stored}:
            reason = f"{len(left)} updates have left, and of {len(lost)} the answers are gone"
            ledger.forfeit(self._run, reason)
            done = f"forfeited all {event.steps} steps: {reason}"
        else:
            # Every round of a run has as many steps.
            each = Stored.from_bytes(self._store.get(stored[0])).steps if stored else 0
            steps = each * len(stored)
            ledger.settle(self._run, [event.model_copy(update={"steps": steps})])
            done = f"settled {steps} of {event.steps} reserved steps"
        self.delete()
        return done

    def delete(self) -> None:
        """Delete the answers; the mark stays."""
        for key in self._keys():
            self._store.delete(key)

    def _key(self, round_: int) -> str:
        return f"{self._folder}{round_:06d}.npz"

    def _keys(self) -> list[str]:
        return [info.key for info in self._store.list(self._folder)]
