"""The shipped vectors: the library still says what they say, says nothing else, and a client made from them agrees."""

import json
from collections import Counter
from typing import Any

import pytest

from secagg import SecAggError, errors
from secagg.testing import make_vectors, replay
from secagg.testing.replay import Json, load, verdict
from secagg.transitions import steps_of
from tests.secagg.independent_client import IndependentClient, digests, neighbours_of, shamir

VECTORS = load()


@pytest.mark.parametrize("name", VECTORS)
def test_the_library_does_what_the_vector_says(name: str) -> None:
    vector = VECTORS[name]
    wanted = {key: vector[key] for key in ("expected", "error") if key in vector}
    assert len(wanted) == 1
    assert verdict(vector["kind"], vector["input"]) == wanted
    assert ("_bad_" in name) == ("error" in wanted)


def test_make_vectors_makes_the_very_files_that_ship() -> None:
    on_disk = {path.name: path.read_bytes() for path in make_vectors.FOLDER.iterdir()}
    assert {name: content.encode() for name, content in make_vectors.made().items()} == on_disk


def test_every_step_of_both_server_models_has_good_and_bad_vectors() -> None:
    for mode, model in (("complete", "semi-honest"), ("malicious", "malicious")):
        for step in steps_of("masking", "malicious" if model == "malicious" else "semi-honest"):
            assert f"client_{step}_{mode}" in VECTORS
            assert f"server_{step}_{mode}" in VECTORS
            for side in ("client", "server"):
                assert [name for name in VECTORS if name.startswith(f"{side}_{step}_bad_") and name.endswith(mode)]
    assert {f"client_{step}_sparse" for step in steps_of("masking")} <= VECTORS.keys()


def test_expected_errors_are_of_the_tree_and_of_many_kinds() -> None:
    found = Counter(vector["error"] for vector in VECTORS.values() if "error" in vector)
    assert all(issubclass(getattr(errors, name), SecAggError) for name in found)
    assert found.keys() >= {
        "DecodeError",
        "VersionError",
        "PlanError",
        "ThresholdError",
        "FaultyServerError",
        "FaultyClientError",
        "SuspectedPeerError",
    }


def test_the_vectors_stay_small() -> None:
    assert sum(path.stat().st_size for path in make_vectors.FOLDER.iterdir()) < 500_000


def test_a_changed_answer_or_an_error_that_no_longer_comes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = VECTORS["client_share_keys_complete"]
    assert verdict("client", vector["input"] | {"random": "00" * 32}) != {"expected": vector["expected"]}
    monkeypatch.setattr(make_vectors, "verdict", lambda *_: {"expected": {}})
    with pytest.raises(ValueError, match=r"_bad_.*got none"):
        make_vectors.made()


def test_writing_removes_what_is_no_longer_made(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_vectors, "FOLDER", tmp_path / "v1")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "old.json").write_text("{}")
    assert make_vectors.main() == 0
    assert "vectors" in capsys.readouterr().out
    assert {path.stem for path in (tmp_path / "v1").iterdir()} == VECTORS.keys()


CLIENTS = [name for name, vector in VECTORS.items() if vector["kind"] == "client" and "error" not in vector]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_written_from_the_readme_alone_gives_the_same_answers(name: str) -> None:
    given: Json = VECTORS[name]["input"]
    identity = bytes.fromhex(given["identity_private"])
    extras = [bytes.fromhex(extra) for extra in given.get("extras", [])]
    client = IndependentClient(given["setup"], given["client"], given["vector"], identity, extras)
    for each in (*given["history"], given):
        parts = (bytes.fromhex(each.get(name, "")) for name in ("request", "random", "sent"))
        answer = client.receive(*parts)
    assert answer.hex() == VECTORS[name]["expected"]["answer"]


def test_setups_graphs_and_shares_follow_from_the_readme_too() -> None:
    for name, vector in VECTORS.items():
        if vector["kind"] == "setup" and "_bad_" not in name:
            setup, expected = vector["input"]["setup"], vector["expected"]
            names = ("parameters_digest", "roster_digest", "digest")
            assert [digest.hex() for digest in digests(setup)] == [expected[name] for name in names]
            positions = range(setup["plan"]["clients"])
            assert [neighbours_of(setup, position) for position in positions] == expected["neighbours"]
    given = VECTORS["shamir_split"]["input"]
    secrets = [bytes.fromhex(secret) for secret in given["secrets"]]
    shares = shamir(secrets, given["points"], given["threshold"], bytes.fromhex(given["random"]))
    assert [[share.hex() for share in row] for row in shares] == VECTORS["shamir_split"]["expected"]["shares"]


def test_references_between_vectors_are_followed() -> None:
    path = make_vectors.FOLDER / "client_share_keys_bad_cut_complete.json"
    raw = json.loads(path.read_text())["input"]
    whole = VECTORS[path.stem]["input"]
    assert raw.keys() == {"like", "request"}
    assert whole["request"] == raw["request"]
    assert whole["setup"] == VECTORS["setup_complete"]["input"]["setup"]
    assert replay.complete(raw, {raw["like"]: {"request": "00", "client": 1}}) == {
        "request": raw["request"],
        "client": 1,
    }
