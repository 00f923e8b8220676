import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dp
from dp.events import Composed
from dp.pld import pld_epsilon
from dp.receipt import Receipt, ReceiptError, SignedSurvivors, make_receipt
from secagg import tags
from secagg.errors import DecodeError
from secagg.identity import Card, Identity, Roster

PLAN = bytes(range(32))
SITES: list[int | str] = ["Basel", "Bern", "Genf", 4]
IDENTITIES = {site: Identity.from_private(bytes([k + 1]) * 32) for k, site in enumerate(SITES)}
STATEMENT = tags.CONSISTENCY + b"session, round, plan, roster, model, keys; survivors: 1101"


def ledger(sigma: float = 4.0, count: int = 3) -> dp.Ledger:
    booked = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
    booked.compose(dp.Gaussian(sigma), count)
    return booked


def members() -> dict[int | str, bytes]:
    cards = [Card.issue(identity, site) for site, identity in IDENTITIES.items()]
    return dict(Roster.found("Heart study", cards, builder=IDENTITIES["Basel"]).members)


def signed(*signers: int | str, statement: bytes = STATEMENT, threshold: int = 3) -> SignedSurvivors:
    signatures = {signer: IDENTITIES[signer].sign(statement) for signer in signers}
    return SignedSurvivors.of(statement, signatures, threshold=threshold)


RECEIPT = make_receipt(ledger(), 1e-5, plan=PLAN, survivors=[signed("Basel", "Bern", 4)])
TEXT = RECEIPT.to_bytes()


def test_a_receipt_holds_what_was_released_and_what_it_cost() -> None:
    written = json.loads(TEXT)
    assert written["format"] == "secagg dp receipt 1"
    assert written["plan"] == PLAN.hex()
    assert (written["unit"], written["neighboring_relation"]) == ("patient", "add-or-remove-one")
    assert written["delta"] == 1e-5
    assert written["events"] == {"type": "Composed", "events": [[{"type": "Gaussian", "noise_multiplier": 4.0}, 3]]}
    assert written["survivors"][0]["signatures"][1][0] == "Bern"
    bounds = pld_epsilon(ledger().events, 1e-5, neighboring_relation="add-or-remove-one")
    assert (written["lower"], written["upper"], written["method"]) == (bounds.lower, bounds.upper, bounds.method)


def test_a_third_party_computes_the_same_from_the_text_alone() -> None:
    read = Receipt.from_bytes(TEXT)
    assert read == RECEIPT
    assert read.to_bytes() == TEXT
    assert read.composed == ledger().events
    bounds = read.verify(members())
    assert (bounds.lower, bounds.upper) == (RECEIPT.lower, RECEIPT.upper)
    assert make_receipt(ledger(), 1e-5).verify().upper == RECEIPT.upper


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"upper": RECEIPT.upper * 0.98, "lower": 0.0}, "it claims ε <= "),
        ({"upper": RECEIPT.upper - 1e-4, "lower": 0.0}, None),  # another version's narrower interval, still true
        ({"lower": RECEIPT.upper * 1.01, "upper": RECEIPT.upper * 2}, "it claims ε >= "),
        ({"upper": RECEIPT.upper * 2}, None),  # true, and more than needed
        ({"delta": 1e-6}, "it claims ε <= "),
        ({"delta": 1e-4}, "it claims ε >= "),
        ({"neighboring_relation": "replace-one"}, "it claims ε <= "),
        ({"events": {"type": "Composed", "events": [[{"type": "Gaussian", "noise_multiplier": 4.0}, 4]]}}, "ε <= "),
        ({"events": {"type": "Composed", "events": [[{"type": "Gaussian", "noise_multiplier": 4.0}, 2]]}}, "ε >= "),
        ({"events": {"type": "Composed", "events": []}}, "it claims ε >= "),
        ({"method": "an oracle"}, "its method is 'an oracle', computed here: 'PLD certified interval'"),
    ],
)
def test_a_claim_that_its_events_do_not_bear_out_is_refused(change: dict[str, Any], complaint: str | None) -> None:
    edited = Receipt.from_bytes(msgspec.structs.replace(RECEIPT, **change).to_bytes())
    if complaint is None:
        edited.verify()
    else:
        with pytest.raises(ReceiptError, match="the receipt does not hold: .*" + complaint):
            edited.verify()


@settings(max_examples=150)
@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_an_edited_file_is_refused_unless_what_it_says_is_still_true(where: int, flip: int) -> None:
    edited = TEXT[:where] + bytes([TEXT[where] ^ flip]) + TEXT[where + 1 :]
    try:
        read = Receipt.from_bytes(edited)
        bounds = read.verify(members())
    except (DecodeError, ReceiptError, dp.UnsupportedEventError):
        return
    # what nothing in the file can check: the plan and its threshold; and digits that leave the claim true
    assert TEXT[:where].splitlines()[-1].split(b":")[0].strip() in {b'"plan"', b'"threshold"', b'"lower"', b'"upper"'}
    assert read.lower <= bounds.lower * (1 + 1e-9)
    assert read.upper >= bounds.upper * (1 - 1e-9)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda text: text[:0], "not a receipt"),
        (lambda text: len(text) * b"[", "not a receipt"),
        (lambda text: b"\xff" + text, "not a receipt"),
        (lambda text: text + b" ", "unedited"),
        (lambda text: text.replace(b'  "unit"', b'"unit"'), "unedited"),
        (lambda text: text.replace(b"receipt 1", b"receipt 2"), "not a receipt"),
        (lambda text: text.replace(b'"patient"', b'"hospital"'), "not a receipt"),
        (lambda text: text.replace(b"add-or-remove-one", b"swap"), "not a receipt"),
        (lambda text: text.replace(b'"delta": 0.00001', b'"delta": 0.0'), "delta is in"),
        (lambda text: text.replace(b'"lower": ', b'"lower": -'), "0 <= lower <= upper"),
        (lambda text: text.replace(b'"upper": ', b'"upper": null, "x": '), "not a receipt"),
        (lambda text: text.replace(b'"Composed"', b'"Decomposed"'), "got 'Decomposed'"),
        (lambda text: text.replace(b'"noise_multiplier": 4.0', b'"noise_multiplier": 4'), "not in canonical form"),
        (lambda text: text.replace(b'"noise_multiplier": 4.0', b'"noise_multiplier": 0.0'), "noise_multiplier is"),
        (lambda text: text.replace(PLAN.hex().encode(), b"3f1c"), "the hash of a plan is hexadecimal text of 32 bytes"),
        (lambda text: text.replace(b"1c1d1e1f", b"1C1D1E1F"), "the hash of a plan is hexadecimal"),
        (lambda text: text.replace(b'"Bern"', b'"Basel"'), "at most one signature of each client"),
        (lambda text: text.replace(b'"threshold": 3', b'"threshold": 0'), "a threshold >= 1"),
    ],
)
def test_anything_but_the_canonical_text_of_a_receipt_is_refused(
    edit: Callable[[bytes], bytes], complaint: str
) -> None:
    assert edit(TEXT) != TEXT
    with pytest.raises(DecodeError, match=complaint):
        Receipt.from_bytes(edit(TEXT))


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Receipt, "MAX_BYTES", len(TEXT) - 1)
    with pytest.raises(DecodeError, match="a receipt has at most"):
        Receipt.from_bytes(TEXT)
    with pytest.raises(ValueError, match="a receipt has at most"):
        RECEIPT.to_bytes()


def test_events_of_a_receipt_are_one_composition() -> None:
    single = {"type": "Gaussian", "noise_multiplier": 4.0}
    with pytest.raises(DecodeError, match="one Composed event"):
        msgspec.structs.replace(RECEIPT, events=single)


@pytest.mark.parametrize(
    ("survivors", "complaint"),
    [
        (signed("Basel", "Bern", "Genf", 4), None),
        (signed("Basel", "Bern"), "needs 3 signatures and has 2"),
        (signed("Basel", "Bern", 4, statement=tags.ROSTER_SIGNATURE + b"11"), "signed under the label"),
        (
            SignedSurvivors.of(STATEMENT, {"Zug": bytes(64), **dict.fromkeys(SITES, bytes(64))}, threshold=3),
            "signed by 'Zug', who is not in the roster",
        ),
        (
            SignedSurvivors.of(STATEMENT, {"Bern": IDENTITIES["Genf"].sign(STATEMENT)}, threshold=1),
            "the signature of 'Bern' on a survivor set does not hold",
        ),
        (
            SignedSurvivors.of(STATEMENT + b"!", {"Bern": IDENTITIES["Bern"].sign(STATEMENT)}, threshold=1),
            "the signature of 'Bern' on a survivor set does not hold",
        ),
        (
            SignedSurvivors.of(STATEMENT, {"4": IDENTITIES[4].sign(STATEMENT)}, threshold=1),
            "signed by '4', who is not in the roster",
        ),
    ],
)
def test_survivor_sets_need_enough_valid_signatures_of_members(
    survivors: SignedSurvivors, complaint: str | None
) -> None:
    made = make_receipt(ledger(), 1e-5, survivors=[signed("Basel", "Bern", "Genf"), survivors])
    made.verify()  # without members nothing is said about signatures
    if complaint is None:
        made.verify(members())
    else:
        with pytest.raises(ReceiptError, match=complaint):
            made.verify(members())


def test_a_ledger_of_unlike_events_and_nothing_at_all_have_receipts() -> None:
    booked = dp.Ledger(unit="institution", neighboring_relation="zero-out")
    assert make_receipt(booked, 1e-5).verify().upper == 0
    booked.compose(dp.PoissonSampled(0.1, dp.Gaussian(2.0)), 50)
    booked.compose(Composed([(dp.Gaussian(9.0), 2), (dp.Gaussian(7.0), 1)]), 2)
    made = Receipt.from_bytes(make_receipt(booked, 1e-5).to_bytes())
    assert made.composed == booked.events
    assert made.verify().upper == made.upper > 0


def test_a_plan_is_a_hash_of_32_bytes() -> None:
    with pytest.raises(ValueError, match="the hash of a plan is hexadecimal text of 32 bytes"):
        make_receipt(ledger(), 1e-5, plan=b"3f1c")
