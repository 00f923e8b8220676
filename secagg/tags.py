"""Every domain-separation label, in one place.

Each derivation binds exactly one of these and the digest of the round's `Setup` (session, round, parameters,
roster), so that no key, stream or hash made for one purpose can stand in for another.
"""

from __future__ import annotations

from typing import Final

__all__: list[str] = []

PREFIX: Final = b"secagg/v1/"

FRAME_CHECK: Final = PREFIX + b"frame-check"
"""Key of the error check at the end of every frame (public: not an authenticator)."""

ENCODING: Final = PREFIX + b"encoding"
"""Hash of an encoding's parameters."""

LAYOUT: Final = PREFIX + b"layout"
"""Hash of array names, shapes and dtypes."""

PARAMETERS: Final = PREFIX + b"parameters"
"""Hash of a plan's parameters."""

ROSTER: Final = PREFIX + b"roster"
"""Hash of the ordered client ids."""

SETUP: Final = PREFIX + b"setup"
"""Hash of session, round, parameter hash and roster hash."""

GRAPH: Final = PREFIX + b"graph"
"""Public randomness of the neighbour graph."""

SEALING_PRIVATE_KEY: Final = PREFIX + b"sealing-private-key"
MASK_PRIVATE_KEY: Final = PREFIX + b"mask-private-key"
SELF_MASK_SEED: Final = PREFIX + b"self-mask-seed"
SHAMIR_COEFFICIENTS: Final = PREFIX + b"shamir-coefficients"
STOCHASTIC_ROUNDING: Final = PREFIX + b"stochastic-rounding"
"""Secrets a client derives from the fresh randomness of one step."""

SEALED_SHARE: Final = PREFIX + b"sealed-share"
"""AEAD key for one share message, per (sender, recipient)."""

SELF_MASK: Final = PREFIX + b"self-mask"
"""Mask stream of one client."""

PAIRWISE_MASK: Final = PREFIX + b"pairwise-mask"
"""Mask stream of one pair of clients, lower roster position first."""
