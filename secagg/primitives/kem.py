"""ML-KEM-768: key encapsulation that no known quantum algorithm breaks.

Threat model: as `keys`. A pair follows from a 64-byte seed and decapsulation is deterministic, but encapsulation draws
its coins from OpenSSL's own generator and takes none: whoever encapsulates has to keep the secret. A ciphertext that
was altered decapsulates to another secret, without an error; callers compare or open something with it.
Source: FIPS 203.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm

from secagg.errors import PlanError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

__all__ = [
    "KEM_CIPHERTEXT_BYTES",
    "KEM_PUBLIC_BYTES",
    "KEM_SECRET_BYTES",
    "KEM_SEED_BYTES",
    "KemKeyPair",
    "check_kem_public",
    "encapsulate",
    "require_kem",
]

KEM_PUBLIC_BYTES = 1184
KEM_CIPHERTEXT_BYTES = 1088
KEM_SECRET_BYTES = 32
KEM_SEED_BYTES = 64


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Draw a secret that only the owner of a public key can get out of the ciphertext.

    Returns: the secret, 32 bytes, and the ciphertext, 1088 bytes; others at every call.
    Raises:
        ValueError: not a public key.
    Source: FIPS 203, algorithm 20.
    """
    return _loaded(public).encapsulate()


def check_kem_public(public: bytes) -> None:
    """Refuse what is no public key: a wrong length, or coefficients that are not reduced.

    Raises:
        ValueError: so.
    Source: FIPS 203, sec. 7.2.
    """
    _loaded(public)


@dataclass(frozen=True, slots=True, eq=False)
class KemKeyPair:
    """One ML-KEM-768 key pair, fresh for one client, purpose and round.

    Attributes:
        public: 1184 bytes, as sent on the wire.
    """

    _private: MLKEM768PrivateKey = field(repr=False)
    public: bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> KemKeyPair:
        """Make the pair of a 64-byte seed (d, z of FIPS 203).

        Raises:
            ValueError: not 64 bytes.
        """
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey  # noqa: PLC0415

        if len(seed) != KEM_SEED_BYTES:
            msg = f"an ML-KEM-768 seed has {KEM_SEED_BYTES} bytes, got {len(seed)}"
            raise ValueError(msg)
        key = MLKEM768PrivateKey.from_seed_bytes(seed)
        return cls(key, key.public_key().public_bytes_raw())

    def seed_bytes(self) -> bytes:
        """Return the 64-byte seed, for the envelope that a client seals under its recovery key only."""
        return self._private.private_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the 32-byte secret of a ciphertext; of one that was not made for this key, another.

        Raises:
            ValueError: not 1088 bytes.
        Source: FIPS 203, algorithm 21.
        """
        if len(ciphertext) != KEM_CIPHERTEXT_BYTES:
            msg = f"an ML-KEM-768 ciphertext has {KEM_CIPHERTEXT_BYTES} bytes, got {len(ciphertext)}"
            raise ValueError(msg)
        return self._private.decapsulate(ciphertext)


def require_kem() -> None:
    """Find out whether the installed `cryptography` has ML-KEM-768: old versions and some builds do not.

    Raises:
        PlanError: it has not.
    """
    try:
        KemKeyPair.from_seed(bytes(KEM_SEED_BYTES))
    except (ImportError, UnsupportedAlgorithm) as error:
        msg = "this plan needs ML-KEM-768, which the installed `cryptography` does not have: upgrade it"
        raise PlanError(msg) from error


def _loaded(public: bytes) -> MLKEM768PublicKey:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey  # noqa: PLC0415 -- see require_kem

    if len(public) != KEM_PUBLIC_BYTES:
        msg = f"an ML-KEM-768 public key has {KEM_PUBLIC_BYTES} bytes, got {len(public)}"
        raise ValueError(msg)
    try:
        return MLKEM768PublicKey.from_public_bytes(public)
    except ValueError as error:
        msg = "an ML-KEM-768 public key has coefficients that are not reduced"
        raise ValueError(msg) from error
