"""Claims, the tests that decide them, and the ledger of every recorded run."""

from posekit.experiments.claims import Claim, claims, published_rows
from posekit.experiments.ledger import NOT_RUN, VERDICTS, Cell, LedgerError, Row, Scope
from posekit.experiments.runner import Experiment, Judgement, Measurement, arrays_of, run
from posekit.experiments.summary import Line, claims_json, format_claims, interval_count, lines, verdict_counts
from posekit.experiments.verification import Verified, verify

__all__ = [
    "EXPERIMENTS",
    "NOT_RUN",
    "VERDICTS",
    "Cell",
    "Claim",
    "Experiment",
    "Judgement",
    "LedgerError",
    "Line",
    "Measurement",
    "Row",
    "Scope",
    "Verified",
    "arrays_of",
    "claims",
    "claims_json",
    "format_claims",
    "interval_count",
    "lines",
    "published_rows",
    "run",
    "verdict_counts",
    "verify",
]


def __getattr__(name: str):
    # The tests pull in codecs, metrics and data; reading the claims table needs none of them.
    if name == "EXPERIMENTS":
        from posekit.experiments.catalogue import EXPERIMENTS

        return EXPERIMENTS
    raise AttributeError(f"module 'posekit.experiments' has no attribute {name!r}")
