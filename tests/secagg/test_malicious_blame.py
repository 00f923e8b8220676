"""Wrong keys, shares and signatures: refused, and blamed on the client that made them where that is certain."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from secagg import FaultyClientError, SuspectedPeerError
from secagg.masking import client
from secagg.masking.bundles import dealt_entries
from secagg.masking.messages import AdvertiseKeys, ConsistencyCheck, PeerShares, ShareKeys, UnmaskShares
from secagg.masking.transcript import entry_hash, shares_statement
from secagg.primitives.keys import KeyPair
from secagg.wire import decode, encode
from tests.secagg.malicious_rig import at
from tests.secagg.rig import Rig, identity_of, make_plan


@pytest.mark.parametrize("field", ["sealing_key", "mask_key", "signature"])
def test_a_client_whose_keys_are_not_signed_is_blamed(field: str) -> None:
    rig = at("advertise_keys")
    message = decode(AdvertiseKeys, rig.answer("advertise_keys", 3), rig.setup)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    fields[field] = bytes([fields[field][0] ^ 1]) + fields[field][1:]
    with pytest.raises(FaultyClientError, match="not signed by its identity") as caught:
        rig.server.receive(3, encode(AdvertiseKeys(**fields), rig.setup))
    assert caught.value.culprits == (3,)


def test_a_client_that_signs_something_else_is_blamed_and_the_round_goes_on() -> None:
    rig = at("consistency_check")
    for i in range(4):
        rig.server.receive(i, rig.answer("consistency_check", i))
    rig.answer("consistency_check", 4)
    with pytest.raises(FaultyClientError, match="not signed by its identity") as caught:
        rig.server.receive(4, encode(ConsistencyCheck(4, bytes(64)), rig.setup))
    assert caught.value.culprits == (4,)
    for i in rig.ask("unmask"):
        assert i != 4
        rig.server.receive(i, rig.answer("unmask", i))
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(5))


def dealt_by_a_liar(rig: Rig, liar: int, **changes: Any) -> bytes:
    """A client's shares under its own true signature, with something changed."""
    message = decode(ShareKeys, rig.answer("share_keys", liar), rig.setup)
    fields = {name: changes.get(name, getattr(message, name)) for name in message.__struct_fields__}
    statement = shares_statement(rig.setup, liar, fields["commitment"], fields["hashes"])
    return encode(ShareKeys(**(fields | {"signature": identity_of(liar).sign(statement)})), rig.setup)


@pytest.mark.parametrize("field", ["commitment", "hashes", "signature"])
def test_shares_that_are_not_signed_by_their_dealer_are_refused(field: str) -> None:
    rig = at("share_keys")
    message = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    fields[field] = bytes([fields[field][0] ^ 1]) + fields[field][1:]
    with pytest.raises(FaultyClientError, match="not signed by its identity") as caught:
        rig.server.receive(1, encode(ShareKeys(**fields), rig.setup))
    assert caught.value.culprits == (1,)


@pytest.mark.parametrize("holder", [0, 2, 3, 4])
def test_recipients_check_the_hashes_of_their_shares_on_receipt(holder: int) -> None:
    rig = at("share_keys")
    message = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    hashes = bytearray(message.hashes)
    hashes[64 * holder + 40] ^= 1  # of the share of the mask key, held by `holder`
    statement = shares_statement(rig.setup, 1, message.commitment, bytes(hashes))
    forged = ShareKeys(1, message.commitment, message.sealed, bytes(hashes), identity_of(1).sign(statement), b"", b"")
    for i in (0, 2, 3, 4):
        rig.server.receive(i, rig.answer("share_keys", i))
    rig.server.receive(1, encode(forged, rig.setup))
    rig.ask("masked_input")
    for i in (0, 2, 3, 4):
        if i != holder:
            rig.answer("masked_input", i)
            continue
        with pytest.raises(SuspectedPeerError, match="not those it published hashes of") as caught:
            rig.answer("masked_input", i)
        assert caught.value.culprits == (1,)


@pytest.mark.parametrize("server", ["semi-honest", "malicious"])
@pytest.mark.parametrize("liar", [0, 3])
@pytest.mark.parametrize("purpose", [0, 1])
def test_whoever_seals_what_is_no_share_is_blamed(
    server: str, liar: int, purpose: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outside_the_field(*given: Any) -> Iterator[tuple[bytes, ...]]:
        for entries in dealt_entries(*given):
            yield tuple(e[:32] + b"\xff" * 8 + e[40:] if i == purpose else e for i, e in enumerate(entries))

    rig = Rig(make_plan(5, server=server))
    rig.run(until="share_keys")
    for i in rig.ask("share_keys"):
        with monkeypatch.context() as patch:
            if i == liar:
                patch.setattr(client, "dealt_entries", outside_the_field)
            rig.server.receive(i, rig.answer("share_keys", i))
    rig.ask("masked_input")
    with pytest.raises(SuspectedPeerError, match="not an element of the field") as caught:
        rig.answer("masked_input", 2)
    assert caught.value.culprits == (liar,)


def test_a_server_that_changes_the_hashes_on_the_way_is_noticed() -> None:
    rig = at("masked_input")
    message = decode(PeerShares, rig.outbox[2], rig.setup)
    sealed = bytearray(message.sealed)
    sealed[-1] ^= 1
    with pytest.raises(SuspectedPeerError, match="not those it published hashes of"):
        rig.clients[2].receive(encode(PeerShares(2, message.present, bytes(sealed), b""), rig.setup))


@pytest.mark.parametrize("byte", [0, 39, 40, 55])
@pytest.mark.parametrize("owner", [0, 2, 3, 4])
def test_whoever_reveals_a_changed_share_is_blamed_and_the_sum_still_comes(owner: int, byte: int) -> None:
    rig = at("unmask", drop={4: "masked_input"})
    for i in (0, 1, 2, 3):
        rig.answer("unmask", i)
    entries = bytearray(decode(UnmaskShares, rig.log["unmask", "up", 1], rig.setup).entries)
    entries[56 * owner + byte] ^= 1
    with pytest.raises(FaultyClientError) as caught:
        rig.server.receive(1, encode(UnmaskShares(1, bytes(entries)), rig.setup))
    assert caught.value.culprits == (1,)
    for i in (0, 1, 2, 3):
        rig.server.receive(i, rig.log["unmask", "up", i])  # its true answer is still welcome
    rig.server.close_round()
    assert rig.server.total().vector.tolist() == rig.expected(range(4))


@pytest.mark.parametrize("wrong", ["mask", "seed"])
def test_a_dealer_whose_shares_rebuild_something_else_is_blamed_alone(wrong: str) -> None:
    rig = at("share_keys")
    client = rig.clients[3]
    if wrong == "mask":  # shares and publishes hashes of another mask key than it advertised
        client._state = replace(client._state, mask=KeyPair.from_private(b"\x05" * 32))
        answer = rig.answer("share_keys", 3)
    else:
        answer = dealt_by_a_liar(rig, 3, commitment=bytes(32))
    for i in (0, 1, 2, 4):
        rig.server.receive(i, rig.answer("share_keys", i))
    rig.server.receive(3, answer)
    for step in ("masked_input", "consistency_check", "unmask"):
        for i in rig.ask(step):
            if not (i == 3 and wrong == "mask" and step == "masked_input"):
                rig.server.receive(i, rig.answer(step, i))
    with pytest.raises(FaultyClientError, match="the shares dealt by 3 rebuild another") as caught:
        rig.server.close_round()
    assert caught.value.culprits == (3,)


def test_published_hashes_say_nothing_of_a_share_without_its_salt() -> None:
    # The same share under two salts, and the salts of two shares of a client, have nothing in common.
    rig = at("share_keys")
    message = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    hashes = [message.hashes[i : i + 32] for i in range(0, len(message.hashes), 32)]
    assert len(set(hashes)) == len(hashes) == 2 * 5
    entry = rig.clients[1]._state.own_entry
    assert entry_hash(rig.setup, 1, 1, 0, entry) == hashes[2]
    assert entry_hash(rig.setup, 1, 1, 0, entry[:40] + bytes(16)) != hashes[2]
    assert entry_hash(rig.setup, 1, 0, 0, entry) != entry_hash(rig.setup, 1, 1, 0, entry)
    assert entry_hash(rig.setup, 1, 1, 1, entry) != hashes[2]
