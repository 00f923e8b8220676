"""Privacy by enumeration: every view of every coalition, for four clients, one coordinate and a modulus of 4.

The pure steps run as they are and decide what is sent, sealed and revealed. Then everything that a coalition (the
server and corrupt clients) can compute is worked out: it opens every bundle that it has a key to and combines shares
wherever it holds t, until nothing new comes of it. The rest is ideal: in place of the PRG there is a table, so the
stream of a key that the coalition cannot compute is any value, each as often as the others; a bundle that it cannot
open says nothing, and neither do fewer than t shares. A view is then every honest client's masked input, late ones too,
less the masks that are known; and privacy is that the multiset of views, over all tables, is the same for any two
honest inputs with the same sum over the survivors.

Of extra secrets it is worked out which of them the coalition opens (`opened_extras`).

What is enumerated: dropouts and corrupt clients with a server that follows the protocol (`leak`), and a server that
tells every client other survivors (`leak_when_split`). Other lies are `secagg.adversary`'s and the fuzzer's. Complete
graphs only: on a sparse graph privacy is a matter of odds, which `secagg.plan` bounds.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from secagg.encoding.packing import pack, reduce
from secagg.errors import SecAggError
from secagg.masking.client import client_consistency_check, client_unmask, client_unmask_agreed
from secagg.masking.extras import FIRST_EXTRA
from secagg.masking.hybrid import HybridKeyPair, cut_encapsulated, open_envelope, received
from secagg.masking.messages import (
    MaskedInput,
    PeerShares,
    PeerSignatures,
    ShareKeys,
    Survivors,
    UnmaskShares,
    cut,
    entries_dealt,
    entry_bytes,
    is_hybrid,
    sealed_bytes,
)
from secagg.masking.parties import bitmap_for, mask_of
from secagg.masking.streams import channel, pairwise_mask_key, sealing_key, self_mask_key
from secagg.primitives.aead import open_sealed
from secagg.primitives.keys import KeyPair
from secagg.primitives.prg import add_masks
from secagg.primitives.shamir import SHARE_BYTES, combine, shares_from_bytes
from secagg.rounds import to_vector
from secagg.wire import decode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from secagg.masking.hybrid import PlanKeyPair
    from secagg.testing.scripted import State, Transcript

__all__ = ["Difference", "Flaw", "leak", "leak_when_split", "opened_extras"]

Flaw: TypeAlias = Literal["no self mask", "both reveals", "one key pair", "no consistency check"]
"""What to leave out of the protocol, so as to see that the enumeration notices."""

Difference: TypeAlias = dict[int, int]
"""By honest client: what two inputs with the same sum differ by, whose views can be told apart."""

Mask: TypeAlias = tuple[int, ...]
"""Which mask: (i,) the self mask of i, (i, j) with i < j the one that the two share."""

_SEED = 0


def leak(transcript: Transcript, corrupt: AbstractSet[int], flaw: Flaw | None = None) -> Difference | None:
    """Look for two honest inputs that a coalition tells apart although their sum over the survivors is the same.

    Args:
        transcript: a round in which the server followed the protocol; of late messages it misses nothing.
        corrupt: clients that show the server all they know.
        flaw: see `Flaw`.
    Returns: what the two differ by, or None: there are none.
    """
    knowledge = _Knowledge(transcript, corrupt, flaw)
    knowledge.see_unmasking()
    return knowledge.tells_apart(transcript.outcome.survivors)


def leak_when_split(
    transcript: Transcript, corrupt: AbstractSet[int], told: Mapping[int, AbstractSet[int]], flaw: Flaw | None = None
) -> Difference | None:
    """The same against a server that tells each honest client what it likes about who survived.

    Args:
        transcript: a round against a malicious server, up to the masked inputs.
        corrupt: clients that sign whatever the server likes.
        told: by honest client, who it is told survived; a client left out is told nothing.
        flaw: see `Flaw`.
    Returns: as `leak`, for the sum over the first set that anybody was told and answered; over nobody if nobody did.
    """
    knowledge = _Knowledge(transcript, corrupt, flaw)
    opened = _split(knowledge, transcript, corrupt, told, flaw)
    return knowledge.tells_apart(opened[0] if opened else None)


def opened_extras(
    transcript: Transcript,
    corrupt: AbstractSet[int],
    told: Mapping[int, AbstractSet[int]] | None = None,
    flaw: Flaw | None = None,
) -> set[tuple[int, int]]:
    """Work out which extra secrets of honest clients a coalition opens: pairs of client and number.

    Args:
        transcript, corrupt, flaw: as above.
        told: as in `leak_when_split`; None, and the server follows the protocol.
    """
    knowledge = _Knowledge(transcript, corrupt, flaw)
    if told is None:
        knowledge.see_unmasking()
    else:
        _split(knowledge, transcript, corrupt, told, flaw)
    return knowledge.opened_extras()


def _split(
    knowledge: _Knowledge,
    transcript: Transcript,
    corrupt: AbstractSet[int],
    told: Mapping[int, AbstractSet[int]],
    flaw: Flaw | None,
) -> list[AbstractSet[int]]:
    """Tell honest clients what `told` says, show what is revealed, and return the sets for which it was."""
    setup = transcript.setup
    states = {i: transcript.clients["masked_input"][i].following for i in told}
    requests = {i: Survivors(i, bitmap_for(setup, i, mask_of(setup, alive))) for i, alive in told.items()}
    opened: list[AbstractSet[int]] = []
    signed: dict[int, tuple[State, bytes]] = {}
    for i, request in requests.items():
        try:
            if flaw == "no consistency check":
                knowledge.see_revealed(i, client_unmask(states[i], request, b"")[1])
                opened.append(told[i])
            else:
                state, message = client_consistency_check(states[i], request, b"")
                signed[i] = state, message.signature
        except SecAggError:
            continue
    for i, (state, _) in signed.items():
        signatures = {
            j: theirs[1]
            for j, theirs in signed.items()
            if j in told[i] - {i} and theirs[0].statement == state.statement
        }
        for j in (told[i] & corrupt) - {i}:
            identity = transcript.script.identity(j)
            signatures[j] = b"" if identity is None else identity.sign(state.statement)
        bitmap = bitmap_for(setup, i, mask_of(setup, signatures))
        shown = PeerSignatures(i, bitmap, b"".join(signatures[j] for j in sorted(signatures)))
        try:
            knowledge.see_revealed(i, client_unmask_agreed(state, shown, b"")[1])
            opened.append(told[i])
        except SecAggError:
            continue
    return opened


class _Knowledge:
    """What a coalition can compute from everything sent, what is revealed, and the corrupt clients' secrets."""

    def __init__(self, transcript: Transcript, corrupt: AbstractSet[int], flaw: Flaw | None) -> None:
        self._transcript, self._setup, self._corrupt, self._flaw = transcript, transcript.setup, corrupt, flaw
        self._shares: dict[tuple[int, int], dict[int, bytes]] = {}
        self._sealing: dict[int, PlanKeyPair] = {}
        self._mask: dict[int, PlanKeyPair] = {}
        self._seeds: dict[int, bytes] = {}
        self._extras: dict[tuple[int, int], bytes] = {}
        for i, visit in transcript.clients["share_keys"].items():
            if i not in corrupt:
                continue
            self._sealing[i], self._mask[i] = visit.state.sealing, visit.state.mask
            self._seeds[i] = visit.following.self_mask_seed
            self._learn(i, _SEED, i, visit.following.own_entry)

    def see_unmasking(self) -> None:
        """Take what every client reveals to a server that follows the protocol."""
        for client, visit in self._transcript.clients["unmask"].items():
            self.see_revealed(client, decode(UnmaskShares, visit.answer, self._setup))

    def see_revealed(self, holder: int, message: UnmaskShares) -> None:
        """Take the shares that a client reveals; of what they are, those that it holds say."""
        state = self._transcript.clients["masked_input"][holder].following
        held = {(owner, purpose): entry for owner, each in state.entries.items() for purpose, entry in enumerate(each)}
        own = {(holder, FIRST_EXTRA + number): entry for number, entry in enumerate(state.own_extras)}
        held |= own | {(holder, _SEED): state.own_entry}
        secret_of = {entry: secret for secret, entry in held.items()}
        size = entry_bytes(self._setup.plan)
        for entry in cut(message.entries, size, len(message.entries) // size, "shares"):
            self._learn(*secret_of[entry], holder, entry)
        if self._flaw == "both reveals":
            for secret, entry in held.items():
                self._learn(*secret, holder, entry)

    def opened_extras(self) -> set[tuple[int, int]]:
        """Return which extra secrets of honest clients are known, checked against those they shared."""
        self._close()
        for (owner, number), extra in self._extras.items():
            if extra != self._transcript.script.extras(owner)[number]:
                msg = f"client {owner} shares another extra secret {number} than this enumeration knows"
                raise AssertionError(msg)
        return {(owner, number) for owner, number in self._extras if owner not in self._corrupt}

    def tells_apart(self, survivors: Collection[int] | None) -> Difference | None:
        """Compare the views of all honest inputs; `survivors` are those whose sum comes out, if one does."""
        self._close()
        honest = [i for i in self._transcript.clients["masked_input"] if i not in self._corrupt]
        modulus = 1 << self._setup.plan.modulus_bits
        views = self._views(honest, modulus)
        summed = [at for at, i in enumerate(honest) if survivors is not None and i in survivors]
        axes = tuple(range(len(honest)))
        for difference in product(range(modulus), repeat=len(honest)):
            same_sum = survivors is None or sum(difference[at] for at in summed) % modulus == 0
            if same_sum and not np.array_equal(np.roll(views, difference, axes), views):
                return dict(zip(honest, difference, strict=True))
        return None

    def _views(self, honest: list[int], modulus: int) -> NDArray[np.int64]:
        """Count, over all tables, how often honest inputs of zero give each tuple of masked inputs."""
        terms = {i: self._terms(i) for i in honest}
        unknown = sorted({mask for each in terms.values() for mask in each if not self._knows(mask)})
        views = np.zeros((modulus,) * len(honest), dtype=np.int64)
        views[(0,) * len(honest)] = 1
        axes = tuple(range(len(honest)))
        for mask in unknown:
            signs = [terms[i].get(mask, 0) for i in honest]
            shifted = [np.roll(views, [value * sign for sign in signs], axes) for value in range(modulus)]
            views = np.sum(shifted, axis=0)
        return views

    def _terms(self, client: int) -> dict[Mask, int]:
        """Which masks, with which signs, a client's masked input holds; checked against the bytes it sent."""
        visit, setup = self._transcript.clients["masked_input"][client], self._setup
        state = visit.state
        keys: dict[Mask, tuple[bytes, int]] = {(client,): (self_mask_key(setup, client, state.self_mask_seed), 1)}
        peers = sorted(visit.following.entries)
        shares = decode(PeerShares, visit.request, setup)
        parts = received(setup, client, peers, shares, (state.sealing, state.mask))
        for peer in peers:
            public = state.peers[peer].mask_key
            secret = state.mask.agree(public) + parts.mask.get(peer, state.peers[peer].mask_part)
            low, high = sorted((client, peer))
            keys[low, high] = pairwise_mask_key(setup, (client, state.mask.public), (peer, public), secret)
        y = to_vector(state.contribution, setup.plan)
        add_masks(y, keys.values())
        reduce(y, setup.plan.modulus_bits)
        if pack(y, setup.plan.modulus_bits) != decode(MaskedInput, visit.answer, setup).vector:
            msg = f"client {client} masks its input otherwise than this enumeration knows"
            raise AssertionError(msg)
        return {mask: sign for mask, (_, sign) in keys.items() if self._flaw != "no self mask" or len(mask) > 1}

    def _knows(self, mask: Mask) -> bool:
        return mask[0] in self._seeds if len(mask) == 1 else any(i in self._mask for i in mask)

    def _learn(self, owner: int, purpose: int, holder: int, entry: bytes) -> None:
        self._shares.setdefault((owner, purpose), {})[holder] = entry[:SHARE_BYTES]

    def _close(self) -> None:
        """Open and combine until nothing new comes of it."""
        known = -1
        while known != (known := len(self._sealing) + len(self._mask) + len(self._seeds)):
            self._open_bundles()
            self._combine()

    def _open_bundles(self) -> None:
        setup, visits = self._setup, self._transcript.clients["share_keys"]
        public = {i: visit.state.sealing.public for i, visit in visits.items()}
        size = entry_bytes(setup.plan)
        for sender, visit in visits.items():
            recipients = sorted(visit.following.peers)
            message = decode(ShareKeys, visit.answer, setup)
            bundles = cut(message.sealed, sealed_bytes(setup.plan), len(recipients), "sealed bundles")
            higher = [peer for peer in recipients if peer > sender]
            ciphertexts, entries = cut_encapsulated(setup.plan, message.encapsulated, recipients, higher)
            for recipient, bundle in zip(recipients, bundles, strict=True):
                for reader, other in ((sender, recipient), (recipient, sender)):
                    pair = self._sealing.get(reader)
                    if pair is None:
                        continue
                    secret = pair.agree(public[other])
                    if isinstance(pair, HybridKeyPair):
                        if reader == sender:  # its own secrets it knows; what it encapsulated opens nothing else
                            continue
                        secret += pair.kem.decapsulate(ciphertexts[recipient]) + ciphertexts[recipient]
                    key = sealing_key(setup, secret, (sender, public[sender]), (recipient, public[recipient]))
                    where = channel(setup, sender, recipient, entries.get(recipient, b""))
                    opened = open_sealed(key, bundle, associated_data=where)
                    for purpose, entry in enumerate(cut(opened, size, entries_dealt(setup.plan), "shares")):
                        self._learn(sender, purpose, recipient, entry)

    def _combine(self) -> None:
        t = self._setup.plan.threshold
        for (owner, purpose), shares in self._shares.items():
            if len(shares) < t:
                continue
            points = np.array(list(shares), dtype=np.uint64) + np.uint64(1)
            secret = combine(points, np.stack([shares_from_bytes(share) for share in shares.values()]), t=t)[0]
            if purpose == _SEED:
                self._seeds[owner] = secret
                continue
            if purpose >= FIRST_EXTRA:
                self._extras[owner, purpose - FIRST_EXTRA] = secret
                continue
            self._mask[owner] = self._explained(owner, secret)
            if self._flaw == "one key pair":
                self._sealing[owner] = self._transcript.clients["share_keys"][owner].state.sealing

    def _explained(self, owner: int, secret: bytes) -> PlanKeyPair:
        """Return the mask pair that a rebuilt secret is, or opens the envelope of."""
        if not is_hybrid(self._setup.plan):
            return KeyPair.from_private(secret)
        visit = self._transcript.clients["share_keys"][owner]
        higher = [peer for peer in sorted(visit.following.peers) if peer > owner]
        envelope = decode(ShareKeys, visit.answer, self._setup).envelope
        return open_envelope(self._setup, owner, secret, envelope, higher)[0]
