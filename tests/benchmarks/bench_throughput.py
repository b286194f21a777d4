"""Training end to end, from pictures on disk to steps: ours against the plain loop, on one device.

The plain loop is what pose repositories do: decode, cut, normalise and draw the target of every sample by itself (in
worker processes on a GPU), float32, the default memory layout. Ours is an arm of the ablations: crops from pictures in
memory (the device's on a GPU), targets by the batch, bfloat16, channels_last. The share of the matrix-product rate is
2 x multiply-adds x 3 (forward, and twice that backward) x crops a second, by what one large product reaches on this
device in the same precision. Times leave the first quarter of the steps out, and on a CPU they are the process' own.

The loader's idle share is by the wall clock: how long the loop stood still for its next batch. Crops are cut ahead by
a thread where there is a second core, so beside it stands what cutting costs: the processor time of the loader alone,
pictures decoded, as a share of the run's. Where other processes hold all cores, the first is between 0 and the second.

    python tests/benchmarks/bench_throughput.py [--model NAME] [--device cuda] [--batch 24] [--steps 40] [--full]
    python tests/benchmarks/bench_throughput.py --scenes 3000 --full     # the quick profile's pictures, each decoded
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import common  # sets one thread before NumPy and torch load

ARM = 45_000  # crops of a quick arm
LIMIT = 90.0  # seconds of one core that it may take


def main() -> None:
    import torch

    import posekit
    from posekit import analysis, inference
    from posekit.data import Mannequin

    parser = common.arguments(__doc__)
    parser.add_argument("--model", default="tiny_simple_baseline")
    parser.add_argument("--input-size", type=int, nargs=2, default=(96, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--scenes", type=int, default=120, help="pictures of the training set")
    parser.add_argument("--workers", type=int, help="processes of the plain loop (4 on a GPU, else 0)")
    parser.add_argument("--full", action="store_true", help=f"also run a whole arm of {ARM} crops")
    parser.set_defaults(rounds=3)
    options = parser.parse_args()
    device = inference.pick_device(options.device)
    on_gpu = device.type == "cuda"
    workers = options.workers if options.workers is not None else 4 * on_gpu
    if not on_gpu:
        torch.set_num_threads(1)
    clock = time.perf_counter if on_gpu else time.process_time
    people = Mannequin("train", level="bib", scenes=options.scenes, device=device.type).trainable()

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return posekit.create_model(options.model, input_size=tuple(options.input_size))

    shares: list[float] = []

    def ours() -> float:
        seconds, share = fit(network(), people, options.steps, options.batch, device, clock)
        shares.append(share)
        return seconds

    cases = {
        "posekit": ours,
        "plain loop": lambda: plain(network(), people, options.steps, options.batch, device, clock, workers),
    }
    seconds = common.interleave(cases, rounds=options.rounds, clock=clock)
    title = f"{options.model} {tuple(options.input_size)}, batch {options.batch}, {name_of(device)}, {people.name}"
    table = common.report(title, seconds, reference="posekit", per=1, unit="crop")

    gigaflops = 6 * analysis.complexity(network()).giga
    # The plain loop's convolutions run in TF32 on a GPU, torch's default for them, so its rate is measured there too.
    torch.backends.cuda.matmul.allow_tf32 = on_gpu
    kinds = {"posekit": torch.bfloat16 if inference.has_bf16(device) else torch.float32, "plain loop": torch.float32}
    peaks = {kind: peak(device, kind, clock) for kind in set(kinds.values())}
    print(f"\n  {'case':16}{'crops/s':>10}{'GFLOP/s':>10}{'of matmul rate':>16}")
    facts = {}
    for case, kind in kinds.items():
        named = "tf32" if on_gpu and kind == torch.float32 else str(kind).removeprefix("torch.")
        rate = 1 / table[case]["median"]
        best = peaks[kind]
        print(f"  {case:16}{rate:10.0f}{rate * gigaflops:10.1f}{rate * gigaflops / best:15.1%} of {best:.0f} ({named})")
        facts[case] = {
            "crops_per_second": rate,
            "gflops": rate * gigaflops,
            "share_of_matmul": rate * gigaflops / best,
            "kind": named,
        }
    facts["posekit"]["loader_share"] = share = statistics.median(shares[1:])
    ratio = table["plain loop"]["ratio"]
    print(f"  {ratio:.2f} times the plain loop; the loop waits for the loader {share:.1%} of the time")
    if not on_gpu:
        cutting = cut(people, options.steps, options.batch, tuple(options.input_size))
        facts["posekit"]["cutting_share"] = cutting / table["posekit"]["median"]
        print(f"  cutting takes {cutting * 1e3:.3f} ms a crop, {cutting / table['posekit']['median']:.1%} of the work")
    slice_ = ARM * table["posekit"]["median"]
    print(f"  an arm of {ARM} crops: {slice_:.0f} s, extrapolated from {options.steps} steps (limit {LIMIT:.0f} s)")
    facts |= {"ratio": ratio, "arm_seconds_extrapolated": slice_, "device": name_of(device)}
    if options.full:
        begin = clock()
        _, share = fit(network(), people, ARM // options.batch, options.batch, device, clock, whole=True)
        facts["arm_seconds"], facts["arm_loader_share"] = clock() - begin, share
        print(f"  an arm of {ARM} crops, run whole, start included: {facts['arm_seconds']:.0f} s, {share:.1%} idle")
    common.write(options.json, {"versions": common.versions("torch", "numpy"), "throughput": facts})


def name_of(device) -> str:
    import torch

    from posekit.experiments.environment import hardware

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{hardware()['model']}, one thread"


def fit(
    model, people, steps: int, batch: int, device, clock: Callable[[], float], whole: bool = False
) -> tuple[float, float]:
    """Seconds a crop after the first quarter, and the share of the wall time since then, or since the start when
    ``whole``, that the loop waited for the loader."""
    from posekit import training

    marks: list[tuple[int, float, float, float]] = []

    def log(record: dict) -> None:
        wall = record["step"] * batch / record["samples_per_second"]
        marks.append((record["step"], clock(), wall, wall * record["loader_share"]))

    with tempfile.TemporaryDirectory() as folder:
        recipe = training.recipes.quick_ce(steps * batch, batch_size=batch)
        training.fit(
            model, people, None, recipe, out_dir=folder, seed=0, device=device, progress=False, on_log=log,
            log_every=max(steps // 4, 1), checkpoint_seconds=1e9,
        )  # fmt: skip
    (first, begin, start, before), (last, end, stop, waited) = marks[0], marks[-1]
    share = waited / stop if whole else (waited - before) / (stop - start)
    return (end - begin) / ((last - first) * batch), share


def cut(people, steps: int, batch: int, size: tuple[int, int]) -> float:
    """Processor seconds a crop of the loader alone, after its first quarter."""
    from posekit import training
    from posekit.data import CropLoader

    loader = CropLoader(
        people, size, batch_size=batch, augmentation=training.recipes.quick_ce().augmentation, shuffle=True,
        drop_last=True, cache_images=True,
    )  # fmt: skip
    done, begin, epoch = 0, 0.0, 0
    while done < steps:
        loader.set_epoch(epoch)
        for _ in loader:
            done += 1
            if done == steps // 4:
                begin = time.process_time()
            if done == steps:
                break
        epoch += 1
    return (time.process_time() - begin) / ((steps - steps // 4) * batch)


def plain(model, people, steps: int, batch: int, device, clock: Callable[[], float], workers: int) -> float:
    """Seconds a crop of the plain loop after its first quarter."""
    import torch

    model.to(device=device, memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(
        PerSample(people, model, steps * batch), batch_size=batch, num_workers=workers, pin_memory=device.type == "cuda"
    )
    first = steps // 4
    for step, (images, targets, weights) in enumerate(loader):
        prediction = model(images.to(device, non_blocking=True))
        weights = weights.to(device, non_blocking=True)[..., None, None]
        error = (prediction - targets.to(device, non_blocking=True)) * weights
        loss = error.square().mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        if step == first - 1:
            begin = clock()
    return (clock() - begin) / ((steps - first) * batch)


class PerSample:
    """A dataset of one normalised crop with its target, weights and nothing kept: decode, cut, draw."""

    def __init__(self, people, model, count: int) -> None:
        self.people, self.codec, self.size, self.count = people, model.codec, model.input_size, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(self.count))

    def __getitem__(self, index: int):
        import numpy as np
        import torch
        from bench_training import gaussians_one_by_one

        from posekit import geometry
        from posekit.data.augmentation import Augmentation
        from posekit.data.images import IMAGENET_MEAN, IMAGENET_STD, read_image, warp

        if index >= self.count:
            raise IndexError(index)
        one = self.people.people.select(np.array([index % len(self.people.people)]))
        view = Augmentation(scale=0.15, rotation=20, half_body=0.0).draw(
            one.keypoints, one.visibility, one.box, size=self.size, skeleton=one.skeleton,
            rng=np.random.default_rng(index),
        )  # fmt: skip
        affine = geometry.crop_affine(view.box, self.size, rotation=view.rotation, flip=view.flip)
        points = geometry.transform_points(affine, one.keypoints)[0]
        seen = one.visibility[0] > 0
        if view.flip[0]:
            points, seen = points[one.skeleton.flip_index], seen[one.skeleton.flip_index]
        crop = np.empty((*self.size, 3), np.uint8)
        warp(read_image(self.people.image_file(int(one.image_index[0]))), affine[0], crop)
        image = (torch.from_numpy(crop).permute(2, 0, 1).float() / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / (
            torch.tensor(IMAGENET_STD).view(3, 1, 1)
        )
        target = gaussians_one_by_one(points.astype(np.float32), self.codec)
        return image, torch.from_numpy(target), torch.from_numpy(seen.astype(np.float32))


def peak(device, kind, clock: Callable[[], float]) -> float:
    """GFLOP/s of one large product of square matrices, the best of five."""
    import torch

    n, repeats = (8192, 10) if device.type == "cuda" else (768, 2)
    a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        begin = clock()
        for _ in range(repeats):
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (clock() - begin) / repeats)
    return 2 * n**3 / best / 1e9


if __name__ == "__main__":
    main()
