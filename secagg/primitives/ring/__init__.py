"""The ring Z_q[X]/(X^N + 1), q a product of 27-bit primes: arithmetic for sums hidden by lattice noise."""

from secagg.primitives.ring.rns import MAX_DEGREE, MAX_PRIMES, Factor, Residues, Ring

__all__ = ["MAX_DEGREE", "MAX_PRIMES", "Factor", "Residues", "Ring"]
