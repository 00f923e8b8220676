"""Learning problems that ship with the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.task import Task

__all__ = ["TASKS", "load_task"]

TASKS = ("heart",)


def load_task(name: str) -> Task:
    """Load a task by name.

    Raises:
        KeyError: no such task; lists those there are.
    """
    if name == "heart":
        from protocols.tasks.heart import load  # noqa: PLC0415 -- loads scikit-learn

        return load()
    msg = f"no task {name!r}: there are {', '.join(TASKS)}"
    raise KeyError(msg)
