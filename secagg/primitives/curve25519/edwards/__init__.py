"""Ed25519 signatures: many verified at once."""

from secagg.primitives.curve25519.edwards.verification import verify_each

__all__ = ["verify_each"]
