"""What must stay secret: two purposes never share a key, streams never repeat, nothing secret is on show."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from rich.pretty import pretty_repr

import secagg.masking.client as client_steps
import secagg.masking.unmasking as server_steps
from secagg import DecodeError, LocalProtocolError, SecAggError, Setup
from secagg.encoding.packing import Words
from secagg.masking.messages import AdvertiseKeys, ShareKeys, Survivors, UnmaskShares, sealed_bytes
from secagg.masking.streams import channel, sealing_key
from secagg.primitives.aead import open_sealed
from secagg.primitives.keys import KeyPair
from secagg.primitives.shamir import combine, shares_from_bytes
from secagg.wire import decode, encode
from tests.secagg.rig import Rig, make_plan

DROPOUT = 2


@pytest.fixture
def finished() -> tuple[Rig, KeyPair, KeyPair]:
    """A round in which client 2 shared its keys and vanished: the rig, and 2's true sealing and mask pairs."""
    rig = Rig(make_plan(5), round=1)
    rig.run(until="share_keys", drop={DROPOUT: "masked_input"})
    state = rig.clients[DROPOUT]._state
    for step in rig.steps[1:]:
        for i in rig.ask(step):
            if i != DROPOUT or step == "share_keys":
                rig.server.receive(i, rig.answer(step, i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected([0, 1, 3, 4])
    return rig, state.sealing, state.mask


def rebuilt_mask_key(rig: Rig) -> KeyPair:
    """What the server can compute: the dropout's mask key from the shares that survivors revealed."""
    shares, points = [], []
    for holder in (0, 1, 3, 4):
        revealed = shares_from_bytes(decode(UnmaskShares, rig.log["unmask", "up", holder], rig.setup).entries)
        shares.append(revealed[DROPOUT])  # owners ascend from 0, and everybody shared
        points.append(holder + 1)
    secret = combine(np.array(points, dtype=np.uint64), np.stack(shares)[:, None, :], t=rig.plan.threshold)[0]
    return KeyPair.from_private(secret)


def openable(rig: Rig, pair: KeyPair, owner: int) -> int:
    """How many sealed bundles from or to `owner` open with its key pair `pair` and anybody's public key."""
    setup: Setup = rig.setup
    public = {i: decode(AdvertiseKeys, rig.log["advertise_keys", "up", i], setup) for i in range(5)}
    opened = 0
    for peer in set(range(5)) - {owner}:
        for sender, recipient in ((owner, peer), (peer, owner)):
            recipients = [i for i in range(5) if i != sender]
            sealed = decode(ShareKeys, rig.log["share_keys", "up", sender], setup).sealed
            at = sealed_bytes(setup.plan) * recipients.index(recipient)
            for peer_key, mine in product(
                (public[peer].sealing_key, public[peer].mask_key), (pair.public, public[owner].sealing_key)
            ):
                ends = {owner: (owner, mine), peer: (peer, peer_key)}
                key = sealing_key(setup, pair.agree(peer_key), ends[sender], ends[recipient])
                try:
                    open_sealed(
                        key,
                        sealed[at : at + sealed_bytes(setup.plan)],
                        associated_data=channel(setup, sender, recipient),
                    )
                except DecodeError:
                    continue
                opened += 1
    return opened


def test_a_dropouts_rebuilt_mask_key_opens_no_sealed_share(finished: tuple[Rig, KeyPair, KeyPair]) -> None:
    rig, sealing, mask = finished
    rebuilt = rebuilt_mask_key(rig)
    assert rebuilt.public == mask.public  # the server did rebuild it
    assert openable(rig, rebuilt, DROPOUT) == 0
    assert openable(rig, sealing, DROPOUT) >= 8  # control: the sealing key, never shared, opens all of them


def test_each_client_is_opened_in_exactly_one_of_its_two_secrets() -> None:
    rig = Rig(make_plan(5), round=1)
    rig.run(until="masked_input")
    rig.ask("masked_input")
    seeds = {i: rig.clients[i]._state.self_mask_seed for i in range(5)}
    keys = {i: rig.clients[i]._state.mask.private_bytes() for i in range(5)}
    for i in (0, 1, 3, 4):
        rig.server.receive(i, rig.answer("masked_input", i))
    for i in rig.ask("unmask"):
        rig.server.receive(i, rig.answer("unmask", i))
    revealed = np.stack(
        [shares_from_bytes(decode(UnmaskShares, rig.log["unmask", "up", i], rig.setup).entries) for i in (0, 1, 3, 4)]
    )
    opened = combine(np.array([1, 2, 4, 5], dtype=np.uint64), revealed, t=rig.plan.threshold)
    assert opened == [keys[i] if i == DROPOUT else seeds[i] for i in range(5)]
    # Once, ever: asked again with client 0 called a dropout, so that its other secret would open, nobody answers.
    for i in (1, 3, 4):
        with pytest.raises(LocalProtocolError):
            rig.clients[i].receive(encode(Survivors(i, b"\x0e"), rig.setup))


def test_no_mask_stream_is_made_for_two_purposes_pairs_or_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[bytes, list[tuple[int, str, int]]] = {}

    def spy(module: Any, who: str) -> None:
        real = module.add_masks

        def add_masks(vector: Words, masks: Any) -> None:
            masks = list(masks)
            for key, sign in masks:
                used.setdefault(key, []).append((number, who, sign))
            real(vector, masks)

        monkeypatch.setattr(module, "add_masks", add_masks)

    spy(client_steps, "client")
    spy(server_steps, "server")
    n, rounds = 6, 3
    for number in range(rounds):
        Rig(make_plan(n), round=number).run(drop={5: "masked_input"})
    # Per round: 5 clients send. A self mask is added by one client and removed once; the mask of a pair of senders is
    # added by one and subtracted by the other; the mask with the dropout is added or subtracted once, removed once.
    assert len(used) == rounds * (5 + 10 + 5)
    for uses in used.values():
        assert len({use[0] for use in uses}) == 1
        assert sorted(use[2] for use in uses) == [-1, 1]


def test_the_same_randomness_gives_other_keys_in_another_round_session_or_plan() -> None:
    from secagg.masking.client import client_advertise_keys
    from secagg.masking.client_states import ClientState0
    from secagg.rounds import Invitation, invite

    public = set()
    for plan, number, session in (
        (make_plan(5), 0, bytes(16)),
        (make_plan(5), 1, bytes(16)),
        (make_plan(5), 0, b"\x01" * 16),
        (make_plan(5, threshold=5), 0, bytes(16)),
    ):
        setup = Setup(plan=plan, roster=range(5), session=session, round=number, assume_honest_server=True)
        inviting = invite(setup)[0]
        assert isinstance(inviting, Invitation)
        _, message = client_advertise_keys(ClientState0(setup, 0, lambda: np.zeros(5, np.uint16)), inviting, bytes(32))
        public |= {message.sealing_key, message.mask_key}
    assert len(public) == 8


def errors_of(rig: Rig, client: int) -> list[str]:
    """What a client says about a damaged request, and about one for another client."""
    said = []
    genuine = rig.outbox[client]
    for forged in (genuine[:-1] + bytes([genuine[-1] ^ 1]), rig.outbox[(client + 1) % 4]):
        with pytest.raises(SecAggError) as caught:
            rig.clients[client].receive(forged)
        said += [str(caught.value), repr(caught.value), repr(vars(caught.value)), str(caught.value.__cause__)]
    return said


def test_no_state_session_or_error_shows_a_secret() -> None:
    rig = Rig(make_plan(4), round=1)
    shown: list[str] = []
    secrets: list[bytes] = []
    for step in rig.steps:
        for i in rig.ask(step):
            state = rig.clients[i]._state
            shown += [
                repr(state),
                str(rig.clients[i]),
                repr(rig.server),
                repr(rig.server._state),
                repr(rig.clients[i].__dict__),
            ]
            pairs = [getattr(state, name) for name in ("sealing", "mask") if hasattr(state, name)]
            secrets += [pair.private_bytes() for pair in pairs]
            if hasattr(state, "self_mask_seed"):
                secrets += [state.self_mask_seed, state.own_entry]
                secrets += [peer.secret for peer in state.peers.values()]
                shown += [repr(state.peers), pretty_repr(state)]
            if hasattr(state, "entries"):
                secrets += [entry for entries in state.entries.values() for entry in entries]
            shown += errors_of(rig, i)
            rig.server.receive(i, rig.answer(step, i))
    rig.server.close_round()
    shown.append(repr(rig.server.total()))
    text = "\n".join(shown)
    assert len(secrets) >= 16 + 12 + 24
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
        assert str(int.from_bytes(secret[:8], "little")) not in text
    assert str(rig.inputs[0].tolist())[1:-1] not in text
    assert np.array2string(rig.inputs[0]) not in text
