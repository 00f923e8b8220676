"""Files that only their owner may read, locked exclusively, written durably, and replaced as a whole. POSIX only.

Arguments of a bad type raise `TypeError`; everything else that goes wrong is an `OSError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["locked", "replaced", "sync_directory", "write"]

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


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
