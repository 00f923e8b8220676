"""The `secagg` command as a site runs it, in the folder that it is in."""

from pathlib import Path

from typer.testing import CliRunner

from secagg.cli import build_app
from secagg.commands.threshold import threshold

APP = build_app()
APP.add_typer(threshold, name="threshold")  # also where the installed distribution is older than this command


def run(command: str, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        APP, [*command.split(), *arguments]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def done(command: str, *arguments: str) -> str:
    code, out, err = run(command, *arguments)
    assert (code, err) == (0, "")
    return out


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(command: str, *arguments: str, code: int) -> str:
    """Run what has to fail: one line, and nothing written that was not there."""
    before = files()
    found, out, err = run(command, *arguments)
    assert (found, out) == (code, "")
    assert err.count("\n") == 1
    assert files() == before
    assert not list(Path().glob(".*"))
    name = " ".join(command.split()[:2])
    assert err.startswith(f"secagg {name}: ")
    return err.removeprefix(f"secagg {name}: ").rstrip("\n")
