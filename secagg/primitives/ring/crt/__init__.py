"""Chinese remaindering: integers in limbs to residues, and back with exact rounding."""

from secagg.primitives.ring.crt.limbs import from_words, limbs_for, to_words

__all__ = ["from_words", "limbs_for", "to_words"]
