"""Objects that serve one call at a time, and exist once."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, SupportsIndex

from secagg.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OneCallAtATime"]


class OneCallAtATime:
    """Refuses concurrent and re-entrant calls, copies, and calls after one that was interrupted halfway."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._broken = False
        self._process = os.getpid()

    @contextmanager
    def _call(self, step_round: str, *, even_broken: bool = False) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            text = "another call of this session is still running"
            raise LocalProtocolError(text, round=step_round)
        try:
            if os.getpid() != self._process:
                text = "this process was forked from the one that began this session: only that one may go on"
                raise LocalProtocolError(text, round=step_round)
            if self._broken and not even_broken:
                text = "an earlier call was interrupted halfway: resume from the journal if there is one, or start anew"
                raise LocalProtocolError(text, round=step_round)
            yield
        finally:
            self._lock.release()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled."""
        msg = f"a {type(self).__name__} cannot be copied or pickled: it holds secrets that may be used once"
        raise TypeError(msg)
