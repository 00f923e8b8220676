"""The test vectors of whole steps: all of six scripts, some of a seventh, and what must be refused in each."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from secagg.errors import SecAggError
from secagg.masking.bundles import incoming
from secagg.masking.hybrid import KemParts
from secagg.masking.messages import to_bitmap
from secagg.masking.transcript import consistency_statement
from secagg.params import Plan
from secagg.primitives.aead import seal
from secagg.setups import model_digest
from secagg.testing.scripted import Script, Transcript, play
from secagg.wire import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from secagg.params import KeyAgreement
    from secagg.setups import Setup
    from secagg.testing.scripted import ClientVisit
    from secagg.wire import Message

__all__ = ["TRANSCRIPTS", "Case", "json_of_setup", "round_cases"]

Fields: TypeAlias = Any
"""A message of any kind, or its class, whose fields the caller knows."""
_HYBRID: KeyAgreement = "x25519+ml-kem-768"
_SHARE_KEYS = 2
"""Place of round share_keys in the history of a server."""
_ME = 1
"""Whose steps the vectors show."""


class Case(NamedTuple):
    """A vector to be made.

    Attributes:
        name: of its file.
        about: the behaviour, in a sentence.
        kind, given: what `replay` takes.
        error: the class of error it must end in; None if it must not.
    """

    name: str
    about: str
    kind: str
    given: dict[str, Any]
    error: str | None = None


def _transcripts() -> dict[str, Transcript]:
    complete = Plan(clients=4, length=5, modulus_bits=12, threshold=3, degree=3)
    sparse = Plan(clients=6, length=3, modulus_bits=8, threshold=4, degree=4, dropouts=1)
    malicious = Plan(
        clients=4, length=3, modulus_bits=17, threshold=3, degree=3, server="malicious", corrupted=1, encoding=bytes(32)
    )
    model = model_digest(b"model", b"training plan")
    scripts = {
        "complete": Script(plan=complete, round=7, dropouts={3: "masked_input"}, label="complete"),
        "complete_early": Script(plan=complete, round=8, dropouts={3: "share_keys"}, label="early"),
        "sparse": Script(plan=sparse, round=9, dropouts={5: "masked_input"}, label="sparse"),
        "malicious": Script(
            plan=malicious, round=1 << 40, dropouts={3: "masked_input"}, model=model, label="malicious"
        ),
        "malicious_early": Script(plan=malicious, round=2, dropouts={3: "share_keys"}, model=model, label="early"),
        "hybrid": Script(plan=replace(complete, key_agreement=_HYBRID), round=3, dropouts={2: "masked_input"}),
        "extras": Script(plan=replace(malicious, extras=1), round=4, dropouts={0: "unmask"}),
    }
    return {name: _played_again(name, script) for name, script in scripts.items()}


def _played_again(name: str, script: Script) -> Transcript:
    """Play a script; where keys are hybrid, with what its vectors say was encapsulated, if they still fit."""
    file = resources.files("secagg.testing").joinpath("vectors", "v1", f"server_unmask_{name}.json")
    if script.plan.key_agreement != _HYBRID or not file.is_file():
        return play(script)
    inbox = json.loads(file.read_text(encoding="utf-8"))["input"]["history"][_SHARE_KEYS]
    shared = {int(position): bytes.fromhex(data) for position, data in inbox.items()}
    try:
        return play(replace(script, shared=shared))
    except SecAggError:
        return play(script)


TRANSCRIPTS = _transcripts()


def json_of_setup(setup: Setup, directory: bytes = bytes(32)) -> dict[str, Any]:
    """Return the `setup` object of a vector."""
    plan = setup.plan
    fields = ["clients", "length", "modulus_bits", "threshold", "degree", "masking", "server", "dropouts", "corrupted"]
    fields += ["key_agreement"] if plan.key_agreement == _HYBRID else []
    fields += ["extras"] if plan.extras else []
    return {
        "plan": {name: getattr(plan, name) for name in fields} | {"encoding": plan.encoding.hex()},
        "roster": list(setup.roster),
        "identities": [key.hex() for key in setup.identities],
        "directory": directory.hex() if setup.identities else "",
        "session": setup.session.hex(),
        "round": setup.round,
        "model": setup.model.hex(),
    }


def round_cases() -> Iterator[Case]:
    """Yield every case of whole steps; those that must be refused differ in one request or inbox from those before."""
    for name, transcript in TRANSCRIPTS.items():
        for step in transcript.clients if name != "extras" else ("share_keys", "unmask"):
            given = _client(name, transcript, step)
            yield Case(f"client_{step}_{name}", f"{step}: one client's answer", "client", given)
        for step in transcript.server:
            if not name.endswith("_early") and (
                name not in {"hybrid", "extras"} or step == "unmask"
            ):  # their history holds the others
                given = _server(name, transcript, step)
                yield Case(f"server_{step}_{name}", f"{step}: the server closes it", "server", given)
    for mode in ("complete", "malicious"):
        yield from _refused_by_clients(mode)
        yield from _refused_by_servers(mode)


def _client(name: str, transcript: Transcript, step: str) -> dict[str, Any]:
    """One client's input up to and including a step."""
    script = transcript.script
    visits: list[ClientVisit] = [each[_ME] for each in transcript.clients.values()]
    at = list(transcript.clients).index(step)
    return {
        "setup": f"setup_{name}",
        "client": _ME,
        "identity_private": (bytes([_ME + 1]) * 32).hex() if script.plan.server == "malicious" else "",
        "vector": script.vector(_ME).tolist(),
        **({"extras": [extra.hex() for extra in script.extras(_ME)]} if script.plan.extras else {}),
        "history": [_asked(visit) for visit in visits[:at]],
        **_asked(visits[at]),
    }


def _asked(visit: ClientVisit) -> dict[str, str]:
    """What a step was given; where it encapsulates, what it sent besides."""
    given = {"request": visit.request.hex(), "random": visit.random.hex()}
    hybrid = visit.state.setup.plan.key_agreement == _HYBRID
    return given | {"sent": visit.answer.hex()} if hybrid and visit.step.again is not None else given


def _server(name: str, transcript: Transcript, step: str) -> dict[str, Any]:
    """The server's input up to and including the closing of a round."""
    names = list(transcript.server)
    history = [_hex(transcript.server[each].inbox) for each in names[: names.index(step)]]
    return {"setup": f"setup_{name}", "history": history, "inbox": _hex(transcript.server[step].inbox)}


def _hex(inbox: dict[int, bytes]) -> dict[str, str]:
    return {str(position): data.hex() for position, data in inbox.items()}


def _reframed(kind: type[Message], data: bytes, setup: Setup, changes: dict[str, Any]) -> bytes:
    message = decode(kind, data, setup)
    fields = {name: changes.get(name, getattr(message, name)) for name in message.__struct_fields__}
    return encode(kind(**fields), setup)


def _fields(transcript: Transcript, step: str) -> Fields:
    visit = transcript.clients[step][_ME]
    return decode(visit.step.awaits, visit.request, transcript.setup)


def _peers(members: Iterable[int]) -> bytes:
    """A bitmap over the neighbours 0, 2, 3 of client 1."""
    return to_bitmap(np.isin([0, 2, 3], list(members)))


def _refused_by_clients(mode: str) -> Iterator[Case]:
    whole = TRANSCRIPTS[mode]
    signing = mode == "malicious"
    faulty = "FaultyServerError"
    invited, keys, shares = (_fields(whole, step) for step in ("advertise_keys", "share_keys", "masked_input"))
    size = len(keys.keys) // 3
    mine = decode_keys(whole)
    bundle = len(shares.sealed) // 3
    swapped = shares.sealed[bundle : 2 * bundle] + shares.sealed[:bundle] + shares.sealed[2 * bundle :]
    survivors = list(whole.clients)[3]
    least = _peers([0])
    rows: list[tuple[str, str, str, str, str, dict[str, Any]]] = [
        ("session", mode, "advertise_keys", faulty, "invited to another session", {"session": bytes(16)}),
        ("round", mode, "advertise_keys", faulty, "invited to another round", {"round": invited.round + 1}),
        ("plan", mode, "advertise_keys", faulty, "invited under other parameters", {"parameters": bytes(32)}),
        ("roster", mode, "advertise_keys", faulty, "invited with another roster", {"roster": bytes(32)}),
        ("low_order", mode, "share_keys", faulty, "a key of low order", {"keys": bytes(32) + keys.keys[32:]}),
        (
            "repeated",
            mode,
            "share_keys",
            faulty,
            "a key twice",
            {"keys": keys.keys[:size] * 2 + keys.keys[2 * size :]},
        ),
        ("own_key", mode, "share_keys", faulty, "this client's own key as a peer's", {"keys": mine + keys.keys[64:]}),
        ("unused_bits", mode, "share_keys", faulty, "bits beyond the last neighbour", {"present": b"\x17"}),
        ("cut", mode, "share_keys", faulty, "fewer keys than clients present", {"keys": keys.keys[:-1]}),
        (
            "few",
            mode,
            "share_keys",
            "ThresholdError",
            "too few share holders",
            {"present": least, "keys": keys.keys[:size]},
        ),
        (
            "altered",
            mode,
            "masked_input",
            "SuspectedPeerError",
            "a sealed bundle that does not open",
            {"sealed": _flipped(shares.sealed)},
        ),
        ("swapped", mode, "masked_input", "SuspectedPeerError", "bundles in another order", {"sealed": swapped}),
        (
            "outside_the_field",
            mode,
            "masked_input",
            "SuspectedPeerError",
            "a share that is no element of the field, properly sealed",
            {"sealed": _sealed_lie(whole) + shares.sealed[len(_sealed_lie(whole)) :]},
        ),
        (
            "few",
            mode,
            "masked_input",
            "ThresholdError",
            "too few shared their secrets",
            {"present": least, "sealed": shares.sealed[:bundle]},
        ),
        ("bitmap", mode, survivors, faulty, "a bitmap of the wrong length", {"present": b"\x03\x00"}),
        ("never_shared", f"{mode}_early", survivors, faulty, "a survivor that never shared", {"present": b"\x07"}),
        ("few", mode, survivors, "ThresholdError", "too few survivors to open the sum", {"present": least}),
    ]
    if signing:
        unsigned = keys.keys[:64] + bytes(64) + keys.keys[size:]
        signed = _fields(whole, "unmask")
        rows += [
            ("unsigned", mode, "share_keys", faulty, "keys that their owner has not signed", {"keys": unsigned}),
            (
                "hashes",
                mode,
                "masked_input",
                "SuspectedPeerError",
                "other shares than their dealer published hashes of",
                {"sealed": shares.sealed[: bundle - 1] + _flipped(shares.sealed[bundle - 1 :])},
            ),
            (
                "other_survivors",
                mode,
                "unmask",
                faulty,
                "a valid signature over other survivors",
                {"signatures": _other_survivors(whole) + signed.signatures[64:]},
            ),
            (
                "not_a_survivor",
                mode,
                "unmask",
                faulty,
                "a signature of a client that dropped out",
                {"present": _peers([0, 3]), "signatures": signed.signatures},
            ),
            (
                "few",
                mode,
                "unmask",
                "ThresholdError",
                "fewer signatures than the threshold",
                {"present": least, "signatures": signed.signatures[:64]},
            ),
        ]
    for what, name, step, error, about, changes in rows:
        visit = TRANSCRIPTS[name].clients[step][_ME]
        request = _reframed(visit.step.awaits, visit.request, TRANSCRIPTS[name].setup, changes)
        given = {"like": f"client_{step}_{name}", "request": request.hex()}
        yield Case(f"client_{step}_bad_{what}_{mode}", f"{step}: {about}", "client", given, error)


def decode_keys(transcript: Transcript) -> bytes:
    """Return the 64 bytes of public keys that the client shown advertises."""
    state = transcript.clients["share_keys"][_ME].state
    keys: bytes = state.sealing.public + state.mask.public
    return keys


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _sealed_lie(transcript: Transcript) -> bytes:
    """Client 0's bundle for the client shown, sealed as it should be, with a first share of 2^61 - 1."""
    visit = transcript.clients["masked_input"][_ME]
    dealt = b"".join(visit.following.entries[0])
    lie = ((1 << 61) - 1).to_bytes(8, "little") + dealt[8:]
    key, channel = incoming(visit.state, 0, KemParts())
    return seal(key, lie, associated_data=channel)


def _other_survivors(transcript: Transcript) -> bytes:
    """Client 0's signature that everyone survived."""
    known = transcript.clients["share_keys"][0].following.keys
    identity = transcript.script.identity(0)
    statement = consistency_statement(transcript.setup, known, np.ones(transcript.script.plan.clients, dtype=np.bool_))
    return b"" if identity is None else identity.sign(statement)


def _refused_by_servers(mode: str) -> Iterator[Case]:
    whole = TRANSCRIPTS[mode]
    faulty = "FaultyClientError"
    theirs = decode(*_arrived(whole, "advertise_keys", 0), whole.setup)
    masked = bytearray(decode(*_arrived(whole, "masked_input", _ME), whole.setup).vector)
    masked[-1] |= 0x80
    shares = decode(*_arrived(whole, "share_keys", _ME), whole.setup)
    revealed = decode(*_arrived(whole, "unmask", _ME), whole.setup).entries
    size = len(revealed) // 4
    outside = b"\xff" * 8 + revealed[8:]
    signing = mode == "malicious"
    rows: list[tuple[str, str, str, str, dict[str, Any]]] = [
        ("low_order", "advertise_keys", faulty, "a key of low order", {"mask_key": bytes(32)}),
        (
            "copied",
            "advertise_keys",
            faulty if signing else "SuspectedPeerError",
            "another client's key",
            {"mask_key": theirs.sealing_key},
        ),
        ("cut", "share_keys", faulty, "too few sealed bundles", {"sealed": shares.sealed[:-96]}),
        ("commitment", "share_keys", faulty, "a commitment of the wrong length", {"commitment": bytes(31)}),
        (
            "unused_bits",
            "masked_input",
            faulty,
            "bits beyond the last coordinate",
            {"vector": memoryview(bytes(masked))},
        ),
        ("cut", "unmask", faulty, "too few shares", {"entries": revealed[:-size]}),
        ("outside_the_field", "unmask", faulty, "a share that is no element of the field", {"entries": outside}),
        (
            "another_share",
            "unmask",
            faulty if signing else "SuspectedPeerError",
            "another share than was dealt",
            {"entries": _flipped(revealed)},
        ),
    ]
    if signing:
        rows += [
            ("signature", "advertise_keys", faulty, "keys that are not signed", {"signature": bytes(64)}),
            ("signature", "share_keys", faulty, "hashes that are not signed", {"hashes": _flipped(shares.hashes)}),
            ("signature", "consistency_check", faulty, "another statement signed", {"signature": shares.signature}),
        ]
    for what, step, error, about, changes in rows:
        kind, data = _arrived(whole, step, _ME)
        inbox = whole.server[step].inbox | {_ME: _reframed(kind, data, whole.setup, changes)}
        given = {"like": f"server_{step}_{mode}", "inbox": _hex(inbox)}
        yield Case(f"server_{step}_bad_{what}_{mode}", f"{step}: {about}", "server", given, error)
    for step, visit in whole.server.items():
        if step != "open":
            few = {position: data for position, data in visit.inbox.items() if position < 2}  # noqa: PLR2004 -- t is 3
            given = {"like": f"server_{step}_{mode}", "inbox": _hex(few)}
            yield Case(f"server_{step}_bad_few_{mode}", f"{step}: too few answered", "server", given, "ThresholdError")


def _arrived(transcript: Transcript, step: str, position: int) -> tuple[Fields, bytes]:
    visit = transcript.server[step]
    return visit.step.collects, visit.inbox[position]
