"""Who may import whom, what loads when, and which library lives in which file."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAIN = ["secagg", "dp", "protocols", "attacks"]  # each may import those before it
ONLY_IN = {
    "numba": {"secagg/primitives/jit.py"},
    "tenseal": {"secagg/homomorphic/ckks.py"},
    "opacus": {"dp/opacus_bridge.py"},
    "flwr": {"protocols/engines/flower.py"},
    "nvflare": {"protocols/engines/nvflare.py"},
    "pickle": set(),
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules a file imports, by dotted name; with `top_level`, only those that importing the file loads."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                found.add(node.module or "")
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                if not top_level:
                    visit(node.body)
            elif not (top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
                visit([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])

    visit(tree.body)
    return found


@pytest.mark.parametrize("package", CHAIN)
def test_packages_import_downwards_only(package: str) -> None:
    allowed = set(CHAIN[: CHAIN.index(package) + 1])
    files = sources(package)
    assert files
    for path in files:
        ours = {name.split(".")[0] for name in imports(path)} & {*CHAIN, "benchmarks", "tests", "examples"}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {ours - allowed}"


def test_dp_uses_only_primitives_encoding_and_errors_of_secagg() -> None:
    for path in sources("dp"):
        used = {name for name in imports(path) if name.split(".")[0] == "secagg"}
        assert all(
            name.startswith(
                (
                    "secagg.primitives",
                    "secagg.encoding",
                    "secagg.errors",
                    "secagg.cli",
                    "secagg.identity",
                    "secagg.signatures",
                )
            )
            or name in {"secagg", "secagg.rounds"}  # labels, and types of sums
            for name in used
        ), path


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_in_their_files(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in CHAIN
        for path in sources(package)
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users <= ONLY_IN[library]


def test_compiled_kernels_live_in_files_called_kernels_and_load_late() -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in CHAIN
        for path in sources(package)
        if "secagg.primitives.jit" in imports(path)
    }
    assert users == {
        "secagg/primitives/curve25519/edwards/kernels.py",
        "secagg/primitives/curve25519/kernels.py",
        "secagg/primitives/kernels.py",
        "secagg/primitives/ring/kernels.py",
        "secagg/primitives/ring/crt/kernels.py",
        "secagg/primitives/sampling/kernels.py",
        "secagg/encoding/kernels.py",
        "secagg/lattice/kernels.py",
        "secagg/homomorphic/kernels.py",
        "dp/kernels.py",
    }
    for package in CHAIN:
        for path in sources(package):
            late = {name for name in imports(path, top_level=True) if name.endswith((".kernels", ".jit"))}
            assert not late or path.name == "kernels.py", f"{path.relative_to(ROOT)} loads {late} when imported"


@pytest.mark.parametrize("package", CHAIN)
def test_command_lines_import_only_typer_at_top_level(package: str) -> None:
    loaded = {name.split(".")[0] for name in imports(ROOT / package / "cli.py", top_level=True)}
    assert loaded - set(sys.stdlib_module_names) <= {"typer"}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    return set(run.stdout.split())


HEAVY = {"torch", "tenseal", "opacus", "numba", "pandas", "scipy.stats", "sklearn", "matplotlib", "jinja2"}


@pytest.mark.parametrize("package", CHAIN)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert not loaded_by(f"import {package}") & HEAVY


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by(
        "import sys; sys.argv = ['secagg', '--help']\nfrom secagg.cli import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_a_long_vector_can_be_masked_without_numba_being_imported_first() -> None:
    # the other way round: using a kernel does load numba, so the two tests above can fail
    statement = (
        "import numpy as np, secagg\nsecagg.Encoding(dimension=2, clip=1.0, bits=8, clients=2).encode(np.zeros(2))"
    )
    assert "numba" in loaded_by(statement)


def test_kernels_work_where_no_cache_can_be_written(tmp_path: Path) -> None:
    # As with a read-only installation and home: the only cache folder offered lies below a file, so it cannot exist.
    (tmp_path / "file").write_text("")
    code = (
        "import numba\n"
        "try: numba.njit(cache=True)(lambda x: x)\n"
        "except RuntimeError: print('no cache')\n"
        "import numpy as np, secagg\n"
        "codec = secagg.Encoding(dimension=3, clip=1.0, bits=9, clients=2)\n"
        "print(codec.decode(codec.encode(np.array([1.0, 0.0, -1.0])).vector))"
    )
    environment = os.environ | {
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator",
        "XDG_CACHE_HOME": str(tmp_path / "file" / "cache"),
        "HOME": str(tmp_path / "file"),
    }
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert run.stdout.splitlines() == ["no cache", "[ 1.  0. -1.]"]


def test_modules_do_not_share_a_name_with_what_their_package_exports() -> None:
    for package in CHAIN:
        for init in (ROOT / package).rglob("__init__.py"):
            tree = ast.parse(init.read_text())
            exported = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            siblings = {path.stem for path in init.parent.glob("*.py")} | {
                p.name for p in init.parent.iterdir() if p.is_dir()
            }
            assert not exported & siblings, init


def test_files_hold_one_idea_each() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for package in CHAIN
        for path in sources(package)
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert not long
