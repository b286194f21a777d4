"""Verbs on the claims table and its ledger."""

from __future__ import annotations

import argparse
from typing import Any

from posekit.cli.common import Arguments, UsageError, add_group, add_ledger_option, add_verb, print_result


def claims_list(options: Arguments) -> int:
    from posekit.experiments import claims, claims_json, format_claims

    found = claims(folder=options.ledger)
    print_result(options, claims_json(found), format_claims(found))
    return 0


def claims_show(options: Arguments) -> int:
    from posekit.experiments import claims, claims_json, format_claims, published_rows

    found = [claim for claim in claims(folder=options.ledger) if claim.id.lower() == options.claim.lower()]
    if not found:
        raise UsageError(f"there is no claim '{options.claim}'; posekit claims list names them")
    rows = published_rows(found[0])
    printed = "\n".join("     " + ", ".join(f"{key} {value}" for key, value in row.items() if value) for row in rows)
    text = format_claims(found, detail=True).rsplit("\n\n", 1)[0]
    print_result(options, {**claims_json(found)[0], "published_rows": rows}, f"{text}\n{printed}".rstrip())
    return 0


def claims_verify(options: Arguments) -> int:
    from posekit.experiments import verify

    checked = verify(options.rows, folder=options.ledger)
    plain = [
        {
            "test": one.row.test,
            "seed": one.row.seed,
            "ok": one.ok,
            "metric": one.metric,
            "difference": one.difference,
            "allowed": one.allowed,
            "verdict_follows": one.follows,
        }
        for one in checked
    ]
    lines = [
        f"{'ok' if p['ok'] else 'DIFFERS':<8} {p['test']}, seed {p['seed']}: {p['metric']} by {p['difference']:.3g}, "
        f"allowed {p['allowed']:.3g}"
        + ("" if p["verdict_follows"] else "; the verdict does not follow from the recorded numbers")
        for p in plain
    ]
    print_result(options, plain, "\n".join(lines))
    return 0 if all(one.ok for one in checked) else 1


def claims_run(options: Arguments) -> int:
    from posekit.experiments import run
    from posekit.experiments.ablations import ABLATIONS

    if options.test in ABLATIONS:
        raise UsageError(f"test '{options.test}' is made of training runs; posekit ablate {options.test} runs it")
    rows = run(options.test, profile=options.profile, seeds=options.seeds, record=options.record, folder=options.ledger)
    plain = [{"test": r.test, "seed": r.seed, "verdict": r.verdict, "reason": r.reason} for r in rows]
    lines = [f"{r.test}, seed {r.seed}: {(r.verdict or '').upper()}. {r.reason}" for r in rows]
    print_result(options, plain, "\n".join(lines))
    return 0


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no seed; give whole numbers from 0")
    return int(text)


def add_verbs(verbs: Any) -> None:
    """``claims``, which alone is ``claims list``."""
    does = "what the papers claim and what became of it here"
    group = add_group(verbs, "claims", does, "posekit claims show H13", alone=claims_list)
    one = add_verb(group, "list", claims_list, "every claim with its verdicts", "posekit claims list")
    add_ledger_option(one)
    one = add_verb(group, "show", claims_show, "one claim with its cells and commands", "posekit claims show H13")
    one.add_argument("claim", help="id, as claims list shows it")
    add_ledger_option(one)
    one = add_verb(group, "run", claims_run, "run the test behind claims", "posekit claims run oks_scale --seeds 0 1")
    one.add_argument("test", help="a test's name")
    one.add_argument("--profile", default="quick")
    one.add_argument("--seeds", type=_seed, nargs="+", default=[0])
    one.add_argument("--record", action="store_true", help="append to the ledger")
    add_ledger_option(one)
    one = add_verb(group, "verify", claims_verify, "run recorded rows again", "posekit claims verify --rows 3")
    one.add_argument("--rows", type=int, default=3)
    add_ledger_option(one)
