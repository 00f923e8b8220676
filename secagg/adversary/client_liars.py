"""Lying clients: what about, and what the protocol owes the server and the other clients."""

from __future__ import annotations

from secagg.adversary import client_lies as client
from secagg.adversary.liar import Expectation, Liar
from secagg.adversary.stage import LIAR, VICTIM
from secagg.errors import FaultyClientError, RemoteProtocolError, SuspectedPeerError

__all__ = ["CLIENT_LIARS"]

_BLAMES_LIAR = Expectation(FaultyClientError, by="server", culprits=(LIAR,), opens="ABCE", total="exact")

CLIENT_LIARS = (
    Liar(
        name="unsigned keys",
        who="client",
        tries="advertises keys under a signature made up",
        client_lies={"advertise_keys": client.unsigned_keys},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="key of low order",
        who="client",
        tries="advertises a mask key with which every secret is known to all",
        client_lies={"advertise_keys": client.low_order_key},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="one key for two purposes",
        who="client",
        tries="advertises its sealing key as its mask key",
        client_lies={"advertise_keys": client.one_key},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="copied keys",
        who="client",
        tries="advertises the victim's keys as its own",
        client_lies={"advertise_keys": client.copied_keys},
        expects=Expectation(SuspectedPeerError, by="server", culprits=(VICTIM, LIAR), opens="ABCE", total="exact"),
    ),
    Liar(
        name="another's name",
        who="client",
        tries="sends the victim's message on its own channel",
        client_lies={"advertise_keys": client.another_name},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="replayed answer",
        who="client",
        tries="sends its keys of the round before",
        client_lies={"advertise_keys": client.earlier_answer},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="truncated bundle",
        who="client",
        tries="cuts a byte off the shares that it seals",
        client_lies={"share_keys": client.truncated_bundle},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="garbage bundle",
        who="client",
        tries="seals garbage to the victim, and signs it",
        client_lies={"share_keys": client.garbage_bundle},
        expects=Expectation(SuspectedPeerError, by=VICTIM, culprits=(LIAR,), opens="BCE", total="exact"),
    ),
    Liar(
        name="swapped bundles",
        who="client",
        tries="sends the victim what it sealed to B",
        client_lies={"share_keys": client.swapped_bundles},
        expects=Expectation(SuspectedPeerError, by=VICTIM, culprits=(LIAR,), opens="BCE", total="exact"),
    ),
    Liar(
        name="inconsistent dealer, found on receipt",
        who="client",
        tries="publishes the hash of another share than it deals to the victim",
        client_lies={"share_keys": client.wrong_hash},
        expects=Expectation(SuspectedPeerError, by=VICTIM, culprits=(LIAR,), opens="BCE", total="exact"),
    ),
    Liar(
        name="inconsistent dealer, self mask",
        who="client",
        tries="commits to another self-mask seed than it shares",
        client_lies={"share_keys": client.another_seed},
        expects=Expectation(FaultyClientError, by="server", culprits=(LIAR,), opens="ABCE"),
    ),
    Liar(
        name="inconsistent dealer, mask key",
        who="client",
        tries="shares another mask key than it advertised, and drops out",
        client_lies={"share_keys": client.another_mask_key, "masked_input": client.silence},
        expects=Expectation(FaultyClientError, by="server", culprits=(LIAR,), opens="ABCE"),
    ),
    Liar(
        name="vector of wrong length",
        who="client",
        tries="sends a vector that is longer than agreed",
        client_lies={"masked_input": client.wrong_length},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="vector out of range",
        who="client",
        tries="sets bits above the modulus",
        client_lies={"masked_input": client.out_of_range},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="counted twice",
        who="client",
        tries="sends its masked input twice",
        client_lies={"masked_input": client.twice},
        expects=Expectation(RemoteProtocolError, by="server", culprits=(LIAR,), opens="ABCE", total="exact"),
    ),
    Liar(
        name="dropped, then returned",
        who="client",
        tries="sends its masked input one round late",
        client_lies={"masked_input": client.silence, "consistency_check": client.late},
        expects=Expectation(RemoteProtocolError, by="server", culprits=(LIAR,), opens="ABCE", total="exact"),
    ),
    Liar(
        name="forged consent",
        who="client",
        tries="signs something else than who survived",
        client_lies={"consistency_check": client.forged_consent},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="truncated shares",
        who="client",
        tries="cuts a byte off the shares that it reveals",
        client_lies={"unmask": client.truncated_reveal},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="garbage shares",
        who="client",
        tries="reveals a share of the victim's secret that is off by one bit",
        client_lies={"unmask": client.garbage_reveal},
        expects=_BLAMES_LIAR,
    ),
    Liar(
        name="the other secret",
        who="client",
        tries="reveals its share of the victim's mask key, though the victim survived",
        client_lies={"unmask": client.other_secret},
        expects=_BLAMES_LIAR,
    ),
)
