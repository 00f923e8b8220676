"""`secagg threshold`: sites set a key up by files alone, and sum exactly with it."""

import errno
import os
import shutil
import stat
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import Client, Encoding, Identity, PlanError, Policy, Roster, Server, ThresholdError
from secagg.commands import threshold as commands
from secagg.commands.threshold import threshold
from secagg.homomorphic import threshold_files
from secagg.homomorphic.threshold import ThresholdContext, ThresholdKey
from secagg.homomorphic.threshold_files import Agreement, write_new_folder
from tests.house.test_layering import imports
from tests.secagg.cli_rig import done, files, refused, run
from tests.secagg.threshold_cli_rig import SERVERS, SITES, answer, answers_of, relay

CODEC = Encoding(dimension=6, clip=1.0, bits=16, clients=4)


def sum_of(
    server: str, number: int, *, agreement: str = "heart.agreement", context: str = "done", gone: str = ""
) -> Any:
    """Run one round with what the set-up left, and return its sum and the sum expected."""
    members = Roster.load(Path("heart.roster"))
    trusting = server == "semi-honest"
    setup = Agreement.load(Path(agreement)).setup(members, number, assume_honest_server=trusting)
    ending = "threshold" if agreement == "heart.agreement" else "new"
    vectors = {site: CODEC.encode(np.linspace(-1, 1, 6) * (place - 1.5)) for place, site in enumerate(SITES)}
    coordinator = Server(setup, context=ThresholdContext.from_bytes(Path(context, "threshold.context").read_bytes()))
    clients: dict[Any, Client] = {
        site: Client(
            setup,
            site,
            vectors[site],
            identity=None if trusting else Identity.load(Path(f"{site.lower()}.key")),
            keys=ThresholdKey.load(Path(f"{site.lower()}.{ending}")),
            policy=Policy(min_survivors=3, require_identities=not trusting),
        )
        for site in SITES
    }
    while requests := coordinator.close_round():
        for site, request in requests.items():
            if site != gone:
                coordinator.receive(site, clients[site].receive(request))
    total = coordinator.total()
    rows = [vectors[str(site)].vector.astype(object) for site in total.survivors]
    return total, [int(x) % (1 << setup.plan.modulus_bits) for x in np.sum(rows, axis=0)]


@pytest.mark.parametrize("server", SERVERS)
def test_a_key_set_up_by_files_alone_sums_exactly(
    server: str, threshold_set_ups: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(threshold_set_ups[server][0], tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    for number, gone in ((1, ""), (2, "Bern"), (7, "")):
        total, expected = sum_of(server, number, gone=gone)
        assert set(total.dropouts) == ({gone} - {""})
        assert total.vector.tolist() == expected
    assert "used up to:   round 7" in done("threshold show basel.threshold")
    with pytest.raises(PlanError, match="serves rounds 1 to 1000"):
        sum_of(server, 1001)


@pytest.mark.parametrize("server", SERVERS)
def test_everything_shown_is_public_and_every_file_that_is_not_is_private(threshold_set_ups: Any, server: str) -> None:
    where, said = threshold_set_ups[server]
    outputs = "".join(said)
    outputs += "".join(done("threshold show", str(where / f"{site.lower()}.threshold")) for site in SITES)
    fingerprint = ThresholdContext.from_bytes((where / "done" / "threshold.context").read_bytes()).fingerprint
    assert outputs.count(fingerprint.hex()) == 4 + 1 + 4
    sent = b"".join(path.read_bytes() for path in where.rglob("*") if path.suffix in {".1", ".2", ".3", ".message"})
    for site in SITES:
        key = ThresholdKey.load(where / f"{site.lower()}.threshold")
        for secret in (key._secret, key._flooding, *key._shares, *key._seeds.values()):
            assert secret[:16].hex() not in outputs
            assert secret[:16] not in sent
        for path in where.glob(f"{site.lower()}.threshold*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (where / f"{site.lower()}.threshold.setup").stat().st_size < 1000  # the last answer, and no secret


@pytest.mark.usefixtures("threshold_folder")
def test_what_was_done_can_be_done_again_and_changes_nothing() -> None:
    before = files()
    again = answer("Bern", "bern.3", "to-3/01-Bern.message")
    done(again)
    assert files() == before
    Path("bern.3").unlink()
    done(again)
    assert files() == before
    assert refused(answer("Bern", "x"), code=1).startswith("done: this client has sent its last message")
    assert refused(answer("Bern", "bern.1", "to-3/01-Bern.message"), code=2).startswith("bern.1 exists")
    assert refused(relay("done", *answers_of(1)), code=2).startswith("done exists and is never overwritten")


@pytest.mark.usefixtures("threshold_folder")
def test_an_answer_that_could_not_be_written_is_the_same_once_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    begin = answer("Bern", "new.1", key="new")
    with monkeypatch.context() as patch:
        patch.setattr(threshold_files, "write_new", full)
        assert run(begin)[::2] == (2, "secagg threshold answer: new.1: No space left on device\n")
    held = Path("new.setup").read_bytes()
    done(begin)
    assert Path("new.1").read_bytes() in held
    assert Path("new.setup").read_bytes() == held
    done(relay("x", "basel.1", "new.1", "genf.1", "zug.1"))


@pytest.mark.usefixtures("threshold_folder")
def test_answers_may_come_in_any_order_and_twice() -> None:
    shutil.copy("bern.2", "bern-again")
    done(relay("again", *reversed(answers_of(1, 2, 3)), "bern-again"))
    assert Path("again/threshold.context").read_bytes() == Path("done/threshold.context").read_bytes()


@pytest.mark.usefixtures("threshold_folder")
def test_a_key_is_refreshed_in_the_same_session() -> None:
    out = done("threshold refresh heart.agreement --roster heart.roster --round 20 --out 2.agreement")
    assert "set-up:       round 20; the key serves rounds 21 to 1020" in out
    assert "round 1001; the key serves rounds 1002" in done(
        "threshold refresh heart.agreement --roster heart.roster --out later.agreement"
    )
    members = Roster.load(Path("heart.roster"))
    setup = Agreement.load(Path("2.agreement")).setup(members)
    identities = {site: Identity.load(Path(f"{site.lower()}.key")) for site in SITES}
    given: dict[Path, bytes] = {}
    messages: Any = dict.fromkeys(SITES)
    for number in (1, 2, 3):
        for site in SITES:
            new = Path(f"{site.lower()}.new")
            given[Path(site, str(number))] = threshold_files.answer(setup, identities[site], new, messages[site])
        messages = threshold_files.relay(setup, given)
    write_new_folder(Path("second"), {"threshold.context": messages.to_bytes()})
    total, expected = sum_of("malicious", 21, agreement="2.agreement", context="second")
    assert total.vector.tolist() == expected
    with pytest.raises(PlanError, match="serves rounds 21 to"):
        sum_of("malicious", 20, agreement="2.agreement", context="second")
    with pytest.raises(ThresholdError, match="none yet from 'Zug'"):
        threshold_files.relay(setup, {path: data for path, data in given.items() if path != Path("Zug", "2")})


@pytest.mark.parametrize(
    ("command", "sentences"),
    [
        ("propose", ["secagg plan -n 4", "threshold relay heart.agreement *.1", "semi-honest"]),
        ("answer", ["Begin without a message", "never leave this machine", "the same message gets the same answer"]),
        ("relay", ["Give all answers each time", "learns nothing that a server does not", "threshold.context"]),
        ("show", ["Nothing secret", "the same fingerprint"]),
        ("refresh", ["--round 600", "deletes the old KEY"]),
    ],
)
def test_help_teaches(command: str, sentences: list[str]) -> None:
    shown = " ".join(done(f"threshold {command}", "--help").split())
    for sentence in sentences:
        assert sentence in shown


def test_the_secagg_command_has_the_group() -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    where = declared["secagg.commands"]["threshold"]
    assert EntryPoint("threshold", where, "secagg.commands").load() is threshold


def test_the_commands_import_what_they_need_when_they_run() -> None:
    assert commands.__file__ is not None
    loaded = imports(Path(commands.__file__), top_level=True)
    assert {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names} == {"typer", "secagg.cli"}
