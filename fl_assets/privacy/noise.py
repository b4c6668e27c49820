"""Random numbers that privacy depends on: normal noise, and which rows are in a step."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from typing import Protocol

import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from torch import Tensor

_STOCK = 1024, 16384
"""Normals drawn at once, first and later: a draw costs as much as some thousand of them."""


class NoiseSource(Protocol):
    """Independent draws; none is handed out twice."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normals, float64 of that shape."""
        ...

    def chosen(self, rows: int, rate: float) -> Tensor:
        """Return a Poisson sample: bool [rows], each True with probability ``rate``."""
        ...


class _Keystream:
    """Draws from AES-256 in counter mode, whose output nobody tells from chance without the key."""

    def __init__(self, key: bytes) -> None:
        self._stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
        self._stock = torch.empty(0, dtype=torch.float64)
        self._used = self._left = 0
        self._size, self._largest = _STOCK

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normals, float64 of that shape."""
        count = math.prod(shape)
        if count > self._left:
            self._stock = self._normals(max(self._size, count))
            self._used, self._left = 0, len(self._stock)
            self._size = min(2 * self._size, self._largest)
        drawn = self._stock.narrow(0, self._used, count)
        self._used += count
        self._left -= count
        return drawn.view(shape)

    def chosen(self, rows: int, rate: float) -> Tensor:
        """Return a Poisson sample: bool [rows], each True with probability ``rate``."""
        return self._uniforms(rows) <= rate

    def _normals(self, count: int) -> Tensor:
        """Return at least so many, by Box & Muller 1958."""
        half = (count + 1) // 2
        radius, angle = torch.split(self._uniforms(2 * half), half)
        radius.log_().mul_(-2).sqrt_()
        angle.mul_(2 * math.pi)
        return torch.cat([torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)])

    def _uniforms(self, count: int) -> Tensor:
        """Return multiples of 2^-53 above 0 up to 1, float64 [count]."""
        if not count:
            return torch.empty(0, dtype=torch.float64)
        stream = bytearray(self._stream.update(bytes(8 * count)))
        bits = torch.frombuffer(stream, dtype=torch.int64)
        # An arithmetic shift leaves a sign: 53 bits from -2^52.
        return bits.bitwise_right_shift_(11).double().add_(2**52 + 1).mul_(2**-53)


class SecureNoise(_Keystream):
    """Draws that nobody can repeat: the key is the operating system's, and is not kept.

    One for each training. Threads or forked processes that shared one could draw the same noise.

    A float64 is a multiple of some power of two, so the noise has holes, from which the noiseless
    sum can be read where the bits of the result are released as they are (Mironov 2012). They are
    not: the noise is added in float64, and the result is rounded to float32, which throws away 29
    of 53 bits and with them the holes. Normals end at 8.6 standard deviations, beyond which there
    is a probability of 1e-17, far below any delta.
    """

    def __init__(self) -> None:
        super().__init__(os.urandom(32))


class SeededNoise(_Keystream):
    """The same draws for the same seed. For tests alone: who knows the seed sees through them."""

    def __init__(self, seed: int) -> None:
        super().__init__(hashlib.sha256(str(seed).encode()).digest())
