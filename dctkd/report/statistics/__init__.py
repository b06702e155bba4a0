"""What is said of numbers: intervals of one, tests between two methods, ranks of many over blocks."""

from dctkd.report.statistics.intervals import (
    ALPHA,
    CONFIDENCE,
    Summary,
    bootstrap_accuracy,
    bootstrap_mean_class_accuracy,
    paired_difference,
    prediction_interval,
    summarise,
)
from dctkd.report.statistics.pairwise import (
    BestComparison,
    McNemar,
    PairedTest,
    against_best,
    compare,
    holm,
    mcnemar,
)
from dctkd.report.statistics.ranking import (
    MIN_BLOCKS,
    MIN_METHODS,
    Ranking,
    SignedRank,
    complete_blocks,
    rank,
    signed_rank,
)

__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "MIN_BLOCKS",
    "MIN_METHODS",
    "BestComparison",
    "McNemar",
    "PairedTest",
    "Ranking",
    "SignedRank",
    "Summary",
    "against_best",
    "bootstrap_accuracy",
    "bootstrap_mean_class_accuracy",
    "compare",
    "complete_blocks",
    "holm",
    "mcnemar",
    "paired_difference",
    "prediction_interval",
    "rank",
    "signed_rank",
    "summarise",
]
