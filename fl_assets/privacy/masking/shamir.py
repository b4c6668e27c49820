"""Shamir's secret sharing (1979) of 32 bytes, over the integers modulo a prime."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

PRIME = 2**256 + 297
"""The smallest prime above every secret."""

SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, holders: int, threshold: int) -> list[bytes]:
    """Return a share for each of the holders 1, 2, ...

    Any ``threshold`` of them give the secret, fewer tell nothing about it. With threshold 1 every
    share is the secret.

    Args:
        secret: 32 bytes.
        holders: number of shares.
        threshold: from 1 to ``holders``.
    """
    rest = (secrets.randbelow(PRIME) for _ in range(threshold - 1))
    polynomial = [int.from_bytes(secret), *rest]
    return [_at(polynomial, place).to_bytes(SHARE_BYTES) for place in range(1, holders + 1)]


def join(shares: Mapping[int, bytes]) -> bytes | None:
    """Return the secret of which these are shares, by Lagrange's formula at 0.

    Args:
        shares: exactly ``threshold`` of them, by holder from 1.

    Returns:
        None where they are of no secret of 32 bytes.
    """
    total = 0
    for place, share in shares.items():
        above = below = 1
        for other in shares.keys() - {place}:
            above = above * other % PRIME
            below = below * (other - place) % PRIME
        total += int.from_bytes(share) * above * pow(below, -1, PRIME)
    secret = total % PRIME
    return secret.to_bytes(SECRET_BYTES) if secret < 2 ** (8 * SECRET_BYTES) else None


def _at(polynomial: list[int], place: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * place + coefficient) % PRIME
    return value
