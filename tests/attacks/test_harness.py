"""The matrix: every field is accounted for, nothing is run twice or lost, and the page shows what was found."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from attacks.harness import AnotherRunError, jobs_of, run_matrix
from attacks.matrix import ATTACKS, COLUMNS, DATA, HEARTBEATS, NUMBERS, Attack, Trial, markdown
from attacks.matrix.attack import LOCAL, NO_DEFENCE, Curve, Exhibit, Found, NotApplicable, Pictures, Records, SameAs
from attacks.matrix.cells import channels_of, printed
from attacks.page import write_matrix_page
from attacks.threat import HONEST_SERVER, Channel

CALLS: Counter[tuple[Channel, str, int]] = Counter()


def found(trial: Trial) -> Found:
    CALLS[trial.channel, trial.defence.name, trial.seed] += 1
    leaked = float(trial.channel in {Channel.PLAIN, Channel.UNBOUND_LIE})
    exhibits: dict[Channel, Exhibit] = {
        Channel.PLAIN: Pictures([[[0.0, 1.0]]], [[[0.0, 1.0]]]),
        Channel.SUM: Records(["<age>"], [50.0], [50.0], [61.0]),
        Channel.DP_8: Curve([0.0, 0.01, 1.0], [0.0, 0.5, 1.0], "as expected"),
    }
    return Found([leaked, leaked, leaked], [0.0, 0.0, 0.0], exhibits.get(trial.channel))


def toy(**changes: object) -> Attack:
    options: dict[str, object] = {
        "name": "toy <attack>",
        "setting": "here",
        "source": "nobody",
        "threat": HONEST_SERVER,
        "measure": "things found",
        "prior": "nothing",
        "data": ("digits",),
        "trials": (3, 4),
        "run": found,
        "through": {
            Channel.MODEL: NotApplicable("it has no model"),
            Channel.HE: SameAs(Channel.SUM, "the same sum"),
        },
        "defences": LOCAL[:2],
    }
    return Attack(**options | changes)  # type: ignore[arg-type]


def test_every_field_of_the_table_is_run_or_says_why_not() -> None:
    assert len({(attack.name, data) for attack in ATTACKS for data in attack.data}) == sum(
        len(attack.data) for attack in ATTACKS
    )
    for attack in ATTACKS:
        run = channels_of(attack)
        assert run
        assert set(attack.data) <= {*DATA, HEARTBEATS, NUMBERS}
        assert set(COLUMNS) == {*attack.through, *run} - {Channel.UNBOUND_LIE}
        for answer in attack.through.values():
            assert answer.why
            assert not isinstance(answer, SameAs) or answer.channel in run
        if attack.defences:
            assert attack.defended in run
            assert NO_DEFENCE.name not in attack.defences


def test_jobs_cross_data_channels_defences_and_seeds() -> None:
    attack = toy(data=("digits", "PneumoniaMNIST"))
    jobs = jobs_of([attack], ["digits"], quick=True, seed=7)
    assert len(jobs) == len({job.key for job in jobs}) == 3 * (6 + 2)  # five columns and the naive lie; two defences
    assert {job.seed for job in jobs} == {7, 8, 9}
    assert {job.defence for job in jobs if job.channel is not Channel.PLAIN} == {NO_DEFENCE.name}
    assert all(job.shown == (job.seed == 7 and job.defence == NO_DEFENCE.name) for job in jobs)
    assert len(jobs_of([attack], ["digits", "PneumoniaMNIST"], quick=False, seed=0)) == 2 * 4 * 8


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    CALLS.clear()
    whole = run_matrix(tmp_path / "whole", quick=True, attacks=[toy()], processes=0)
    assert set(CALLS.values()) == {1}
    CALLS.clear()

    def interrupt(done: int, _: int, __: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run_matrix(folder, quick=True, attacks=[toy()], processes=0, watch=interrupt)
    lines = (folder / "trials.jsonl").read_bytes()
    assert lines.count(b"\n") == 11
    assert not (folder / "leakage.json").exists()
    (folder / "trials.jsonl").write_bytes(lines[:-20])  # a crash while the last line was being written
    seen: list[int] = []
    again = run_matrix(folder, quick=True, attacks=[toy()], processes=0, watch=lambda done, _, __: seen.append(done))
    assert seen == list(range(9, 25))
    assert sorted(CALLS.values()) == [1] * 23 + [2]
    assert msgspec.structs.replace(again, seconds=0.0) == msgspec.structs.replace(whole, seconds=0.0)


def test_a_folder_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    run_matrix(tmp_path, quick=True, attacks=[toy()], processes=0)
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(AnotherRunError, match="take another folder"):
        run_matrix(tmp_path, quick=True, seed=1, attacks=[toy()], processes=0)
    with pytest.raises(AnotherRunError):
        run_matrix(tmp_path, quick=False, attacks=[toy()], processes=0)
    assert (tmp_path / "trials.jsonl").read_bytes() == before
    (tmp_path / "trials.jsonl").write_bytes(b"something else\n")
    with pytest.raises(AnotherRunError):
        run_matrix(tmp_path, quick=True, attacks=[toy()], processes=0)


def test_fields_hold_numbers_beside_priors_or_reasons(tmp_path: Path) -> None:
    attacks = [toy(), toy(name="only in full", trials=(0, 5))]
    matrix = run_matrix(tmp_path, quick=True, attacks=attacks, processes=0)
    (row,) = matrix.rows
    plain, summed, lied = (row.cells[channel] for channel in (Channel.PLAIN, Channel.SUM, Channel.LIE))
    assert plain.estimate is not None
    assert (plain.estimate.value, plain.scores, plain.leaks, plain.prior) == (1.0, 9, True, 0.0)
    assert plain.estimate.low == pytest.approx(0.025 ** (1 / 9))  # Clopper-Pearson, all of nine
    assert not summed.leaks
    assert lied.unbound == 1.0
    assert row.cells[Channel.MODEL].kind == "not applicable"
    assert row.cells[Channel.HE].kind == "same"
    assert row.cells[Channel.HE].estimate == summed.estimate
    assert list(row.defences) == [NO_DEFENCE.name, *LOCAL[:2]]
    assert any("PneumoniaMNIST" in text for text in matrix.missing)
    assert any("only in full" in text for text in matrix.missing)
    assert [each.channel for each in matrix.shown] == [Channel.PLAIN, Channel.SUM, Channel.DP_8]
    assert json.loads((tmp_path / "leakage.json").read_text())["rows"][0]["attack"] == "toy <attack>"


def test_a_score_that_the_prior_reaches_is_no_leak(tmp_path: Path) -> None:
    def luck(trial: Trial) -> Found:
        scores = trial.rng().normal(12, 3, 20)
        return Found(scores.tolist(), (scores + (1 if trial.channel is Channel.PLAIN else -1)).tolist())

    attack = toy(run=luck, unit="dB", defences=())
    (row,) = run_matrix(tmp_path, quick=True, attacks=[attack], processes=0).rows
    assert not row.cells[Channel.PLAIN].leaks
    assert row.cells[Channel.SUM].leaks


def test_the_markdown_table_numbers_the_reasons(tmp_path: Path) -> None:
    text = markdown(run_matrix(tmp_path, quick=True, attacks=[toy()], processes=0))
    line = next(line for line in text.splitlines() if line.startswith("| toy"))
    fields = [field.strip() for field in line.strip("|").split("|")]
    assert fields[0] == "toy <attack><br><sub>here; things found</sub>"
    assert fields[1:] == [
        "digits",
        "0 %",
        "**100 %**",
        "0 %",
        "0 % (100 %)",
        "n/a [1]",
        "0 %",
        "0 %",
        "0 % [2]",
    ]
    assert "[1] it has no model; [2] the same sum." in text


def test_scores_are_printed_in_their_unit() -> None:
    assert [printed(value, "share") for value in (0.0, 0.004, 0.5, 0.996, 1.0)] == [
        "0 %",
        "0.4 %",
        "50 %",
        "99.6 %",
        "100 %",
    ]
    assert printed(13.14, "dB") == "13.1 dB"
    assert printed(0.5, "AUC") == "0.50"


def test_the_page_is_one_file_that_shows_what_was_found_and_escapes_it(tmp_path: Path) -> None:
    matrix = run_matrix(tmp_path, quick=True, attacks=[toy()], processes=0)
    html = write_matrix_page(matrix, tmp_path).read_text()
    for text in (
        "toy &lt;attack&gt;",
        "&lt;age&gt;",
        "data:image/png;base64,",
        "<svg",
        "as expected",
        "it has no model",
    ):
        assert text in html
    assert "Responsible use" in html
    assert "<attack>" not in html
    assert "<script" not in html
    assert 'src="http' not in html
    assert "href=" not in html.replace('xlink:href="#', "").replace('href="#', "")


@pytest.mark.parametrize(
    ("name", "data", "channel", "least", "most"),
    [
        ("analytic inversion", "heart", Channel.PLAIN, 1, 1),
        ("analytic inversion", "digits", Channel.LIE, 0, 0),
        ("analytic inversion", "digits", Channel.UNBOUND_LIE, 1, 1),
        ("analytic inversion", "digits", Channel.DP_8, 0, 0),
        ("analytic inversion, 3 of 4 clients collude", "heart", Channel.SUM, 1, 1),
        ("analytic inversion, 1 of 4 clients colludes", "digits", Channel.HE, 0.2, 1),
        ("analytic inversion by the next institution", "digits", Channel.PLAIN, 1, 1),
        ("exact batch inversion (SPEAR)", "digits", Channel.SUM, 1, 1),
        ("deep leakage from gradients", "digits", Channel.PLAIN, 40, 100),
        ("labels of a batch", "digits", Channel.SUM, 0.9, 1),
        ("imprint", "heart", Channel.MODEL, 0.9, 1),
        ("imprint", "digits", Channel.DP_8, 0, 0),
        ("fishing for the one record of a class", "heart", Channel.MODEL, 1, 1),
        ("kernels of one's own for every client", "digits", Channel.LIE, 0, 0),
        ("kernels of one's own for every client", "digits", Channel.UNBOUND_LIE, 0.9, 1),
        ("two sums that differ by one client", "digits", Channel.SUM, 1, 1),
        ("two sums that differ by one client", "digits", Channel.DP_8, 0, 0),
        ("sparse coordinates", "digits", Channel.SUM, 0.3, 1),
    ],
)
def test_an_attack_brings_through_a_channel_what_theory_says(
    name: str, data: str, channel: Channel, least: float, most: float
) -> None:
    attack = next(each for each in ATTACKS if each.name == name and data in each.data)
    answer = attack.through.get(channel)
    through = answer.channel if isinstance(answer, SameAs) else channel
    trial = Trial(data=data, folder=None, channel=through, defence=NO_DEFENCE, seed=0, quick=True)
    result = attack.run(trial)
    assert len(result.scores) == len(result.priors)
    assert least <= float(np.mean(result.scores)) <= most


def test_a_detector_stops_the_imprint_and_what_hides_from_it_brings_less() -> None:
    attack = next(each for each in ATTACKS if each.name == "imprint" and "digits" in each.data)
    from attacks.defences import DEFENCES

    detectors = next(defence for defence in DEFENCES if defence.detectors)
    trial = Trial(data="digits", folder=None, channel=Channel.MODEL, defence=detectors, seed=0, quick=True)
    assert float(np.mean(attack.run(trial).scores)) < 0.3
