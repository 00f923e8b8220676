"""The transition table of every protocol: what each state awaits, and the step that leads on.

It is all that `Client` and `Server` know of a protocol: a message that the current state does not await is refused.
The diagrams in `docs/sessions.md` are made from it: `python -c "from secagg.transitions import *; print(diagrams())"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from secagg import plain
from secagg.errors import PlanError
from secagg.homomorphic import (
    ckks_rounds,
    threshold_rounds,
    threshold_server,
    threshold_setup,
    threshold_setup_messages,
    threshold_setup_server,
)
from secagg.masking import client, client_states, messages, server, unmasking
from secagg.rounds import Invitation

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.params import ClientId, Masking, ServerModel
    from secagg.wire import Message

__all__ = ["KEYED", "ClientStep", "Protocol", "ServerStep", "diagrams", "protocol_of", "steps_of"]


class ClientStep(NamedTuple):
    """In a state: the message awaited, the protocol round it opens, and the step that answers it.

    `again`, if there is one, takes the answer given before besides, and gives that one: for a step that draws what it
    cannot draw again, or may not repeat. `told`, if there is one, names the clients whose sum a message asks for, or
    gives None if it does not say; a policy decides on them after the step, before its answer leaves.
    """

    awaits: type[Message]
    round: str
    step: Callable[..., tuple[Any, Message]]
    again: Callable[..., tuple[Any, Message]] | None = None
    told: Callable[..., frozenset[ClientId] | None] | None = None


class ServerStep(NamedTuple):
    """In a state: the round being collected, its message, what each arrival does, and the step that closes it.

    `check` refuses a message; `fold` adds it to the state at once instead of keeping it. The first state collects
    nothing; the last step returns an `Outcome` in place of a state.
    """

    round: str
    collects: type[Message] | None
    close: Callable[..., tuple[Any, dict[int, Message]]]
    check: Callable[..., None] | None = None
    fold: Callable[..., Any] | None = None


class Protocol(NamedTuple):
    """Every state of a protocol and what happens in it; the first state of each table is where a round begins."""

    client: dict[type, ClientStep]
    server: dict[type, ServerStep]


def _asked(name: str, step: Callable[..., tuple[Any, Message]]) -> ClientStep:
    """Answer a request that names the clients of a sum."""
    return ClientStep(messages.Survivors, name, step, told=messages.everyone_in)


def _masked_input(close: Callable[..., tuple[Any, dict[int, Message]]]) -> dict[type, ServerStep]:
    return {
        server.ServerState3: ServerStep(
            "masked_input", messages.MaskedInput, close, fold=server.server_add_masked_input
        )
    }


def _threshold_upload(close: Callable[..., tuple[Any, dict[int, Message]]]) -> dict[type, ServerStep]:
    return {
        threshold_server.ThresholdServerState0: ServerStep("open", None, threshold_server.server_open),
        threshold_server.ThresholdServerState1: ServerStep(
            "upload", threshold_rounds.ThresholdUpload, close, fold=threshold_server.server_add_upload
        ),
    }


_CLIENT_BEGINNING = {
    client_states.ClientState0: ClientStep(Invitation, "advertise_keys", client.client_advertise_keys),
    client_states.ClientState1: ClientStep(
        messages.PeerKeys, "share_keys", client.client_share_keys, again=client.client_share_keys_again
    ),
    client_states.ClientState2: ClientStep(messages.PeerShares, "masked_input", client.client_masked_input),
}
_SERVER_BEGINNING = {
    server.ServerState0: ServerStep("open", None, server.server_open),
    server.ServerState1: ServerStep(
        "advertise_keys", messages.AdvertiseKeys, server.server_advertise_keys, check=server.server_check_keys
    ),
    server.ServerState2: ServerStep(
        "share_keys", messages.ShareKeys, server.server_share_keys, check=server.server_check_shares
    ),
}
_SERVER_END = {
    unmasking.ServerState4: ServerStep(
        "unmask", messages.UnmaskShares, unmasking.server_unmask, check=unmasking.server_check_unmask
    ),
}
_THRESHOLD_UPLOAD = {
    threshold_rounds.ThresholdClientState0: ClientStep(
        Invitation, "upload", threshold_rounds.client_upload, again=threshold_rounds.client_upload_again
    )
}
_THRESHOLD_DECRYPT = {
    threshold_server.ThresholdServerState3: ServerStep(
        "decrypt",
        threshold_rounds.PartialDecryption,
        threshold_server.server_decrypt,
        fold=threshold_server.server_add_partial,
    ),
}
_KEY_SETUP = Protocol(
    client={
        threshold_setup.ThresholdSetupState0: ClientStep(
            Invitation, "advertise_keys", threshold_setup.client_advertise
        ),
        threshold_setup.ThresholdSetupState1: ClientStep(
            threshold_setup_messages.SetupPeerKeys, "share_keys", threshold_setup.client_deal
        ),
        threshold_setup.ThresholdSetupState2: ClientStep(
            threshold_setup_messages.SetupPeerShares, "hold_shares", threshold_setup.client_hold
        ),
    },
    server={
        threshold_setup_server.ThresholdSetupServerState0: ServerStep("open", None, threshold_setup_server.server_open),
        threshold_setup_server.ThresholdSetupServerState1: ServerStep(
            "advertise_keys",
            threshold_setup_messages.SetupKey,
            threshold_setup_server.server_advertise,
            check=threshold_setup_server.server_check_key,
        ),
        threshold_setup_server.ThresholdSetupServerState2: ServerStep(
            "share_keys",
            threshold_setup_messages.SetupShares,
            threshold_setup_server.server_share,
            check=threshold_setup_server.server_check_shares,
        ),
        threshold_setup_server.ThresholdSetupServerState3: ServerStep(
            "hold_shares",
            threshold_setup_messages.SetupConfirmed,
            threshold_setup_server.server_hold,
            check=threshold_setup_server.server_check_confirmed,
        ),
    },
)
_PROTOCOLS: dict[tuple[Masking, ServerModel], Protocol] = {
    ("masking", "semi-honest"): Protocol(
        client=_CLIENT_BEGINNING
        | {
            client_states.ClientState3: _asked("unmask", client.client_unmask),
        },
        server=_SERVER_BEGINNING | _masked_input(server.server_masked_input) | _SERVER_END,
    ),
    ("masking", "malicious"): Protocol(
        client=_CLIENT_BEGINNING
        | {
            client_states.ClientState3: _asked("consistency_check", client.client_consistency_check),
            client_states.ClientState4: ClientStep(messages.PeerSignatures, "unmask", client.client_unmask_agreed),
        },
        server=_SERVER_BEGINNING
        | _masked_input(server.server_masked_input_to_sign)
        | {
            unmasking.ServerState5: ServerStep(
                "consistency_check",
                messages.ConsistencyCheck,
                unmasking.server_consistency_check,
                check=unmasking.server_check_agreement,
            ),
        }
        | _SERVER_END,
    ),
    ("threshold", "semi-honest"): Protocol(
        client=_THRESHOLD_UPLOAD
        | {
            threshold_rounds.ThresholdClientState1: _asked("decrypt", threshold_rounds.client_decrypt),
        },
        server=_threshold_upload(threshold_server.server_upload) | _THRESHOLD_DECRYPT,
    ),
    ("threshold", "malicious"): Protocol(
        client=_THRESHOLD_UPLOAD
        | {
            threshold_rounds.ThresholdClientState1: _asked(
                "consistency_check", threshold_rounds.client_consistency_check
            ),
            threshold_rounds.ThresholdClientState2: ClientStep(
                messages.PeerSignatures, "decrypt", threshold_rounds.client_decrypt_agreed
            ),
        },
        server=_threshold_upload(threshold_server.server_upload_to_sign)
        | {
            threshold_server.ThresholdServerState2: ServerStep(
                "consistency_check",
                messages.ConsistencyCheck,
                threshold_server.server_consistency_check,
                check=threshold_server.server_check_agreement,
            ),
        }
        | _THRESHOLD_DECRYPT,
    ),
    ("ckks", "semi-honest"): Protocol(
        client={
            ckks_rounds.CkksClientState0: ClientStep(Invitation, "upload", ckks_rounds.client_upload),
            ckks_rounds.CkksClientState1: ClientStep(
                ckks_rounds.EncryptedSum, "decrypt", ckks_rounds.client_decrypt, told=ckks_rounds.everyone_in
            ),
        },
        server={
            ckks_rounds.CkksServerState0: ServerStep("open", None, ckks_rounds.server_open),
            ckks_rounds.CkksServerState1: ServerStep(
                "upload", ckks_rounds.EncryptedUpload, ckks_rounds.server_upload, fold=ckks_rounds.server_add_upload
            ),
            ckks_rounds.CkksServerState2: ServerStep(
                "decrypt",
                ckks_rounds.DecryptedSum,
                ckks_rounds.server_decrypt,
                fold=ckks_rounds.server_add_decryption,
            ),
        },
    ),
    ("plain", "semi-honest"): Protocol(
        client={plain.PlainClientState0: ClientStep(Invitation, "upload", plain.client_upload)},
        server={
            plain.PlainServerState0: ServerStep("open", None, plain.server_open),
            plain.PlainServerState1: ServerStep(
                "upload", plain.Upload, plain.server_upload, fold=plain.server_add_upload
            ),
        },
    ),
}


KEYED = frozenset({"threshold", "ckks"})
"""Maskings whose sums need keys that were made before."""


def protocol_of(masking: Masking, server_model: ServerModel = "semi-honest", *, key_setup: bool = False) -> Protocol:
    """Return the table that a plan's rounds follow: lattice masks take the rounds of masking.

    Raises:
        PlanError: nothing is set up for this masking.
    """
    if key_setup:
        if masking != "threshold":
            msg = f"masking {masking!r} has no key to set up between clients"
            raise PlanError(msg)
        return _KEY_SETUP
    return _PROTOCOLS["masking" if masking == "lattice" else masking, server_model]


def steps_of(
    masking: Masking, server_model: ServerModel = "semi-honest", *, key_setup: bool = False
) -> tuple[str, ...]:
    """Return the names of a protocol's rounds, in order."""
    return tuple(step.round for step in protocol_of(masking, server_model, key_setup=key_setup).client.values())


def diagrams() -> str:
    """Draw every table as Markdown with Mermaid state diagrams; each state leads to the next one of its table."""
    return "\n\n".join(
        f"### {masking}, {server_model} server\n\nClient:\n\n{_drawn(_client_edges(protocol))}\n\n"
        f"Server:\n\n{_drawn(_server_edges(protocol))}"
        for masking, server_model, protocol in (
            *((*names, protocol) for names, protocol in _PROTOCOLS.items()),
            ("set-up of a threshold key", "either", _KEY_SETUP),
        )
    )


def _client_edges(protocol: Protocol) -> list[tuple[str, str, str]]:
    answers = {step.round: step.collects.NAME for step in protocol.server.values() if step.collects is not None}
    names = [state.__name__ for state in protocol.client] + ["[*]"]
    return [
        (name, following, f"{step.awaits.NAME} / {answers[step.round]}")
        for name, following, step in zip(names, names[1:], protocol.client.values(), strict=False)
    ]


def _server_edges(protocol: Protocol) -> list[tuple[str, str, str]]:
    names = [state.__name__ for state in protocol.server] + ["[*]"]
    requests = {step.round: step.awaits.NAME for step in protocol.client.values()}
    rounds = [step.round for step in protocol.server.values()][1:]
    sent = [f"close_round / {requests[name]}" for name in rounds] + ["close_round / total"]
    edges = []
    for name, following, step, closing in zip(names, names[1:], protocol.server.values(), sent, strict=False):
        if step.collects is not None:
            edges.append((name, name, step.collects.NAME))
        edges.append((name, following, closing))
    return edges


def _drawn(edges: list[tuple[str, str, str]]) -> str:
    lines = [f"    {start} --> {end}: {label}" for start, end, label in edges]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {edges[0][0]}", *lines, "```"])
