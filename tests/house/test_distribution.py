"""What is shipped: the wheel's contents, its metadata, and the public names."""

import importlib
import json
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["secagg", "dp", "protocols", "attacks"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_tracked_source_and_data_file(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.run(  # noqa: S603
        ["git", "ls-files", *PACKAGES],  # noqa: S607 -- whichever git made the checkout
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert set(tracked) <= shipped
    assert all(f"{package}/py.typed" in shipped for package in PACKAGES)
    assert not [name for name in shipped if "__pycache__" in name or name.endswith((".pyc", ".nbi", ".nbc"))]


def test_the_metadata_names_commands_extras_and_licence(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith("/METADATA")).rsplit("/", 1)[0]
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra") or []) == {
        "cli",
        "he",
        "train",
        "report",
        "flower",
        "nvflare",
        "node",
        "testing",
        "all",
        "dev",
        "peers",
    }
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "[secagg.commands]" in entry_points
    assert "secagg = secagg.cli:main" in entry_points
    base = {
        line.split(";")[0].split(">")[0] for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line
    }
    assert base == {"numpy", "numba", "scipy", "cryptography", "msgspec"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_names_are_those_of_the_snapshot(package: str) -> None:
    # A change here is a change of the API: edit tests/house/public_api.json and say so in CHANGELOG.md.
    snapshot = json.loads((Path(__file__).parent / "public_api.json").read_text())
    module = importlib.import_module(package)
    assert sorted(module.__all__) == list(module.__all__) == snapshot[package]
    assert all(hasattr(module, name) for name in module.__all__)


def test_every_constraint_is_an_exact_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 50
    assert all(line.count("==") == 1 and not set(" @/+;") & set(line) for line in lines)
    assert "torch==2.13.0" in lines
