import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

import dp
from dp import budget_store
from dp.budget import Budget, BudgetFileError
from dp.events import DiscreteGaussian, Event

STUDY = dp.Composed([(dp.PoissonSampled(0.05, dp.Gaussian(4.0)), 100)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heart.budget"


def make(path: Path, epsilon: float = 1.0) -> Budget:
    relation: dp.NeighboringRelation = "add-or-remove-one"
    return Budget.create(path, epsilon=epsilon, delta=1e-5, unit="patient", neighboring_relation=relation)


def states(path: Path) -> list[str]:
    return [entry.state for entry in Budget.open(path).entries()]


def test_commits_wait_for_the_disk(path: Path) -> None:
    make(path)
    with budget_store.BudgetStore(path)._connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
        assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_waiting_for_a_lock_ends_with_an_error_and_nothing_reserved(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = make(path)
    reservation = budget.reserve(STUDY, purpose="mine")
    monkeypatch.setattr(budget_store, "_WAIT_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BudgetFileError, match="database is locked"):
        budget.reserve(STUDY, purpose="too late")
    with pytest.raises(BudgetFileError, match="database is locked"):
        reservation.spend()
    holder.close()
    assert states(path) == ["reserved"]
    reservation.spend()


def test_a_new_budget_is_a_file_of_its_owner_and_never_replaces_anything(path: Path) -> None:
    make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        make(path, 50.0)
    assert path.read_bytes() == before
    assert Budget.open(path).epsilon == 1.0


def test_a_budget_that_cannot_be_written_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_store, "_SCHEMA", "BEGIN; CREATE TABLE half (done TEXT); CREATE TABLE half (done TEXT)")
    with pytest.raises(BudgetFileError, match="already exists"):
        make(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("epsilon", "delta", "unit", "relation", "complaint"),
    [
        (0.0, 1e-5, "patient", "add-or-remove-one", "the ε of a budget is in"),
        (101.0, 1e-5, "patient", "add-or-remove-one", "the ε of a budget is in"),
        (float("nan"), 1e-5, "patient", "add-or-remove-one", "the ε of a budget is in"),
        (1.0, 0.0, "patient", "add-or-remove-one", "delta is in"),
        (1.0, 1.0, "patient", "add-or-remove-one", "delta is in"),
        (1.0, 1e-5, "patients", "add-or-remove-one", "unit is one of"),
        (1.0, 1e-5, "patient", "swap", "neighboring_relation is one of"),
    ],
)
def test_terms_out_of_range_make_no_file(
    path: Path, epsilon: float, delta: float, unit: Any, relation: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Budget.create(path, epsilon=epsilon, delta=delta, unit=unit, neighboring_relation=relation)
    assert not path.exists()


def test_a_missing_file_and_a_folder_are_no_budgets(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Budget.open(path)
    assert not path.exists()
    with pytest.raises(BudgetFileError, match="unable to open"):
        Budget.open(tmp_path)


def edit(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("content", [b"", b"epsilon = 1\n", b"SQLite format 3\x00" + bytes(100)])
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BudgetFileError, match="not a"):
        Budget.open(path)


def test_foreign_databases_and_other_versions_are_refused(path: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    edit(foreign, "CREATE TABLE budget (terms TEXT, digest TEXT)")
    with pytest.raises(BudgetFileError, match="not a privacy budget"):
        Budget.open(foreign)
    edit(foreign, f"PRAGMA application_id = {int.from_bytes(b'dpBu')}")
    edit(foreign, "PRAGMA user_version = 1")
    with pytest.raises(BudgetFileError, match="terms are not what was written"):
        Budget.open(foreign)
    make(path)
    edit(path, "PRAGMA user_version = 2")
    with pytest.raises(BudgetFileError, match="its schema is 2, this library knows 1"):
        Budget.open(path)


def test_damage_is_found_or_harmless_wherever_it_is(path: Path) -> None:
    budget = make(path)
    for purpose in ("first", "second", "third"):
        budget.reserve(STUDY, purpose=purpose).spend()
    sound, entries = path.read_bytes(), budget.entries()
    written = [k for k, value in enumerate(sound) if value]
    damaged = [sound[:size] for size in (0, 1, 99, 4096, len(sound) - 4096, len(sound) - 1)]
    damaged += [sound[:page] + bytes(4096) + sound[page + 4096 :] for page in range(0, len(sound), 4096)]
    damaged += [sound[:k] + bytes([sound[k] ^ 1 << k % 8]) + sound[k + 1 :] for k in written[::11]]
    found = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            opened = Budget.open(path)
            assert (opened.epsilon, opened.delta, opened.unit) == (1.0, 1e-5, "patient")
            assert opened.entries() == entries
        except BudgetFileError:
            found += 1
    assert len(damaged) > 100
    assert found > 0.75 * len(damaged)


@pytest.mark.parametrize(
    ("table", "column", "old", "new"),
    [
        ("budget", "terms", '"patient"', '"patients"'),
        ("budget", "terms", "1.0", '"1.0"'),
        ("budget", "terms", "{", "[{"),
        ("reservation", "event", "Gaussian", "Telepathy"),
        ("reservation", "event", "4.0", "4.00"),
    ],
)
def test_a_file_written_by_something_else_is_refused_not_guessed(
    path: Path, table: str, column: str, old: str, new: str
) -> None:
    budget = make(path)
    budget.reserve(STUDY, purpose="study")
    with sqlite3.connect(path) as connection:
        row = list(connection.execute(f"SELECT * FROM {table}").fetchone())  # noqa: S608
        index = 1
        row[index] = row[index].replace(old, new)
        digest = budget_store._digest(*row[1 if table == "budget" else 0 : -1])
        connection.execute(f"UPDATE {table} SET {column} = ?, digest = ?", [row[index], digest])  # noqa: S608
    with pytest.raises(BudgetFileError, match=r"damaged terms|cannot be read"):
        Budget.open(path).reserve(dp.Gaussian(1e3), purpose="another")


def test_an_event_that_this_version_cannot_write_is_not_reserved(path: Path) -> None:
    class Unheard(Event):
        __slots__ = ()

    with pytest.raises(TypeError, match="events of type Unheard have no text"):
        make(path).reserve(Unheard(), purpose="unheard of")


def test_paths_with_every_character_and_changes_of_folder_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    budget = make(Path("a ?b#c%20.budget"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    budget.reserve(DiscreteGaussian(1e4), purpose="from elsewhere")
    assert states(tmp_path / "a ?b#c%20.budget") == ["reserved"]
