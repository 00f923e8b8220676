"""ML-KEM-768: known answers, the implicit rejection of FIPS 203, refusals, and nothing secret on show."""

import hashlib
import sys

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mlkem

from secagg import PlanError, Setup
from secagg.primitives.kem import KemKeyPair, check_kem_public, encapsulate, require_kem
from tests.secagg.rig import make_plan

# C2SP/CCTV (CC0), ML-KEM/unluckysample/ML-KEM-768.txt: a key whose matrix needs unusually many reads of the XOF.
SEED = bytes.fromhex(
    "82c4a361586b9715c2375a45fb85c32d04be7fe6e26acd820ec5d4080093afe1"
    "8476013560151d986dc7834dcb57c75f845f8d7ee71558d0955f3f4feb723cf2"
)
SECRET = bytes.fromhex("4f7cc64c040fc4e335a539691f4638caf8b1bf5da6455754afe699e41813801b")
CIPHERTEXT = bytes.fromhex(
    "696ef1699d5ac2aa9a012a64c60c6c214dcedec75ff87fb3a5850044202a790bfdaa6fb517a8c714a6685b1eea8ac01d28e2f1e7350e79b1"
    "371b2aab98723f40ac1adb809751118a53eb56f13cf9fadf698c7a2ae127746bb661f6772d8227777c22d388e2a0f635f97913191033d3c4"
    "87a9d2822348be19710e5f47d2b740c044f39ddae838699f62a1056dbc43364046d36a972f7110c88e900ca37daec64039b0c96319cef8ea"
    "01d5974c5da29392222b838e7c3d19892aa70f3a232b64f94ae72ff2032941a70dd71e2e24c987fe4c2f5027fd435618288f50e8d248fbe0"
    "09d93af8b0dea451414f2cbaceda51b3a7aabff1faed24293e0d5d57da89868630e1b09a6b27a034bd5da40d622e0b9507e64d81669a1074"
    "b5f67728a9fadb600bc57d55d9c3a0fe376fdefd32a30b1931315210bd8622ff0b2ad9bf6d00749942e07a90572d0468d5f5a95aa6c338b2"
    "e5e5175dd8f4bd118e8849be829e3fb08628101a33b1295b1c7ee3e9158d4beaea203a22c1b97af6ad7fc004f0f9895a51da0c26a7b46734"
    "c418afe98ddbaada3fffcd4642075bd23e044154cfe19a0b6a05e24e83c55057a50d24f956617534dfcf99f134bbc539b1e7c9c3d00f59de"
    "4351e9ecfbec3f66374ecea6ab72d0fd00e0f91461db0a74fc5ab63b30a2caf455fea339878ba665aeeee0b52d427a4e4ccad8526386951f"
    "5b1d61778a56dfa243d3f6186aa4f8fd953127599bc14da3e8e918aaa5b4182a9bde4b5bb1871a972ef526b9f4417373001842f2b3eae1fe"
    "0d4693220b843bf265c59a647930946bdd72aa54a1af18daa3864327d91b80611c30bc1e16a89f71ddc51cf6fce4a179239d0f21a0bce88c"
    "86499ef9ca1219039be087664c365149b3683b94fcb06dc858dea2f5bb7edb32fdc09cd91c74bfe29608b48d0db29061099671f6cf8dfbba"
    "2b1db456eca1c8657de5e982f11da9c3173a633ba7ec0066a717bc6eadde242f3e03cddab1c42def35f9cc2d6fa2f4222bfa096d321dd504"
    "d6c8dd6e6d18937151330be89bf2a218752442f8a50df3075463476db1e0a5275fd7958f7b650a11a36db809cee7074bc763d035245c3c6d"
    "a7fcc93425175e0cb3f7407000fb6c0b7a7450ada28c05c34f883af2cd0965826cec71435d87e8cd192137e3abae4050d68be1d97fa3af08"
    "728daa4ba05aa7f61b8a7f52701d6c969b25fd2fd1a68a5b2098a348273337782ec52143e1f51e5a512e91f2469da136e8d8f96af7cc6fe2"
    "1f929203bcd12de6826bba19cfe5a69bc2c3d3f503a14cab590591cd134b375feaae76c764c95dae6644551c6d5bce2665f9c1dd4c336941"
    "00d88fcc4e3282eb8c1766917956199273f0f80c67dc3e944a449ab2ed9d58554c62ee43bdc2d1408d784f08c0c71d6171176ca6c912626c"
    "45eb1fa1292774885a73bd614ae833797a1c84afee1a7e7c105eca8273b304cbc44acab0305aba4ef6ba671739d1f80d09c7640acea98265"
    "5b3294ee0371019b134559be391c29d990f82f8a1dd4a715"
)


def test_decapsulation_gives_the_known_answer() -> None:
    assert KemKeyPair.from_seed(SEED).decapsulate(CIPHERTEXT) == SECRET


@pytest.mark.parametrize("byte", [0, 500, 1087])
def test_an_altered_ciphertext_gives_the_secret_of_implicit_rejection(byte: int) -> None:
    altered = CIPHERTEXT[:byte] + bytes([CIPHERTEXT[byte] ^ 1]) + CIPHERTEXT[byte + 1 :]
    rejected = hashlib.shake_256(SEED[32:] + altered).digest(32)  # FIPS 203, algorithm 18: J(z ‖ c)
    assert KemKeyPair.from_seed(SEED).decapsulate(altered) == rejected


def test_who_encapsulates_and_who_decapsulates_hold_the_same_secret_another_every_time() -> None:
    pair = KemKeyPair.from_seed(bytes(range(64)))
    drawn = [encapsulate(pair.public) for _ in range(3)]
    assert all(pair.decapsulate(ciphertext) == secret for secret, ciphertext in drawn)
    assert len({secret for secret, _ in drawn}) == 3
    assert {(len(secret), len(ciphertext)) for secret, ciphertext in drawn} == {(32, 1088)}
    assert len(pair.public) == 1184
    assert KemKeyPair.from_seed(pair.seed_bytes()).public == pair.public


@pytest.mark.parametrize("public", [b"", bytes(1183), bytes(1185), b"\xff" * 1184, bytes(32)])
def test_what_is_no_public_key_is_refused(public: bytes) -> None:
    for use in (encapsulate, check_kem_public):
        with pytest.raises(ValueError, match="an ML-KEM-768 public key has"):
            use(public)


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_seeds_and_ciphertexts_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"seed has 64 bytes, got {length}"):
        KemKeyPair.from_seed(bytes(length))
    with pytest.raises(ValueError, match=f"ciphertext has 1088 bytes, got {length}"):
        KemKeyPair.from_seed(SEED).decapsulate(bytes(length))


def test_a_pair_does_not_show_its_seed() -> None:
    shown = repr(KemKeyPair.from_seed(SEED))
    assert SEED[:32].hex() not in shown
    assert repr(SEED[:32])[2:-1] not in shown


def unsupported(*_: object) -> None:
    text = "ML-KEM-768 is not supported by this backend."
    raise UnsupportedAlgorithm(text)


@pytest.mark.parametrize("why", ["old", "build"])
def test_without_ml_kem_a_hybrid_round_cannot_be_set_up(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "old":
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None)
    else:
        monkeypatch.setattr(mlkem.MLKEM768PrivateKey, "from_seed_bytes", unsupported)
    with pytest.raises(PlanError, match="does not have: upgrade it"):
        require_kem()
    for agreement in ("x25519", "x25519+ml-kem-768"):
        plan = make_plan(3, key_agreement=agreement)
        try:
            Setup(plan=plan, roster=range(3), session=bytes(16), round=0, assume_honest_server=True)
        except PlanError:
            assert agreement != "x25519"
        else:
            assert agreement == "x25519"
