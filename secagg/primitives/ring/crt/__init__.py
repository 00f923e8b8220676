"""Chinese remaindering: integers in limbs to residues, and back with exact rounding."""

from secagg.primitives.ring.crt.limbs import add_planes, limbs_for, to_words

__all__ = ["add_planes", "limbs_for", "to_words"]
