"""Turns real rounds of the protocol into what an adversary sees of them.

`observe` runs one round of given updates twice, in clear and under secure aggregation. `look` takes the clients with
their records and whichever channel: under differential privacy it clips and adds noise record by record, and a lying
server sends models of its own. In all of them the bytes are those of a real run; nothing is simulated but the network.

Updates are encoded to 2^-27, as fine as float32, so that nothing but the protection stands between server and update.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

import secagg
from attacks.defences import unchanged
from attacks.inversion.gradients import gradients, loss_of
from attacks.malicious.inconsistent import model_bytes, sum_of_inconsistent
from attacks.threat import Channel, View
from dp.dp_sgd import DpSgd
from protocols.engines.memory import MemoryEngine
from protocols.wiretap import Wiretap

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from attacks.defences import Protect
    from protocols.institution import LocalUpdate
    from secagg.encoding.packing import Words
    from secagg.params import Masking

__all__ = ["DELTA", "EPSILONS", "SAMPLING_PROBABILITY", "STEPS", "Cohort", "look", "observe"]

CLIP, BITS = 16.0, 32

EPSILONS = {Channel.DP_8: 8.0, Channel.DP_1: 1.0}
DELTA, STEPS, SAMPLING_PROBABILITY = 1e-5, 100, 0.1
"""The training whose ε is promised: so many steps, in each of which every record takes part with that probability."""


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Clients about to answer a round of FedSGD.

    Attributes:
        model: what they are sent; returns logits (records, classes), or (records, 1) for a binary one.
        records: client -> its batch, (records, ...) float32 inputs and (records,) int64 labels.
    """

    model: torch.nn.Module
    records: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = field(repr=False)

    def gradient(self, client: str, model: torch.nn.Module | None = None) -> NDArray[np.float64]:
        """Compute a client's mean gradient, (parameters,), on the model or on another one."""
        x, y = (torch.from_numpy(part) for part in self.records[client])
        found = gradients(self.model if model is None else model, x, y)
        return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in found])

    def rows(self, client: str) -> NDArray[np.float64]:
        """Compute a client's gradients record by record, (records, parameters)."""
        parameters = {name: value.detach() for name, value in self.model.named_parameters()}

        def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return loss_of(torch.func.functional_call(self.model, weights, (x[None],)), y[None])

        x, y = (torch.from_numpy(part) for part in self.records[client])
        found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
        return torch.cat([found[name].flatten(1) for name in parameters], dim=1).double().numpy()


def look(
    channel: Channel,
    cohort: Cohort,
    *,
    rng: np.random.Generator,
    protect: Protect = unchanged,
    known: Collection[str] = (),
) -> list[View]:
    """Run a round and return what the adversary sees of it.

    Args:
        channel: under which protection, against which server; `MASKED` is part of `SUM`.
        cohort: the clients; the server of `MODEL` is taken to have made their model.
        rng: for defences that draw.
        protect: what clients do to their updates before the encoding; under differential privacy, nothing.
        known: clients that collude: what they send is taken off the sum.
    Returns: `PLAIN`: every client's update. `SUM`, `MODEL`, `HE`: the mean, then what travelled from each client,
        decoded as if it were in clear (channel `MASKED`). Lies: a sum for every client as victim. Noise: the noisy
        mean.
    Raises:
        ValueError: all clients collude, or a defence together with differential privacy.
    """
    if not set(cohort.records) - set(known):
        msg = "somebody has to be attacked: not all clients can collude"
        raise ValueError(msg)
    if channel in EPSILONS:
        if protect is not unchanged:
            msg = "under differential privacy gradients are clipped and noised, and nothing else is done to them"
            raise ValueError(msg)
        return _noisy(channel, cohort, known)
    updates = {client: protect(cohort.gradient(client), rng) for client in cohort.records}
    if channel in {Channel.LIE, Channel.UNBOUND_LIE}:
        return [_lie(channel, cohort, updates[victim], victim) for victim in cohort.records]
    codec = secagg.Encoding(dimension=len(next(iter(updates.values()))), clip=CLIP, bits=BITS, clients=len(updates))
    inputs = {client: codec.encode(update) for client, update in updates.items()}
    if channel == Channel.HE:
        return [*_summed(channel, codec, inputs, "lattice", known), *_summed(channel, codec, inputs, "ckks", known)]
    return _summed(channel, codec, inputs, "plain" if channel == Channel.PLAIN else "masking", known)


def _summed(
    channel: Channel,
    codec: secagg.Encoding,
    inputs: Mapping[str, secagg.Encoded],
    masking: Masking,
    known: Collection[str],
) -> list[View]:
    total, wire = _round(secagg.plan(codec, dropout=0.0, corrupted=0.0, masking=masking), inputs)

    def read(vector: Words) -> NDArray[np.float64]:
        return codec.decode_sum(vector).values

    sent = [View(Channel.MASKED, read(wire[client])) for client in inputs if client not in known]
    if channel == Channel.PLAIN:
        return [View(channel, view.update) for view in sent]
    rest = len(inputs) - len(known)
    mean = (read(total) - sum(read(inputs[client].vector) for client in known)) / rest
    return [View(channel, mean, rest), *sent]


def _noisy(channel: Channel, cohort: Cohort, known: Collection[str]) -> list[View]:
    """Take a step of distributed DP-SGD whose Poisson sample were exactly the cohort's records.

    Gradients are clipped at their median norm, as is usual; the adversary is told the norm.
    """
    rows = {client: cohort.rows(client) for client in cohort.records}
    norm = float(np.median(np.linalg.norm(np.concatenate(list(rows.values())), axis=1)))
    units = max(map(len, rows.values()))
    dimension = next(iter(rows.values())).shape[1]
    privacy = _private(dimension, len(rows), units, sum(map(len, rows.values())), EPSILONS[channel])
    plan = secagg.plan(privacy.codec, dropout=0.0, corrupted=0.0)
    privacy.codec.check(plan)
    inputs = {client: privacy.encode(each / (norm or 1.0)) for client, each in rows.items()}
    total, _ = _round(plan, inputs)
    rest = privacy.gradient(total) - sum(privacy.gradient(inputs[client].vector) for client in known)
    left = sum(len(each) for client, each in rows.items() if client not in known)
    return [View(channel, rest * (norm * privacy.divisor / left), len(rows) - len(known))]


@lru_cache
def _private(dimension: int, clients: int, units: int, records: int, epsilon: float) -> DpSgd:
    shape = secagg.plan(secagg.Counts(dimension=1, maximum=1, clients=clients), dropout=0.0, corrupted=0.0)
    return DpSgd.for_target(
        target_epsilon=epsilon,
        target_delta=DELTA,
        dimension=dimension,
        clients=clients,
        least_senders=shape.least_survivors,
        units=units,
        expected_units=records / SAMPLING_PROBABILITY,
        sampling_probability=SAMPLING_PROBABILITY,
        steps=STEPS,
        clip_norm=1.0,
    )


def _lie(channel: Channel, cohort: Cohort, update: NDArray[np.float64], victim: str) -> View:
    """Send everybody but the victim a model of zeros, whose only gradient is that of the last bias."""
    silent = deepcopy(cohort.model)
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    updates = {client: cohort.gradient(client, silent) for client in cohort.records} | {victim: update}
    bound = channel == Channel.LIE
    digests = {
        client: secagg.model_digest(model_bytes(cohort.model if client == victim else silent)) if bound else b""
        for client in updates
    }
    return View(channel, sum_of_inconsistent(updates, digests, clip=CLIP))


def observe(updates: Mapping[str, LocalUpdate]) -> dict[Channel, dict[str, View]]:
    """Send all institutions' updates to a server, in clear and masked, and return what it sees of each one's.

    Args:
        updates: site -> update; coordinates within ±16.
    Returns: channel -> site -> view; the sum is the same for all sites.
    Raises:
        ValueError: an update exceeds ±16.
    """
    dimension = len(next(iter(updates.values())).delta)
    most = max(update.weight for update in updates.values())
    codec = secagg.Encoding(dimension=dimension, clip=CLIP, bits=BITS, clients=len(updates), max_weight=most)
    inputs = {site: codec.encode(update.delta, weight=update.weight) for site, update in updates.items()}
    if any(encoded.clipped for encoded in inputs.values()):
        msg = f"an update exceeds ±{CLIP}: lower the learning rate"
        raise ValueError(msg)

    def view(channel: Channel, vector: Words, clients: int = 1) -> View:
        decoded = codec.decode_sum(vector)
        return View(channel, decoded.values / max(decoded.weight, 1), clients)

    seen: dict[Channel, dict[str, View]] = {}
    for masking, channel in (("plain", Channel.PLAIN), ("masking", Channel.MASKED)):
        plan = secagg.plan(codec, dropout=0.0, masking=masking)  # type: ignore[arg-type]
        total, wire = _round(plan, inputs)
        seen[channel] = {site: view(channel, wire[site]) for site in updates}
    seen[Channel.SUM] = dict.fromkeys(updates, view(Channel.SUM, total, len(updates)))
    return seen


def _round(plan: secagg.Plan, inputs: Mapping[str, secagg.Encoded]) -> tuple[Words, dict[str, Words]]:
    """Run a round; return the sum, and client by client the first bits of what travelled for its vector."""
    tap = Wiretap()
    total = MemoryEngine([tap]).sum(
        plan, {client: partial(inputs.__getitem__, client) for client in inputs}, dropouts={}
    )
    return total.vector, {str(client): vector for client, vector in tap.rounds[0].items()}
