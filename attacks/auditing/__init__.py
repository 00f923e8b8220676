"""Does a mechanism keep the ε it claims? Canaries, lower bounds on ε from their traces, and tests of its parts."""

from attacks.auditing.bound import LowerBound
from attacks.auditing.canaries import ClientCanaries, GradientCanaries, InputCanaries
from attacks.auditing.checks import clipping_p_value, fit_p_value, sampler_p_value, variance_p_value
from attacks.auditing.gaussian import gaussian_epsilon, gaussian_estimate
from attacks.auditing.multi_run import best_threshold, multi_run_bound
from attacks.auditing.one_run import epsilon_from_guesses, one_run_bound, one_run_p_value

__all__ = [
    "ClientCanaries",
    "GradientCanaries",
    "InputCanaries",
    "LowerBound",
    "best_threshold",
    "clipping_p_value",
    "epsilon_from_guesses",
    "fit_p_value",
    "gaussian_epsilon",
    "gaussian_estimate",
    "multi_run_bound",
    "one_run_bound",
    "one_run_p_value",
    "sampler_p_value",
    "variance_p_value",
]
