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

EXTRA_SECRET: Final = _label("extra-secret")
"""What a client makes its extra secrets of, from the master secret of its round."""

EXTRA_COMMITMENT: Final = _label("extra-commitment")
"""What a client publishes of an extra secret, by number, so that a wrong reconstruction is noticed."""

MASK_CONFIRMATION: Final = _label("mask-confirmation")
"""What travels beside an encapsulated mask secret, so that another one is noticed."""

SELF_MASK: Final = _label("self-mask")
"""Mask stream of one client."""

LATTICE_PUBLIC: Final = _label("lattice-public")
"""Key of the public ring elements of a round's lattice masks."""

LATTICE_SECRET: Final = _label("lattice-secret")
LATTICE_ERRORS: Final = _label("lattice-errors")
"""Streams of one client's short secret and of its errors."""

THRESHOLD_PARAMETERS: Final = _label("threshold-parameters")
"""Hash of the parameters of a threshold key."""

THRESHOLD_PRIVATE_KEY: Final = _label("threshold-private-key")
THRESHOLD_SECRET: Final = _label("threshold-secret")
THRESHOLD_POLYNOMIALS: Final = _label("threshold-polynomials")
THRESHOLD_SALTS: Final = _label("threshold-salts")
THRESHOLD_FLOODING_SEED: Final = _label("threshold-flooding-seed")
"""Secrets of a client's set-up, from the fresh randomness of one step."""

THRESHOLD_SIGNED_KEY: Final = _label("threshold-signed-key")
THRESHOLD_SIGNED_SHARES: Final = _label("threshold-signed-shares")
THRESHOLD_SIGNED_SETUP: Final = _label("threshold-signed-setup")
"""What a client signs during set-up: its public key, the hashes of its shares, and all that it was shown."""

THRESHOLD_KEYS: Final = _label("threshold-keys")
THRESHOLD_SHARE_HASH: Final = _label("threshold-share-hash")
THRESHOLD_TRANSCRIPT: Final = _label("threshold-transcript")
"""Hashes of all public keys of a set-up, of one salted share, and of all that everybody was shown."""

THRESHOLD_SEALED_SHARE: Final = _label("threshold-sealed-share")
"""AEAD key of one share, per (dealer, holder)."""

THRESHOLD_PAIR: Final = _label("threshold-pair")
"""Seed that two clients share for zero-sharings, lower roster position first."""

THRESHOLD_KEY_FILE: Final = _label("threshold-key-file")
THRESHOLD_RECORD: Final = _label("threshold-record")
"""Hashes that find damage in a key file and in its record of rounds (public: not authenticators)."""

THRESHOLD_FINGERPRINT: Final = _label("threshold-fingerprint")
"""Hash of the public side of a threshold key."""

THRESHOLD_PUBLIC: Final = _label("threshold-public")
"""Key of the public ring elements of a round."""

THRESHOLD_UPLOAD: Final = _label("threshold-upload")
"""Hash of an upload, in the record of rounds."""

THRESHOLD_ERRORS: Final = _label("threshold-errors")
"""Stream of an upload's errors."""

THRESHOLD_STATEMENT: Final = _label("threshold-statement")
"""What a client signs before it helps to decrypt: who is in the sum, who decrypts, and all that led there."""

THRESHOLD_DECRYPTORS: Final = _label("threshold-decryptors")
"""Public randomness that draws the decryptors from the clients in a sum."""

THRESHOLD_ZERO_SHARING: Final = _label("threshold-zero-sharing")
"""Stream of what two decryptors add and subtract, for one statement."""

THRESHOLD_FLOODING: Final = _label("threshold-flooding")
THRESHOLD_FLOODING_LEVEL: Final = _label("threshold-flooding-level")
"""Stream of one decryptor's flooding for one statement, and of its parts."""

CKKS_KEYS: Final = _label("ckks-keys")
"""Hash that finds damage in a key file (public: not an authenticator)."""

CKKS_CONTEXT: Final = _label("ckks-context")
"""Hash of the public side of a CKKS key."""

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

HISTORY: Final = _label("history")
"""Start of a stored history: of the file, and of what is hashed to find damage in it (public: not an authenticator)."""

ROUNDS: Final = _label("rounds")
"""Hash that names a client of a session in the file of highest rounds."""

UNIFORM_RESIDUES: Final = _label("uniform-residues")
"""Stream that goes on where the words of a block of uniform residues ran out."""

GAUSSIAN_TIES: Final = _label("gaussian-ties")
"""Stream of the bits that decide a Gaussian sample whose first 63 bits equal a threshold's."""

SKELLAM_TIES: Final = _label("skellam-ties")
"""The same for Skellam samples."""

NOISE_SHARE: Final = _label("noise-share")
"""Stream of one client's noise in one release, from the fresh secret of that release."""

NOISE_COMPONENT: Final = _label("noise-component")
"""Seed of one part of a client's noise that may be taken away again, by number."""

NOISE_CHAIN: Final = _label("noise-chain")
"""Seed of the part after one that may be taken away again."""

NOISE_STREAM: Final = _label("noise-stream")
"""Stream that such a seed expands to."""

BATCH_SAMPLING: Final = _label("batch-sampling")
"""Stream that decides which records of a client enter a step of DP-SGD."""

RECORD_ROUNDING: Final = _label("record-rounding")
"""Stream that rounds clipped records to integers."""

SIMULATED_ROUNDING: Final = _label("simulated-rounding")
"""What rounds an update in a simulation, from its public seed, so that a run can be repeated."""

PUBLIC_ROTATION: Final = _label("public-rotation")
"""Signs of a public rotation, from a public seed."""
