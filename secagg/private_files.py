"""Files that are written durably and whole: private ones, locked and replaced, and new ones of any mode. POSIX only.

Arguments of a bad type raise `TypeError`; everything else that goes wrong is an `OSError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["create", "locked", "replaced", "sync_directory", "write"]

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def create(path: Path, data: bytes, *, mode: int) -> None:
    """Write a new file, durably, whole or not at all; of all that write one path at the same moment, one does.

    It is written under a name of its own, `.secagg-*` in the same folder, and then linked to the path; only a crash
    leaves that name behind. Where there are no hard links, an empty file takes the path for the moment before, which a
    crash then leaves there.

    Args:
        mode: permissions, less what the umask takes away.
    Raises:
        FileExistsError: the path is taken, if only by a link that leads nowhere.
        OSError: it cannot be written, and is not there; or its name is, but cannot be made durable. Names the path.
    """
    scratch = path.parent / f".secagg-{secrets.token_hex(8)}"
    try:
        try:
            with FileIO(os.open(scratch, _FLAGS | os.O_CREAT | os.O_EXCL, mode), "r+") as file:
                write(file, data)
            _take(path, scratch)
        finally:
            scratch.unlink(missing_ok=True)
        sync_directory(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def locked(path: Path, *, wait: bool) -> FileIO:
    """Open a private file, made if there is none, and lock it exclusively until it is closed.

    Raises:
        BlockingIOError: locked by another handle, and not to be waited for.
        PermissionError: others than its owner have access to it.
        OSError: it cannot be opened, or is no regular file.
    """
    while True:
        file = FileIO(_descriptor(path), "r+")
        try:
            _require_private(file, path)
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # replaced between opening and locking: open the new one


def replaced(path: Path, data: bytes) -> FileIO:
    """Put a new file, durably, in the place of one that the caller has locked; return it, locked.

    Raises:
        OSError: it cannot be written; either file may then stand in that place, whole.
    """
    following = path.with_name(path.name + ".next")
    following.unlink(missing_ok=True)  # left by a crash: whoever holds the lock is the only one to write it
    file = FileIO(_descriptor(following), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(file, data)
        following.replace(path)
        sync_directory(path)
    except BaseException:
        file.close()
        raise
    return file


def write(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of it where the file stands, and wait until it is durable."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make a file's name durable."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(path: Path, scratch: Path) -> None:
    """Give a file another name, which must be free."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise
    except OSError:  # most likely a file system without hard links: take the name first, then put the file there
        path.touch(exist_ok=False)
        try:
            scratch.replace(path)
        except BaseException:
            path.unlink()
            raise


def _descriptor(path: Path) -> int:
    try:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, _FLAGS | os.O_NONBLOCK)  # a pipe: no wait
    os.fchmod(descriptor, 0o600)  # whatever the umask takes away
    return descriptor


def _require_private(file: FileIO, path: Path) -> None:
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if stat.S_IMODE(mode) & 0o077:
        remedy = f"others have access to this private file: run `chmod 600 {path}`"
        raise PermissionError(errno.EACCES, remedy, str(path))


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
