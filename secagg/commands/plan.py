"""`secagg plan`: degree, threshold and modulus of a round, why, at what odds, and what it will cost."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.cli import GraphChoice, KeyAgreement, KeyAgreementChoice, Masking, MaskingChoice, ServerChoice, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from secagg.params import Plan
    from secagg.planned_cost import PlanCost

__all__ = ["plan_command"]


def plan_command(
    clients: Annotated[int, typer.Option("--clients", "-n", help="How many clients hold a vector.")] = 20,
    dimension: Annotated[int, typer.Option("--dimension", "-d", help="Coordinates of a vector.")] = 100_000,
    bits: Annotated[int, typer.Option(help="Resolution of one coordinate, 2 to 32 bits.")] = 16,
    clip: Annotated[float, typer.Option(help="Coordinates are clipped to [-clip, clip].")] = 1.0,
    max_weight: Annotated[int, typer.Option(help="The largest weight of a client, say its number of patients.")] = 1,
    dropout: Annotated[float, typer.Option(help="Share of clients that may vanish in one round.")] = 0.1,
    corrupted: Annotated[float, typer.Option(help="Share of clients that may side with the server.")] = 0.1,
    graph: Annotated[GraphChoice, typer.Option(help="Who masks with whom.")] = GraphChoice.auto,
    server: Annotated[
        ServerChoice, typer.Option(help="Whether the server is trusted to follow the protocol.")
    ] = ServerChoice.semi_honest,
    masking: Masking = MaskingChoice.masking,
    directory: Annotated[
        int | None,
        typer.Option(help="Identities that the server picks the clients from: all its corrupted ones may be picked."),
    ] = None,
    key_agreement: KeyAgreement = KeyAgreementChoice.x25519,
    post_quantum: Annotated[  # noqa: FBT002 -- flags of a command line are booleans with a default
        bool,
        typer.Option(
            "--post-quantum",
            help="Lattice masks with 128 bits of security by table against quantum attacks too; taken unasked with "
            "hybrid keys, and where it costs at most 1 % of the upload. A threshold key has no such form; "
            "other masks withstand what their keys do.",
        ),
    ] = False,
    rounds: Annotated[
        int, typer.Option(help="Rounds over which privacy must hold; says how many threshold keys they take.")
    ] = 1,
    security_bits: Annotated[int, typer.Option(help="Privacy may fail with odds of 2^-BITS over all rounds.")] = 40,
    correctness_bits: Annotated[int, typer.Option(help="A round may fail with odds of 2^-BITS.")] = 20,
    as_json: Annotated[  # noqa: FBT002 -- flags of a command line are booleans with a default
        bool, typer.Option("--json", help="Print one JSON object instead of text.")
    ] = False,
) -> None:
    """Choose the parameters of a secure sum and say why, with the odds that it fails and what it costs.

    Nothing is run: bytes are those of the real messages, computed. Odds are upper bounds over all clients together;
    on a complete graph nothing is left to chance. Example: a thousand phones and a model of a million parameters,
    100 rounds of training that all stay private but for odds of 2^-40, a fifth of the phones lost in any round:

        secagg plan -n 1000 -d 1000000 --rounds 100 --dropout 0.2

    Four hospitals that do not trust the server either:

        secagg plan -n 4 -d 1000 --max-weight 500 --server malicious

    Ten thousand phones, picked by that server out of a million of which 0.05 % are its own:

        secagg plan -n 10000 --server malicious --directory 1000000 --corrupted 0.0005
    """
    from secagg import Encoding  # noqa: PLC0415
    from secagg.planned_cost import cost_of  # noqa: PLC0415
    from secagg.planning import explain  # noqa: PLC0415
    from secagg.planning import plan as make_plan  # noqa: PLC0415

    try:
        codec = Encoding(dimension=dimension, clip=clip, bits=bits, clients=clients, max_weight=max_weight)
        planned = partial(
            make_plan,
            codec,
            dropout=dropout,
            corrupted=corrupted,
            graph=graph.value,
            server=server.value,
            directory=directory,
            key_agreement=key_agreement.value,
            post_quantum=post_quantum or None,
            security_bits=security_bits,
            correctness_bits=correctness_bits,
            rounds=rounds,
        )
        plan = planned(masking=masking.value)
    except ValueError as error:  # EncodingError and PlanError are
        fail("plan", error, code=2)
    why, cost = explain(plan, rounds=rounds), cost_of(plan, dimension=dimension)
    if masking is MaskingChoice.auto:
        why = {"masking": _why_auto(plan, planned)} | why
    if as_json:
        import msgspec  # noqa: PLC0415

        answer = {"plan": plan, "rounds": rounds, "why": why, "cost": cost}
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        _print_plan(plan, why, cost, dimension)


def _why_auto(plan: Plan, planned: Callable[..., Plan]) -> str:
    """Say what "auto" took, and why."""
    from secagg.errors import PlanError  # noqa: PLC0415

    if plan.lattice is not None:
        return "lattice: the vector is longer than 16 of the secrets that are summed under masks instead"
    try:
        ring = planned(masking="lattice").lattice
    except PlanError as error:
        return f"masks as long as the vector, since no lattice fits: {error}"
    assert ring is not None  # noqa: S101 -- what was planned
    return (
        f"masks as long as the vector, {plan.length} coordinates: lattice masks save work only where that is more than "
        f"16 of their secrets of {ring.degree}"
    )


def _print_plan(plan: Plan, why: dict[str, str], cost: PlanCost, dimension: int) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    reasons = Table(
        title=f"{plan.clients} clients × {plan.length} coordinates of {plan.modulus_bits} bits, {plan.server} server: "
        f"degree {plan.degree}, threshold {plan.threshold}",
        title_justify="left",
        show_header=False,
        box=None,
    )
    for subject, sentence in why.items():
        reasons.add_row(subject, sentence)
    if cost.key_agreements:
        removed = f"{_size(cost.server_mask_bytes)}, at most {_size(cost.server_mask_bytes_dropouts)} after dropouts"
        reasons.add_row(
            "mask work",
            f"a client agrees on {cost.key_agreements} keys and expands {_size(cost.client_mask_bytes)} of masks; "
            f"the server expands {removed}",
        )
    traffic = Table()
    for column in ("round", "sent / client", "received / client"):
        traffic.add_column(column, justify="left" if column == "round" else "right", no_wrap=True)
    for step in cost.steps:
        traffic.add_row(step.step, f"{step.bytes_up:,.0f} B", f"{step.bytes_down:,.0f} B")
    traffic.add_section()
    traffic.add_row("in all", f"{cost.bytes_up:,.0f} B", f"{cost.bytes_down:,.0f} B")
    traffic.add_row("plain float32", f"{4 * dimension:,} B", "0 B")
    console = Console(highlight=False)
    console.print(reasons)
    console.print(traffic)
    console.print(
        f"upload: {cost.upload_over_float32:.3f} × plain float32, hidden weight included; both directions: "
        f"{cost.expansion_float32:.3f} × float32, {cost.expansion_two_bytes:.3f} × 16-bit values"
    )


def _size(octets: int) -> str:
    """Write a number of bytes with three digits or so."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if octets >= size:
            return f"{octets / size:,.1f} {unit}"
    return f"{octets} B"
