"""Scenes per second of the embedded dataset, one thread, and where the time goes.

    python tests/benchmarks/bench_mannequin.py [--json FILE] [--size 192x256] [--scenes 48] [--batch 3] [--device cpu]

The peer is one picture's work that anybody must do: encoding it as PNG. Ratios are to that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common  # sets one thread before NumPy and torch load


def main() -> None:
    import argparse

    import torch

    from posekit.data.mannequin import LEVELS
    from posekit.data.mannequin.dataset import encode_png
    from posekit.data.mannequin.records import annotation_records
    from posekit.data.mannequin.render import render
    from posekit.data.mannequin.scene import sample_scene

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", default="192x256")
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--level", default="natural", choices=list(LEVELS))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    height, width = (int(n) for n in arguments.size.split("x"))
    knobs = LEVELS[arguments.level]

    def draw():
        return [sample_scene(0, "train", i, knobs, (height, width)) for i in range(arguments.scenes)]

    scenes = draw()
    starts = range(0, len(scenes), arguments.batch)

    def pictures():
        return [made for i in starts for made in render(scenes[i : i + arguments.batch], device=arguments.device)]

    made = pictures()
    seconds = common.interleave(
        {
            "sampling scenes": draw,
            "rendering": pictures,
            "COCO records": lambda: [annotation_records(i, s, m) for i, (s, m) in enumerate(zip(scenes, made))],
            "encoding PNG": lambda: [encode_png(m.image) for m in made],
        },
        rounds=arguments.rounds,
    )
    people = sum(len(s.people) for s in scenes) / len(scenes)
    title = f"Mannequin {height}x{width}, {arguments.level}, {people:.2f} people a scene, batch {arguments.batch}"
    table = common.report(title, seconds, reference="encoding PNG", per=len(scenes), unit="scene")
    for kind in ("median", "min"):
        cost = {name: row[kind] for name, row in table.items()}
        total = sum(cost.values())
        print(f"  {1 / (total - cost['encoding PNG']):6.1f} scenes/s without PNG, {1 / total:6.1f} with it ({kind})")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
