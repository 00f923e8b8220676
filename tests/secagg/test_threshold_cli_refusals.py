"""`secagg threshold`: every wrong file is named, every lie is caught, and nothing is written."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from secagg import Identity, Roster
from secagg.homomorphic.threshold_files import Agreement
from secagg.homomorphic.threshold_setup_messages import SetupKey, SetupPeerKeys
from secagg.wire import decode, encode
from tests.secagg.cli_rig import done, refused
from tests.secagg.threshold_cli_rig import answer, answers_of, relay


@pytest.mark.usefixtures("threshold_folder")
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (relay("x", *answers_of(1)[1:]), 1, "round advertise_keys, none yet from 'Basel': 4 needed, 3 left"),
        (relay("x", *answers_of(2)), 1, "round advertise_keys, none yet from 'Basel', 'Bern', 'Genf', 'Zug'"),
        (relay("x", *answers_of(1, 3)), 1, "round share_keys, none yet from"),
        (relay("x", *answers_of(1), "to-2/00-Basel.message"), 1, "to-2/00-Basel.message: not the answer of a site"),
        (relay("x", *answers_of(1), "plan.json"), 1, "plan.json: wire version"),
        (relay("x", "nothing.1"), 2, "nothing.1: No such file or directory"),
        (answer("Bern", "x", "to-3/00-Basel.message", key="n"), 2, "n.setup is not there: begin without a message"),
        (answer("Bern", "x", "to-2/01-Bern.message"), 1, "done: this client has sent its last message"),
        (answer("Bern", "x", "nothing"), 2, "nothing: No such file"),
        (answer("Bern", "x", key="zug.threshold"), 1, "belongs to another client"),
        ("threshold show plan.json", 1, "plan.json: not an agreement on a threshold key"),
        ("threshold show basel.1", 1, "basel.1: not the context of a threshold key"),
        ("threshold show basel.2", 2, "basel.2.rounds: No such file"),
        ("threshold show nothing", 2, "nothing: No such file"),
        (
            "threshold propose --plan heart.roster --roster heart.roster --out x",
            1,
            "heart.roster: not what `secagg plan",
        ),
        ("threshold propose --plan plan.json --roster heart.roster --out plan.json", 2, "plan.json exists"),
        ("threshold refresh heart.agreement --roster heart.roster --out x --round 0", 2, "takes a later round, not 0"),
    ],
)
def test_missing_and_wrong_files_are_named(command: str, code: int, says: str) -> None:
    assert says in refused(command, code=code)


@pytest.mark.usefixtures("threshold_folder")
def test_another_agreement_roster_or_identity_is_refused() -> None:
    done("threshold propose --plan plan.json --roster heart.roster --out other.agreement")
    other = relay("x", *answers_of(1)).replace("heart.agreement", "other.agreement")
    assert "basel.1: the frame belongs to another session, round, plan or roster" in refused(other, code=1)
    done("keys new --out fifth.key --name Fifth")
    assert "does not hold this identity" in refused(answer("Fifth", "x"), code=2)
    done("roster build --previous heart.roster --key basel.key --out next.roster fifth.key.pub")
    swapped = relay("x", *answers_of(1)).replace("heart.roster", "next.roster")
    assert "made for another roster" in refused(swapped, code=2)
    five = "threshold propose --plan plan.json --roster next.roster --out x"
    assert "the plan is for 4 clients, the roster has 5" in refused(five, code=2)


@pytest.mark.usefixtures("threshold_folder")
def test_an_edited_agreement_and_a_plan_of_masks_are_refused() -> None:
    text = Path("heart.agreement").read_text()
    Path("heart.agreement").write_text(text.replace("\n}", "\n }"))
    assert "heart.agreement: not the canonical text" in refused(relay("x", *answers_of(1)), code=1)
    Path("heart.agreement").write_text(text.replace('"threshold": 3', '"threshold": 2'))
    assert "the threshold must exceed" in refused("threshold show heart.agreement", code=1)
    for hostile in ('{"deep": ' + "[" * 100_000, text.replace('"corrupted": 0', f'"corrupted": 1{"0" * 400}')):
        Path("x.json").write_text(hostile)
        assert "x.json: not an agreement" in refused("threshold show x.json", code=1)
        propose = "threshold propose --plan x.json --roster heart.roster --out x"
        assert "x.json: not what `secagg plan --json` prints" in refused(propose, code=1)
    Path("masks.json").write_text(done("plan -n 4 -d 6 --corrupted 0 --server malicious --json"))
    masks = "threshold propose --plan masks.json --roster heart.roster --out x"
    assert "masking is 'masking' needs no threshold key" in refused(masks, code=2)


def test_an_honest_server_is_assumed_by_nobody_by_accident(
    threshold_set_ups: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(threshold_set_ups["semi-honest"][0], tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    for command in (
        relay("x", *answers_of(1)),
        answer("Bern", "x", key="new"),
        "threshold propose --plan plan.json --roster heart.roster --out x",
        "threshold refresh heart.agreement --roster heart.roster --out x",
    ):
        assert "this plan trusts the server" in refused(command, code=2)


@pytest.mark.usefixtures("threshold_folder")
def test_a_lying_coordinator_is_caught_by_the_sites_signatures() -> None:
    """Basel relays, and puts a key of its own in the place of Zug's: no signature of Zug's is over that."""
    setup = Agreement.load(Path("heart.agreement")).setup(Roster.load(Path("heart.roster")))
    forged = SetupKey(3, b"forged".ljust(32), Identity.load(Path("basel.key")).sign(b"whatever"))
    Path("forged.1").write_bytes(encode(forged, setup))
    assert "forged.1: advertise_keys: " in refused(relay("x", *answers_of(1)[:3], "forged.1"), code=1)
    done(answer("Bern", "new.1", key="new"))
    answers = [path if path != "bern.1" else "new.1" for path in answers_of(1)]
    done(relay("again", *answers))
    shown = Path("again/01-Bern.message")
    honest = decode(SetupPeerKeys, shown.read_bytes(), setup)
    lie = honest.keys[:-96] + forged.key + forged.signature
    Path("lie").write_bytes(encode(SetupPeerKeys(1, lie), setup))
    said = refused(answer("Bern", "x", "lie", key="new"), code=1)
    assert said == "share_keys: not signed by the identity of 'Zug': its public key (from server)"
    damaged = bytearray(shown.read_bytes())
    damaged[200] ^= 1
    Path("damaged").write_bytes(damaged)
    assert "damaged or truncated" in refused(answer("Bern", "x", "damaged", key="new"), code=1)
    assert "another client's channel" in refused(answer("Bern", "x", "again/00-Basel.message", key="new"), code=1)
    done(answer("Bern", "new.2", str(shown), key="new"))
    for late in ("lie", "to-2/01-Bern.message"):
        assert "early, late or repeated" in refused(answer("Bern", "x", late, key="new"), code=1)


@pytest.mark.usefixtures("threshold_folder")
def test_a_frame_of_nobody_in_the_roster_is_refused() -> None:
    setup = Agreement.load(Path("heart.agreement")).setup(Roster.load(Path("heart.roster")))
    for position in (4, -1):
        Path("x.1").write_bytes(encode(SetupKey(position, bytes(32), bytes(64)), setup))
        assert "x.1: not the answer of a site" in refused(relay("x", "x.1"), code=1)


@pytest.mark.usefixtures("threshold_folder")
@pytest.mark.parametrize(
    ("command", "most"),
    [
        (relay("x", *answers_of(1)[1:], "huge"), "22,937,600"),
        (answer("Bern", "x", "huge"), "22,937,600"),
        (relay("x", *answers_of(1)).replace("heart.agreement", "huge"), "1,048,576"),
        ("threshold show huge", "1,048,576"),
        ("threshold propose --plan huge --roster heart.roster --out x", "1,048,576"),
    ],
)
def test_a_file_of_any_size_is_read_only_as_far_as_it_can_be_right(
    command: str, most: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file of 2^40 bytes, nearly all of it a hole: whoever read it all would run out of memory."""
    huge = tmp_path_factory.mktemp("huge") / "huge"
    with huge.open("wb") as file:
        file.write(b"{")
        file.truncate(1 << 40)
    said = refused(command.replace("huge", str(huge)), code=1)
    huge.unlink()
    assert "huge: longer than " in said
    assert f"can be, {most} bytes" in said


@pytest.mark.usefixtures("threshold_folder")
def test_a_taken_key_file_is_noticed_before_anything_begins() -> None:
    for left in ("bern.threshold.setup", "bern.threshold.setup.rounds"):
        Path(left).unlink()
    assert refused(answer("Bern", "x"), code=2).startswith("bern.threshold exists and is never overwritten")
