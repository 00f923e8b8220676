"""`secagg` and `secagg sum` on the command line."""

import json
import sys
from importlib.metadata import EntryPoint
from typing import get_args

import pytest
from typer.testing import CliRunner

from secagg import cli
from secagg.params import Masking
from secagg.server_view import server_sees

runner = CliRunner()


def run(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(cli.build_app(), arguments, env={"COLUMNS": "120", "TERM": "dumb", "NO_COLOR": "1"})
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_registered_command() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in ("sum", "plan", "keys", "roster", "dp", "train", "leakage"):
        assert f" {name} " in out


def test_sum_prints_every_round_and_that_the_sum_is_exact() -> None:
    code, out, err = run("sum", "-n", "9", "-d", "50", "--drop", "1@masked_input", "--drop", "1@unmask")
    assert code == 0, err
    for step in ("advertise_keys", "share_keys", "masked_input", "unmask"):
        assert step in out
    assert "sum over 8 survivors: exact" in out
    assert "× plain float32" in out


def test_sum_as_json_counts_the_bytes_of_every_round() -> None:
    code, out, _ = run("sum", "-n", "100", "-d", "1000", "--json", "--drop", "10@masked_input")
    assert code == 0
    cost = json.loads(out)
    assert cost["exact"] is True
    assert cost["survivors"] == 90
    assert [step["clients"] for step in cost["steps"]] == [100, 100, 90, 90]
    masked = cost["steps"][2]
    assert (
        -(-1001 * cost["plan"]["modulus_bits"] // 8)
        <= masked["bytes_up"]
        <= 1001 * cost["plan"]["modulus_bits"] / 8 + 40
    )


@pytest.mark.parametrize("masking", ["lattice", "threshold", "ckks"])
def test_every_masking_sums_exactly_and_says_if_a_key_was_made_before(masking: str) -> None:
    code, out, err = run("sum", "-n", "6", "-d", "40", "--masking", masking, "--corrupted", "0")
    assert code == 0, err
    assert "sum over 6 survivors: exact" in out
    assert ("the key was made before" in out) == (masking != "lattice")


@pytest.mark.parametrize("masking", get_args(Masking))
def test_whoever_chooses_a_masking_is_told_what_the_server_sees(masking: Masking) -> None:
    code, out, err = run("sum", "-n", "4", "-d", "10", "--masking", masking, "--corrupted", "0")
    assert code == 0, err
    assert f"the server sees {server_sees(masking)}\n" in out
    assert ("any client that gives it the key" in out) == (masking == "ckks")
    assert ("every vector, in clear" in out) == (masking == "plain")
    _, out, _ = run("sum", "--help")
    assert f" {masking}: " in " ".join(out.replace("│", " ").split())
    assert "every vector if any one client gives it the key" in " ".join(out.replace("│", " ").split())


def test_ckks_is_not_summed_before_somebody_says_that_nobody_is_corrupted() -> None:
    code, _, err = run("sum", "-n", "6", "-d", "40", "--masking", "ckks")
    assert code == 2
    assert "any of them, together with the server" in err


def test_the_plain_baseline_has_one_round() -> None:
    code, out, _ = run("sum", "-n", "3", "-d", "10", "--masking", "plain", "--json")
    assert code == 0
    assert [step["step"] for step in json.loads(out)["steps"]] == ["upload"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--drop", "2@lunch"], "--drop 2@lunch: expected COUNT@ROUND"),
        (["--drop", "x@unmask"], "expected COUNT@ROUND"),
        (["-n", "4", "--drop", "9@unmask"], "more dropouts than the 4 clients"),
        (["--bits", "99"], "bits must be an integer in 2..32"),
        (["--dropout", "2"], "dropout is a share of the clients"),
        (["-n", "4", "--graph", "sparse"], "no sparse graph"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    code, _, err = run("sum", "-d", "10", "-n", "5", *arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_too_many_dropouts_say_how_many_were_needed_and_left() -> None:
    code, _, err = run("sum", "-n", "5", "-d", "10", "--drop", "2@masked_input")
    assert code == 1
    assert "4 needed, 3 left" in err


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda **_: [EntryPoint("x", "tests.secagg.rig:Rig", cli.GROUP)])
    monkeypatch.setitem(sys.modules, "tests.secagg.rig", None)
    with pytest.raises(ModuleNotFoundError):  # a library that no extra brings is not explained away
        cli.main()
    monkeypatch.setattr(cli, "entry_points", lambda **_: [EntryPoint("x", "torch:nn", cli.GROUP)])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match=r"pip install 'secagg\[train\]'"):
        cli.main()


def test_without_typer_the_console_script_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "secagg.cli")
    with pytest.raises(SystemExit, match=r"pip install 'secagg\[cli\]'"):
        __import__("secagg.cli")


def test_a_malicious_server_costs_one_round_more() -> None:
    arguments = ["sum", "-n", "6", "-d", "50", "--server", "malicious", "--drop", "1@consistency_check", "--json"]
    code, out, _ = run(*arguments)
    assert code == 0
    document = json.loads(out)
    clients = {step["step"]: step["clients"] for step in document["steps"]}
    assert clients == {"advertise_keys": 6, "share_keys": 6, "masked_input": 6, "consistency_check": 5, "unmask": 5}
    assert document["exact"] is True
    assert document["survivors"] == 6
    assert document["plan"]["server"] == "malicious"
