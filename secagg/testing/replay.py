"""What a test vector says, computed: by kind of vector, from its input to what is expected.

A vector is `{"about", "kind", "input", "expected"}` or, where a message must be refused, `"error"` with the name of the
error's class in place of `"expected"`. Bytes are hexadecimal. `vectors/README.md` describes the kinds.
"""

from __future__ import annotations

import json
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from secagg.errors import SERVER, SecAggError
from secagg.identity import Identity
from secagg.params import Plan
from secagg.rounds import Outcome
from secagg.setups import Setup
from secagg.testing.replay_primitives import PRIMITIVES
from secagg.testing.scripted import Pinned, arrive, begun, deliver
from secagg.transitions import protocol_of
from secagg.wire import Message, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["VERSION", "Json", "complete", "load", "replay", "setup_of", "verdict"]

VERSION = "v1"

Json: TypeAlias = dict[str, Any]
"""A JSON object."""


def load() -> dict[str, Json]:
    """Return all vectors that ship with this version, by file name without its ending, with their inputs complete."""
    folder = resources.files("secagg.testing").joinpath("vectors", VERSION)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    vectors = {file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8")) for file in files}
    inputs = {name: vector["input"] for name, vector in vectors.items()}
    return {name: vector | {"input": complete(vector["input"], inputs)} for name, vector in vectors.items()}


def complete(given: Mapping[str, Any], inputs: Mapping[str, Json]) -> Json:
    """Replace references to other vectors: `like`, whose input it shares but for what it says; and the setup's name."""
    whole = complete(inputs[given["like"]], inputs) if "like" in given else {}
    whole |= {name: value for name, value in given.items() if name != "like"}
    if isinstance(whole.get("setup"), str):
        whole["setup"] = inputs[whole["setup"]]["setup"]
    return whole


def verdict(kind: str, given: Mapping[str, Any]) -> Json:
    """Replay an input: `{"expected": ...}`, or `{"error": name}` if it is refused."""
    try:
        return {"expected": replay(kind, given)}
    except SecAggError as error:
        return {"error": type(error).__name__}


def replay(kind: str, given: Mapping[str, Any]) -> Json:
    """Compute what a vector's input leads to.

    Raises:
        SecAggError: the input is refused; a `_bad_` vector names the class.
    """
    return _KINDS[kind](given)


def setup_of(given: Mapping[str, Any]) -> Setup:
    """Build a `Setup` of a vector's `setup` object."""
    fields = given["plan"] | {"encoding": bytes.fromhex(given["plan"]["encoding"])}
    plan = Plan(**fields)
    keys = [bytes.fromhex(key) for key in given["identities"]]
    pinned = Pinned(dict(zip(given["roster"], keys, strict=True)), bytes.fromhex(given["directory"])) if keys else None
    return Setup(
        plan=plan,
        roster=given["roster"] if pinned is None else pinned,
        session=bytes.fromhex(given["session"]),
        round=given["round"],
        model=bytes.fromhex(given["model"]),
        assume_honest_server=plan.server == "semi-honest",
    )


def _setup(given: Mapping[str, Any]) -> Json:
    setup = setup_of(given["setup"])
    return {
        "roster": list(setup.roster),
        "parameters_digest": setup.plan.digest.hex(),
        "roster_digest": setup.roster_digest.hex(),
        "digest": setup.digest.hex(),
        "neighbours": [setup.graph.neighbours(i).tolist() for i in range(setup.plan.clients)],
    }


def _client(given: Mapping[str, Any]) -> Json:
    """A client that took the requests of `history` takes one more."""
    setup, position = setup_of(given["setup"]), given["client"]
    table = protocol_of(setup.plan.masking, setup.plan.server).client
    private = given["identity_private"]
    identity = Identity.from_private(bytes.fromhex(private)) if private else None
    extras = tuple(map(bytes.fromhex, given.get("extras", ())))
    state = begun(setup, position, np.array(given["vector"], dtype=np.uint64), identity, extras)
    answer = b""
    for each in (*given["history"], given):
        step = table[type(state)]
        message = deliver(step.awaits, bytes.fromhex(each["request"]), setup, position, step.round, SERVER)
        random = bytes.fromhex(each["random"])
        if step.again is not None and "sent" in each:
            state, made = step.again(state, message, random, bytes.fromhex(each["sent"]))
        else:
            state, made = step.step(state, message, random)
        answer = encode(made, setup)
    return {"answer": answer.hex()}


def _server(given: Mapping[str, Any]) -> Json:
    """A server that closed rounds with the inboxes of `history` takes one more and closes."""
    setup = setup_of(given["setup"])
    table = protocol_of(setup.plan.masking, setup.plan.server).server
    state: Any = next(iter(table))(setup)
    outbox: Mapping[int, Message] = {}
    for inbox in (*given["history"], given["inbox"]):
        step = table[type(state)]
        parsed: dict[int, Message | None] = {}
        for position, frame in inbox.items():
            state, parsed[int(position)] = arrive(step, state, int(position), bytes.fromhex(frame))
        state, outbox = step.close(state, parsed)
    if isinstance(state, Outcome):
        opened = {"extras": {str(i): extra.hex() for i, extra in state.extras.items()}} if state.extras else {}
        return {"survivors": state.survivors, "total": state.vector.tolist(), **opened}
    return {"outbox": {str(position): encode(message, setup).hex() for position, message in outbox.items()}}


def _frame(given: Mapping[str, Any]) -> Json:
    """One frame of a known kind is decoded, and its fields encoded again."""
    setup = setup_of(given["setup"])
    protocol = protocol_of(setup.plan.masking, setup.plan.server)
    kinds = [step.awaits for step in protocol.client.values()]
    kinds += [step.collects for step in protocol.server.values() if step.collects is not None]
    kind = {kind.NAME: kind for kind in kinds}[given["message"]]
    message = decode(kind, bytes.fromhex(given["frame"]), setup)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return {
        "kind": kind.KIND,
        "fields": {name: value if isinstance(value, int) else bytes(value).hex() for name, value in fields.items()},
        "encoded": encode(message, setup).hex(),
    }


_KINDS: dict[str, Callable[[Mapping[str, Any]], Json]] = {
    "setup": _setup,
    "frame": _frame,
    "client": _client,
    "server": _server,
    **{kind: partial(compute, setup_of) for kind, compute in PRIMITIVES.items()},
}
