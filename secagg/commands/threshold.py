"""`secagg threshold`: a reusable key that nobody holds, set up over files that sites send each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.cli import reporting

if TYPE_CHECKING:
    from secagg.homomorphic.threshold import ThresholdContext
    from secagg.homomorphic.threshold_files import Agreement

__all__ = ["threshold"]

threshold = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="A key for many secure sums that nobody holds: every site has a part, and sums open only together. All sites "
    "of a roster set it up once, by three answers each, in files that they mail or carry to one of them, the "
    "coordinator. Start with: secagg threshold propose --help",
)

AgreementFile = Annotated[Path, typer.Argument(metavar="AGREEMENT", help="What `secagg threshold propose` wrote.")]
RosterFile = Annotated[Path, typer.Option("--roster", help="The roster of the sites, verified as you always do.")]
NewFile = Annotated[Path, typer.Option(help="File to write. Must not exist: nothing is ever overwritten.")]
Honest = Annotated[
    bool,
    typer.Option(
        "--assume-honest-server",
        help="For a plan against a semi-honest server: say that you trust coordinator, server, and whoever carries "
        "the files, to follow the protocol.",
    ),
]


@threshold.command("propose")
def propose(
    plan: Annotated[Path, typer.Option(help="What `secagg plan --masking threshold --json` printed.")],
    roster: RosterFile,
    out: NewFile,
    assume_honest_server: Honest = False,  # noqa: FBT002 -- flags of a command line are booleans with a default
) -> None:
    """Coordinator: write the agreement on a key, and send it to every site with the roster.

    The set-up of four sites, of which Basel coordinates:

        secagg plan -n 4 --masking threshold --server malicious --corrupted 0 --json > plan.json
        secagg threshold propose --plan plan.json --roster heart.roster --out heart.agreement
        secagg threshold answer heart.agreement --out bern.1 ...             (every site)
        secagg threshold relay heart.agreement *.1 --out second ...          (Basel)
        secagg threshold answer heart.agreement 01-Bern.message --out bern.2 ...
        secagg threshold relay heart.agreement *.1 *.2 --out third ...
        secagg threshold answer heart.agreement 01-Bern.message --out bern.3 ...
        secagg threshold relay heart.agreement *.1 *.2 *.3 --out done ...
    """
    from secagg.homomorphic.threshold_files import (  # noqa: PLC0415
        AGREEMENT_MOST_BYTES,
        Agreement,
        naming,
        plan_of,
        read,
        write_new,
    )
    from secagg.identity import Roster  # noqa: PLC0415

    with reporting("threshold propose"):
        printed = read(plan, AGREEMENT_MOST_BYTES)
        with naming(plan):
            chosen = plan_of(printed)
        made = Agreement.propose(chosen, Roster.load(roster), assume_honest_server=assume_honest_server)
        write_new(out, made.to_bytes())
    _print_agreement(made)
    typer.echo(f"\nwritten: {out}. Send it to every site; each looks at it (secagg threshold show {out.name}) and runs")
    typer.echo(f"    secagg threshold answer {out.name} --roster ... --identity ... --key ... --out ...")


@threshold.command("answer")
def answer(
    agreement: AgreementFile,
    roster: RosterFile,
    identity: Annotated[Path, typer.Option(help="Your site's private key, as `secagg keys new` wrote it.")],
    key: Annotated[Path, typer.Option(help="Where your part of the key will be; the same file for all three answers.")],
    out: NewFile,
    message: Annotated[
        Path | None, typer.Argument(metavar="[MESSAGE]", help="What the coordinator sent you; leave it out to begin.")
    ] = None,
    assume_honest_server: Honest = False,  # noqa: FBT002
) -> None:
    """Each site, three times: make your answer, and send it to the coordinator.

    Begin without a message. The coordinator sends you one once all sites have answered, and again a second one; answer
    both. The last answer comes with your part of the key, in KEY, which you alone can read.

        secagg threshold answer heart.agreement --roster heart.roster --identity bern.key --key bern.threshold
            --out bern.1

    What you send is public, or sealed to the site that it is for. KEY, KEY.rounds, KEY.setup and KEY.setup.rounds never
    leave this machine. KEY.setup holds secrets until your last answer, and none afterwards. Do not copy any of them,
    nor put them back from a backup: two copies do not know of each other's rounds, and that can give your data
    away. Interrupted? Run the same command again: the same message gets the same answer.
    """
    from secagg.homomorphic.threshold import ThresholdKey  # noqa: PLC0415
    from secagg.homomorphic.threshold_files import MESSAGE_MOST_BYTES, Agreement, read, write_new  # noqa: PLC0415
    from secagg.homomorphic.threshold_files import answer as make_answer  # noqa: PLC0415
    from secagg.identity import Identity, Roster  # noqa: PLC0415

    with reporting("threshold answer"):
        setup = Agreement.load(agreement).setup(Roster.load(roster), assume_honest_server=assume_honest_server)
        received = None if message is None else read(message, MESSAGE_MOST_BYTES)
        made = make_answer(setup, Identity.load(identity), key, received)
        write_new(out, made)
        finished = ThresholdKey.load(key).context if key.exists() else None
    typer.echo(f"written: {out} ({len(made):,} bytes). Send it to the coordinator.")
    if finished is None:
        typer.echo("Your next message comes back once every site has answered.")
    else:
        typer.echo(f"your part of the key: {key}  (keep it here; only you can read it)")
        _print_context(finished)


@threshold.command("relay")
def relay(
    agreement: AgreementFile,
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWER...", help="All answers of all sites so far.")],
    roster: RosterFile,
    out: Annotated[Path, typer.Option(help="Folder to make. Must not exist: nothing is ever overwritten.")],
    assume_honest_server: Honest = False,  # noqa: FBT002
) -> None:
    """Coordinator: make the sites' next messages of all their answers so far, one file for each site.

    Whoever does this learns nothing that a server does not, and needs no key. Give all answers each time, those of
    earlier rounds too; their names do not matter. Sites whose answer is missing are named.

        secagg threshold relay heart.agreement *.1 *.2 --roster heart.roster --out third

    After the third round OUT holds one file, threshold.context: the public side of the key, for the server of the sums.
    """
    from secagg.homomorphic.threshold import ThresholdContext  # noqa: PLC0415
    from secagg.homomorphic.threshold_files import (  # noqa: PLC0415
        MESSAGE_MOST_BYTES,
        Agreement,
        file_name,
        read,
        write_new_folder,
    )
    from secagg.homomorphic.threshold_files import relay as pass_on  # noqa: PLC0415
    from secagg.identity import Roster  # noqa: PLC0415

    with reporting("threshold relay"):
        setup = Agreement.load(agreement).setup(Roster.load(roster), assume_honest_server=assume_honest_server)
        made = pass_on(setup, {path: read(path, MESSAGE_MOST_BYTES) for path in answers})
        if isinstance(made, ThresholdContext):
            write_new_folder(out, {"threshold.context": made.to_bytes()})
        else:
            write_new_folder(out, {file_name(setup, client): message for client, message in made.items()})
    if isinstance(made, ThresholdContext):
        typer.echo(f"written: {out / 'threshold.context'}. Every site holds its part; give this file to the server.")
        _print_context(made)
        return
    for client in made:
        typer.echo(f"written: {out / file_name(setup, client)}. Send it to {client}.")


@threshold.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="An agreement, a threshold.context, or your part of a key.")],
) -> None:
    """Show what an agreement or a key is for, in which rounds it serves, and how far it is used. Nothing secret.

        secagg threshold show heart.agreement

    All sites and the server hold parts of one key if, and only if, they see the same fingerprint.
    """
    from secagg.homomorphic.threshold import CONTEXT_MOST_BYTES, ThresholdContext, ThresholdKey  # noqa: PLC0415
    from secagg.homomorphic.threshold_files import AGREEMENT_MOST_BYTES, Agreement, naming  # noqa: PLC0415

    with reporting("threshold show"), naming(file):
        with file.open("rb") as opened:
            head = opened.read(CONTEXT_MOST_BYTES + 1)
            rest = opened.read(AGREEMENT_MOST_BYTES) if head.startswith(b"{") else b""
        if head.startswith(b"{"):
            _print_agreement(Agreement.from_bytes(head + rest))
        elif len(head) <= CONTEXT_MOST_BYTES:
            _print_context(ThresholdContext.from_bytes(head))
        else:
            key = ThresholdKey.load(file)
            used = key.last_round
            _print_context(key.context)
            typer.echo(f"this part:    place {key.position} of the roster; keep it here")
            typer.echo(f"used up to:   {'no round yet' if used is None else f'round {used}'}")


@threshold.command("refresh")
def refresh(
    agreement: AgreementFile,
    roster: RosterFile,
    out: NewFile,
    number: Annotated[
        int | None,
        typer.Option("--round", help="Round of the new set-up, higher than any begun. Default: when the key ends."),
    ] = None,
    assume_honest_server: Honest = False,  # noqa: FBT002
) -> None:
    """Coordinator: write the agreement on the next key of the same plan and session.

    A key serves a stated number of rounds (secagg threshold show), and is replaced earlier where a site's part may have
    been read. Sites then answer as for the first key, with a new KEY file. A roster of as many sites may take the place
    of the old one, if a site has a new identity; otherwise propose a new plan. Once the new key is set up, every site
    deletes the old KEY: whoever collects as many as open a sum opens all that was ever uploaded under it.

        secagg threshold refresh heart.agreement --roster heart.roster --round 600 --out heart-2.agreement
    """
    from secagg.homomorphic.threshold_files import Agreement, write_new  # noqa: PLC0415
    from secagg.identity import Roster  # noqa: PLC0415

    with reporting("threshold refresh"):
        before = Agreement.load(agreement)
        made = before.refresh(Roster.load(roster), number, assume_honest_server=assume_honest_server)
        write_new(out, made.to_bytes())
    _print_agreement(made)
    typer.echo(f"\nwritten: {out}. Send it to every site; each answers with a new --key file.")


def _print_agreement(made: Agreement) -> None:
    from secagg.planning import explain  # noqa: PLC0415

    plan = made.plan
    typer.echo(f"sums:         {plan.length:,} coordinates of {plan.modulus_bits} bits, of {plan.clients} sites")
    for subject, sentence in explain(plan).items():
        typer.echo(f"{subject + ':':13} {sentence}")
    typer.echo(f"set-up:       round {made.round}; the key serves rounds {made.round + 1} to {made.last_round}")
    typer.echo(f"session:      {made.session.hex()}")
    typer.echo(f"roster:       {made.roster.hex()}")


def _print_context(context: ThresholdContext) -> None:
    made = context.parameters
    first, last = context.round + 1, context.round + made.rounds
    typer.echo(f"fingerprint:  {context.fingerprint.hex()}")
    typer.echo(
        f"opens sums:   {made.threshold} of {made.clients} sites together, {made.classical_bits} bits of security"
    )
    typer.echo(f"serves:       rounds {first} to {last} of session {context.session.hex()}")
