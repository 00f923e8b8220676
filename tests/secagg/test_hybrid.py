"""Hybrid keys: rounds are exact whoever drops out, both secrets count, and whoever puts another in is named."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg import (
    DecodeError,
    FaultyClientError,
    FaultyServerError,
    LocalProtocolError,
    Plan,
    PlanError,
    SecAggError,
    SuspectedPeerError,
    ThresholdError,
    simulate,
    tags,
)
from secagg.encoding.packing import add_packed, reduce, word_dtype
from secagg.masking.client import client_share_keys_again
from secagg.masking.hybrid import HybridKeyPair, confirmed, halves
from secagg.masking.messages import (
    AdvertiseKeys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    ShareKeys,
    UnmaskShares,
    envelope_bytes,
)
from secagg.masking.streams import pairwise_mask_key, position_bytes, self_mask_key
from secagg.masking.transcript import keys_statement, shares_statement
from secagg.params import ServerModel
from secagg.planning import explain
from secagg.primitives.aead import open_sealed, seal
from secagg.primitives.kem import KemKeyPair, encapsulate
from secagg.primitives.keys import derive_key
from secagg.primitives.prg import add_masks
from secagg.transitions import steps_of
from secagg.wire import decode, encode
from tests.secagg.rig import Rig, identity_of, make_plan, vectors
from tests.secagg.test_journal import Site

HYBRID: Any = "x25519+ml-kem-768"
SERVERS: tuple[ServerModel, ...] = ("semi-honest", "malicious")
ENTRY = 1088 + 32


def rig_of(server: str = "malicious", n: int = 5) -> Rig:
    return Rig(make_plan(n, server=server, key_agreement=HYBRID), round=1)


def at(step: str, server: str = "malicious", drop: dict[int, str] | None = None) -> Rig:
    """A rig whose requests of `step` were just sent."""
    rig = rig_of(server)
    rig.run(until=step, drop=drop)
    rig.ask(step)
    return rig


def with_fields(message: Any, **changes: Any) -> Any:
    fields = {name: changes.get(name, getattr(message, name)) for name in message.__struct_fields__}
    return type(message)(**fields)


def put(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


def dealt(rig: Rig, client: int, **changes: Any) -> bytes:
    """A client's shares, with something changed and signed by itself."""
    message = with_fields(decode(ShareKeys, rig.answer("share_keys", client), rig.setup), **changes)
    if rig.plan.server == "malicious":
        said = (message.commitment, message.hashes, message.encapsulated, message.envelope)
        statement = shares_statement(rig.setup, client, *said)
        message = with_fields(message, signature=identity_of(client).sign(statement))
    return encode(message, rig.setup)


def finish(rig: Rig, steps: tuple[str, ...], drop: dict[int, str]) -> None:
    for step in steps:
        for i in rig.ask(step):
            if i not in drop or rig.steps.index(drop[i]) > rig.steps.index(step):
                rig.server.receive(i, rig.answer(step, i))


# whole rounds


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Plan, dict[int, str]]:
    server = draw(st.sampled_from(SERVERS))
    n = draw(st.integers(2, 7))
    sparse = server == "semi-honest" and n > 3 and draw(st.booleans())
    degree = draw(st.sampled_from(range(2, n - 1, 2))) if sparse else n - 1
    plan = make_plan(n, degree=degree, length=2, server=server, key_agreement=HYBRID)
    steps = st.sampled_from(steps_of("masking", server))
    return plan, draw(st.dictionaries(st.integers(0, n - 1), steps, max_size=n - 1))


@given(rounds())
@settings(max_examples=120)
def test_the_sum_is_exact_for_every_pattern_of_survivors_or_too_few_are_left(case: tuple[Plan, dict[int, str]]) -> None:
    plan, dropouts = case
    inputs = vectors(plan.clients, plan.length)
    try:
        total = simulate(plan, inputs, dropouts=dropouts)
    except ThresholdError:
        assert dropouts
        return
    late = {"consistency_check", "unmask"}
    assert total.survivors == tuple(i for i in range(plan.clients) if dropouts.get(i, "unmask") in late)
    rows = [inputs[int(i)].tolist() for i in total.survivors]
    assert total.vector.tolist() == [sum(column) % (1 << plan.modulus_bits) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("step", ["advertise_keys", "share_keys", "masked_input", "unmask"])
@pytest.mark.parametrize("dropout", range(5))
@pytest.mark.parametrize("server", SERVERS)
def test_whoever_drops_out_of_pairs_as_the_lower_or_the_higher_the_sum_is_exact(
    server: str, dropout: int, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    decapsulate = KemKeyPair.decapsulate

    def counted(pair: KemKeyPair, ciphertext: bytes) -> bytes:
        opened.append(ciphertext)
        return decapsulate(pair, ciphertext)

    rig = rig_of(server)
    rig.run(until="unmask", drop={dropout: step})
    for i in rig.ask("unmask"):
        if i != dropout:
            rig.server.receive(i, rig.answer("unmask", i))
    monkeypatch.setattr(KemKeyPair, "decapsulate", counted)
    rig.server.close_round()
    survivors = [i for i in range(5) if i != dropout or step == "unmask"]
    assert rig.server.total().vector.tolist() == rig.expected(survivors)
    # where the dropout is the higher of a pair the server decapsulates; where it is the lower, the envelope says
    assert len(opened) == (dropout if step == "masked_input" else 0)


def test_keys_ciphertexts_and_envelopes_have_the_lengths_that_the_plan_gives() -> None:
    rig = at("masked_input")
    for i in range(5):
        keys = decode(AdvertiseKeys, rig.log["advertise_keys", "up", i], rig.setup)
        assert (len(keys.sealing_key), len(keys.mask_key)) == (32 + 1184, 32 + 1184)
        sent = decode(ShareKeys, rig.log["share_keys", "up", i], rig.setup)
        assert len(sent.encapsulated) == 4 * 1088 + (4 - i) * ENTRY
        assert len(sent.envelope) == 32 + 64 + 32 * (4 - i) + 16 == envelope_bytes(rig.plan, 4 - i)
        assert len(decode(PeerShares, rig.outbox[i], rig.setup).encapsulated) == 4 * 1088 + i * ENTRY


def test_the_plan_says_how_keys_are_agreed_on_and_so_does_its_digest() -> None:
    codec = secagg.Counts(dimension=3, maximum=5, clients=4)
    plain, hybrid = secagg.plan(codec), secagg.plan(codec, key_agreement=HYBRID)
    assert (plain.key_agreement, hybrid.key_agreement) == ("x25519", HYBRID)
    assert plain.digest != hybrid.digest
    assert "quantum" in explain(plain)["keys"]
    assert "ML-KEM-768" in explain(hybrid)["keys"]
    sparse = secagg.plan(secagg.Counts(dimension=3, maximum=5, clients=1_000), key_agreement=HYBRID)
    assert not sparse.is_complete
    assert "ML-KEM-768" in explain(sparse)["keys"]
    with pytest.raises(PlanError, match="key_agreement must be"):
        secagg.plan(codec, key_agreement="rsa")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="key_agreement must be"):
        make_plan(4, key_agreement="ml-kem-768")
    with pytest.raises(PlanError, match="agrees on no keys"):
        secagg.plan(codec, masking="plain", key_agreement=HYBRID)


# both secrets count


def unmasked(rig: Rig, client: int, joint: Callable[[bytes, bytes], bytes]) -> list[int]:
    """Take every mask off a masked input, with pair secrets made by `joint` of X25519 secret and KEM part."""
    setup, state = rig.setup, rig.clients[client]._state
    before = rig.states[client]  # type: ignore[attr-defined]
    masks = [(self_mask_key(setup, client, before.self_mask_seed), -1)]
    for peer, theirs in before.peers.items():
        low, high = sorted((client, peer))
        entry_of = decode(ShareKeys, rig.log["share_keys", "up", low], setup).encapsulated
        entry = entry_of[4 * 1088 + ENTRY * (high - low - 1) :][:ENTRY]
        secret = rig.states[high].mask.kem.decapsulate(entry[:1088])  # type: ignore[attr-defined]
        shared = joint(before.mask.agree(theirs.mask_key), secret + entry[:1088])
        key, sign = pairwise_mask_key(setup, (client, before.mask.public), (peer, theirs.mask_key), shared)
        masks.append((key, -sign))
    assert state is not None
    vector = np.zeros(setup.plan.length, dtype=word_dtype(setup.plan.modulus_bits))
    sent = decode(MaskedInput, rig.log["masked_input", "up", client], setup).vector
    add_packed(sent, setup.plan.modulus_bits, vector)
    add_masks(vector, masks)
    reduce(vector, setup.plan.modulus_bits)
    return vector.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("client", [0, 2, 4])
def test_a_mask_opens_with_both_secrets_and_with_neither_alone(client: int) -> None:
    rig = at("masked_input", "semi-honest")
    rig.states = {i: rig.clients[i]._state for i in range(5)}  # type: ignore[attr-defined]
    for i in range(5):
        rig.answer("masked_input", i)
    mine = rig.inputs[client].tolist()
    assert unmasked(rig, client, lambda x25519, kem: x25519 + kem) == mine
    broken = (
        lambda x25519, _: x25519,  # a quantum computer: X25519 is known, the KEM secret is not
        lambda x25519, kem: x25519 + bytes(32) + kem[32:],
        lambda _, kem: bytes(32) + kem,  # ML-KEM is broken, X25519 is not
        lambda x25519, kem: x25519 + kem[:32] + bytes(1088),  # another ciphertext of the same secret
    )
    for joint in broken:
        assert unmasked(rig, client, joint) != mine


def test_bundles_open_with_both_secrets_and_with_neither_alone() -> None:
    rig = at("masked_input", "semi-honest")
    setup, states = rig.setup, {i: rig.clients[i]._state for i in range(5)}
    sent = decode(ShareKeys, rig.log["share_keys", "up", 1], setup)
    sealed = sent.sealed[96 * 2 : 96 * 3]  # 1's recipients are 0, 2, 3, 4
    ciphertext = sent.encapsulated[1088 * 2 : 1088 * 3]
    entry = sent.encapsulated[4 * 1088 + ENTRY :][:ENTRY]
    x25519 = states[3].sealing.agree(states[1].sealing.public)
    kem = states[3].sealing.kem.decapsulate(ciphertext)
    ends = [part for i in (1, 3) for part in (position_bytes(i), states[i].sealing.public)]
    where = setup.digest + position_bytes(1) + position_bytes(3)

    def opens(secret: bytes, bound: bytes) -> bool:
        key = derive_key(secret, tags.SEALED_SHARE, setup.digest, *ends)
        try:
            open_sealed(key, sealed, associated_data=where + bound)
        except DecodeError:
            return False
        return True

    assert opens(x25519 + kem + ciphertext, entry)
    assert not opens(x25519 + kem + ciphertext, b"")  # not bound to what travels beside it
    assert not opens(x25519, entry)
    assert not opens(x25519 + bytes(32) + ciphertext, entry)
    assert not opens(bytes(32) + kem + ciphertext, entry)


# substituted keys and ciphertexts


@pytest.mark.parametrize("field", ["sealing_key", "mask_key"])
@pytest.mark.parametrize("server", SERVERS)
def test_keys_that_are_short_invalid_or_copied_are_refused_by_the_server(server: str, field: str) -> None:
    rig = at("advertise_keys", server)
    rig.server.receive(1, rig.answer("advertise_keys", 1))
    theirs = decode(AdvertiseKeys, rig.log["advertise_keys", "up", 1], rig.setup)
    mine = decode(AdvertiseKeys, rig.answer("advertise_keys", 3), rig.setup)
    key, other = getattr(mine, field), {"sealing_key": "mask_key", "mask_key": "sealing_key"}[field]
    identity = identity_of(3)

    def advertised(key: bytes) -> bytes:
        message = with_fields(mine, **{field: key})
        if server == "malicious":
            statement = keys_statement(rig.setup, 3, message.sealing_key, message.mask_key)
            message = with_fields(message, signature=identity.sign(statement))
        return encode(message, rig.setup)

    for wrong in (key[:-1], key + b"\0", key[:32], key[32:], bytes(32) + key[32:], key[:32] + b"\xff" * 1184, b""):
        with pytest.raises((FaultyClientError, DecodeError)) as caught:
            rig.server.receive(3, advertised(wrong))
        assert isinstance(caught.value, FaultyClientError)
        assert caught.value.culprits == (3,)
    for half in halves(rig.plan, getattr(theirs, other)):
        copied = key.replace(key[: len(half)] if len(half) == 32 else key[32:], half)
        with pytest.raises(SuspectedPeerError, match="the same public key") as suspected:
            rig.server.receive(3, advertised(copied))
        assert suspected.value.culprits == (1, 3)
    for half in halves(rig.plan, getattr(mine, other)):
        with pytest.raises(FaultyClientError, match="one key for sealing and for masks"):
            rig.server.receive(3, advertised(key.replace(key[: len(half)] if len(half) == 32 else key[32:], half)))
    rig.server.receive(3, rig.log["advertise_keys", "up", 3])


@pytest.mark.parametrize("which", [0, 1])
def test_a_substituted_kem_key_is_not_signed_by_its_owner(which: int) -> None:
    rig = at("share_keys")
    message = decode(PeerKeys, rig.outbox[2], rig.setup)
    forged = put(message.keys, 1216 * which + 32, KemKeyPair.from_seed(bytes(64)).public)
    with pytest.raises(FaultyServerError, match="not signed by its identity"):
        rig.clients[2].receive(encode(with_fields(message, keys=forged), rig.setup))


@pytest.mark.parametrize("peer", [0, 1, 2, 3])
def test_a_key_that_is_no_ml_kem_key_is_refused_by_whoever_encapsulates_to_it(peer: int) -> None:
    rig = at("share_keys", "semi-honest")
    message = decode(PeerKeys, rig.outbox[2], rig.setup)
    for which in (0, 1):
        forged = put(message.keys, 2432 * peer + 1216 * which + 32, b"\xff" * 1184)
        request = encode(with_fields(message, keys=forged), rig.setup)
        if which == 1 and peer < 2:  # a lower position encapsulates to us, and we never use its ML-KEM mask key
            continue
        with pytest.raises(FaultyServerError, match="not a valid ML-KEM-768 key"):
            rig.clients[2].receive(request)
    rig.answer("share_keys", 2)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("own", [False, True])
def test_a_ciphertext_that_the_server_changes_or_makes_itself_is_noticed_before_anything_is_masked(
    server: str, own: bool
) -> None:
    rig = at("masked_input", server)
    message = decode(PeerShares, rig.outbox[2], rig.setup)
    keys = decode(AdvertiseKeys, rig.log["advertise_keys", "up", 2], rig.setup)
    changed: dict[int, int] = {}  # where, and whose
    for number, peer in enumerate((0, 1, 3, 4)):
        changed[1088 * number] = peer
    for number, peer in enumerate((0, 1)):
        changed[4 * 1088 + ENTRY * number] = peer
        changed[4 * 1088 + ENTRY * number + 1088] = peer
    for where, peer in changed.items():
        part = bytes([message.encapsulated[where] ^ 1])
        if own and where < 4 * 1088:
            part = encapsulate(keys.sealing_key[32:])[1]
        elif own:  # it knows this secret, and confirms it as it should be
            secret, ciphertext = encapsulate(keys.mask_key[32:])
            part = confirmed(rig.setup, peer, 2, secret, ciphertext)
            where = 4 * 1088 + ENTRY * peer  # noqa: PLW2901
        forged = with_fields(message, encapsulated=put(message.encapsulated, where, part))
        with pytest.raises(SuspectedPeerError) as caught:
            rig.clients[2].receive(encode(forged, rig.setup))
        assert caught.value.culprits == (peer,)
        assert ("not the one it confirmed" in str(caught.value)) == (not own and where >= 4 * 1088)
    for wrong in (message.encapsulated[:-1], message.encapsulated + b"\0", b""):
        with pytest.raises(FaultyServerError):
            rig.clients[2].receive(encode(with_fields(message, encapsulated=wrong), rig.setup))
    rig.answer("masked_input", 2)


@pytest.mark.parametrize("server", SERVERS)
def test_whoever_encapsulates_another_secret_than_it_confirms_is_named_by_peer_and_server(server: str) -> None:
    # 1 sends 3 a ciphertext that does not give what it confirms; 3 refuses, so that to the server it looks dropped out.
    rig = at("share_keys", server)
    sent = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    theirs = decode(AdvertiseKeys, rig.log["advertise_keys", "up", 3], rig.setup)
    where = 4 * 1088 + ENTRY  # its higher neighbours are 2, 3, 4
    lie = put(sent.encapsulated, where, encapsulate(theirs.mask_key[32:])[1])
    for i in (0, 2, 3, 4):
        rig.server.receive(i, rig.answer("share_keys", i))
    rig.server.receive(1, dealt(rig, 1, encapsulated=lie))
    rig.ask("masked_input")
    with pytest.raises(SuspectedPeerError, match="not the one it confirmed") as suspected:
        rig.answer("masked_input", 3)
    assert suspected.value.culprits == (1,)
    for i in (0, 2, 4, 1):
        if i == 1:
            rig.server.receive(i, rig.answer("masked_input", i))
            continue
        try:
            rig.server.receive(i, rig.answer("masked_input", i))
        except SecAggError:
            pytest.fail("the lie is told to 3 alone")
    finish(rig, rig.steps[3:], {3: "masked_input"})
    with pytest.raises(FaultyClientError, match="encapsulated another mask secret than it confirmed") as caught:
        rig.server.close_round()
    assert caught.value.culprits == (1,)


def other_envelope(rig: Rig, client: int, change: Callable[[bytes], bytes]) -> bytes:
    """What a client could seal instead: its true recovery key, another content."""
    where = rig.setup.digest + position_bytes(client)
    message = decode(ShareKeys, rig.answer("share_keys", client), rig.setup)
    recovery = recovered(rig, client)
    return seal(recovery, change(open_sealed(recovery, message.envelope, associated_data=where)), associated_data=where)


def recovered(rig: Rig, client: int) -> bytes:
    """The recovery key of a client, as it derives it."""
    request = hashlib.sha256(rig.outbox[client]).digest()
    master = rig.clients[client]._memory.master
    random = derive_key(master, tags.STEP, rig.setup.digest, b"share_keys", request)
    return derive_key(random, tags.RECOVERY_KEY, rig.setup.digest)


LIES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another X25519 key": (lambda content: put(content, 0, bytes(32)), "another mask key than was advertised"),
    "another seed": (lambda content: put(content, 32, bytes(64)), "another mask key than was advertised"),
    "another secret": (lambda content: put(content, 96 + 32, bytes(32)), "another mask secret than was confirmed"),
}


@pytest.mark.parametrize("lie", [*LIES, "garbage"])
@pytest.mark.parametrize("server", SERVERS)
def test_an_envelope_that_does_not_fit_is_blamed_on_its_dealer(server: str, lie: str) -> None:
    rig = at("share_keys", server)
    if lie == "garbage":
        envelope, says = bytes(envelope_bytes(rig.plan, 3)), "another key than that of its envelope"
    else:
        rig.answer("share_keys", 1)
        envelope, says = other_envelope(rig, 1, LIES[lie][0]), LIES[lie][1]
    for i in (0, 2, 3, 4):
        rig.server.receive(i, rig.answer("share_keys", i))
    rig.server.receive(1, dealt(rig, 1, envelope=envelope))
    finish(rig, rig.steps[2:], {1: "masked_input"})
    blame = FaultyClientError if server == "malicious" else SuspectedPeerError
    with pytest.raises(blame, match=f"rebuild {says}") as caught:
        rig.server.close_round()
    assert caught.value.culprits == ((1,) if server == "malicious" else (0, 1, 2, 3, 4))


@pytest.mark.parametrize("field", ["encapsulated", "envelope"])
def test_ciphertexts_and_envelopes_are_signed_by_their_dealer_and_have_their_length(field: str) -> None:
    rig = at("share_keys")
    message = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    value = getattr(message, field)
    unsigned = with_fields(message, **{field: bytes([value[0] ^ 1]) + value[1:]})
    with pytest.raises(FaultyClientError, match="not signed by its identity") as caught:
        rig.server.receive(1, encode(unsigned, rig.setup))
    assert caught.value.culprits == (1,)
    for wrong in (value[:-1], value + b"\0", b""):
        with pytest.raises(FaultyClientError, match="got"):
            rig.server.receive(1, dealt(rig, 1, **{field: wrong}))
    rig.server.receive(1, rig.log["share_keys", "up", 1])


def test_rounds_of_x25519_alone_refuse_ciphertexts_and_envelopes() -> None:
    rig = Rig(make_plan(5), round=1)
    rig.run(until="share_keys")
    rig.ask("share_keys")
    message = decode(ShareKeys, rig.answer("share_keys", 1), rig.setup)
    assert message.encapsulated == message.envelope == b""
    for field in ("encapsulated", "envelope"):
        with pytest.raises(FaultyClientError, match="got"):
            rig.server.receive(1, encode(with_fields(message, **{field: b"\0"}), rig.setup))
    for i in range(5):
        rig.server.receive(i, rig.answer("share_keys", i))
    rig.ask("masked_input")
    request = decode(PeerShares, rig.outbox[2], rig.setup)
    with pytest.raises(FaultyServerError, match="mask entries"):
        rig.clients[2].receive(encode(with_fields(request, encapsulated=b"\0"), rig.setup))


def test_nothing_of_a_hybrid_round_shows_a_secret() -> None:
    rig = at("masked_input")
    shown, secrets = [], []
    for i in range(5):
        state = rig.clients[i]._state
        shown += [repr(state), repr(state.peers), repr(state.mask)]
        secrets += [state.mask.private_bytes()[:32], state.mask.kem.seed_bytes()]
        secrets += [peer.mask_part[:32] for peer in state.peers.values() if peer.mask_part]
    shown.append(repr(rig.server._state))
    text = "\n".join(shown)
    assert len(secrets) == 10 + 10
    for secret in secrets:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


# what cannot be drawn again is recalled


@pytest.mark.parametrize("key", [None, bytes(range(32))])
@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_dies_after_any_step_goes_on_with_the_very_bytes_it_sent(
    server: ServerModel, key: bytes | None, tmp_path: Path
) -> None:
    steps = steps_of("masking", server)
    for dies in steps:
        folder = tmp_path / dies
        folder.mkdir()
        site = Site(folder, server, key, key_agreement=HYBRID)
        for step in steps:
            requests = site.rig.ask(step)
            for i in requests:
                answer = site.rig.answer(step, i)
                if i == 2 and step == dies:
                    site.crash()
                    late = steps.index(step) > 1
                    client = site.open(site.rig.inputs[2] if not late else None)
                    assert client.receive(requests[2]) == answer
                site.rig.server.receive(i, answer)
        site.rig.server.close_round()
        assert site.rig.server.total().vector.tolist() == site.rig.expected(range(5))
        site.crash()


def test_a_client_that_resumes_at_every_step_is_still_the_same(tmp_path: Path) -> None:
    site = Site(tmp_path, key_agreement=HYBRID)
    for step in site.rig.steps:
        requests = site.rig.ask(step)
        for i in requests:
            site.rig.server.receive(i, site.rig.answer(step, i))
        if step != "unmask":
            site.crash()
            site.open()
    site.rig.server.close_round()
    assert site.rig.server.total().vector.tolist() == site.rig.expected(range(5))
    site.crash()


def test_only_its_own_answer_recalls_what_a_client_encapsulated() -> None:
    rig = at("share_keys", "semi-honest")
    state = rig.clients[1]._state
    rig.answer("share_keys", 1)
    sent = decode(ShareKeys, rig.log["share_keys", "up", 1], rig.setup)
    request = decode(PeerKeys, rig.outbox[1], rig.setup)
    asked = hashlib.sha256(rig.outbox[1]).digest()
    master = rig.clients[1]._memory.master
    random = derive_key(master, tags.STEP, rig.setup.digest, b"share_keys", asked)
    again, answer = client_share_keys_again(state, request, random, encode(sent, rig.setup))
    assert encode(answer, rig.setup) == rig.log["share_keys", "up", 1]
    assert isinstance(again.mask, HybridKeyPair)
    assert {peer: each.mask_part for peer, each in again.peers.items()} == {
        peer: each.mask_part for peer, each in rig.clients[1]._state.peers.items()
    }
    wrong = [with_fields(sent, envelope=other_envelope(rig, 1, change)) for change, _ in LIES.values()] + [
        with_fields(sent, envelope=bytes(len(sent.envelope))),
        with_fields(sent, encapsulated=put(sent.encapsulated, 4 * 1088 + 1088, bytes(32))),
        with_fields(sent, encapsulated=sent.encapsulated[:-1]),
    ]
    for each in wrong:
        with pytest.raises(DecodeError):
            client_share_keys_again(state, request, random, encode(each, rig.setup))
    with pytest.raises(DecodeError):
        client_share_keys_again(state, request, bytes(32), encode(sent, rig.setup))


@pytest.mark.parametrize("field", ["commitment", "envelope", "encapsulated"])
def test_an_answer_that_is_stored_damaged_does_not_resume(field: str, tmp_path: Path) -> None:
    site = Site(tmp_path, key_agreement=HYBRID)
    site.run(until="share_keys")
    site.rig.ask("share_keys")
    before = site.data
    stored = decode(ShareKeys, site.rig.answer("share_keys", 2), site.rig.setup)
    site.crash()
    site.path.write_bytes(before)
    site.open()
    value = getattr(stored, field)
    damaged = with_fields(stored, **{field: value[:-1] + bytes([value[-1] ^ 1])})
    site.journal.append(site.rig.outbox[2], encode(damaged, site.rig.setup), last=False)
    site.crash()
    with pytest.raises(LocalProtocolError, match="another version of this library"):
        site.open()


def test_entries_revealed_are_of_the_recovery_key_never_of_the_mask_key() -> None:
    rig = at("unmask", drop={4: "masked_input"})
    state = rig.clients[2]._state
    for i in (0, 1, 2, 3):
        rig.answer("unmask", i)
    revealed = decode(UnmaskShares, rig.log["unmask", "up", 2], rig.setup).entries
    assert revealed[-56:] == state.entries[4][1]
