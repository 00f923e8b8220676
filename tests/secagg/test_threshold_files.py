"""Files of a threshold key's set-up: whole or not there, and in the folder that they were meant for."""

import errno
import os
from pathlib import Path

import pytest

from secagg import Identity, Roster
from secagg.homomorphic import threshold_files
from secagg.homomorphic.threshold_files import Agreement, file_name, write_new, write_new_folder
from secagg.identity import Card
from tests.secagg.cli_rig import done


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
