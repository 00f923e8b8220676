"""The one call through which an update leaves an institution: encoding, secure sum, decoding.

No noise is added here yet, so no (ε, δ) is claimed for a mean: the sum over the survivors is exact up to rounding, and
whoever sees it learns what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import secagg
from protocols.aggregation import plan_of
from protocols.engines.memory import MemoryEngine
from protocols.institution import LocalUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from protocols.aggregation import AggregationName
    from secagg import Layout
    from secagg.encoding.packing import Words
    from secagg.params import ServerModel

__all__ = ["MeanUpdate", "SecureMean"]


@dataclass(frozen=True, slots=True, eq=False)
class MeanUpdate:
    """What the server learns from one secure mean, and what each institution says about its own part.

    Attributes:
        mean: (parameters,) float64, weighted mean of the survivors' updates.
        weight: sum of the survivors' weights.
        survivors: sites in the mean.
        clipped: site -> coordinates of its update that were cut to the clip bound; known to the site itself.
        clip_norm: of a unit's gradient or update, where noise was calibrated to it.
    """

    mean: NDArray[np.float64] = field(repr=False)
    weight: int
    survivors: tuple[str, ...]
    clipped: dict[str, int]
    clip_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureMean:
    """Weighted means of institutions' updates, through whichever secure sum the plan says.

    Args:
        layout: of the model's parameters; hashed into the parameters that all parties agree on.
        sites: how many institutions.
        clip: bound on every coordinate of an update.
        bits: resolution of a coordinate.
        max_weight: public bound on an institution's number of patients.
        aggregation: "masking", "lattice", "threshold", "ckks" or "plain".
        dropout, corrupted, server, threshold: as in `plan_of`.

    Raises:
        EncodingError, PlanError: the parameters do not work together.
    """

    layout: Layout
    sites: int
    clip: float
    bits: int
    max_weight: int
    aggregation: AggregationName
    dropout: float
    corrupted: float | None = None
    server: ServerModel = "semi-honest"
    threshold: int = 0

    def __post_init__(self) -> None:
        """Fail early: build codec and plan once."""
        _ = self.plan

    @property
    def codec(self) -> secagg.Encoding:
        """The encoding all institutions use."""
        return secagg.Encoding(
            dimension=self.layout.dimension,
            clip=self.clip,
            bits=self.bits,
            clients=self.sites,
            max_weight=self.max_weight,
            layout=self.layout.digest,
        )

    @property
    def plan(self) -> secagg.Plan:
        """The parameters of every round."""
        return plan_of(
            self.codec,
            self.aggregation,
            dropout=self.dropout,
            corrupted=self.corrupted,
            server=self.server,
            threshold=self.threshold,
        )

    def __call__(
        self,
        engine: MemoryEngine,
        updates: Mapping[str, Callable[[], LocalUpdate]],
        *,
        dropouts: Mapping[str, str],
        model: bytes = b"",
    ) -> MeanUpdate:
        """Run one round.

        Args:
            engine: carries the messages.
            updates: site -> a call that trains there; happens only if the site gets as far as sending its input.
            dropouts: site -> protocol round before which it vanishes.
            model: digest of what the sites were given (`fedavg.digest_of`).
        Raises:
            ThresholdError: too few sites remain; nothing was learned.
            RemoteProtocolError: somebody broke the protocol.
            EncodingError: an update is not finite, or a weight exceeds the bound.
        """
        codec = self.codec
        clipped: dict[str, int] = {}

        def contribution(site: str) -> secagg.Encoded:
            update = updates[site]()
            try:
                encoded = codec.encode(update.delta, weight=update.weight, random=update.rounding)
            except secagg.EncodingError as error:
                msg = f"the update of {site}: {error}"
                raise secagg.EncodingError(msg) from error
            clipped[site] = encoded.clipped
            return encoded

        total = engine.sum(
            self.plan,
            {site: partial(contribution, site) for site in updates},
            dropouts=dropouts,
            model=model,
        )
        survivors = tuple(map(str, total.survivors))
        weight = codec.decode_sum(total).weight
        return MeanUpdate(codec.decode(total), weight, survivors, clipped)

    def read(self, vector: Words) -> NDArray[np.float64]:
        """Decode a vector from the wire as if it were an update in clear."""
        decoded = self.codec.decode_sum(vector)
        return decoded.values / max(decoded.weight, 1)

    def rehearse(self, sites: Iterable[str]) -> None:
        """Sum updates of zeros, in a session of its own."""
        nothing = LocalUpdate(np.zeros(self.layout.dimension), 1)
        self(MemoryEngine(), {site: lambda: nothing for site in sites}, dropouts={})
