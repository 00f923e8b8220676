"""`secagg dp`: privacy accounting on the command line. Only typer is imported here, so that `--help` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True)

_EPSILON_HELP = (
    "Compute ε for training with noisy sums (DP-SGD): an upper bound, by Rényi DP.\n\n"
    "ε bounds what the released models reveal about one unit: whatever an attacker observes is at most e^ε times as "
    "likely with that unit's data as without. At ε = 0 nothing is revealed; at 1 the factor is 2.7; at 10 it is 22026, "
    "which promises little. More noise lowers ε, more steps raise it.\n\n"
    "δ is the slack of that promise: read it as the chance that it fails. Fix it beforehand, well below 1 / number of "
    "units.\n\n"
    "The unit says whose data are protected: 'example' is one row, not a patient with twenty rows; for 'patient', "
    "clipping must bound the joint contribution of all rows of a patient; likewise for 'institution'.\n\n"
    "The relation says what is compared: the data with and without the unit (add-or-remove-one), with another unit in "
    "its place (replace-one), or with its contribution set to zero (zero-out). ε values of different units or "
    "relations must not be compared.\n\n"
    "The number holds only for batches drawn as stated: shuffled batches of a fixed size are not Poisson samples.\n\n"
    "Example: 1000 steps, each patient in a step with a chance of 1 %, noise as large as the clipping norm:\n\n"
    "  secagg dp epsilon --noise-multiplier 1 --sampling-probability 0.01 \\\n"
    "      --steps 1000 --delta 1e-5 --unit patient"
)


@app.callback()
def dp() -> None:
    """Say what a release costs in privacy, and what noise pays for it."""


@app.command(help=_EPSILON_HELP, no_args_is_help=True)
def epsilon(
    noise_multiplier: Annotated[
        float,
        typer.Option(help="Standard deviation of the Gaussian noise / clipping norm of one unit's contribution."),
    ],
    steps: Annotated[int, typer.Option(help="How many noisy sums are released.")],
    delta: Annotated[float, typer.Option(help="δ in (0, 1), well below 1 / number of units, for example 1e-5.")],
    sampling_probability: Annotated[
        float,
        typer.Option(help="Chance of a unit to be in a step, drawn afresh on its own (Poisson sampling); 1: always."),
    ] = 1.0,
    unit: Annotated[
        str, typer.Option(metavar="UNIT", help="Whose data are protected: example, patient or institution.")
    ] = "example",
    relation: Annotated[
        str,
        typer.Option(metavar="RELATION", help="How data sets differ: add-or-remove-one, replace-one or zero-out."),
    ] = "add-or-remove-one",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print ε with δ, unit and relation."""
    from dp.errors import PrivacyError  # noqa: PLC0415
    from dp.events import Gaussian, PoissonSampled, check_neighboring_relation, check_unit  # noqa: PLC0415
    from dp.ledger import Ledger  # noqa: PLC0415
    from secagg.cli import fail  # noqa: PLC0415

    try:
        ledger = Ledger(unit=check_unit(unit), neighboring_relation=check_neighboring_relation(relation))
        ledger.compose(PoissonSampled(sampling_probability, Gaussian(noise_multiplier)), steps)
        spent = ledger.spent(delta)
    except (PrivacyError, ValueError) as error:
        fail("dp epsilon", error, code=2)
    if as_json:
        import msgspec  # noqa: PLC0415

        inputs = {"noise_multiplier": noise_multiplier, "sampling_probability": sampling_probability, "steps": steps}
        typer.echo(msgspec.json.encode(msgspec.to_builtins(spent) | inputs).decode())
    else:
        typer.echo(spent)
        typer.echo(f"{steps} steps, noise multiplier {noise_multiplier}, sampling probability {sampling_probability}")
