"""The error tree of privacy accounting.

An event that no theorem covers is an error that names it, never a guess. Arguments out of range raise `ValueError` or
`TypeError` with a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg.errors import SecAggError

if TYPE_CHECKING:
    from dp.events import Event

__all__ = ["CalibrationError", "PrivacyError", "UnsupportedEventError"]


class PrivacyError(SecAggError):
    """Root of every error of privacy accounting."""


class UnsupportedEventError(PrivacyError):
    """No theorem we can cite bounds this event under this neighbouring relation.

    Attributes:
        event: the smallest part of the event tree that is not supported.
    """

    def __init__(self, event: Event, reason: str) -> None:
        self.event = event
        super().__init__(f"no privacy bound for {event!r}: {reason}")


class CalibrationError(PrivacyError):
    """No noise multiplier reaches the target, or every one does."""
