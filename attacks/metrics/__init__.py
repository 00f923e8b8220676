"""How good a guess is: images, tables, labels, membership, each with what a guess without the update would reach."""

from attacks.metrics.images import match_images, mse, psnr, ssim
from attacks.metrics.intervals import Estimate, bootstrap, proportion
from attacks.metrics.matching import label_accuracy, match, nearest_neighbour_rank, squared_distances
from attacks.metrics.roc import (
    FEWEST_FALSE_POSITIVES,
    auc,
    auc_interval,
    roc_curve,
    tpr_at_fpr,
    tpr_at_fpr_interval,
)
from attacks.metrics.tables import (
    ExactMatches,
    best_prior,
    exact_matches,
    mode_record,
    plausible,
    prior_guesses,
    skill,
    tolerance_matches,
)

__all__ = [
    "FEWEST_FALSE_POSITIVES",
    "Estimate",
    "ExactMatches",
    "auc",
    "auc_interval",
    "best_prior",
    "bootstrap",
    "exact_matches",
    "label_accuracy",
    "match",
    "match_images",
    "mode_record",
    "mse",
    "nearest_neighbour_rank",
    "plausible",
    "prior_guesses",
    "proportion",
    "psnr",
    "roc_curve",
    "skill",
    "squared_distances",
    "ssim",
    "tolerance_matches",
    "tpr_at_fpr",
    "tpr_at_fpr_interval",
]
