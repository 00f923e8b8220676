"""Ed25519 verification of many signatures at once, on all cores: a client checks one of every neighbour.

OpenSSL checks one at a time and Python's binding keeps the interpreter to itself meanwhile. Here 32 are checked side by
side in vector lanes, without the interpreter's lock. Each is checked by its own equation: no random combination of
them, which would accept some signatures that OpenSSL refuses. Nothing here is secret.

Source: RFC 8032, sec. 5.1.7, the equation without cofactor.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha512
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from secagg.primitives.curve25519.limbs import by_lane, from_lanes, from_limbs, pieces, to_limbs, words_of
from secagg.primitives.keys import PRIME
from secagg.primitives.threads import ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["verify_each"]

_ORDER = (1 << 252) + 27742317777372353535851937790883648493
"""Of the base point."""
_D = -121665 * pow(121666, -1, PRIME) % PRIME
_ROOT = pow(2, (PRIME - 1) // 4, PRIME)
"""Of -1."""
_BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)
_BYTES = 32
_SIGN = np.uint64(63)
_MULTIPLES = 128


def verify_each(signed: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """Say of each signature whether it is this key's over this message.

    Args:
        signed: (public key of 32 bytes, message, signature of 64 bytes), untrusted.
    Returns: True for what OpenSSL accepts; False for all else, and for a public key that is not canonical.
    Security: a key of small order has signatures that prove nothing; as in OpenSSL, that is for the caller to refuse.
    """
    verdicts = [len(key) == _BYTES and len(signature) == 2 * _BYTES for key, _, signature in signed]
    for i, (key, _, signature) in enumerate(signed):
        if verdicts[i]:
            y = int.from_bytes(key, "little") & ((1 << 255) - 1)
            verdicts[i] = y < PRIME and int.from_bytes(signature[_BYTES:], "little") < _ORDER
    equal = _equations_hold([each for each, likely in zip(signed, verdicts, strict=True) if likely])
    return [likely and next(equal) for likely in verdicts]


def _equations_hold(signed: Sequence[tuple[bytes, bytes, bytes]]) -> Iterator[bool]:
    """Compare every signature's R, as it is written, with s·B - h·A: key, s and lengths are in their ranges."""
    from secagg.primitives.curve25519.edwards import kernels  # noqa: PLC0415 -- numba loads on first use

    lanes, base, constants = kernels.LANES, _multiples_of_base(), _constants(kernels.LANES)
    keys = words_of(b"".join(key for key, _, _ in signed))
    claimed = words_of(b"".join(signature[:_BYTES] for _, _, signature in signed))
    h = b"".join(_hash(*each).to_bytes(_BYTES, "little") for each in signed)
    s = b"".join(signature[_BYTES:] for _, _, signature in signed)
    limbs, negative = to_limbs(keys), np.uint64(1) - (keys[:, 3:] >> _SIGN)
    digits, base_digits = _signed_digits(h, 4), _signed_digits(s, 8)
    shares = pieces(len(keys), lanes)

    def work(piece: int) -> list[bool]:
        rows = shares[piece]
        y, odd = by_lane(limbs[rows], lanes), by_lane(negative[rows], lanes)
        valid = np.empty(odd.shape, dtype=np.bool_)
        split = len(y), -1, lanes
        of_key, of_base = (by_lane(each[rows], lanes).view(np.int64).reshape(split) for each in (digits, base_digits))
        kernels.combine(y, odd, of_key, of_base, base, constants, valid)
        count = rows.stop - rows.start
        found = from_limbs(from_lanes(y, lanes, count))
        found[:, 3] |= odd.reshape(-1)[:count] << _SIGN
        same: list[bool] = ((found == claimed[rows]).all(axis=1) & valid.reshape(-1)[:count]).tolist()
        return same

    return chain.from_iterable(ahead(work, len(shares)))


def _hash(key: bytes, message: bytes, signature: bytes) -> int:
    return int.from_bytes(sha512(signature[:_BYTES] + key + message).digest(), "little") % _ORDER


def _signed_digits(values: bytes, bits: int) -> NDArray[np.uint64]:
    """Write values of 32 bytes below 2^253 with digits in [-2^(bits - 1), 2^(bits - 1)): (m, 256 / bits), lowest first.

    Args:
        bits: 4 or 8.
    Returns: int64 in words of uint64, as `by_lane` takes them.
    """
    octets = np.frombuffer(values, dtype=np.uint8).reshape(-1, _BYTES, 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    digits = (octets >> shifts & ((1 << bits) - 1)).reshape(len(octets), 8 // bits * _BYTES).astype(np.int64)
    for k in range(digits.shape[1] - 1):
        carry = digits[:, k] + (1 << (bits - 1)) >> bits
        digits[:, k] -= carry << bits
        digits[:, k + 1] += carry
    return digits.view(np.uint64)


@cache
def _constants(lanes: int) -> NDArray[np.uint64]:
    """What the kernels multiply by, in all lanes."""
    return np.repeat(_limbs([1, _D, 2 * _D % PRIME, _ROOT]), lanes, axis=1)


@cache
def _multiples_of_base() -> NDArray[np.uint64]:
    """Make ready 0, 1, ..., 128 times the base point: y + x, y - x and 2dxy, (129, 3, 10)."""
    (x, y), ready = (0, 1), []
    for _ in range(_MULTIPLES + 1):
        ready += [(y + x) % PRIME, (y - x) % PRIME, 2 * _D * x * y % PRIME]
        product = _D * x * y * _BASE[0] * _BASE[1] % PRIME
        x, y = (
            (x * _BASE[1] + y * _BASE[0]) * pow(1 + product, -1, PRIME) % PRIME,
            (y * _BASE[1] + x * _BASE[0]) * pow(1 - product, -1, PRIME) % PRIME,
        )
    return _limbs(ready).reshape(_MULTIPLES + 1, 3, -1)


def _limbs(values: Sequence[int]) -> NDArray[np.uint64]:
    return to_limbs(words_of(b"".join(value.to_bytes(_BYTES, "little") for value in values)))
