"""The messages of masked sums as Flower's records; the same for server and site."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from fl_assets.privacy.masking.errors import MalformedMessageError
from fl_assets.privacy.masking.keys import KEY_BYTES
from fl_assets.privacy.masking.roster import Dealing, PublicKeys

MASKED = "masked"
"""The one array of a masked update."""

KEYS, SEALED, DIGESTS, SHARES, SURVIVAL = "keys", "sealed", "digests", "shares", "survival"
SURVIVORS, DROPPED = "survivors", "dropped"
_NAMES, _VALUES = "names", "values"

Records = dict[str, ConfigRecord]


def keys_to_records(keys: Mapping[str, PublicKeys]) -> Records:
    """Return public keys by site as a record."""
    return {KEYS: record_of({name: b"".join(pair) for name, pair in keys.items()})}


def keys_from(content: RecordDict) -> dict[str, PublicKeys]:
    """Return the public keys of a message by site.

    Raises:
        MalformedMessageError: there are none.
    """
    both = bytes_from(content, KEYS)
    return {name: PublicKeys(b[:KEY_BYTES], b[KEY_BYTES:]) for name, b in both.items()}


def dealing_to_records(dealing: Dealing) -> Records:
    """Return what a site deals as records."""
    return {SEALED: record_of(dealing.sealed), DIGESTS: record_of(dealing.digests)}


def dealing_from(content: RecordDict) -> Dealing:
    """Return what a site deals.

    Raises:
        MalformedMessageError: it deals nothing.
    """
    return Dealing(bytes_from(content, SEALED), bytes_from(content, DIGESTS))


def survival_from(content: RecordDict) -> tuple[list[str], list[str]]:
    """Return who survived and who dropped out, as the server tells it.

    Raises:
        MalformedMessageError: it does not.
    """
    told = content.config_records.get(SURVIVAL, ConfigRecord())
    survivors, dropped = told.get(SURVIVORS), told.get(DROPPED)
    if not isinstance(survivors, list) or not isinstance(dropped, list):
        raise MalformedMessageError("the server does not say who survived: bring it up to date")
    return [str(name) for name in survivors], [str(name) for name in dropped]


def record_of(values: Mapping[str, bytes]) -> ConfigRecord:
    """Return bytes by site as a record of two lists; Flower is slow with an entry for each."""
    return ConfigRecord({_NAMES: list(values), _VALUES: list(values.values())})


def bytes_from(content: RecordDict, record: str) -> dict[str, bytes]:
    """Return what :func:`record_of` made of bytes.

    Raises:
        MalformedMessageError: it is missing, or something else.
    """
    found = content.config_records.get(record, ConfigRecord())
    names, values = found.get(_NAMES), found.get(_VALUES)
    if isinstance(names, list) and isinstance(values, list):
        both = {n: v for n, v in zip(names, values, strict=False) if isinstance(v, bytes)}
        if len(both) == len(names) == len(values):
            return {str(name): value for name, value in both.items()}
    raise MalformedMessageError(
        f"a message of masked sums has no {record} of the form that is asked for: bring server and "
        "site to the same version of the software"
    )


def flat(arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
    """Return the values of arrays in one vector, in the order of the arrays' names."""
    parts = [arrays[name].astype(np.float64).ravel() for name in sorted(arrays)]
    return np.concatenate(parts)


def shaped(
    values: NDArray[np.float64], like: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.float64]]:
    """Undo :func:`flat`: return the arrays in the order and shapes of others."""
    found, start = {}, 0
    for name in sorted(like):
        end = start + like[name].size
        found[name] = values[start:end].reshape(like[name].shape)
        start = end
    return {name: found[name] for name in like}
