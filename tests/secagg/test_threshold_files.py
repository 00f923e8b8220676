"""Files of a threshold key's set-up: whole or not there, and in the folder that they were meant for."""

import errno
import os
from pathlib import Path

import pytest

from secagg import DecodeError, Identity, Plan, Roster, Setup
from secagg.homomorphic import threshold_files
from secagg.homomorphic.threshold_files import (
    MESSAGE_MOST_BYTES,
    Agreement,
    file_name,
    read,
    write_new,
    write_new_folder,
)
from secagg.homomorphic.threshold_parameters import MOST_CLIENTS
from secagg.homomorphic.threshold_setup_messages import SetupKey, SetupPeerKeys, SetupPeerShares, SetupShares
from secagg.identity import Card
from tests.secagg.cli_rig import done
from tests.secagg.rig import Pinned


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_new(tmp_path / "x", b"data")
        with pytest.raises(OSError, match="No space"):
            write_new_folder(tmp_path / "y", {"a": b"1"})
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_again_only_with_the_very_same_bytes(tmp_path: Path) -> None:
    write_new(tmp_path / "x", b"data")
    write_new(tmp_path / "x", b"data")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "x", b"other")
    assert (tmp_path / "x").read_bytes() == b"data"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_a_file_is_read_up_to_the_bytes_it_can_have(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(10))
    assert read(tmp_path / "x", 10) == bytes(10)
    with pytest.raises(DecodeError, match=r"x: longer than .* can be, 9 bytes"):
        read(tmp_path / "x", 9)
    for decode in (Agreement.from_bytes, threshold_files.plan_of):
        with pytest.raises(DecodeError, match="can be, 1,048,576 bytes"):
            decode(b" " * 1_048_577)


def test_no_message_of_a_set_up_is_longer_than_what_is_read() -> None:
    plan = Plan(
        clients=MOST_CLIENTS,
        length=1_000_000,
        modulus_bits=32,
        threshold=67,
        degree=MOST_CLIENTS - 1,
        masking="threshold",
        server="malicious",
        corrupted=10,
    )
    roster = Pinned({i: bytes([i]) * 32 for i in range(plan.clients)})
    setup = Setup(plan=plan, roster=roster, session=bytes(16), round=0)
    most = max(kind.max_payload(setup) for kind in (SetupKey, SetupPeerKeys, SetupShares, SetupPeerShares))
    assert 22_000_000 < most + 1000 <= MESSAGE_MOST_BYTES


def test_what_is_no_file_is_neither_written_to_nor_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # whose reader would wait
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("pipe", "link", "."):
        with pytest.raises(FileExistsError):
            write_new(tmp_path / name, b"data")
    assert not (tmp_path / "nowhere").exists()


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    builder = Identity.generate()
    names = ["../../etc", "a/b", "a-b", "." * 256]
    members = Roster.found("x", [Card.issue(Identity.generate(), name) for name in names], builder=builder)
    plan = threshold_files.plan_of(
        done("plan -n 4 -d 6 --corrupted 0 --masking threshold --json --server malicious").encode()
    )
    setup = Agreement.propose(plan, members).setup(members)
    made = {file_name(setup, name) for name in names}
    write_new_folder(tmp_path / "out", dict.fromkeys(made, b""))
    assert {path.name for path in (tmp_path / "out").iterdir()} == made
    assert len(made) == 4
    assert all((tmp_path / name).parent == tmp_path and not name.startswith(".") and "/" not in name for name in made)
