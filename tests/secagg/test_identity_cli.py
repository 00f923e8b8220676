"""`secagg keys` and `secagg roster`: three sites from key to compared roster, and every refusal in one line."""

import stat
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secagg.cli import build_app
from secagg.commands import identity as commands
from secagg.identity import Card, Identity, Roster
from tests.house.test_layering import imports
from tests.secagg.cli_rig import done, refused


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def three_sites() -> Roster:
    for site in ("Basel", "Bern", "Genf"):
        done("keys new", "--out", f"{site.lower()}.key", "--name", site)
    done("keys new --out builder.key")
    cards = [f"{site}.key.pub" for site in ("genf", "basel", "bern")]
    done("roster build --key builder.key --out 1.roster", "--name", "Heart study", *cards)
    return Roster.load(Path("1.roster"))


def test_three_sites_make_keys_build_compare_rotate_and_hand_over() -> None:
    first = three_sites()
    assert list(first.members) == ["Basel", "Bern", "Genf"]
    assert first.members["Bern"] == Identity.load(Path("bern.key")).public
    for site in ("basel", "bern", "genf"):
        out = done("roster verify 1.roster", "--card", f"{site}.key.pub", "--hash", first.short_hash)
        assert out.splitlines() == [
            "signatures: valid",
            f"your card: in the roster, as {site.title()}",
            "short hash: the same",
        ]
    done("keys new --out bern2.key --name Bern")
    done("keys new --out zug.key --name Zug")
    out = done(
        "roster build --previous 1.roster --key builder.key --out 2.roster --revoke Genf --hand-over zug.key.pub",
        "bern2.key.pub",
        "zug.key.pub",
    )
    second = Roster.load(Path("2.roster"))
    assert out.splitlines() == [
        "Heart study, serial 2: 3 members",
        *(f"    {name:5}  {second.members[name].hex()}" for name in ("Basel", "Bern", "Zug")),
        "revoked keys: 2",
        *(f"           {key}" for key in sorted(first.members[name].hex() for name in ("Bern", "Genf"))),
        f"built by:     {first.builder.hex()}",
        f"next one by:  {second.members['Zug'].hex()}",
        f"short hash:   {second.short_hash}",
        "",
        "written: 2.roster. Send it to every site; each runs",
        "    secagg roster verify 2.roster --previous 1.roster",
        "and reads the short hash to you over the phone.",
    ]
    assert done("roster verify 2.roster --previous 1.roster").splitlines() == [
        "signatures: valid",
        "follows 1.roster: yes",
        "joined: Zug",
        "left: Genf",
        "new key: Bern",
        f"the next roster is built by another key: {second.next_builder.hex()}",
        f"short hash: {second.short_hash}  (not compared: read it to another site over the phone)",
    ]
    done("roster build --previous 2.roster --key zug.key --out 3.roster")
    assert "members: unchanged" in done("roster verify 3.roster --previous 2.roster")
    assert done("roster show 3.roster").startswith("Heart study, serial 3: 3 members\n")


def test_a_new_key_is_private_and_its_card_is_not_secret() -> None:
    out = done("keys new --out basel.key")
    key, card = Path("basel.key"), Path("basel.key.pub")
    public = Identity.load(key).public
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (Card.load(card).client_id, Card.load(card).public) == ("basel", public)
    shown = out + done("keys show basel.key") + done("keys show basel.key.pub")
    assert shown.count(public.hex()) == 3
    private = key.read_text().split('"')[-2]
    assert private not in shown
    assert private not in card.read_text()


def test_keys_new_overwrites_neither_key_nor_card() -> None:
    done("keys new --out basel.key")
    assert refused("keys new --out basel.key", code=2).startswith("basel.key.pub exists and is never overwritten")
    Path("basel.key.pub").unlink()
    assert refused("keys new --out basel.key", code=2).startswith("basel.key exists and is never overwritten")
    Path("basel.key").rename("basel.key.pub")
    assert refused("keys new --out basel.key", code=2).startswith("basel.key.pub exists and is never overwritten")


def test_keys_new_says_what_a_name_may_be() -> None:
    assert refused("keys new --out basel.key", "--name", "a\nb", code=2).startswith("a client name is printable text")


def test_a_key_that_others_can_read_is_refused_with_the_remedy() -> None:
    done("keys new --out basel.key")
    Path("basel.key").chmod(0o644)
    remedy = "basel.key: others have access to this private key: run `chmod 600 basel.key`"
    assert refused("keys show basel.key", code=2) == remedy


def test_what_is_missing_or_of_another_kind_is_named() -> None:
    three_sites()
    assert refused("keys show nothing.pub", code=2) == "nothing.pub: No such file or directory"
    assert refused("roster show .", code=2) == ".: Is a directory"
    assert refused("roster show basel.key.pub", code=1).startswith("basel.key.pub: not a valid roster")
    Path("deep").write_text('{"x": ' + "[" * 100_000)
    assert refused("roster show deep", code=1).startswith("deep: not a valid roster")
    build = "roster build --name x --key builder.key --out x.roster"
    assert refused(build, "basel.key", code=1).startswith("basel.key: not a valid card")
    assert refused("roster build --name x --out x.roster --key basel.key.pub", "basel.key.pub", code=2).startswith(
        "basel.key.pub: others have access"
    )


def test_what_contradicts_itself_is_not_built() -> None:
    three_sites()
    build = "roster build --key builder.key --out x.roster"
    for arguments in (
        [],
        ["--name", "x", "--previous", "1.roster"],
        ["--name", "x", "--revoke", "Bern"],
        ["--name", "x", "--hand-over", "bern.key.pub"],
    ):
        assert refused(build, *arguments, "basel.key.pub", code=2).startswith("give --name for a first roster; or")
    assert "at least one member" in refused(build, "--name", "x", code=2)
    assert "a name appears twice" in refused(build, "--name", "x", "basel.key.pub", "basel.key.pub", code=2)
    assert "cannot revoke 'Zug'" in refused(build, "--previous", "1.roster", "--revoke", "Zug", code=2)
    stranger = "roster build --key basel.key --out x.roster --previous 1.roster"
    assert "signed by another key" in refused(stranger, code=2)
    existing = "roster build --key builder.key --out 1.roster --previous 1.roster"
    assert refused(existing, code=2).startswith("1.roster exists and is never overwritten")


def test_a_revoked_key_cannot_be_built_in_again() -> None:
    three_sites()
    done("roster build --previous 1.roster --key builder.key --out 2.roster --revoke Bern")
    again = "roster build --previous 2.roster --key builder.key --out 3.roster bern.key.pub"
    assert "key is revoked: it needs a new one" in refused(again, code=2)


def test_members_with_numbers_are_shown_and_revoked_by_them() -> None:
    builder = Identity.generate()
    builder.save(Path("builder.key"))
    cards = [Card.issue(Identity.generate(), name) for name in (7, "7")]
    Roster.found("x", cards, builder=builder).save(Path("1.roster"))
    assert "\n    #7  " in done("roster show 1.roster")
    done("roster build --previous 1.roster --key builder.key --out 2.roster --revoke #7")
    assert list(Roster.load(Path("2.roster")).members) == ["7"]


def test_verify_fails_for_another_short_hash_card_or_predecessor() -> None:
    first = three_sites()
    other = "00000-" + first.short_hash[6:]
    assert "not the roster" in refused("roster verify 1.roster --hash", other, code=1)
    assert "compare all of them" in refused("roster verify 1.roster --hash", first.short_hash[:11], code=2)
    done("keys new --out bern2.key --name Bern")
    assert refused("roster verify 1.roster --card bern2.key.pub", code=1) == (
        "1.roster does not hold your card bern2.key.pub: ask the builder"
    )
    assert "does not follow" in refused("roster verify 1.roster --previous 1.roster", code=1)
    tampered = Path("1.roster").read_bytes().replace(b"Heart", b"Liver")
    Path("tampered.roster").write_bytes(tampered)
    complaint = "tampered.roster: not a valid roster: the signature is not valid"
    assert refused("roster verify tampered.roster", code=1) == complaint
    assert refused("roster show tampered.roster", code=1) == complaint


@pytest.mark.parametrize(
    ("command", "sentences"),
    [
        ("keys new", ["to be mailed", "secagg keys new --out basel.key --name Basel", "Lost or stolen?"]),
        ("keys show", ["Nothing secret is printed", "secagg keys show basel.key.pub"]),
        ("roster build", ["--revoke Bern", "can never come back", "--hand-over"]),
        ("roster show", ["secagg roster show heart-1.roster"]),
        ("roster verify", ["all 30 digits", "exit code 0", "somebody whose voice you know"]),
    ],
)
def test_help_teaches(command: str, sentences: list[str]) -> None:
    shown = " ".join(done(command, "--help").split())
    for sentence in sentences:
        assert sentence in shown


def test_the_secagg_command_has_both_groups() -> None:
    shown = CliRunner().invoke(build_app(), ["--help"]).stdout
    assert "keys " in shown
    assert "roster " in shown


def test_the_commands_import_what_they_need_when_they_run() -> None:
    assert commands.__file__ is not None
    loaded = imports(Path(commands.__file__), top_level=True)
    assert {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names} == {"typer", "secagg.cli"}
