"""``python -m posekit.experiments oks_scale --profile quick --seeds 0 1 2 --record``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from posekit.experiments import LedgerError, claims, format_claims, run, verify
from posekit.experiments.catalogue import EXPERIMENTS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m posekit.experiments",
        description="Run tests of the claims table. Without a test's name: print the table.",
        epilog="example: python -m posekit.experiments oks_scale --profile quick --seeds 0 1 2",
    )
    parser.add_argument("tests", nargs="*", metavar="TEST", help=f"'all' or some of: {', '.join(EXPERIMENTS)}")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--record", action="store_true", help="append the rows to the ledger")
    parser.add_argument("--ledger", type=Path, help="ledger folder; data/ledger by default")
    parser.add_argument("--verify", type=int, metavar="ROWS", help="rerun this many recorded rows and compare")
    options = parser.parse_args()
    if options.verify:
        checked = verify(options.verify, folder=options.ledger)
        for one in checked:
            word = "ok" if one.ok else "DIFFERS"
            print(f"{word}  {one.row.test}, seed {one.row.seed}: by {one.difference:.3g}, allowed {one.allowed:g}")
        return 0 if all(one.ok for one in checked) else 1
    if not options.tests:
        print(format_claims(claims(folder=options.ledger)))
    for name in EXPERIMENTS if options.tests == ["all"] else options.tests:
        for row in run(
            name, profile=options.profile, seeds=options.seeds, record=options.record, folder=options.ledger
        ):
            print(f"{row.test}, seed {row.seed}, {row.wall_s:.1f} s: {(row.verdict or '').upper()}. {row.reason}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LedgerError as error:
        sys.exit(str(error))
