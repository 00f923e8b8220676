"""Scripted liars: what a malicious server or client can try, and proof that each is named or gains nothing.

Threat model: the server may send anything to anybody and keep everything; one client may side with it, or lie on its
own. Every liar runs a real round with fresh identities, in memory. What came of it is computed, not assumed: all that
can be rebuilt from what was revealed is rebuilt, and the sum over every subset of the honest clients is tried.

>>> from secagg.adversary import LIARS, run_liar, shortfalls
>>> liar = next(liar for liar in LIARS if liar.name == "split survivor sets")
>>> outcome = run_liar(liar)
>>> {(reaction.error, reaction.culprits) for reaction in outcome.reactions}
{('FaultyServerError', ('server',))}
>>> outcome.revealed, outcome.opened, shortfalls(liar, outcome)
('', (), [])
"""

from secagg.adversary.client_liars import CLIENT_LIARS
from secagg.adversary.liar import Expectation, Liar, Outcome, Reaction, shortfalls
from secagg.adversary.runs import run_liar
from secagg.adversary.server_liars import SERVER_LIARS

__all__ = ["LIARS", "Expectation", "Liar", "Outcome", "Reaction", "run_liar", "shortfalls"]

LIARS: tuple[Liar, ...] = (*SERVER_LIARS, *CLIENT_LIARS)
"""Every scripted liar; who lies and the name of the lie are unique together."""
