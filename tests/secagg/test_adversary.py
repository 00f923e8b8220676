"""Every scripted liar is blamed or gains nothing, and the harness would notice if it were otherwise."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from secagg.adversary import LIARS, Expectation, Liar, Outcome, Reaction, run_liar, runs, shortfalls
from secagg.adversary.opening import MASK_KEY, SEED, holders_of_both, opened_sums, rebuilt_secrets
from secagg.adversary.stage import CLIENTS, PLAN, STEPS, Exchange, Puppet, Stage
from secagg.errors import FaultyClientError
from secagg.masking.messages import UnmaskShares
from secagg.wire import encode

KEYS = [f"{liar.who}: {liar.name}" for liar in LIARS]
OPENED = {"server": "ABCDE", "client": "ABCE"}  # the lying client's own vector is known to itself


def liar_named(name: str, who: str = "server") -> Liar:
    return next(liar for liar in LIARS if (liar.name, liar.who) == (name, who))


def stage_of(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Stage]:
    """Run a liar and keep the stage it was run on."""
    stages: list[Stage] = []

    def spy(stage: Stage) -> tuple[str, ...]:
        stages.append(stage)
        return opened_sums(stage)

    monkeypatch.setattr(runs, "opened_sums", spy)
    outcome = run_liar(liar)
    return outcome, stages[0]


@pytest.mark.parametrize("liar", LIARS, ids=KEYS)
def test_a_lie_is_blamed_on_the_right_party_or_changes_nothing(liar: Liar) -> None:
    assert shortfalls(liar, run_liar(liar)) == []


@pytest.mark.parametrize("liar", LIARS, ids=KEYS)
def test_a_lie_opens_at_most_the_one_sum_that_the_round_is_for(liar: Liar) -> None:
    outcome = run_liar(liar)
    assert len(outcome.opened) <= 1
    for members in outcome.opened:
        others = 1 if liar.ally or liar.who == "client" else 0
        assert len(members) >= PLAN.threshold - others
    assert outcome.both == outcome.two_kinds == outcome.changed == ""


def test_whoever_is_lied_to_before_the_shares_are_sent_sends_none() -> None:
    silent = [liar for liar in LIARS if liar.who == "server" and not liar.expects.opens and liar.expects.error]
    assert len(silent) >= 18
    for liar in silent:
        outcome = run_liar(liar)
        assert not set(outcome.revealed) & set(liar.expects.by), liar.name


def test_the_lies_that_were_asked_for_are_there() -> None:
    assert len(LIARS) >= 18
    assert len(set(KEYS)) == len(KEYS)
    for part in (
        "split survivor sets",
        "both shares",
        "key substitution",
        "replayed round",
        "cohort of one",
        "swapped recipients",
        "forged signatures",
        "wrong length",
        "out of range",
        "duplicate identities",
        "equivocating roster",
        "lowered threshold",
        "changed modulus",
        "different models",
        "truncated shares",
        "garbage shares",
        "inconsistent dealer",
        "dropped, then returned",
        "server-chosen graph",
    ):
        assert any(part in name for name in KEYS), part
    assert {step for liar in LIARS for step in liar.server_lies} == {"setup", *STEPS, "afterwards"}
    assert {step for liar in LIARS for step in liar.client_lies} == set(STEPS)


@pytest.mark.parametrize("who", ["server", "client"])
def test_without_a_lie_exactly_the_sum_over_all_opens(who: Any) -> None:
    honest = Liar(name="none", who=who, tries="nothing", expects=Expectation(None, opens=OPENED[who]))
    outcome = run_liar(honest)
    assert outcome.reactions == ()
    assert outcome.opened == (OPENED[who],)
    assert outcome.total == ("exact" if who == "client" else "none")


@pytest.mark.parametrize("step", STEPS)
def test_a_silent_client_is_no_liar(step: str) -> None:
    quiet = Liar(name="none", who="client", tries="nothing", silent={"B": step}, expects=Expectation(None))
    outcome = run_liar(quiet)
    assert outcome.reactions == ()
    assert outcome.opened == ("ACE" if STEPS.index(step) <= STEPS.index("masked_input") else "ABCE",)
    assert outcome.total == "exact"


def test_a_round_of_too_few_ends_with_an_error_of_the_server_and_opens_nothing() -> None:
    silent = dict.fromkeys("BC", "masked_input")
    outcome = run_liar(Liar(name="none", who="client", tries="nothing", silent=silent, expects=Expectation(None)))
    assert [(each.party, each.error) for each in outcome.reactions] == [("server", "ThresholdError")]
    assert (outcome.total, outcome.opened) == ("none", ())


def test_what_an_ally_refuses_is_nobodys_reaction() -> None:
    outcome = run_liar(replace(liar_named("forged signatures"), ally=True))
    assert [each.party for each in outcome.reactions] == ["A", "B", "C", "D"]


def test_every_lie_is_computed_and_not_looked_up() -> None:
    # The same scripts under an expectation that is wrong in every respect: the outcomes do not move.
    for liar in LIARS:
        wrong = replace(liar, expects=Expectation(FaultyClientError, by="C", culprits=("B",), opens="AB"))
        outcome = run_liar(wrong)
        assert shortfalls(wrong, outcome)
        assert shortfalls(liar, outcome) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"both": "A"}, "both secrets of A"),
        ({"two_kinds": "B"}, "B revealed shares of both"),
        ({"changed": "C"}, "C answered one step in two ways"),
        ({"opened": ("A",)}, "the sums over"),
        ({"total": "wrong"}, "the server's sum: wrong"),
        ({"reactions": ()}, "raised"),
        ({"reactions": (Reaction("A", "FaultyServerError", ("B",), ""),)}, "raised"),
        ({"reactions": (Reaction("A", "ThresholdError", ("server",), ""),)}, "raised"),
    ],
)
def test_every_way_to_fall_short_is_reported(change: dict[str, Any], says: str) -> None:
    liar = liar_named("split survivor sets")
    outcome = run_liar(liar)
    assert [says in text for text in shortfalls(liar, replace(outcome, **change))] == [True]


def test_the_victim_that_dropped_and_returned_has_its_key_rebuilt_and_not_its_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome, stage = stage_of(liar_named("dropped, then returned"), monkeypatch)
    assert "A" in stage.answers["masked_input"]
    secrets = rebuilt_secrets(stage)
    assert set(secrets["A"]) == {MASK_KEY}
    assert all(set(secrets[client]) == {SEED} for client in "BCD")
    assert outcome.opened == ("BCD",)


def test_masks_of_a_victim_with_another_model_do_not_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    liar = liar_named("different models, kept apart")
    outcome, stage = stage_of(liar, monkeypatch)
    assert all(set(rebuilt_secrets(stage)[client]) == {SEED} for client in CLIENTS)
    assert outcome.opened == ()
    assert run_liar(replace(liar, models={})).opened == ("ABCDE",)


def test_an_ally_shares_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stage = stage_of(liar_named("dropped, then returned"), monkeypatch)
    assert stage.puppet == "E"
    assert set(stage.liar.shares) == {0, 1, 2, 3}
    stage.puppet = ""  # without the ally's knowledge its vector and its masks are those of a stranger
    assert opened_sums(stage) == ("BCDE",)


def broken_round(monkeypatch: pytest.MonkeyPatch, reveal: Callable[[int, tuple[bytes, ...]], bytes]) -> Stage:
    """An honest round, after which every client reveals one more share of each peer, of whichever secret is said."""
    stage = Stage()
    for client in CLIENTS:
        position = stage.at(client)
        puppet = Puppet(stage.setup, position, stage.vectors[client], stage.identities[client])
        monkeypatch.setitem(stage.clients, client, puppet)
    for step in STEPS:
        for client, frames in stage.requests(step).items():
            stage.deliver(step, client, frames[0])
    for client in CLIENTS:
        held = stage.clients[client]
        assert isinstance(held, Puppet)
        shares = b"".join(reveal(owner, entries) for owner, entries in sorted(held.shares.items()))
        answer = encode(UnmaskShares(stage.at(client), shares), stage.setup)
        stage.exchanges.append(Exchange("afterwards", client, b"", answer))
    return stage


def test_the_harness_finds_the_victim_if_both_its_secrets_are_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = broken_round(monkeypatch, lambda owner, entries: entries[1 if owner == 0 else 0])
    assert rebuilt_secrets(stage)["A"].keys() == {SEED, MASK_KEY}
    assert holders_of_both(stage) == "BCDE"
    assert opened_sums(stage) == ("A", "BCDE", "ABCDE")


def test_the_harness_finds_nothing_more_if_the_same_shares_are_revealed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = broken_round(monkeypatch, lambda _, entries: entries[0])
    assert holders_of_both(stage) == ""
    assert opened_sums(stage) == ("ABCDE",)


@pytest.mark.parametrize("name", ["key substitution", "forged signatures", "split survivor sets", "different models"])
def test_clients_that_verify_no_signature_do_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.masking.parties.verify_signature", lambda *_: None)
    monkeypatch.setattr("secagg.masking.reading.first_forgery", lambda *_: None)
    liar = liar_named(name)
    assert shortfalls(liar, run_liar(liar))


def test_a_server_that_checks_no_share_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    liar = liar_named("garbage shares", "client")
    monkeypatch.setattr("secagg.masking.unmasking.hashes_for", lambda *_: b"")
    assert shortfalls(liar, run_liar(liar))


def test_a_stage_without_a_puppet_has_no_liar() -> None:
    with pytest.raises(TypeError, match="no ally"):
        _ = Stage().liar


def test_no_two_sets_of_clients_have_the_same_sum() -> None:
    vectors = Stage().vectors
    sums = {
        np.sum([vectors[client] for client in members], axis=0).tobytes()
        for size in range(len(CLIENTS) + 1)
        for members in combinations(CLIENTS, size)
    }
    assert len(sums) == 2 ** len(CLIENTS)
