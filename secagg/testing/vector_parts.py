"""The test vectors of the parts: setups, frames, derivations, shares, packing, encodings, statements, graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secagg import tags
from secagg.testing.frames import Frame, cut_frame
from secagg.testing.vector_rounds import TRANSCRIPTS, Case, json_of_setup

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["part_cases"]


def part_cases() -> Iterator[Case]:
    """Yield every case of a part."""
    yield from _setups()
    yield from _frames()
    yield from _derived()
    yield from _shared()
    yield from _vectors()


def _setups() -> Iterator[Case]:
    for name, transcript in TRANSCRIPTS.items():
        given = {"setup": json_of_setup(transcript.setup)}
        yield Case(f"setup_{name}", "digests and neighbours", "setup", given)
    complete = json_of_setup(TRANSCRIPTS["complete"].setup)
    named = complete | {"roster": ["va", "basel", 7, "Zürich"]}
    yield Case("setup_names", "numbers come before names, names in code point order", "setup", {"setup": named})
    malicious = json_of_setup(TRANSCRIPTS["malicious"].setup)
    sparse = json_of_setup(TRANSCRIPTS["sparse"].setup)
    for what, about, setup in (
        ("threshold", "two disjoint groups could both rebuild", complete | _plan(complete, threshold=2)),
        ("torn", "dropouts can tear the graph", sparse | _plan(sparse, threshold=3)),
        ("split", "two survivor sets could both be signed", malicious | _plan(malicious, corrupted=2)),
        ("sparse_malicious", "a server could choose the dropouts", sparse | _plan(sparse, server="malicious")),
        ("twice", "a client twice in the roster", complete | {"roster": [0, 1, 2, 2]}),
        ("session", "a session id that is too short", complete | {"session": bytes(15).hex()}),
    ):
        yield Case(f"setup_bad_{what}", about, "setup", {"setup": setup}, "PlanError")


def _plan(setup: dict[str, Any], **changes: int | str) -> dict[str, Any]:
    return {"plan": setup["plan"] | changes}


def _frames() -> Iterator[Case]:
    transcript = TRANSCRIPTS["complete"]
    setup = "setup_complete"
    genuine = transcript.clients["unmask"][0].request  # survivors: the shortest
    frame = cut_frame(genuine)
    for step, visits in transcript.clients.items():
        name = visits[0].step.awaits.NAME
        given = {"setup": setup, "message": name, "frame": visits[0].request.hex()}
        yield Case(f"frame_{name}", f"the request of {step}, taken apart", "frame", given)
    masked = {"setup": setup, "message": "masked_input", "frame": transcript.clients["masked_input"][0].answer.hex()}
    yield Case("frame_masked_input", "a frame that carries a vector", "frame", masked)
    position, bitmap = frame.payload[1:2], frame.payload[2:]
    for what, about, error, data in (
        ("version", "another version", "VersionError", Frame(2, 7, frame.context, frame.payload).to_bytes()),
        ("kind", "another kind", "DecodeError", Frame(1, 8, frame.context, frame.payload).to_bytes()),
        ("context", "another setup", "DecodeError", Frame(1, 7, bytes(16), frame.payload).to_bytes()),
        ("check", "one bit of the check", "DecodeError", genuine[:-1] + bytes([genuine[-1] ^ 1])),
        ("cut", "the last byte missing", "DecodeError", genuine[:-1]),
        ("short", "shorter than any frame", "DecodeError", genuine[:33]),
        ("long", "longer than this message can be", "DecodeError", genuine + bytes(64)),
        ("empty", "no fields", "DecodeError", Frame(1, 7, frame.context, b"").to_bytes()),
        *(
            (what, about, "DecodeError", Frame(1, 7, frame.context, payload).to_bytes())
            for what, about, payload in (
                ("array16", "an array header wider than needed", b"\xdc\x00\x02" + position + bitmap),
                ("uint8", "a number wider than needed", b"\x92\xcc" + position + bitmap),
                ("bin16", "a byte string header wider than needed", b"\x92" + position + b"\xc5\x00\x01" + bitmap[2:]),
                ("string", "text where bytes belong", b"\x92" + position + b"\xa1\x03"),
                ("missing_field", "a field too few", b"\x91" + position),
                ("extra_field", "a field too many", b"\x93" + position + bitmap + b"\xc0"),
                ("trailing", "bytes after the fields", frame.payload + b"\x00"),
                ("claims_4_gib", "a header that claims four gigabytes", b"\x92" + position + b"\xc6\xff\xff\xff\xff"),
            )
        ),
    ):
        given = {"setup": setup, "message": "survivors", "frame": data.hex()}
        yield Case(f"frame_bad_{what}", about, "frame", given, error)


def _derived() -> Iterator[Case]:
    given: dict[str, Any] = {
        "secret": bytes(range(32)).hex(),
        "tag": tags.SELF_MASK.hex(),
        "context": [b"".hex(), b"one".hex(), bytes(300).hex()],
    }
    yield Case("derive_key", "HKDF-SHA256 with length-prefixed parts as info", "derive_key", given)
    for name in ("complete", "malicious"):
        transcript = TRANSCRIPTS[name]
        me, peer = transcript.clients["share_keys"][1], transcript.clients["share_keys"][2].state
        given = {
            "setup": f"setup_{name}",
            "client": 1,
            "peer": 2,
            "random_advertise_keys": transcript.clients["advertise_keys"][1].random.hex(),
            "random_share_keys": me.random.hex(),
            "peer_sealing_key": peer.sealing.public.hex(),
            "peer_mask_key": peer.mask.public.hex(),
        }
        yield Case(f"derivations_{name}", "all keys of one client, and of one pair", "derivations", given)
    channel = {"key": bytes(range(32)).hex(), "associated_data": b"from and to".hex()}
    plaintext = {"plaintext": bytes(80).hex()}
    yield Case("seal", "AES-256-GCM under a nonce of zeros", "seal", channel | plaintext)
    lie = {"sealed": bytes(96).hex()}
    yield Case("seal_bad_altered", "what was not sealed so does not open", "seal", channel | lie, "DecodeError")
    transcript = TRANSCRIPTS["malicious"]
    shared = transcript.clients["share_keys"]
    keys = {i: visit.state.sealing.public + visit.state.mask.public for i, visit in shared.items()}
    given = {
        "setup": "setup_malicious",
        "client": 1,
        "identity_private": (bytes([2]) * 32).hex(),
        "keys": {str(i): key.hex() for i, key in keys.items()},
        "commitment": bytes(range(32)).hex(),
        "hashes": bytes(range(256)).hex(),
        "survivors": [0, 1, 2],
        "holder": 2,
        "purpose": 1,
        "entry": bytes(range(56)).hex(),
    }
    yield Case("statements", "what clients sign and hash against a malicious server", "statements", given)
    given = {"clients": 9, "degree": 4, "randomness": bytes(range(32)).hex()}
    yield Case("graph", "a ring in an order drawn from public randomness", "graph", given)


def _shared() -> Iterator[Case]:
    secrets = [bytes(range(32)).hex(), (b"\xff" * 32).hex()]
    given: dict[str, Any] = {"secrets": secrets, "points": [1, 2, 4], "threshold": 2, "random": bytes([7] * 32).hex()}
    yield Case("shamir_split", "two secrets in five limbs each, three holders", "shamir_split", given)
    # f(x) = secret + x in the lowest limb of a secret of zeros but for its first byte 5
    line = [(5 + x).to_bytes(8, "little").hex() + bytes(32).hex() for x in (1, 3)]
    combine: dict[str, Any] = {"points": [1, 3], "threshold": 2, "shares": line}
    yield Case("shamir_combine", "a line through two shares", "shamir_combine", combine)
    outside = combine | {"shares": [line[0], ((1 << 61) - 1).to_bytes(8, "little").hex() + bytes(32).hex()]}
    yield Case("shamir_bad_element", "a share of 2^61 - 1", "shamir_combine", outside, "DecodeError")
    wrong = combine | {"shares": [line[0], ((1 << 60) + 1).to_bytes(8, "little").hex() + bytes(32).hex()]}
    yield Case("shamir_bad_secret", "shares whose limb has more than 56 bits", "shamir_combine", wrong, "DecodeError")
    few = {"points": [1], "threshold": 2, "shares": line[:1]}
    yield Case("shamir_bad_few", "fewer shares than the threshold", "shamir_combine", few, "ThresholdError")


def _vectors() -> Iterator[Case]:
    for bits, vector in (
        (1, [1, 0, 1, 1, 0, 0, 0, 1, 1]),
        (12, [1, 4095, 2048, 77, 0]),
        (33, [1 << 32, 5, (1 << 33) - 1]),
    ):
        given: dict[str, Any] = {"bits": bits, "vector": vector}
        yield Case(f"packing_{bits}", f"{bits} bits a coordinate", "packing", given)
    given = {"bits": 12, "length": 3, "packed": "01f0ff0008"}
    yield Case("unpacking_12", "three coordinates out of five bytes", "unpacking", given)
    yield Case("unpacking_bad_bits", "unused bits set", "unpacking", given | {"packed": "01f0ff0018"}, "DecodeError")
    yield Case("unpacking_bad_length", "a byte too few", "unpacking", given | {"packed": "01f0ff00"}, "DecodeError")
    given = {
        "clients": 4,
        "length": 3,
        "modulus_bits": 12,
        "digit_bits": 14,
        "signed_length": 0,
        "vector": [4095, 0, 7],
    }
    given |= {"random": bytes(range(32)).hex()}
    yield Case("lattice", "sums may wrap: two bits more in a digit", "lattice", given)
    fits = given | {"digit_bits": 12, "signed_length": 2, "vector": [(1 << 12) - 500, 511, 1023]}
    yield Case("lattice_signed", "sums fit: two coordinates of either sign, raised by 511", "lattice", fits)
    large = fits | {"vector": [512, 0, 0]}
    yield Case("lattice_bad_large", "a coordinate of which four would wrap", "lattice", large, "EncodingError")
    setup = "setup_sparse"
    yield Case("bitmap", "neighbours 0 and 3 of four", "bitmap", {"setup": setup, "bitmap": "09"})
    yield Case("bitmap_bad_bits", "a fifth of four", "bitmap", {"setup": setup, "bitmap": "19"}, "DecodeError")
    yield Case("bitmap_bad_length", "a byte too many", "bitmap", {"setup": setup, "bitmap": "0900"}, "DecodeError")
    given = {
        "dimension": 5,
        "clip": 1.5,
        "bits": 8,
        "clients": 4,
        "max_weight": 10,
        "layout": "",
        "update": [0.25, -0.75, 1.4375, -9.0, 0.0],
        "weight": 5,
        "random": bytes(range(32)).hex(),
    }
    yield Case("fixed_point", "clip, scale by the weight, round by chance", "fixed_point", given)
    heavy = given | {"weight": 11}
    yield Case("fixed_point_bad_weight", "a weight above the largest", "fixed_point", heavy, "EncodingError")
    wraps = given | {"bits": 32, "max_weight": 1, "weight": 1, "clients": 1 << 40}
    yield Case("fixed_point_bad_wrap", "more clients than 64 bits can sum", "fixed_point", wraps, "EncodingError")
    given = {"dimension": 3, "maximum": 100, "clients": 4, "counts": [0, 7, 100]}
    yield Case("counts", "whole numbers", "counts", given)
    yield Case("counts_bad_large", "above the maximum", "counts", given | {"counts": [0, 7, 101]}, "EncodingError")
