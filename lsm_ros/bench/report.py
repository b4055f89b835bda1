"""What was measured, as tables for the terminal, as a page of ratios, and as a picture."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsm_ros.bench.network import KEPT
from lsm_ros.bench.stages import NAMES
from lsm_ros.data.pictures import FAINT, INK, MARGIN, PAPER
from lsm_ros.evaluation.report import table
from lsm_ros.evaluation.scores import Line

BAR = (0, 140, 150)
WIDTH, ROW, TEXT = 1100, 26, 330       # of the picture: pixels in all, of a row, and for its name
Results = dict[str, Any]


def tables(results: Results, times: bool = True) -> str:
    """All that was measured; without `times` in ratios alone, which say the same on another machine of the kind."""
    sections = [section for make in (machine, network, view_counts, throughput, stages, map_updates, sfm)
                if (section := make(results, times))]
    return "\n\n".join(sections)


def machine(results: Results, times: bool) -> str:
    m = results["machine"]
    gpu = f"{m['gpu']}, " if "gpu" in m else ""
    text = f"Measured on {gpu}{m['processor']}, {m['cores']} cores, {m['threads']} threads, torch {m['torch']}"
    if times:
        text += (f"; products {m['gemm_gflops']:.0f} GFLOP/s, copies {m['copy_gbs']:.1f} GB/s, load before "
                 f"{m['load']:.1f}; at the peak {results['peak_memory_mb']:.0f} MB")
    return f"{text}."


def network(results: Results, times: bool) -> str:
    heads = ["on windows of four views", *["ms"] * times, "share of the whole, no tokens kept", "GFLOP",
             "share of the machine's product peak"]
    return table(heads, [[line["part"], *[f"{line['ms']:.1f}"] * times, f"{line['of_no_tokens']:.2f}",
                          number(line["gflop"], ".1f"), percent(line["of_peak"])] for line in results["network"]])


def view_counts(results: Results, times: bool) -> str:
    heads = ["views", *["ms, one new", "ms, all new"] * times, "one new, against four views", "all new"]
    return table(heads, [[str(line["views"]), *[f"{line['kept_ms']:.1f}", f"{line['anew_ms']:.1f}"] * times,
                          f"{line['kept_of_usual']:.2f}", f"{line['anew_of_usual']:.2f}"]
                         for line in results["view_counts"]])


def throughput(results: Results, times: bool) -> str:
    if not (results.get("throughput") and times):
        return ""
    return table(["windows at once", "windows a second"],
                 [[str(line["batch"]), f"{line['windows_per_s']:.0f}"] for line in results["throughput"]])


def stages(results: Results, times: bool) -> str:
    heads = ["stage of mapping", *["ms", "worst, ms"] * times, "against the network"]
    return table(heads, [[NAMES[line["stage"]], *[f"{line['ms']:.1f}", f"{line['worst_ms']:.1f}"] * times,
                          percent(line["of_network"])] for line in results["stages"]])


def map_updates(results: Results, times: bool) -> str:
    lines = results["map_updates"]
    heads = ["voxels in the map", *["ms an update", "worst, ms"] * times, "against the smallest", "worst against worst"]
    return table(heads, [[f"{line['voxels']:,}", *[f"{line['median_ms']:.1f}", f"{line['worst_ms']:.1f}"] * times,
                          f"{line['against_smallest']:.2f}",
                          f"{line['worst_against_worst']:.2f}"] for line in lines])


def sfm(results: Results, times: bool) -> str:
    if not results.get("sfm"):
        return ""
    heads = [f"from frames of {results['sfm_folder']} to a labelled cloud", *["s"] * times,
             "time, against this package", "frames placed", "trajectory error, m", "labelled points"]
    return table(heads, [[line["way"], *[f"{line['seconds']:.1f}"] * times, f"{line['times_ours']:.2f}",
                          f"{line['registered']} of {line['frames']}", number(line["ate_m"], ".3f"),
                          f"{line['labelled_points']:,}"] for line in results["sfm"]])


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.{0 if value >= .1 else 1}f} %"


def picture(results: Results) -> np.ndarray:
    """(H, W, 3) uint8: bars of the parts of a window, the numbers of views, the stages and the map's sizes."""
    groups = {
        "Parts of a window of four views, against the whole without kept tokens":
            [(line["part"], line["of_no_tokens"]) for line in results["network"]],
        f"{KEPT}, by number of views, against four":
            [(str(line["views"]), line["kept_of_usual"]) for line in results["view_counts"]],
        "Stages of mapping, against the network":
            [(NAMES[line["stage"]], line["of_network"]) for line in results["stages"]],
        "Map update, by voxels, against the smallest map":
            [(f"{line['voxels']:,}", line["against_smallest"]) for line in results["map_updates"]]}
    height = 2 * MARGIN + ROW * sum(len(bars) + 2 for bars in groups.values())
    canvas = Image.new("RGB", (WIDTH, height), PAPER)
    draw, y = ImageDraw.Draw(canvas), MARGIN
    for title, bars in groups.items():
        draw.text((MARGIN, y), title, INK, ImageFont.load_default(18))
        y += ROW
        y = draw_bars(draw, y, bars) + ROW
    return np.asarray(canvas)


def draw_bars(draw: ImageDraw.ImageDraw, y: int, bars: Sequence[tuple[str, float]]) -> int:
    """Draws (name, value) below each other, the longest over the whole width, and returns where they end."""
    most, font = max(value for _, value in bars), ImageFont.load_default(14)
    for name, value in bars:
        length = (WIDTH - 2 * MARGIN - TEXT - 60) * value / most
        draw.text((MARGIN, y + 4), name, FAINT, font)
        draw.rectangle((MARGIN + TEXT, y + 3, MARGIN + TEXT + max(length, 1), y + ROW - 5), BAR)
        draw.text((MARGIN + TEXT + length + 8, y + 4), f"{value:.2f}", INK, font)
        y += ROW
    return y


def summary(results: Results) -> Line:
    """The figures that have a bar."""
    parts = {line["part"]: line for line in results["network"]}
    return {"new_keyframe_against_no_tokens": parts[KEPT]["of_no_tokens"],
            "network_of_peak": parts[KEPT]["of_peak"],
            "map_update_large_against_small": results["map_updates"][-1]["against_smallest"],
            "sfm_against_ours": results["sfm"][0]["times_ours"] if results.get("sfm") else None,
            "peak_memory_mb": results["peak_memory_mb"]}
