"""What each channel shows of a real round: exactly what its threat sees, and nothing else."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attacks.channels import DELTA, EPSILONS, SAMPLING_PROBABILITY, STEPS, Cohort, look
from attacks.datasets import digits
from attacks.defences import clipped, pruned
from attacks.models import make_convnet, make_mlp
from attacks.threat import (
    HONEST_SERVER,
    MALICIOUS_MODEL,
    MALICIOUS_PROTOCOL,
    MODEL_HOLDER,
    NEXT_INSTITUTION,
    Channel,
    colluding_clients,
)
from dp.calibration import calibrate_noise_multiplier
from dp.dp_sgd import RELATION
from dp.events import Composed, Gaussian, PoissonSampled

DIGITS = digits()
CLIENTS = ("0", "1", "2", "3")
RESOLUTION = 2.0**-26


def cohort(records: int = 1, *, units: int = 16) -> Cohort:
    model = make_mlp(64, [units], 10, generator=torch.Generator().manual_seed(0))
    batches = {c: slice(int(c) * records, (int(c) + 1) * records) for c in CLIENTS}
    return Cohort(model, {client: (DIGITS.x[some], DIGITS.y[some]) for client, some in batches.items()})


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return abs(float(np.corrcoef(a, b)[0, 1]))


def test_threats_say_what_they_see_and_may() -> None:
    threats = [HONEST_SERVER, MALICIOUS_MODEL, MALICIOUS_PROTOCOL, NEXT_INSTITUTION, MODEL_HOLDER]
    assert len({threat.name for threat in threats}) == 5
    assert all(threat.sees and threat.may and not threat.colluders for threat in threats)
    assert colluding_clients(1).name.endswith("1 colluding client")
    assert colluding_clients(3).name.endswith("3 colluding clients")
    assert colluding_clients(3).colluders == 3


@pytest.mark.parametrize("convolutional", [False, True])
def test_a_clients_rows_average_to_its_gradient(convolutional: bool) -> None:
    made = cohort(5)
    if convolutional:
        made = Cohort(make_convnet(1, 10, width=4, generator=torch.Generator().manual_seed(0)), made.records)
    np.testing.assert_allclose(made.rows("2").mean(axis=0), made.gradient("2"), atol=1e-6)


def test_in_clear_every_update_is_seen_and_nothing_else() -> None:
    made = cohort()
    views = look(Channel.PLAIN, made, rng=rng())
    assert [(view.channel, view.clients) for view in views] == [(Channel.PLAIN, 1)] * 4
    for client, view in zip(CLIENTS, views, strict=True):
        np.testing.assert_allclose(view.update, made.gradient(client), atol=RESOLUTION)


@pytest.mark.parametrize("channel", [Channel.SUM, Channel.MODEL, Channel.HE])
def test_a_sum_shows_the_mean_exactly_and_of_each_update_noise(channel: Channel) -> None:
    made = cohort(units=64)
    mean = np.mean([made.gradient(client) for client in CLIENTS], axis=0)
    views = look(channel, made, rng=rng())
    sums = [view for view in views if view.channel == channel]
    assert len(sums) == (2 if channel == Channel.HE else 1)  # lattice masks and CKKS
    for view in sums:
        assert view.clients == 4
        np.testing.assert_array_equal(view.update, sums[0].update)
        np.testing.assert_allclose(view.update, mean, atol=RESOLUTION)
    wires = [view for view in views if view.channel == Channel.MASKED]
    assert len(wires) == 4 * len(sums)
    for number, view in enumerate(wires):
        assert correlation(view.update, made.gradient(CLIENTS[number % 4])) < 6 / len(mean) ** 0.5


def test_colluders_take_their_updates_off_the_sum() -> None:
    made = cohort()
    (view, *wire) = look(Channel.SUM, made, rng=rng(), known=("1", "2", "3"))
    assert (view.clients, len(wire)) == (1, 1)
    np.testing.assert_allclose(view.update, made.gradient("0"), atol=4 * RESOLUTION)
    with pytest.raises(ValueError, match="not all clients can collude"):
        look(Channel.SUM, made, rng=rng(), known=CLIENTS)


def test_a_lying_server_gets_noise_unless_masks_are_not_bound_to_the_model() -> None:
    made = cohort(units=64)
    last_bias = 10
    for client, bound, naive in zip(
        CLIENTS, look(Channel.LIE, made, rng=rng()), look(Channel.UNBOUND_LIE, made, rng=rng()), strict=True
    ):
        truth = made.gradient(client)
        assert correlation(bound.update, truth) < 6 / len(truth) ** 0.5
        np.testing.assert_allclose(naive.update[:-last_bias], truth[:-last_bias], atol=RESOLUTION)


@pytest.mark.parametrize("channel", EPSILONS)
def test_noise_is_as_strong_as_its_epsilon_demands_and_not_much_stronger(channel: Channel) -> None:
    made = cohort(4, units=32)
    rows = np.concatenate([made.rows(client) for client in CLIENTS])
    norms = np.linalg.norm(rows, axis=1)
    bound = float(np.median(norms))
    exact = (rows * np.minimum(1, bound / norms)[:, None]).mean(axis=0)
    least = calibrate_noise_multiplier(
        lambda z: Composed([(PoissonSampled(SAMPLING_PROBABILITY, Gaussian(z)), STEPS)]),
        target_epsilon=EPSILONS[channel],
        target_delta=DELTA,
        neighboring_relation=RELATION,
    )
    (view,) = look(channel, made, rng=rng())
    noise = (view.update - exact) * len(rows) / bound
    assert view.clients == 4
    assert 0.9 * least < noise.std() < 1.4 * least  # three of four shares are counted on: sqrt(4/3) too much
    assert correlation(noise, exact) < 6 / len(noise) ** 0.5


def test_noise_of_colluders_is_known_to_them() -> None:
    made = cohort(4, units=32)
    rows = made.rows("0")
    (alone,) = look(Channel.DP_8, made, rng=rng(), known=("1", "2", "3"))
    (all_of_them,) = look(Channel.DP_8, made, rng=rng())
    assert alone.clients == 1
    share = float(np.std((alone.update - rows.mean(axis=0)) * 4))
    whole = float(np.std(all_of_them.update * 16))
    assert share == pytest.approx(whole / 2, rel=0.2)


def test_defences_act_before_the_encoding_and_not_under_noise() -> None:
    made = cohort()
    for view in look(Channel.PLAIN, made, rng=rng(), protect=clipped(0.01)):
        assert np.linalg.norm(view.update) == pytest.approx(0.01, rel=1e-3)
    sparse = look(Channel.PLAIN, made, rng=rng(), protect=pruned(0.1))[0].update
    assert (sparse != 0).mean() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="nothing else"):
        look(Channel.DP_1, made, rng=rng(), protect=clipped(1.0))
