"""Claims about cost: the sources' figures one by one, and the sentences they draw from them. No training, no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posekit.experiments.costs import CONVENTIONS, Printed, compare, count, network_costs, printed_figures
from posekit.experiments.ledger import REPRODUCED_UNDER, Cell
from posekit.experiments.runner import Experiment, Judgement, Measurement

TOLERANCE = 1e-9  # counts are whole numbers; only their division by 1e9 or 2^30 rounds
# "About three times", "a tenth", "slightly more": what a word says in round numbers holds within a quarter.
ROUND = 1.25

HRNET = ("hrnet_table1_coco_val", "hrnet_table2_coco_testdev")
DPN = ("dpn_table4_resolution", "dpn_table6_coco_val", "dpn_table7_mpii_test")
SRPOSE = ("srpose_coco_val",)
PARAMETERS = ("params, M", "backbone params, M", "other params, M")


# Figures one by one: H08, H09, D07, S05 -----------------------------------------------------------------------------


def _measure_figures(config: Mapping[str, Any], seed: int) -> Measurement:
    chosen = [figure for figure in printed_figures(config["tables"]) if figure.quantity in config["quantities"]]
    metrics: dict[str, float] = {}
    for figure in chosen[: config["figures"]]:
        metrics.update({f"{figure.key}, {reading}": value for reading, value in count(figure).items()})
    return Measurement(metrics)


def _judge_figures(tables: Sequence[str]) -> Callable[[Measurement], Judgement]:
    def judge(measurement: Measurement) -> Judgement:
        cells, readings = [], []
        for figure in printed_figures(tables):
            ours = _ours(measurement, figure)
            if not ours:
                continue
            compared = compare(figure, ours)
            cells.append(Cell(figure.key, compared.nearest, compared.verdict, figure.text))
            readings += [compared.reading] if compared.reading else []
        held = ", ".join(f"{readings.count(name)} under {name}" for name in dict.fromkeys(readings))
        reason = f"{len(readings)} of {len(cells)} figures are reproduced to the last digit: {held}."
        for word in ("contradicted", "undecided"):
            missed = [
                f"{cell.name} ({cell.published}, ours {cell.measured:.2f})" for cell in cells if cell.verdict == word
            ]
            reason += f" {word.capitalize()}: {'; '.join(missed)}." if missed else ""
        words = {cell.verdict for cell in cells}
        plain = next((word for word in ("contradicted", "undecided") if word in words), "")
        return Judgement(plain or REPRODUCED_UNDER + ", ".join(dict.fromkeys(readings)), reason, tuple(cells))

    return judge


def _ours(measurement: Measurement, figure: Printed) -> dict[str, float]:
    """A figure's counts by reading, from the names of the metrics."""
    start = f"{figure.key}, "
    return {name.removeprefix(start): value for name, value in measurement.metrics.items() if name.startswith(start)}


def _figures(name: str, claims: tuple[str, ...], question: str, tables: Sequence[str], quantities: Sequence[str]):
    config = {"tables": list(tables), "quantities": list(quantities)}
    return Experiment(
        name=name,
        claims=claims,
        kind="exact",
        question=question,
        dataset="none",
        profiles={"smoke": {**config, "figures": 2}, "quick": {**config, "figures": None}},
        measure=_measure_figures,
        judge=_judge_figures(tables),
        tolerance=TOLERANCE,
        network="every printed row that is built here",
    )


# Sentences: each compares networks under every convention ------------------------------------------------------------


def _measure_networks(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics: dict[str, float] = {}
    for label, (name, size, keypoints) in config["networks"].items():
        costs = network_costs((name, tuple(size), keypoints))
        metrics.update({f"{label}, {quantity}": value for quantity, value in costs.items()})
    return Measurement(metrics)


def _sentence(
    name: str,
    claim: str,
    question: str,
    networks: Mapping[str, tuple[str, tuple[int, int], int]],
    judge: Callable[[Measurement], Judgement],
) -> Experiment:
    config = {"networks": {label: [n, list(size), k] for label, (n, size, k) in networks.items()}}
    return Experiment(
        name=name,
        claims=(claim,),
        kind="exact",
        question=question,
        dataset="none",
        profiles={"smoke": config, "quick": config},
        measure=_measure_networks,
        judge=judge,
        tolerance=TOLERANCE,
        network=", ".join(n for n, _, _ in networks.values()),
    )


def _ratio(measurement: Measurement, above: str, below: str, quantity: str) -> float:
    return measurement.metrics[f"{above}, {quantity}"] / measurement.metrics[f"{below}, {quantity}"]


def _under(convention: str, holds: bool) -> str:
    return REPRODUCED_UNDER + convention if holds else "contradicted"


def _together(by_convention: Mapping[str, bool], parameters: bool | None) -> str:
    """One verdict: plain where every convention agrees, else under those conventions that bear the claim out."""
    held = [convention for convention, holds in by_convention.items() if holds]
    if parameters is False or (by_convention and not held):
        return "contradicted"
    return "reproduced" if len(held) == len(by_convention) else REPRODUCED_UNDER + ", ".join(held)


def _published(table: str, row: str, quantity: str) -> str:
    return next(
        f.text for f in printed_figures([table]) if f.row.startswith(row) and f.quantity == quantity
    )  # fmt: skip


def _compare_ratio(
    measurement: Measurement,
    above: str,
    below: str,
    holds: Callable[[float], bool],
    *,
    published: Mapping[str, str],
    parameters: str | None = "params, M",
    operations: bool = True,
) -> tuple[list[Cell], dict[str, bool], bool | None]:
    """Cells for a ratio of two networks, in parameters and in operations under each convention."""
    cells: list[Cell] = []
    fewer = None
    if parameters:
        ratio = _ratio(measurement, above, below, parameters)
        fewer = holds(ratio)
        word = "reproduced" if fewer else "contradicted"
        cells.append(Cell(f"{above} / {below}, {parameters}", ratio, word, published.get(parameters, "")))
    by_convention = {}
    for convention in CONVENTIONS if operations else ():
        ratio = _ratio(measurement, above, below, convention)
        by_convention[convention] = holds(ratio)
        name = f"{above} / {below}, operations ({convention})"
        cells.append(Cell(name, ratio, _under(convention, holds(ratio)), published.get("GFLOPs", "")))
    return cells, by_convention, fewer


def _fraction(table: str, above: str, below: str, quantity: str) -> str:
    return f"{_published(table, above, quantity)} / {_published(table, below, quantity)}"


def _judge_h07(measurement: Measurement) -> Judgement:
    above, below = "HRNet-W32", "SimpleBaseline ResNet-50"
    published = {q: _fraction(HRNET[0], above, below, q) for q in ("params, M", "GFLOPs")}
    cells, by, fewer = _compare_ratio(measurement, above, below, lambda r: r < 1, published=published)
    held = [c for c, holds in by.items() if holds]
    m = measurement.metrics
    return Judgement(
        _together(by, fewer),
        f"Fewer parameters: {m[f'{above}, params, M']:.1f} M against {m[f'{below}, params, M']:.1f} M. Fewer "
        f"operations under {' and '.join(held)} alone, which count a transposed convolution four times over; in true "
        f"multiply-adds "
        f"{m[f'{above}, mac']:.2f} G against {m[f'{below}, mac']:.2f} G.",
        tuple(cells),
    )


def _judge_h16(measurement: Measurement) -> Judgement:
    above, below = "HRNet-W32", "CPN ResNet-50"
    published = {q: _fraction(HRNET[0], above, below, q) for q in ("params, M", "GFLOPs")}
    cells, by, fewer = _compare_ratio(measurement, above, below, lambda r: 1 < r <= ROUND, published=published)
    return Judgement(
        _together(by, fewer),
        f"HRNet-W32 has {_ratio(measurement, above, below, 'params, M'):.2f} times CPN's parameters and at "
        f"most {max(_ratio(measurement, above, below, c) for c in CONVENTIONS):.2f} times its operations, whatever the "
        f"convention.",
        tuple(cells),
    )


def _judge_d05(measurement: Measurement) -> Judgement:
    cells: list[Cell] = []
    by = dict.fromkeys(CONVENTIONS, True)
    for depth in (1, 2, 3, 4):
        above, below = f"DPN{depth}_64, features 64x48", f"DPN{depth}_64, features 32x24"
        published = {"GFLOPs": _fraction(DPN[0], above, below, "GFLOPs")}
        found, held, _ = _compare_ratio(
            measurement, above, below, lambda r: 3 / ROUND <= r <= 3 * ROUND, published=published, parameters=None
        )
        cells += found
        by = {convention: by[convention] and held[convention] for convention in by}
    ratios = [cell.measured for cell in cells]
    return Judgement(
        _together(by, None),
        f"Four times the cells in the modules cost {min(ratios):.2f} to {max(ratios):.2f} times the operations, over "
        f"all depths and conventions.",
        tuple(cells),
    )


def _judge_d09(measurement: Measurement) -> Judgement:
    cells: list[Cell] = []
    small = True
    for below in ("CPN", "SBL"):
        published = {"params, M": _fraction(DPN[1], "DPN4_64", below, "params, M")}
        found, _, fewer = _compare_ratio(
            measurement, "DPN4_64", below, _about(1 / 10), published=published, operations=False
        )
        cells += found
        small = small and bool(fewer)
    cpn, sbl = (1 / cell.measured for cell in cells)
    g = {name: measurement.metrics[f"{name}, mac"] for name in ("DPN4_64", "CPN", "SBL")}
    return Judgement(
        "reproduced" if small else "contradicted",
        f"DPN4_64 has {sbl:.1f} times fewer parameters than SimpleBaseline-R50 and {cpn:.1f} times fewer than CPN. Of "
        f"operations it has no tenth: in true multiply-adds {g['DPN4_64']:.1f} G against {g['SBL']:.1f} G and "
        f"{g['CPN']:.1f} G.",
        tuple(cells),
    )


def _judge_d11(measurement: Measurement) -> Judgement:
    from posekit.experiments.costs import read_table

    deepercut = next(row for row in read_table(DPN[2]) if row["method"] == "Deepercut")
    ours = measurement.metrics["DPN4_64, params, M"]
    ratio = ours / float(deepercut["params_m"])
    word = "reproduced" if _about(1 / 13)(ratio) else "contradicted"
    published = f"{_published(DPN[2], 'DPN4_64', 'params, M')} / {deepercut['params_m']}"
    return Judgement(
        word,
        f"DPN4_64 has {ours:.2f} M parameters, {1 / ratio:.1f} times fewer than the {deepercut['params_m']} M "
        f"printed for DeeperCut, whose network is not built here.",
        (Cell("DPN4_64 / DeeperCut as printed, parameters", ratio, word, published),),
    )


def _judge_s04(measurement: Measurement) -> Judgement:
    above, below = "SRPose", "Simple head"
    table, rows = SRPOSE[0], {name: f"top-down ResNet-50, {name}" for name in (above, below)}
    head = "other params, M"
    published = {quantity: _fraction(table, rows[above], rows[below], quantity) for quantity in (head, "GFLOPs")}
    cells, by, fewer = _compare_ratio(measurement, above, below, lambda r: r < 1, published=published, parameters=head)
    m = measurement.metrics
    return Judgement(
        _together(by, fewer),
        f"On ResNet-50, SRPose's head has {m[f'{above}, {head}']:.2f} M parameters against "
        f"{m[f'{below}, {head}']:.2f} M, and the network {m[f'{above}, mmcv']:.2f} G operations against "
        f"{m[f'{below}, mmcv']:.2f} G (mmcv), {m[f'{above}, mac']:.2f} against {m[f'{below}, mac']:.2f} (mac); fewer "
        f"under {sum(by.values())} of {len(by)} conventions.",
        tuple(cells),
    )


def _about(fraction: float) -> Callable[[float], bool]:
    return lambda ratio: fraction / ROUND <= ratio <= fraction * ROUND


_COCO = ((256, 192), 17)
H08 = _figures(
    "hrnet_parameters", ("H08",), "Do the parameters of HRNet's tables follow from the networks?", HRNET, PARAMETERS
)
H09 = _figures("hrnet_operations", ("H09",), "Which convention gives the GFLOPs of HRNet's tables?", HRNET, ("GFLOPs",))
D07 = _figures(
    "dpn_costs",
    ("D07",),
    "Does one network per row give DPN's parameters and GFLOPs, and under which convention?",
    DPN,
    (*PARAMETERS, "GFLOPs"),
)
S05 = _figures(
    "srpose_costs",
    ("S05",),
    "Which convention gives the parameters and GFLOPs of SRPose's COCO table?",
    SRPOSE,
    (*PARAMETERS, "GFLOPs"),
)
H07 = _sentence(
    "hrnet_ranking",
    "H07",
    "Is HRNet-W32 cheaper than SimpleBaseline-R50?",
    {"HRNet-W32": ("hrnet_w32", *_COCO), "SimpleBaseline ResNet-50": ("simple_baseline_r50", *_COCO)},
    _judge_h07,
)
H16 = _sentence(
    "hrnet_against_cpn",
    "H16",
    "Is HRNet-W32 slightly dearer than CPN?",
    {"HRNet-W32": ("hrnet_w32", *_COCO), "CPN ResNet-50": ("cpn_r50", *_COCO)},
    _judge_h16,
)
D05 = _sentence(
    "dpn_resolution_cost",
    "D05",
    "Do 64x48 features cost about three times as much as 32x24?",
    {
        f"DPN{depth}_64, features {size}": (f"dpn{depth}_64{suffix}", *_COCO)
        for depth in (1, 2, 3, 4)
        for size, suffix in (("64x48", "_highres"), ("32x24", ""))
    },
    _judge_d05,
)
D09 = _sentence(
    "dpn_tenth",
    "D09",
    "Has DPN4_64 a tenth of the parameters of CPN and SimpleBaseline?",
    {"DPN4_64": ("dpn4_64", *_COCO), "CPN": ("cpn_r50", *_COCO), "SBL": ("simple_baseline_r50", *_COCO)},
    _judge_d09,
)
D11 = _sentence(
    "dpn_thirteenth",
    "D11",
    "Has DPN4_64 a thirteenth of DeeperCut's parameters?",
    {"DPN4_64": ("dpn4_64", (256, 256), 16)},
    _judge_d11,
)
S04 = _sentence(
    "srpose_light",
    "S04",
    "Is SRPose's head lighter than the simple head, under every convention?",
    {"SRPose": ("r50_srpose", *_COCO), "Simple head": ("simple_baseline_r50", *_COCO)},
    _judge_s04,
)
COST_TESTS = (H07, H08, H09, H16, D05, D07, D09, D11, S04, S05)
