"""New files: one writer wins, a taken path stays as it is, and nobody ever sees half a file."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import private_files
from secagg.private_files import create


def no_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))  # what Linux says of FAT


@pytest.fixture(params=["hard links", "no hard links"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of either kind of file system, in which no scratch file may be left."""
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", no_links)
    yield tmp_path
    assert not list(tmp_path.glob(".*"))


@given(st.binary(max_size=1000), st.integers(0, 0o77), st.integers(0, 0o77), st.booleans())
def test_a_new_file_holds_the_data_and_has_the_mode_less_the_umask(
    data: bytes, others: int, umask: int, links: bool
) -> None:
    with TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        path = Path(made, "x" * 255)
        if not links:
            patch.setattr(os, "link", no_links)
        before = os.umask(umask)
        try:
            create(path, data, mode=0o600 | others)
        finally:
            os.umask(before)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 | others & ~umask
        assert path.stat().st_nlink == 1
        assert list(path.parent.iterdir()) == [path]


def test_of_many_writers_at_once_one_writes_and_all_others_are_told(folder: Path) -> None:
    writers = 8
    for turn in range(10):
        path, start = folder / str(turn), Barrier(writers)

        def attempt(number: int, path: Path = path, start: Barrier = start) -> int | None:
            start.wait()
            try:
                create(path, bytes([number]) * 1000, mode=0o600)
            except FileExistsError:
                return None
            return number

        with ThreadPoolExecutor(writers) as pool:
            won = [number for number in pool.map(attempt, range(writers)) if number is not None]
        assert len(won) == 1
        assert path.read_bytes() == bytes(won) * 1000


def test_a_path_taken_at_the_last_moment_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(file: FileIO, data: bytes) -> None:
        file.write(data)
        (folder / "x").write_bytes(b"precious")

    monkeypatch.setattr(private_files, "write", late)
    with pytest.raises(FileExistsError):
        create(folder / "x", b"data", mode=0o600)
    assert (folder / "x").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "take",
    [
        Path.touch,
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to("precious"),
        lambda path: path.symlink_to("."),
    ],
    ids=["file", "folder", "pipe", "link to nothing", "link to a file", "link to a folder"],
)
def test_what_stands_at_the_path_is_neither_replaced_nor_followed(folder: Path, take: Callable[[Path], None]) -> None:
    (folder / "precious").write_bytes(b"precious")
    path = folder / "x"
    take(path)
    before = path.lstat()
    with pytest.raises(FileExistsError) as caught:
        create(path, b"data", mode=0o600)
    assert caught.value.filename == str(path)
    assert os.path.samestat(path.lstat(), before)
    assert (folder / "precious").read_bytes() == b"precious"
    assert sorted(folder.iterdir()) == [folder / "precious", path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_an_error_in_the_middle_leaves_nothing_and_names_the_path(
    folder: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: FileIO, data: bytes) -> None:
        file.write(data[:2])
        assert not (folder / "x").exists()
        raise error

    monkeypatch.setattr(private_files, "write", broken)
    with pytest.raises(type(error)) as caught:
        create(folder / "x", b"data", mode=0o600)
    assert not list(folder.iterdir())
    if isinstance(caught.value, OSError):
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(folder / "x"))


def test_a_name_that_cannot_be_given_is_not_left_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(Path, "replace", no_links)
    with pytest.raises(PermissionError) as caught:
        create(tmp_path / "x", b"data", mode=0o600)
    assert caught.value.filename == str(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named_by_the_path_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        create(tmp_path / "nowhere" / "x", b"data", mode=0o600)
    assert caught.value.filename == str(tmp_path / "nowhere" / "x")


def test_the_data_is_durable_before_the_name_and_the_name_before_it_returns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, synced = folder / "x", os.fsync, []

    def fsync(descriptor: int) -> None:
        real(descriptor)
        found = os.fstat(descriptor)
        synced.append(("folder" if stat.S_ISDIR(found.st_mode) else "file", path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    create(path, b"data", mode=0o600)
    assert synced == [("file", False), ("folder", True)]
