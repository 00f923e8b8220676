"""`secagg adversary`: the table, JSON, and the exit code that says a lie succeeded."""

import ast
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import attacks
import secagg.adversary
from secagg.adversary import LIARS
from secagg.cli import build_app

runner = CliRunner()


def command(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(build_app(), ["adversary", *arguments], env={"COLUMNS": "250", "NO_COLOR": "1"})
    return result.exit_code, result.stdout, result.stderr


def test_the_table_has_every_liar_and_what_came_of_it() -> None:
    code, out, err = command()
    assert (code, err) == (0, "")
    for liar in LIARS:
        assert liar.name in out
    lines = out.splitlines()
    for name, texts in {
        "key substitution": ("FaultyServerError", "server", "recovered: key substitution"),
        "framed dealer": ("SuspectedPeerError", "suspects B"),
        "copied keys": ("SuspectedPeerError", "sum exact", "suspects A, D"),
        "repeated invitation": ("changes nothing", "ABCDE"),
        "a survivor that sent nothing": ("no error, no sum opens",),
        "inconsistent dealer, self mask": ("FaultyClientError", "no sum"),
    }.items():
        row = next(line for line in lines if name in line)
        assert all(text in row for text in texts), row
    assert "not recovered" not in out
    assert "BROKEN" not in out


@pytest.mark.parametrize("who", ["server", "client"])
def test_json_holds_the_lies_of_those_asked_for(who: str) -> None:
    code, out, _ = command("--json", "--who", who)
    assert code == 0
    rows = json.loads(out)["liars"]
    assert [row["name"] for row in rows] == [liar.name for liar in LIARS if liar.who == who]
    for row in rows:
        assert row["shortfalls"] == []
        assert row["outcome"]["both"] == ""
        assert row["naive"] is None or row["naive"]["recovered"] is True
    assert any(row["naive"] for row in rows) == (who == "server")


def test_a_lie_that_succeeds_is_named_and_the_exit_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(liar: secagg.adversary.Liar, _: object) -> list[str]:
        return ["both secrets of A can be rebuilt"] if liar.name == "split survivor sets" else []

    monkeypatch.setattr(secagg.adversary, "shortfalls", found)
    code, out, err = command("--who", "server")
    assert code == 1
    assert "BROKEN" in out
    assert err.strip() == "secagg adversary: more than it should be, or blamed wrongly: split survivor sets"


def test_an_unknown_party_is_refused() -> None:
    code, _, err = command("--who", "nobody")
    assert code == 2
    assert "nobody" in err


def test_help_explains_the_columns() -> None:
    code, out, _ = command("--help")
    assert code == 0
    for text in ("A is the victim", "suspects B", "secagg adversary --who server", "Exits with 1"):
        assert text in out


def test_the_command_imports_only_typer_at_top_level() -> None:
    tree = ast.parse((Path(attacks.__file__).parent / "adversary_cli.py").read_text())
    loaded = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    loaded |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert loaded == {"__future__", "enum", "typing", "typer"}
