"""The command ``posekit``: one verb for each thing that is done from a shell, one module for each group of verbs.

Exit codes: 0 done; 1 done, and the answer is bad (a notebook failed, a file has problems, a row cannot be reproduced);
2 not done, with one sentence why; 130 interrupted. ``--json`` prints one JSON value on stdout and nothing else there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from posekit.cli import ablate, bench, claims, course, data, networks, train

GROUPS = (course, data, claims, train, ablate, networks, bench)  # in the order of --help; each has add_verbs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        ours = type(error).__module__.startswith("posekit.")
        if options.traceback or not (ours or isinstance(error, (ValueError, OSError, KeyError, ImportError))):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"posekit{_process()}: {message}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb's help ends with an example. Only argparse is needed, so --help is quick."""
    parser = argparse.ArgumentParser(prog="posekit", description="2D human pose estimation: course, analysis, scores.")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for group in GROUPS:
        group.add_verbs(verbs)
    return parser


def _process() -> str:
    """Which of several processes speaks."""
    size = os.environ.get("WORLD_SIZE", "1")
    return "" if size == "1" else f" (process {os.environ.get('RANK', '?')} of {size})"
