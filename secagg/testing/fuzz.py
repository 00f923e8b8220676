"""`python -m secagg.testing.fuzz --messages 1000000`: mutated messages to every step and every session.

What must hold, and how findings are reproduced, is said in `secagg.testing.fuzz_steps`. Seeds name runs: a process of a
run of several takes the seed given plus its own number.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from secagg.testing.fuzz_sessions import fuzz_sessions
from secagg.testing.fuzz_steps import FuzzError, Tally, fuzz_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Job", "fuzz"]

_SESSIONS = 4
"""One message in so many goes to a session, the others to a pure step."""
_EVERY_SECONDS = 5.0


class Job(NamedTuple):
    """One process's share of a run."""

    messages: int
    seed: int
    shown: bool = False


def fuzz(job: Job) -> Tally:
    """Send mutated messages, three quarters of them to pure steps and the rest to sessions.

    Raises:
        FuzzError: one did what none may do.
    """
    sessions = job.messages // _SESSIONS
    progress = _Progress(job.messages) if job.shown else None
    tally = fuzz_steps(messages=job.messages - sessions, seed=job.seed, progress=progress)
    if progress is not None:
        progress = progress.after(tally.messages)
    tally.add(fuzz_sessions(messages=sessions, seed=job.seed, progress=progress))
    return tally


class _Progress:
    """Writes how far a run has come, every few seconds."""

    def __init__(self, messages: int, before: int = 0) -> None:
        self._messages, self._before, self._last = messages, before, time.monotonic()

    def __call__(self, sent: int) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY_SECONDS:
            self._last = now
            sys.stderr.write(f"  {self._before + sent:,} of {self._messages:,} messages\n")
            sys.stderr.flush()

    def after(self, before: int) -> _Progress:
        """Go on counting from what was sent before."""
        return _Progress(self._messages, before)


def _summary(tally: Tally, seconds: float) -> str:
    """Say what a run saw, by protocol, side and round."""
    table: dict[str, Counter[str]] = {}
    for (lane, error), count in tally.refused.items():
        table.setdefault(lane.rsplit("/", 1)[0], Counter())[error] += count
    for lane, count in tally.accepted.items():
        table.setdefault(lane.rsplit("/", 1)[0], Counter())["accepted lie"] += count
    lines = [f"{lane}: {', '.join(f'{n:,} {what}' for what, n in table[lane].most_common())}" for lane in sorted(table)]
    refused = sum(tally.refused.values())
    last = (
        f"{tally.messages:,} messages in {seconds:.0f} s ({tally.messages / seconds:,.0f} a second): "
        f"{refused:,} refused, {sum(tally.accepted.values()):,} lies accepted, "
        f"{tally.rounds:,} genuine rounds unharmed, at most {tally.peak:,} bytes of memory for a message"
    )
    return "\n".join([*lines, last])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m secagg.testing.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    share = -(-options.messages // options.processes)
    jobs = [Job(share, options.seed + i, shown=i == 0) for i in range(options.processes)]
    tally = Tally()
    try:
        if options.processes == 1:
            tally.add(fuzz(jobs[0]))
        else:
            with ProcessPoolExecutor(options.processes) as pool:
                for each in pool.map(fuzz, jobs):
                    tally.add(each)
    except FuzzError as error:
        sys.stderr.write(f"found: {error}\n")
        return 1
    sys.stdout.write(_summary(tally, time.monotonic() - start) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
