"""What a release costs in privacy, and what noise pays for it.

Say what was released as events, book them in a ledger, read ε at a δ; ε never comes without δ, the unit whose data may
differ, and how they may differ.

>>> import dp
>>> step = dp.PoissonSampled(0.01, dp.Gaussian(noise_multiplier=1.0))
>>> ledger = dp.Ledger(unit="patient", neighboring_relation="add-or-remove-one")
>>> ledger.compose(step, 1_000)
>>> print(ledger.spent(delta=1e-5))
ε ≤ 2.1009 at δ = 1e-05 (unit: patient, relation: add-or-remove-one; RDP upper bound)
>>> noise_multiplier = dp.calibrate_noise_multiplier(
...     lambda sigma: dp.Composed([(dp.PoissonSampled(0.01, dp.Gaussian(sigma)), 1_000)]),
...     target_epsilon=1.0, target_delta=1e-5, neighboring_relation="add-or-remove-one",
... )
>>> round(noise_multiplier, 3)
1.513

Scope: the events say what a mechanism did; that it did so (that noise was drawn from a good source, that the batches
were Poisson samples, that the divisor was public) is not checked here. Bounds are upper bounds by Rényi DP, in double
precision.
"""

from dp.calibration import calibrate_noise_multiplier
from dp.errors import CalibrationError, PrivacyError, UnsupportedEventError
from dp.events import Composed, Event, Gaussian, NeighboringRelation, PoissonSampled, Unit
from dp.ledger import Ledger, PrivacySpent, rdp_curve
from dp.rdp import RdpCurve

__all__ = [
    "CalibrationError",
    "Composed",
    "Event",
    "Gaussian",
    "Ledger",
    "NeighboringRelation",
    "PoissonSampled",
    "PrivacyError",
    "PrivacySpent",
    "RdpCurve",
    "Unit",
    "UnsupportedEventError",
    "calibrate_noise_multiplier",
    "rdp_curve",
]
