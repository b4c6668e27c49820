"""Keys, seeds and masks: X25519, HKDF-SHA256, ChaCha20 and ChaCha20-Poly1305."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Literal, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fl_assets.privacy.masking.errors import SealedShareError, WeakKeyError
from fl_assets.privacy.masking.field import Masked

KEY_BYTES = 32
_NONCE_BYTES = 12
_OVERHEAD = _NONCE_BYTES + 16

Purpose = Literal["mask", "sealed shares", "share of masking key", "share of seed"]

SHARED: tuple[Purpose, Purpose] = ("share of masking key", "share of seed")
"""What a site deals shares of, in the order in which they travel."""


class Scope(NamedTuple):
    """The round that keys, seeds and shares belong to; those of another one do not fit."""

    run: str
    round: int

    def about(self, purpose: Purpose, first: str, second: str) -> bytes:
        """Return what something is for and between whom, so that nothing else reads the same."""
        return json.dumps(["fl_assets masking 1", *self, purpose, first, second]).encode()


def new_secret() -> bytes:
    """Return a new secret key or seed, 32 bytes."""
    return secrets.token_bytes(KEY_BYTES)


def private_key(secret: bytes) -> X25519PrivateKey:
    """Return a secret key in the form in which agreements are made."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_key(secret: bytes) -> bytes:
    """Return the X25519 public key of a secret one, 32 bytes."""
    return private_key(secret).public_key().public_bytes_raw()


def mask_seed(
    secret: X25519PrivateKey, peer_key: bytes, scope: Scope, own: str, peer: str
) -> bytes:
    """Return the seed that two sites share, the same from either side.

    Raises:
        WeakKeyError: the peer's key is none.
    """
    first, second = sorted((own, peer))
    return _agreed(secret, peer_key, scope.about("mask", first, second), peer)


def mask(seed: bytes, count: int) -> Masked:
    """Return ``count`` uniform numbers modulo 2^64: the ChaCha20 key stream of a seed.

    A seed has one stream only, hence the constant nonce.
    """
    stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(8 * count))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)


def add_mask(total: Masked, seed: bytes, site: str, peer: str) -> None:
    """Add the mask of a pair to the vector of one of them, in place.

    The site whose name comes first adds what the other one subtracts, modulo 2^64.
    """
    change = np.add if site < peer else np.subtract
    change(total, mask(seed, total.size), out=total)


def seal(
    plain: bytes, secret: X25519PrivateKey, peer_key: bytes, scope: Scope, own: str, peer: str
) -> bytes:
    """Encrypt shares for a peer, bound to the round, the sender and the receiver.

    Raises:
        WeakKeyError: the peer's key is none.
    """
    about = scope.about("sealed shares", own, peer)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    key = _agreed(secret, peer_key, about, peer)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, about)


def unseal(
    sealed: bytes, secret: X25519PrivateKey, peer_key: bytes, scope: Scope, own: str, peer: str
) -> bytes:
    """Decrypt what a peer sealed for this site.

    Raises:
        WeakKeyError: the peer's key is none.
        SealedShareError: it did not, or not in this round, or not for this site.
    """
    about = scope.about("sealed shares", peer, own)
    key = _agreed(secret, peer_key, about, peer)
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, rest, about)
    except (InvalidTag, ValueError):
        raise SealedShareError(
            f"the shares that {own} got as {peer}'s in round {scope.round} were not sealed by it "
            "for this site and round: changed, replayed or relabelled on the way; begin a new "
            "round, and see who runs the coordinator"
        ) from None


def sealed_length(plain: int) -> int:
    """Return how long so many bytes are when sealed."""
    return plain + _OVERHEAD


def digest(share: bytes, scope: Scope, purpose: Purpose, owner: str, holder: str) -> bytes:
    """Return the SHA-256 by which the server knows a share again.

    A share is uniform over more than 2^256 values, so its digest does not tell it.
    """
    return hashlib.sha256(scope.about(purpose, owner, holder) + share).digest()


def is_weak(key: bytes) -> bool:
    """Tell whether a public key's agreements all have the same outcome."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return True
    return False


def _agreed(secret: X25519PrivateKey, peer_key: bytes, info: bytes, peer: str) -> bytes:
    try:
        agreed = secret.exchange(X25519PublicKey.from_public_bytes(peer_key))
    except ValueError:
        raise WeakKeyError(
            f"the public key in {peer}'s name is none: leave {peer} out, or bring its software up "
            "to date"
        ) from None
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(agreed)
