"""Random numbers as a hash of what they belong to: a user's draw is the same in any batch, order or partition."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

# n users, m draws of one user

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: Bits) -> Bits:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014): a bijection of 64-bit words that looks random."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def bits(seed: int, stream: str, night: int, user_ids: Any, num: int) -> Bits:
    """(n, m) words: a function of (seed, stream, night, user id, position) and of nothing else."""
    name = hashlib.blake2b(f"{seed}/{stream}/{night}".encode(), digest_size=8).digest()
    users_n = np.asarray(user_ids, dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        of_user_n = _mix(_mix(users_n * _GOLDEN + np.uint64(int.from_bytes(name, "little"))) + _GOLDEN)
        of_position_m = np.arange(1, num + 1, dtype=np.uint64) * _GOLDEN
        return _mix(of_user_n[:, None] + of_position_m)


def uniforms(seed: int, stream: str, night: int, user_ids: Any, num: int) -> Floats:
    """(n, m) uniforms, strictly inside (0, 1)."""
    words = bits(seed, stream, night, user_ids, num)
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normals(seed: int, stream: str, night: int, user_ids: Any, num: int) -> Floats:
    """(n, m) standard normals, by inverting their distribution function."""
    return np.asarray(ndtri(uniforms(seed, stream, night, user_ids, num)))
