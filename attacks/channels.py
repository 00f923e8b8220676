"""Turns one real round, run twice, into the server's views: once in clear, once under secure aggregation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import secagg
from attacks.threat import Channel, View
from protocols.engines.memory import MemoryEngine
from protocols.wiretap import Wiretap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocols.institution import LocalUpdate
    from secagg.encoding.packing import Words

__all__ = ["observe"]

CLIP, BITS = 16.0, 32


def observe(updates: Mapping[str, LocalUpdate]) -> dict[Channel, dict[str, View]]:
    """Send all institutions' updates to a server, in clear and masked, and return what it sees of each one's.

    The encoding resolves 2^-27, as fine as float32, so that nothing but the masks stands between server and update.

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
    contributions = {site: (lambda encoded=encoded: encoded) for site, encoded in inputs.items()}
    seen: dict[Channel, dict[str, View]] = {}
    for masking, channel in (("plain", Channel.PLAIN), ("masking", Channel.MASKED)):
        tap = Wiretap()
        plan = secagg.plan(codec, dropout=0.0, masking=masking)  # type: ignore[arg-type]
        total = MemoryEngine([tap]).sum(plan, contributions, dropouts={})
        seen[channel] = {site: _view(channel, codec, tap.rounds[0][site]) for site in updates}
    seen[Channel.SUM] = dict.fromkeys(updates, _view(Channel.SUM, codec, total.vector))
    return seen


def _view(channel: Channel, codec: secagg.Encoding, vector: Words) -> View:
    decoded = codec.decode_sum(vector)
    return View(channel, decoded.values / max(decoded.weight, 1))
