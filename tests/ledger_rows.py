"""Ledger rows for tests that need some."""

from __future__ import annotations

from posekit.experiments import Cell, Row, Scope, ledger


def make_row(seed: int = 0, **changes) -> Row:
    config = {"samples": 10}
    values = {
        "test": "quantization", "claims": ("S10",), "kind": "bound", "scope": Scope("ideal heatmaps", "quick"),
        "config": config, "config_hash": ledger.config_hash(config), "seed": seed, "commit": "0" * 40,
        "versions": {"python": "3.12"}, "hardware": {"device": "cpu"}, "wall_s": 1.0, "metrics": {"error": 0.5 + seed},
        "tolerance": 0.1, "verdict": "reproduced", "intervals": {"error": (0.4, 0.6)},
        "cells": (Cell("error, px", 0.5, "reproduced", "0.38", (0.4, 0.6)),),
    }  # fmt: skip
    return Row(**{**values, **changes})
