"""Codecs against floors: how many times the cost of touching the maps once.

``python tests/benchmarks/bench_codecs.py [--rounds N] [--json FILE]``; one thread, process CPU clock, batches of 64
people of 17 keypoints, all cases of a size interleaved round by round. A ratio is between medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from posekit.codecs import GaussianHeatmap, SimCC

BATCH, K = 64, 17
# (size, sigma): encode may cost this many times zeroing the maps, the decoders this many times one argmax.
SIZES = {(64, 48): (2.0, {"encode": 4.0, "quarter": 2.5, "dark": 5.0}),
         (256, 192): (6.0, {"encode": 2.0, "quarter": 1.3, "dark": 1.6})}  # fmt: skip
ENCODE_CASES = ("zero", "encode", "encode, new memory")


def medians(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds per call of each case: one call of every case per round, median over rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 2):
        for name, case in cases.items():
            start = time.process_time()
            case()
            if turn >= 2:
                seconds[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def bench(size: tuple[int, int], sigma: float, rounds: int) -> dict[str, float]:
    h, w = size
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(BATCH, K, 2, generator=generator) * torch.tensor([192.0, 256.0])
    visibility = torch.ones(BATCH, K)
    codec = GaussianHeatmap(stride=256 // h, sigma=sigma)
    decoders = {
        "quarter": codec,
        "dark": GaussianHeatmap(stride=256 // h, sigma=sigma, decoder="dark"),
        "udp": GaussianHeatmap(stride=256 // h, sigma=sigma, protocol="udp", decoder="dark"),
    }
    out = torch.empty(BATCH, K, h, w)
    encoding = medians(
        {
            "zero": lambda: out.zero_(),
            "encode": lambda: codec.encode(keypoints, visibility, out=out),
            "encode, new memory": lambda: codec.encode(keypoints, visibility),
        },
        rounds,
    )
    # Noise as a network's: a noiseless rounded map has no gradient to follow.
    maps = codec.encode(keypoints, visibility)[0] + 0.02 * torch.randn(out.shape, generator=generator)
    rows = maps.numpy().reshape(BATCH * K, h * w)
    decoding = medians(
        {"read": lambda: rows.argmax(1), **{name: lambda c=c: c.decode(maps) for name, c in decoders.items()}}, rounds
    )
    return {**encoding, **decoding}


def bench_simcc(rounds: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(BATCH, K, 2, generator=generator) * torch.tensor([192.0, 256.0])
    codec, raw = SimCC(), SimCC(score="peak")
    labels, _ = codec.encode(keypoints, torch.ones(BATCH, K))
    return medians(
        {
            "zero": lambda: (labels[0].zero_(), labels[1].zero_()),
            "encode": lambda: codec.encode(keypoints, torch.ones(BATCH, K), out=labels),
            "read": lambda: (labels[0].numpy().argmax(-1), labels[1].numpy().argmax(-1)),
            "decode": lambda: codec.decode(labels),
            "decode, raw score": lambda: raw.decode(labels),
        },
        rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    print(f"{'maps':>9} {'case':<20} {'us/sample':>9} {'x floor':>8} {'target':>7}")
    for size, (sigma, targets) in SIZES.items():
        name = f"{size[0]}x{size[1]}"
        seconds = bench(size, sigma, arguments.rounds)
        for case, value in seconds.items():
            ratio = value / seconds["zero" if case in ENCODE_CASES else "read"]
            results[f"{name} {case}"] = {
                "us_per_sample": value * 1e6 / BATCH,
                "ratio": ratio,
                "target": targets.get(case),
            }
    seconds = bench_simcc(arguments.rounds)
    for case, value in seconds.items():
        ratio = value / seconds["zero" if case in ENCODE_CASES else "read"]
        results[f"simcc {case}"] = {"us_per_sample": value * 1e6 / BATCH, "ratio": ratio, "target": None}
    for case, row in results.items():
        name, label = case.split(" ", 1)
        target = f"<= {row['target']}" if row["target"] else ""
        print(f"{name:>9} {label:<20} {row['us_per_sample']:9.1f} {row['ratio']:8.2f} {target:>7}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": 1, "torch": torch.__version__, "cases": results}, indent=1))


if __name__ == "__main__":
    main()
