"""Secure aggregation: sums of vectors that nobody may see.

>>> import numpy as np, secagg
>>> updates = {i: np.full(1_000, 0.25) for i in range(100)}
>>> codec = secagg.Encoding(dimension=1_000, clip=1.0, bits=16, clients=100)  # raises if a sum could ever wrap
>>> plan = secagg.plan(codec, dropout=0.1, corrupted=0.1)  # degree, threshold, modulus, failure odds
>>> inputs = {i: codec.encode(x) for i, x in updates.items()}
>>> total = secagg.simulate(plan, inputs, dropouts={7: "masked_input"})
>>> codec.decode(total).round(3)[:3]
array([0.25, 0.25, 0.25])
"""

import logging

from secagg.encoding import Counts, Encoded, Encoding, Layout, WeightedSum
from secagg.errors import (
    DecodeError,
    EncodingError,
    FaultyClientError,
    FaultyServerError,
    LocalProtocolError,
    PlanError,
    PolicyError,
    ProtocolError,
    RemoteProtocolError,
    SecAggError,
    SuspectedPeerError,
    ThresholdError,
    VersionError,
)
from secagg.history import History
from secagg.identity import Card, Identity, Roster
from secagg.journal import Journal
from secagg.params import ClientId, Plan
from secagg.planning import plan
from secagg.policy import Policy
from secagg.rounds import Total
from secagg.rounds_begun import Rounds
from secagg.server_session import Server
from secagg.session import Client
from secagg.setups import Setup, model_digest, new_session
from secagg.simulation import Observer, Trace, simulate

__all__ = [
    "Card",
    "Client",
    "ClientId",
    "Counts",
    "DecodeError",
    "Encoded",
    "Encoding",
    "EncodingError",
    "FaultyClientError",
    "FaultyServerError",
    "History",
    "Identity",
    "Journal",
    "Layout",
    "LocalProtocolError",
    "Observer",
    "Plan",
    "PlanError",
    "Policy",
    "PolicyError",
    "ProtocolError",
    "RemoteProtocolError",
    "Roster",
    "Rounds",
    "SecAggError",
    "Server",
    "Setup",
    "SuspectedPeerError",
    "ThresholdError",
    "Total",
    "Trace",
    "VersionError",
    "WeightedSum",
    "model_digest",
    "new_session",
    "plan",
    "simulate",
]

__version__ = "0.1.0"

logging.getLogger("secagg").addHandler(logging.NullHandler())
