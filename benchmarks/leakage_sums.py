"""What sums give away: malicious models, honest models on sums, the transcript, and what defences and detectors change.

Data are scikit-learn's digits in all parts: 512 private images where nothing else is said, the other 1,285 public.
An image counts as recovered above 40 dB. The peer of the imprint's bins are those of the common inversion suite's
module: the mean pixel as the projection, thresholds at the quantiles of a fitted normal distribution. On digits, whose
mean pixels take few values, most images share theirs with another; so its thresholds also run on our projection.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from scipy.special import ndtri

from attacks.analytic import invert_first_layer
from attacks.datasets import digits
from attacks.defences import DEFENCES, seen
from attacks.malicious.client import flat, gradient, local_training, moved, parts
from attacks.malicious.detectors import DETECTORS, alarms
from attacks.malicious.evasion import disguised, hidden_among_honest, isotropic, trapped, traps, unseen
from attacks.malicious.fishing import caught, fish_class, fish_feature
from attacks.malicious.imprint import imprint, recover, sorting_model
from attacks.malicious.inconsistent import suppressed
from attacks.malicious.loki import client_models, open_clients
from attacks.malicious.score import recovered_share
from attacks.metrics import match_images, psnr
from attacks.models import make_mlp
from attacks.sums.rounds import alignment, disaggregate
from attacks.sums.secure import secure_sum
from attacks.sums.sparse import read_alone
from attacks.sums.sratta import SummedRound, group_samples, on_grid, recover_samples
from attacks.sums.transcript import play, transcript_gain
from benchmarks.harness import Report, Target, main, progress, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Chosen: TypeAlias = NDArray[np.int64]
    Attack: TypeAlias = tuple[torch.nn.Sequential, Callable[[Floats], Floats]]

DIGITS = digits()
X, Y = DIGITS.x.reshape(len(DIGITS.x), -1).astype(np.float64), DIGITS.y
PRIVATE, CLIENTS, BINS, DRAWS = 512, 8, 1024, 20
BATCH = PRIVATE // CLIENTS
CLIP, SINGLE_CLIP = 1.0, 4.0
"""Bound on a coordinate of a mean over 64 images, and of one image's gradient."""
TRANSCRIPT_ROUNDS = 2000


def run(report: Report) -> None:
    """Measure everything, on one thread."""
    torch.set_num_threads(1)
    imprint_on_sums(report)
    sum_leak(report)
    detectors(report)
    defences(report)
    other_models(report)
    grouping(report)
    over_rounds(report)
    sparse_coordinates(report)
    transcript(report)


def draw(seed: int, private: int = PRIVATE) -> tuple[Chosen, Floats, np.random.Generator]:
    """Choose private images by position, and take all others as public."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    return order[:private], X[order[private:]], rng


def mlp(seed: int, units: int = BINS) -> torch.nn.Sequential:
    """Make a fresh honest model for flat images."""
    _, *layers = make_mlp(X.shape[1], [units], 10, generator=torch.Generator().manual_seed(seed))
    return torch.nn.Sequential(*layers)


def gradients(model: torch.nn.Module, chosen: Chosen, clients: int = CLIENTS) -> dict[str, Floats]:
    """Let every client compute its gradient."""
    return {str(client): gradient(model, X[each], Y[each]) for client, each in enumerate(np.split(chosen, clients))}


def total_of(updates: dict[str, Floats]) -> Floats:
    """Sum in floating point."""
    total: Floats = np.sum(list(updates.values()), axis=0)
    return total


def imprint_on_sums(report: Report) -> None:
    """512 images of 8 clients x 64: the share recovered from the sum."""
    shares: dict[str, list[float]] = {}
    for seed in range(DRAWS):
        progress(f"imprint, draw {seed + 1} of {DRAWS}")
        private, public, rng = draw(seed)
        score = partial(recovered_share, X[private])
        single = imprint(public, bins=BINS, classes=10, rng=rng)
        updates = gradients(single.model, private)
        require(max(float(np.abs(update).max()) for update in updates.values()) < CLIP)
        found = {
            "float": recover(single, total_of(updates), batch=BATCH),
            "codec": recover(single, secure_sum(updates, clip=CLIP, bits=32), batch=BATCH),
            "codec, 16 bits": recover(single, secure_sum(updates, clip=CLIP, bits=16), batch=BATCH),
        }
        peeled = imprint(public, bins=BINS, classes=10, projections=3, rng=rng)
        found["peeling, codec"] = recover(
            peeled, secure_sum(gradients(peeled.model, private), clip=CLIP, bits=32), batch=BATCH
        )
        mean = np.full((1, X.shape[1]), X.shape[1] ** -0.5)
        for name, direction in (("peer's bins, float", mean), ("peer's thresholds, our projection", single.directions)):
            projected = public @ direction[0]
            edges = projected.mean() + projected.std() * ndtri(np.clip(np.arange(BINS) / BINS, 1e-9, 1))
            peer = sorting_model(direction, edges[None], public, classes=10)
            found[name] = recover(peer, total_of(gradients(peer.model, private)), batch=BATCH)
        found["prior: public images"] = public
        for name, guesses in found.items():
            shares.setdefault(name, []).append(score(guesses))
    for name, values in shares.items():
        report.row(measured="imprint", what=name, recovered=float(np.mean(values)), deviation=float(np.std(values)))
    report.row(measured="imprint", what="ceiling of one projection", recovered=(1 - 1 / BINS) ** (PRIVATE - 1))
    report.figure("imprint.sum_recovered", float(np.mean(shares["float"])), Target(0.55))
    report.figure("imprint.sum_recovered_codec", float(np.mean(shares["codec"])), Target(0.55))
    report.figure("imprint.sum_recovered_peeling", float(np.mean(shares["peeling, codec"])), Target(None))
    report.figure("imprint.sum_recovered_peer", float(np.mean(shares["peer's bins, float"])), Target(None))


def sum_leak(report: Report) -> None:
    """Sums of 4 clients against total batch: honest model, imprint, imprint with peeling, and no update at all."""
    draws = 5
    for images in (4, 8, 16, 32, 64, 128, 256, 512, 1024):
        progress(f"sums of {images} images")
        shares: dict[str, list[float]] = {}
        decibels = []
        for seed in range(draws):
            private, public, rng = draw(seed, images)
            score = partial(recovered_share, X[private])
            honest = mlp(seed)
            weight, bias, *_ = parts(secure_sum(gradients(honest, private, 4), clip=SINGLE_CLIP), honest).values()
            found = {"honest model": invert_first_layer(weight, bias, limit=1.1), "prior": public[: max(images, 700)]}
            for name, projections in (("imprint", 1), ("imprint, peeling", 3)):
                attack = imprint(public, bins=BINS, classes=10, projections=projections, rng=rng)
                total = secure_sum(gradients(attack.model, private, 4), clip=SINGLE_CLIP)
                found[name] = recover(attack, total, batch=images // 4)
            for name, guesses in found.items():
                shares.setdefault(name, []).append(score(guesses))
            nearest = match_images(X[private], np.concatenate([public, np.tile(public.mean(axis=0), (images, 1))]))
            decibels.append(float(np.median(psnr(X[private], nearest))))
        means = {name: float(np.mean(values)) for name, values in shares.items()}
        report.row(measured="sum leak", images=images, **means, prior_median_db=float(np.mean(decibels)))
        strongest = max(value for name, value in means.items() if name != "prior")
        report.figure(f"secagg.sum_leak_{images}", strongest, Target(None))
        report.figure(f"secagg.sum_leak_{images}_honest_model", means["honest model"], Target(None))


def trained(seed: int, units: int, steps: int, public: Chosen) -> torch.nn.Sequential:
    """Train an honest model on public images."""
    model = mlp(seed, units)
    rng = np.random.default_rng(seed)
    if steps:
        moved(model, local_training(model, X[public], Y[public], steps=steps, batch=64, learning_rate=0.1, rng=rng))
    return model


def detectors(report: Report) -> None:
    """False alarms on honest models, and each attack's alarms and yield, plain and disguised."""
    highest = dict.fromkeys((detector.name for detector in DETECTORS), 0.0)
    false_alarms = models = 0
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(X))
        for units in (32, 128, 1024):
            for steps in (0, 100, 1000, 3000):
                progress(f"honest model {models + 1} of 60")
                model = trained(seed, units, steps, order[PRIVATE:])
                own = order[:BATCH]
                models += 1
                false_alarms += bool(alarms(model, X[own], Y[own]))
                for detector in DETECTORS:
                    highest[detector.name] = max(highest[detector.name], detector.score(model, X[own], Y[own]))
    report.row(measured="detectors", what="honest models, highest score", **highest)
    report.figure("detectors.false_alarms", false_alarms / models, Target(None))
    private, public, rng = draw(0)
    own, centre = private[:BATCH], public.mean(axis=0)
    rare = np.random.default_rng(0).permutation(np.flatnonzero(Y == 3))
    single = imprint(public, bins=BINS, classes=10, rng=rng)
    disguises = {
        "scaled rows": np.zeros((BINS, X.shape[1])),
        "noise 0.01 in all directions": isotropic((BINS, X.shape[1]), 0.01, rng),
        "noise 0.1 in all directions": isotropic((BINS, X.shape[1]), 0.1, rng),
        "noise 1 in 6 unseen directions": unseen(public, BINS, 1.0, rng, dimensions=6),
        "noise 1 in 8 unseen directions": unseen(public, BINS, 1.0, rng, dimensions=8),
    }
    cases: dict[str, Attack] = {}
    for name, noise in disguises.items():
        changed = disguised(single, noise, centre, rng)
        cases[f"imprint, {name}"] = changed.model, partial(recover, changed, batch=BATCH)
    trap = traps(public, units=BINS, classes=10, inputs=PRIVATE, rng=rng)
    cases["traps"] = trap, partial(trapped, trap, low=0.0, high=1.0)
    for bins in (10, 20, 50, 100):
        few = hidden_among_honest(public, mlp(1), bins=bins, inputs=PRIVATE, rng=rng)
        cases[f"{bins} imprint units among honest ones"] = few.model, partial(recover, few, batch=BATCH)
    for name, (model, opener) in cases.items():
        share = recovered_share(X[private], opener(total_of(gradients(model, private))))
        report.row(measured="detectors", what=name, recovered=share, alarms=", ".join(alarms(model, X[own], Y[own])))
    for name, model, held in (
        ("fishing for a class", fish_class(mlp(0), 3), own),
        ("fishing for a feature", fish_feature(mlp(0), 3, X[rare[BATCH:]], inputs=BATCH), rare[:BATCH]),
        ("dead model", suppressed(mlp(0)), own),
    ):
        report.row(measured="detectors", what=name, alarms=", ".join(alarms(model, X[held], Y[held])))


def defences(report: Report) -> None:
    """Each defence against the imprint that does not know of it, and against the best of those that do.

    8 clients of 16 images, and 32 where the cohort is larger.
    """
    batch = 16
    for defence in DEFENCES:
        progress(f"defence: {defence.name}")
        clients = CLIENTS * defence.cohort
        private, public, rng = draw(0, clients * batch)
        single, peeled = (imprint(public, bins=BINS, classes=10, projections=count, rng=rng) for count in (1, 3))
        trap = traps(public, units=BINS, classes=10, inputs=len(private), rng=rng)
        few = hidden_among_honest(public, mlp(1), bins=100, inputs=len(private), rng=rng)
        attacks: dict[str, Attack] = {
            "imprint": (single.model, partial(recover, single, batch=batch)),
            "peeling": (peeled.model, partial(recover, peeled, batch=batch)),
            "imprint, scales unknown": (single.model, partial(recover, single, batch=None)),
            "traps": (trap, partial(trapped, trap, low=0.0, high=1.0)),
            "few imprint units": (few.model, partial(recover, few, batch=None)),
            "20 imprint units": hidden(public, len(private), batch, rng),
        }
        shares = dict.fromkeys(attacks, 0.0)
        for name, (model, opener) in attacks.items():
            if not (defence.detectors and alarms(model, X[private[:BATCH]], Y[private[:BATCH]])):
                views = seen(defence, list(gradients(model, private, clients).values()), rng)
                found = np.concatenate([opener(view) for view in views])
                shares[name] = recovered_share(X[private], found)
        best = max(shares, key=lambda name: shares[name])
        report.row(
            measured="defence",
            what=defence.name,
            unaware=shares["imprint"],
            best=shares[best],
            by=best if shares[best] else "none",
        )


def hidden(public: Floats, inputs: int, batch: int, rng: np.random.Generator) -> Attack:
    """Hide 20 units, as many as the detectors let pass, among 1,004 honest ones."""
    few = hidden_among_honest(public, mlp(1), bins=20, inputs=inputs, rng=rng)
    return few.model, partial(recover, few, batch=batch)


def other_models(report: Report) -> None:
    """Fishing and per-client kernels, on real secure sums."""
    draws = 10
    hits, features, loki = [], [], []
    for seed in range(draws):
        progress(f"fishing and kernels, draw {seed + 1} of {draws}")
        rng = np.random.default_rng(seed)
        threes, rest = (rng.permutation(np.flatnonzero(found)) for found in (Y == 3, Y != 3))
        chosen = np.concatenate([threes[:1], rest[: PRIVATE - 1]])
        model = fish_class(mlp(seed, 128), 3)
        found = caught(model, secure_sum(gradients(model, chosen), clip=2.0), limit=1.1)
        hits.append(recovered_share(X[threes[:1]], found))
        model = fish_feature(mlp(seed, 128), 3, X[threes[BATCH:]], inputs=BATCH)
        found = caught(model, total_of(gradients(model, threes[:BATCH])), limit=1.1)
        features.append(float(recovered_share(X[threes[:BATCH]], found) > 0))
    for seed in range(3):
        private, public, rng = draw(seed)
        attack = imprint(public, bins=3 * BATCH, classes=10, projections=3, rng=rng)
        models = client_models(attack, CLIENTS, height=8)
        groups = np.split(private, CLIENTS)
        own = {
            str(i): gradient(each, X[held], Y[held]) for i, (each, held) in enumerate(zip(models, groups, strict=True))
        }
        opened = open_clients(attack, models[0], secure_sum(own, clip=CLIP), batch=BATCH)
        loki += [recovered_share(X[held], found) for held, found in zip(groups, opened, strict=True)]
    report.figure("fishing.rare_class_recovered", float(np.mean(hits)), Target(None))
    report.figure("fishing.feature_recovered", float(np.mean(features)), Target(None))
    report.figure("kernels.recovered_and_attributed", float(np.mean(loki)), Target(None))


def grouping(report: Report) -> None:
    """SRATTA: 5 clients of 20 images, 20 rounds of 5 local steps, through real secure sums."""
    shares, grouped, right = [], [], []
    for seed in range(3):
        progress(f"grouping, training {seed + 1} of 3")
        clients, each = 5, 20
        rng = np.random.default_rng(seed)
        held = rng.permutation(len(X))[: clients * each].reshape(clients, each)
        model, rounds = mlp(seed, 1000), []
        for _ in range(20):
            updates = {
                str(client): local_training(model, X[own], Y[own], steps=5, batch=8, learning_rate=1.0, rng=rng)
                for client, own in enumerate(held)
            }
            total = secure_sum(updates, clip=4.0)
            before, change = parts(flat(model), model), parts(total, model)
            rounds.append(SummedRound(before["0.weight"], before["0.bias"], change["0.weight"], change["0.bias"]))
            moved(model, total / clients)
        samples = recover_samples(rounds, on_grid(16))
        owner = np.abs(samples[:, None] - X[held.ravel()]).max(axis=2).argmin(axis=1) // each
        groups = [group for group in group_samples(rounds, samples) if len(group) > 1]
        pairs = [owner[a] == owner[b] for group in groups for a in group for b in group if a < b]
        shares.append(recovered_share(X[held.ravel()], samples))
        grouped.append(sum(map(len, groups)) / max(1, len(samples)))
        right += pairs
    report.figure("sratta.recovered", float(np.mean(shares)), Target(None))
    report.figure("sratta.grouped_of_recovered", float(np.mean(grouped)), Target(None))
    report.figure("sratta.pairs_right", float(np.mean(right)) if right else float("nan"), Target(None))


def over_rounds(report: Report) -> None:
    """Which of 10 clients holds a record, from 60 sums over random halves of them; guessing is right in a tenth."""
    clients, each, rounds, targets = 10, 30, 60, 30
    progress("which client holds a record")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    held, public = order[: clients * each].reshape(clients, each), order[clients * each :]
    wanted = [(client, held[client, position]) for client in range(clients) for position in range(targets // clients)]
    model = mlp(0, 64)
    present, scores = [], []
    for _ in range(rounds):
        chosen = np.sort(rng.choice(clients, clients // 2, replace=False))
        updates = {
            str(client): local_training(
                model, X[held[client]], Y[held[client]], steps=8, batch=10, learning_rate=0.2, rng=rng
            )
            for client in chosen
        }
        total = secure_sum(updates, clip=4.0)
        similar = {label: X[public[Y[public] == label]][:50] for label in range(10)}
        scores.append([alignment(model, total, X[i], int(Y[i]), similar[int(Y[i])]) for _, i in wanted])
        present.append(np.isin(np.arange(clients), chosen).astype(np.float64))
        moved(model, total / len(chosen))
    guesses = [disaggregate(np.array(present), column) for column in np.array(scores).T]
    right = [int(guess.argmax()) == client for guess, (client, _) in zip(guesses, wanted, strict=True)]
    report.figure("rounds.holder_named", float(np.mean(right)), Target(None))


def sparse_coordinates(report: Report) -> None:
    """Share of what each client sends that the sum of its largest coordinates gives away."""
    private, *_ = draw(0)
    updates = gradients(mlp(0, 64), private)
    for share in (0.01, 0.1, 0.5):
        kept = {}
        for name, update in updates.items():
            least = np.quantile(np.abs(update), 1 - share)
            kept[name] = np.where(np.abs(update) >= least, update, 0.0)
        supports = np.array([update != 0 for update in kept.values()])
        read = read_alone(secure_sum(kept, clip=CLIP), supports)
        exposed = float((np.isfinite(read) & supports).sum() / supports.sum())
        report.row(measured="sparse", coordinates_kept=share, read_exactly=exposed)


def transcript(report: Report) -> None:
    """AUC of the best attack on all messages, less that on the sum; the same on plain vectors, which it must win."""
    for masking, rounds in (("plain", 400), ("masking", TRANSCRIPT_ROUNDS)):
        progress(f"transcripts of {rounds} rounds, {masking}")
        game = play(rounds, masking=masking, rng=np.random.default_rng(1))  # type: ignore[arg-type]
        from_sum, from_all = transcript_gain(game)
        report.row(measured="transcript", what=masking, rounds=rounds, auc_sum=from_sum, auc_transcript=from_all)
        if masking == "masking":
            report.figure("secagg.transcript_gain", from_all - from_sum, Target(0.02, at_most=True))


if __name__ == "__main__":
    main(__doc__ or "", run)
