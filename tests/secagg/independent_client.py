"""A client written from secagg/testing/vectors/README.md alone, in plain Python: nothing of secagg is imported here."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

P = 2**61 - 1


def label(name: str) -> bytes:
    return b"secagg/v1/" + name.encode() + b"\0"


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def u64(x: int) -> bytes:
    return x.to_bytes(8, "little")


def msgpack(value: Any) -> bytes:
    if isinstance(value, (list, tuple)):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + len(value).to_bytes(2, "big")
        return head + b"".join(map(msgpack, value))
    if isinstance(value, bytes):
        for code, size in ((0xC4, 1), (0xC5, 2), (0xC6, 4)):
            if len(value) < 256**size:
                return bytes([code]) + len(value).to_bytes(size, "big") + value
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0xA0 | len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data
    if value < 128:
        return bytes([value])
    code, size = next((code, size) for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)) if value < 256**size)
    return bytes([code]) + int(value).to_bytes(size, "big")


def unpack(data: bytes) -> list[Any]:
    """The fields of a payload: an array of small integers and byte strings."""
    fields: list[Any] = []
    at = 1
    for _ in range(data[0] & 15):
        code = data[at]
        at += 1
        if code < 128:
            fields.append(code)
            continue
        size = {0xC4: 1, 0xC5: 2, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}[code]
        number = int.from_bytes(data[at : at + size], "big")
        at += size
        if code >= 0xCC:
            fields.append(number)
            continue
        fields.append(data[at : at + number])
        at += number
    assert at == len(data)
    return fields


def kdf(secret: bytes, name: str, *parts: bytes) -> bytes:
    info = b"".join(len(part).to_bytes(4, "little") + part for part in (label(name), *parts))
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)


def stream(key: bytes, length: int) -> bytes:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def shamir(secrets: list[bytes], points: list[int], t: int, random: bytes) -> list[list[bytes]]:
    limbs = [int.from_bytes(secret[at : at + 7], "little") for secret in secrets for at in range(0, 32, 7)]
    count = (t - 1) * len(limbs)
    words = [int.from_bytes(stream(random, 16 * count)[8 * i :][:8], "little") & P for i in range(count + 8)]
    drawn = [word for word in words if word != P][:count]
    rows = [limbs] + [drawn[len(limbs) * i : len(limbs) * (i + 1)] for i in range(t - 1)]
    shares = []
    for x in points:
        values = [sum(rows[power][j] * pow(x, power, P) for power in range(t)) % P for j in range(len(limbs))]
        shares.append([b"".join(map(u64, values[5 * i : 5 * i + 5])) for i in range(len(secrets))])
    return shares


def digests(setup: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """Parameters, roster, setup."""
    plan = setup["plan"]
    names = ("masking", "server", "clients", "length", "modulus_bits", "threshold", "degree", "dropouts")
    corrupted = plan["corrupted"] if plan["server"] == "malicious" else 0
    values = [1, *(plan[name] for name in names), corrupted, bytes.fromhex(plan["encoding"])]
    values += [plan["key_agreement"]] if "key_agreement" in plan else []
    values += [plan["extras"]] if "extras" in plan else []
    parameters = sha(label("parameters"), msgpack(values))
    ids = sorted(i for i in setup["roster"] if isinstance(i, int)) + sorted(
        i for i in setup["roster"] if isinstance(i, str)
    )
    identities = [bytes.fromhex(key) for key in setup["identities"]]
    roster = sha(label("roster"), msgpack([ids, identities, bytes.fromhex(setup["directory"])]))
    return (
        parameters,
        roster,
        sha(label("setup"), msgpack([bytes.fromhex(setup["session"]), setup["round"], parameters, roster])),
    )


def neighbours_of(setup: dict[str, Any], position: int) -> list[int]:
    n, k = setup["plan"]["clients"], setup["plan"]["degree"]
    if k == n - 1:
        return [i for i in range(n) if i != position]
    numbers = stream(sha(label("graph"), digests(setup)[2]), 16 * n)
    ring = sorted(range(n), key=lambda i: int.from_bytes(numbers[16 * i : 16 * i + 16], "little"))
    place = ring.index(position)
    return sorted(ring[(place + step) % n] for step in range(-k // 2, k // 2 + 1) if step)


@dataclass
class IndependentClient:
    """Answers the genuine requests of a round; refuses nothing."""

    setup: dict[str, Any]
    me: int
    vector: list[int]
    identity: bytes
    extras: list[bytes] = field(default_factory=list)
    shared: dict[int, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = self.setup["plan"]
        self.digest = digests(self.setup)[2]
        self.neighbours = neighbours_of(self.setup, self.me)
        self.signing = self.plan["server"] == "malicious"
        self.model = bytes.fromhex(self.setup["model"])
        self.hybrid = "key_agreement" in self.plan
        self.key_bytes = 1216 if self.hybrid else 32
        self.sent = b""
        self.kem: dict[tuple[str, int], bytes] = {}

    def receive(self, request: bytes, random: bytes, sent: bytes = b"") -> bytes:
        self.sent = sent
        step = {
            1: self.advertise_keys,
            3: self.share_keys,
            5: self.masked_input,
            7: self.consistency_check if self.signing else self.unmask,
            11: self.unmask_agreed,
        }[request[1]]
        answer: bytes = step(unpack(request[18:-16]), random)
        return answer

    def frame(self, kind: int, *fields: Any, vector: bytes = b"") -> bytes:
        body = bytes([1, kind]) + self.digest[:16] + msgpack([self.me, *fields]) + vector
        return body + AESGCM(sha(label("frame-check"))).encrypt(bytes(12), b"", body)

    def sign(self, name: str, *values: Any) -> bytes:
        if not self.signing:
            return b""
        return Ed25519PrivateKey.from_private_bytes(self.identity).sign(label(name) + msgpack(list(values)))

    def members(self, bitmap: bytes) -> list[int]:
        return [peer for i, peer in enumerate(self.neighbours) if bitmap[i // 8] >> i % 8 & 1]

    def advertise_keys(self, fields: list[Any], random: bytes) -> bytes:
        parameters, roster, _ = digests(self.setup)
        assert fields[1:] == [bytes.fromhex(self.setup["session"]), self.setup["round"], parameters, roster]
        self.sealing = kdf(random, "sealing-private-key", self.digest)
        self.mask = kdf(random, "mask-private-key", self.digest)
        self.seeds = {
            name: b"".join(kdf(random, f"{name}-kem-seed", self.digest, part) for part in (b"d", b"z"))
            for name in ("sealing", "mask")
            if self.hybrid
        }
        pairs = {name: MLKEM768PrivateKey.from_seed_bytes(seed) for name, seed in self.seeds.items()}
        self.pairs = pairs
        kem = {name: pair.public_key().public_bytes_raw() for name, pair in pairs.items()}
        keys = public_of(self.sealing) + kem.get("sealing", b""), public_of(self.mask) + kem.get("mask", b"")
        self.own = b"".join(keys)
        return self.frame(2, *keys, self.sign("signed-keys", self.digest, self.me, *keys), self.model)

    def share_keys(self, fields: list[Any], random: bytes) -> bytes:
        present = self.members(fields[1])
        size = len(fields[2]) // len(present)
        self.keys = {peer: fields[2][size * i : size * i + 2 * self.key_bytes] for i, peer in enumerate(present)}
        self.keys[self.me] = self.own
        holders = sorted(self.keys)
        self.seed = kdf(random, "self-mask-seed", self.digest)
        points = [holder + 1 for holder in holders]
        coefficients = kdf(random, "shamir-coefficients", self.digest)
        secret = kdf(random, "recovery-key", self.digest) if self.hybrid else self.mask
        count = 2 + len(self.extras)
        shares = shamir([self.seed, secret, *self.extras], points, self.plan["threshold"], coefficients)
        salts = stream(kdf(random, "share-salts", self.digest), 16 * count * len(holders))
        sealed = published = b""
        for i, holder in enumerate(holders):
            entries = [
                shares[i][purpose] + (salts[16 * (count * i + purpose) :][:16] if self.signing else b"")
                for purpose in range(count)
            ]
            published += b"".join(
                sha(label("share-hash"), self.digest, u64(self.me), u64(holder), u64(purpose), entry)
                for purpose, entry in enumerate(entries)
            )
            if holder == self.me:
                self.shared[self.me] = entries
            elif not self.hybrid:
                channel = self.digest + u64(self.me) + u64(holder)
                sealed += AESGCM(self.sealing_key(self.me, holder)).encrypt(bytes(12), b"".join(entries), channel)
        published = published if self.signing else b""
        commitment = kdf(self.seed, "seed-commitment", self.digest, u64(self.me))
        for number, extra in enumerate(self.extras):
            commitment += kdf(extra, "extra-commitment", self.digest, u64(self.me), u64(number))
        if self.hybrid:
            return self.share_keys_again(present, secret, commitment, published)
        signature = self.sign("signed-shares", self.digest, self.me, commitment, published)
        return self.frame(4, commitment, sealed, published, signature, b"", b"")

    def share_keys_again(self, present: list[int], recovery: bytes, commitment: bytes, published: bytes) -> bytes:
        """Encapsulation cannot be replayed: what was sent is taken over, and has to explain itself."""
        _, _, sealed, _, _, encapsulated, envelope = unpack(self.sent[18:-16])
        higher = [peer for peer in present if peer > self.me]
        content = AESGCM(recovery).decrypt(bytes(12), envelope, self.digest + u64(self.me))
        assert content[:96] == self.mask + self.seeds["mask"]
        entries = encapsulated[1088 * len(present) :]
        assert (len(entries), len(content)) == (1120 * len(higher), 96 + 32 * len(higher))
        for i, peer in enumerate(higher):
            secret, entry = content[96 + 32 * i :][:32], entries[1120 * i :][:1120]
            assert entry[1088:] == kdf(secret, "mask-confirmation", self.digest, u64(self.me), u64(peer))
            self.kem["mask", peer] = secret + entry[:1088]
        hashes = [sha(part) for part in (encapsulated, envelope)]
        signature = self.sign("signed-shares", self.digest, self.me, commitment, published, *hashes)
        return self.frame(4, commitment, sealed, published, signature, encapsulated, envelope)

    def decapsulate(self, present: list[int], encapsulated: bytes) -> dict[int, bytes]:
        """What neighbours sent to the two ML-KEM keys; the entries of the lower ones, which bundles are bound to."""
        bound = {}
        for i, peer in enumerate(present if self.hybrid else []):
            ciphertext = encapsulated[1088 * i :][:1088]
            self.kem["sealing", peer] = self.pairs["sealing"].decapsulate(ciphertext) + ciphertext
        for i, peer in enumerate(peer for peer in present if peer < self.me and self.hybrid):
            entry = encapsulated[1088 * len(present) + 1120 * i :][:1120]
            secret = self.pairs["mask"].decapsulate(entry[:1088])
            assert entry[1088:] == kdf(secret, "mask-confirmation", self.digest, u64(peer), u64(self.me))
            self.kem["mask", peer], bound[peer] = secret + entry[:1088], entry
        return bound

    def sealing_key(self, sender: int, recipient: int) -> bytes:
        peer = recipient if sender == self.me else sender
        parts = [part for i in (sender, recipient) for part in (u64(i), self.keys[i][: self.key_bytes])]
        secret = agree(self.sealing, self.keys[peer][:32]) + self.kem.get(("sealing", peer), b"")
        return kdf(secret, "sealed-share", self.digest, *parts)

    def masked_input(self, fields: list[Any], _: bytes) -> bytes:
        present = self.members(fields[1])
        size = len(fields[2]) // len(present)
        bits = self.plan["modulus_bits"]
        word = next(w for w in (1, 2, 4, 8) if 8 * w >= bits)
        y = list(self.vector)
        bound = self.decapsulate(present, fields[3])
        masks = [(kdf(self.seed, "self-mask", self.digest, u64(self.me)), 1)]
        for i, peer in enumerate(present):
            entry, count = 56 if self.signing else 40, 2 + len(self.extras)
            bundle = fields[2][size * i : size * (i + 1)][: count * entry + 16]
            channel = self.digest + u64(peer) + u64(self.me) + bound.get(peer, b"")
            opened = AESGCM(self.sealing_key(peer, self.me)).decrypt(bytes(12), bundle, channel)
            self.shared[peer] = [opened[entry * j : entry * (j + 1)] for j in range(count)]
            low, high = sorted((self.me, peer))
            parts = [part for j in (low, high) for part in (u64(j), self.keys[j][self.key_bytes :])]
            secret = agree(self.mask, self.keys[peer][self.key_bytes :][:32]) + self.kem.get(("mask", peer), b"")
            masks.append((kdf(secret, "pairwise-mask", self.digest, self.model, *parts), 1 if self.me == low else -1))
        for key, sign in masks:
            octets = stream(key, word * len(y))
            y = [value + sign * int.from_bytes(octets[word * i :][:word], "little") for i, value in enumerate(y)]
        packed = sum((value % (1 << bits)) << (bits * i) for i, value in enumerate(y))
        return self.frame(6, vector=packed.to_bytes(-(-bits * len(y) // 8), "little"))

    def consistency_check(self, fields: list[Any], _: bytes) -> bytes:
        self.survivors = self.members(fields[1])
        keys = [[i, self.keys[i]] for i in sorted(self.keys)]
        known = sha(label("all-keys"), msgpack([self.digest, keys]))
        bitmap = sum(1 << i for i in (*self.survivors, self.me)).to_bytes(-(-self.plan["clients"] // 8), "little")
        return self.frame(10, self.sign("consistency", self.digest, self.model, known, bitmap))

    def unmask_agreed(self, _: list[Any], __: bytes) -> bytes:
        return self.reveal(self.survivors)

    def unmask(self, fields: list[Any], _: bytes) -> bytes:
        return self.reveal(self.members(fields[1]))

    def reveal(self, survivors: list[int]) -> bytes:
        alive = {self.me, *survivors}
        entries = [self.shared[i][0 if i in alive else 1] for i in sorted(self.shared)]
        missing = self.plan["clients"] - len(alive)
        if missing < len(self.extras):
            entries += [self.shared[i][2 + missing] for i in sorted(alive)]
        return self.frame(8, b"".join(entries))
