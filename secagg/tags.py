"""Every domain-separation label, in one place.

Each derivation and each hash binds exactly one of these, and every key of a round binds the digest of its `Setup`
(session, round, parameters, roster) besides, so that nothing made for one purpose can stand in for another.
"""

from __future__ import annotations

from typing import Final

__all__: list[str] = []


def _label(name: str) -> bytes:
    """Make a label: ends in a zero byte, so that none is a prefix of another."""
    return b"secagg/v1/" + name.encode() + b"\0"


FRAME_CHECK: Final = _label("frame-check")
"""Key of the error check at the end of every frame (public: not an authenticator)."""

ENCODING: Final = _label("encoding")
"""Hash of an encoding's parameters."""

LAYOUT: Final = _label("layout")
"""Hash of array names, shapes and dtypes."""

PARAMETERS: Final = _label("parameters")
"""Hash of a plan's parameters."""

ROSTER: Final = _label("roster")
"""Hash of the ordered client ids."""

SETUP: Final = _label("setup")
"""Hash of session, round, parameter hash and roster hash."""

KEYED_SETUP: Final = _label("keyed-setup")
"""Hash of a setup and of the root of all advertised keys."""

MERKLE_LEAF: Final = _label("merkle-leaf")
MERKLE_NODE: Final = _label("merkle-node")
"""Hashes of a tree's leaves and inner nodes."""

GRAPH: Final = _label("graph")
"""Public randomness of the neighbour graph."""

COMMITTEE: Final = _label("committee")
"""Public randomness that draws who signs for everybody on a sparse graph."""

SEALING_PRIVATE_KEY: Final = _label("sealing-private-key")
MASK_PRIVATE_KEY: Final = _label("mask-private-key")
SEALING_KEM_SEED: Final = _label("sealing-kem-seed")
MASK_KEM_SEED: Final = _label("mask-kem-seed")
RECOVERY_KEY: Final = _label("recovery-key")
SELF_MASK_SEED: Final = _label("self-mask-seed")
SHAMIR_COEFFICIENTS: Final = _label("shamir-coefficients")
STOCHASTIC_ROUNDING: Final = _label("stochastic-rounding")
"""Secrets a client derives from the fresh randomness of one step."""

SEALED_SHARE: Final = _label("sealed-share")
"""AEAD key for one share message, per (sender, recipient)."""

SIGNED_KEYS: Final = _label("signed-keys")
"""What a client signs to vouch for the two public keys of a round."""

ALL_KEYS: Final = _label("all-keys")
"""Hash of all public keys of a round, by roster position."""

CONSISTENCY: Final = _label("consistency")
"""What a client signs before it reveals anything: whom it believes to have survived, and all that led there."""

MODEL: Final = _label("model")
"""Hash of the model and the training plan that a client was given."""

SHARE_SALTS: Final = _label("share-salts")
"""Salts of the hashes that a client publishes of its shares."""

SHARE_HASH: Final = _label("share-hash")
"""Salted hash of one share, per dealer, holder and secret."""

SIGNED_SHARES: Final = _label("signed-shares")
"""What a client signs to answer for the shares it dealt."""

SEED_COMMITMENT: Final = _label("seed-commitment")
"""What a client publishes of its self-mask seed, so that a wrong reconstruction is noticed."""

MASK_CONFIRMATION: Final = _label("mask-confirmation")
"""What travels beside an encapsulated mask secret, so that another one is noticed."""

SELF_MASK: Final = _label("self-mask")
"""Mask stream of one client."""

PAIRWISE_MASK: Final = _label("pairwise-mask")
"""Mask stream of one pair of clients, lower roster position first."""

CARD_SIGNATURE: Final = _label("card-signature")
"""What a site signs to vouch for its own name and identity key."""

ROSTER_FILE: Final = _label("roster-file")
"""Hash of everything in a roster file but its signature."""

ROSTER_SIGNATURE: Final = _label("roster-signature")
"""What a roster's builder signs: that hash."""

ROSTER_SHORT_HASH: Final = _label("roster-short-hash")
"""Salt of the short hash that sites read to each other."""

STEP: Final = _label("step")
"""Randomness of one step of a client, from its master secret and the request that it answers."""

JOURNAL_CHECK: Final = _label("journal-check")
"""Hash that finds damage in a journal (public: not an authenticator)."""

JOURNAL_RECORD: Final = _label("journal-record")
"""AEAD key of one record of a sealed journal."""

ROUNDS: Final = _label("rounds")
"""Hash that names a client of a session in the file of highest rounds."""

UNIFORM_RESIDUES: Final = _label("uniform-residues")
"""Stream that goes on where the words of a block of uniform residues ran out."""

GAUSSIAN_TIES: Final = _label("gaussian-ties")
"""Stream of the bits that decide a Gaussian sample whose first 63 bits equal a threshold's."""
