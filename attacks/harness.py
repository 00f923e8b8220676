"""Crosses attacks with channels and defences, trial by trial, and picks up where it was interrupted.

Every trial is a line of `trials.jsonl` in the run's folder as soon as it is done. Started again in the same folder the
harness runs what is missing; a line cut off by a crash counts as missing. Each process uses one torch thread.
"""

from __future__ import annotations

import signal
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TYPE_CHECKING

import msgspec
import torch

from attacks.datasets import pneumonia
from attacks.defences import DEFENCES
from attacks.matrix import ATTACKS, DATA, HEARTBEATS, NUMBERS
from attacks.matrix.attack import NO_DEFENCE, Trial
from attacks.matrix.cells import Matrix, Result, assemble, channels_of
from attacks.threat import Channel
from protocols.record import write_whole
from secagg.primitives.threads import available_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from attacks.matrix import Attack

__all__ = ["AnotherRunError", "Job", "jobs_of", "run_matrix"]

TRIALS = "trials.jsonl"
FORMAT = 1


class AnotherRunError(ValueError):
    """A folder holds the trials of a run with other settings."""


class Header(msgspec.Struct, frozen=True):
    """The first line of a run's trials: what they have in common."""

    format: int
    quick: bool
    seed: int
    data: bool


class Job(msgspec.Struct, frozen=True):
    """A trial to run.

    Attributes:
        attack, data, channel, defence, seed: as in `Result`.
        shown: whether what it finds is kept to look at.
    """

    attack: str
    data: str
    channel: Channel
    defence: str
    seed: int
    shown: bool

    @property
    def key(self) -> tuple[str, str, Channel, str, int]:
        """Tell its result from others."""
        return self.attack, self.data, self.channel, self.defence, self.seed


def jobs_of(attacks: Sequence[Attack], data: Sequence[str], *, quick: bool, seed: int) -> list[Job]:
    """List all trials of a matrix.

    Args:
        attacks: rows.
        data: names of the data sets at hand.
        quick: the first of each attack's numbers of trials, else the second.
        seed: of the first trial of each cell.
    """
    jobs = []
    for attack in attacks:
        seeds = range(seed, seed + attack.trials[0 if quick else 1])
        for name in attack.data:
            if name not in data:
                continue
            crossed = [(channel, NO_DEFENCE.name) for channel in channels_of(attack)]
            crossed += [(attack.defended, defence) for defence in attack.defences]
            jobs += [
                Job(attack.name, name, channel, defence, each, each == seed and defence == NO_DEFENCE.name)
                for channel, defence in crossed
                for each in seeds
            ]
    return jobs


def run_matrix(
    folder: Path,
    *,
    quick: bool,
    seed: int = 0,
    data: Path | None = None,
    attacks: Sequence[Attack] = ATTACKS,
    processes: int | None = None,
    watch: Callable[[int, int, str], None] = lambda _done, _all, _text: None,
) -> Matrix:
    """Run all trials that the folder does not hold yet, and return the table.

    Args:
        folder: of the run; made if it is not there.
        quick: minutes on two cores, else hours.
        seed: of the first trial of each cell.
        data: a folder with data that is not shipped (what SECAGG_DATA names), or None.
        attacks: rows; other rows than `ATTACKS` only in this process.
        processes: how many work at once; None: one a core; 0: this one.
        watch: called before the first and after every trial with (done, all, name of the attack).
    Raises:
        AnotherRunError: the folder holds trials with other settings.
        OSError: it cannot be written.
    """
    names, missing = _data_at_hand(data)
    budget = 0 if quick else 1
    missing += [f"{attack.name}: only in the full matrix" for attack in attacks if not attack.trials[budget]]
    attacks = [attack for attack in attacks if attack.trials[budget]]
    folder.mkdir(parents=True, exist_ok=True)
    header = Header(FORMAT, quick, seed, data is not None)
    results = _trials_in(folder / TRIALS, header)
    jobs = jobs_of(attacks, names, quick=quick, seed=seed)
    order = {job.key: place for place, job in enumerate(jobs)}
    results = [result for result in results if result.key in order]
    held = {result.key for result in results}
    left = [job for job in jobs if job.key not in held]
    watch(len(results), len(jobs), "")
    with (folder / TRIALS).open("ab") as lines:
        for result in _run(left, quick=quick, data=data, attacks=attacks, processes=processes):
            lines.write(msgspec.json.encode(result) + b"\n")
            lines.flush()
            results.append(result)
            watch(len(results), len(jobs), result.attack)
    results.sort(key=lambda result: order[result.key])
    matrix = assemble(attacks, results, quick=quick, seed=seed, missing=missing)
    write_whole(folder / "leakage.json", msgspec.json.format(msgspec.json.encode(matrix), indent=1))
    return matrix


def _data_at_hand(folder: Path | None) -> tuple[list[str], list[str]]:
    """Name the data sets there are, and say what is missing."""
    names, missing = [*DATA[:2], HEARTBEATS, NUMBERS], []
    try:
        if folder is None:
            missing.append(f"{DATA[2]}: --data or SECAGG_DATA names no folder")
        else:
            pneumonia(folder)
            names.append(DATA[2])
    except OSError:
        missing.append(f"{DATA[2]}: not in {folder}")
    return names, missing


def _trials_in(path: Path, header: Header) -> list[Result]:
    """Read what an earlier run left, and leave a file that can be added to."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    results: list[Result] = []
    if lines:
        try:
            found = msgspec.json.decode(lines[0], type=Header)
        except msgspec.DecodeError:
            found = None
        if found != header:
            msg = f"{path} holds trials with other settings (budget, seed, data or version): take another folder"
            raise AnotherRunError(msg)
        for line in lines[1:]:
            try:
                results.append(msgspec.json.decode(line, type=Result))
            except msgspec.DecodeError:
                break  # cut off by a crash: what follows was never written
    write_whole(path, b"".join(msgspec.json.encode(line) + b"\n" for line in (header, *results)))
    return results


def _run(
    jobs: Sequence[Job],
    *,
    quick: bool,
    data: Path | None,
    attacks: Sequence[Attack],
    processes: int | None,
) -> Iterator[Result]:
    if processes == 0:
        _one_thread()
        yield from (_result(job, quick=quick, data=data, attacks=attacks) for job in jobs)
        return
    workers = min(available_threads() if processes is None else processes, max(1, len(jobs)))
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        for done in as_completed([executor.submit(_result, job, quick=quick, data=data) for job in jobs]):
            yield done.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _result(job: Job, *, quick: bool, data: Path | None, attacks: Sequence[Attack] = ATTACKS) -> Result:
    attack = next(each for each in attacks if each.name == job.attack and job.data in each.data)
    defence = next(each for each in DEFENCES if each.name == job.defence)
    trial = Trial(data=job.data, folder=data, channel=job.channel, defence=defence, seed=job.seed, quick=quick)
    start = time.perf_counter()
    found = attack.run(trial)
    seconds = time.perf_counter() - start
    if not job.shown:
        found = msgspec.structs.replace(found, exhibit=None)
    return Result(job.attack, job.data, job.channel, job.defence, job.seed, found, seconds)


def _start_worker() -> None:
    """Use one thread, and leave an interrupt from the keyboard to the process that waits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _one_thread()


def _one_thread() -> None:
    torch.set_num_threads(1)
