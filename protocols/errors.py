"""The errors of training runs."""

from __future__ import annotations

__all__ = ["ConfigError", "TrainingError"]


class ConfigError(ValueError):
    """A configuration cannot be used; the message names the key."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and what to change."""
