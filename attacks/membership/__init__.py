"""Was this record in the training set? Attacks on whoever holds the finished model.

Every attack takes log-odds, `Ensemble.log_odds`, and returns scores that are higher for members. A score says little by
itself: report its AUC and its true positive rate at a low false positive rate over many records and several models.
For measuring models one is responsible for, on records one already holds.
"""

from attacks.membership.lira import lira_scores
from attacks.membership.loss_threshold import loss_threshold_scores
from attacks.membership.rmia import rmia_scores
from attacks.membership.shadows import Ensemble, PrivateSgd, Training, halves, train_together
from attacks.membership.study import Leak, MembershipStudy, Records, membership_study

__all__ = [
    "Ensemble",
    "Leak",
    "MembershipStudy",
    "PrivateSgd",
    "Records",
    "Training",
    "halves",
    "lira_scores",
    "loss_threshold_scores",
    "membership_study",
    "rmia_scores",
    "train_together",
]
