"""What the server sees of a sum, in a sentence for whoever chooses how vectors are hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from secagg.params import Masking

__all__ = ["BESIDES_THE_SUM", "server_sees"]

BESIDES_THE_SUM: Final[dict[Masking, str]] = {
    "masking": "who took part and who vanished; every masked vector",
    "lattice": "who took part and who vanished; every ciphertext; the sum of the short secrets",
    "threshold": "who took part and who vanished; every ciphertext; partial decryptions of the sum",
    "ckks": "who took part and who vanished; every ciphertext, but no key",
}


def server_sees(masking: Masking) -> str:
    """Name all that a server of one round sees, with the warning that goes with it."""
    if masking == "plain":
        return "every vector, in clear"
    warning = "; any client that gives it the key, which all of them hold, opens every vector to it"
    return f"{BESIDES_THE_SUM[masking]}; the sum of the survivors' vectors{warning if masking == 'ckks' else ''}"
