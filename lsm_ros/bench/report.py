"""What was measured, as tables for the terminal, as a page of ratios, and as a picture."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsm_ros.bench.network import KEPT
from lsm_ros.bench.stages import NAMES
from lsm_ros.data.pictures import FAINT, INK, MARGIN, PAPER
from lsm_ros.evaluation.report import Line, table

BAR = (0, 140, 150)
WIDTH, ROW, TEXT = 1100, 26, 330       # of the picture: pixels in all, of a row, and for its name
Results = dict[str, Any]


def tables(results: Results, times: bool = True) -> str:
    """All that was measured; without `times` in ratios alone, which say the same on another machine of the kind."""
    makers = {"engines": engines, "throughput": throughput, "network": network, "view_counts": view_counts,
              "resolutions": resolutions, "energy": energy, "stages": stages, "map_updates": map_updates, "hops": hops,
              "node": node, "sfm": sfm}
    sections = [make(results, times) for name, make in makers.items() if results.get(name)]
    absent = [f"{name} {what}: {why}" for what, key in (("is left out", "left_out"), ("failed", "failed"))
              for name, why in results[key].items()]
    return "\n\n".join(section for section in (machine(results, times), *sections, "\n".join(absent)) if section)


def machine(results: Results, times: bool) -> str:
    m = results["machine"]
    gpu = f"{m['gpu']}, " if "gpu" in m else ""
    text = (f"Measured on {gpu}{m['processor']}, {m['cores']} cores, {m['threads']} threads, torch {m['torch']}, "
            f"the network in {m['precision']}")
    if times:
        if peaks := results.get("peaks"):
            text += f"; products {peaks['gemm_gflops']:.0f} GFLOP/s, copies {peaks['copy_gbs']:.1f} GB/s"
        text += f"; load before {m['load']:.1f}; at the peak {results['peak_memory_mb']:.0f} MB"
        if results.get("peak_gpu_memory_mb"):
            text += f" and {results['peak_gpu_memory_mb']:.0f} MB of the GPU's"
    return f"{text}."


def engines(results: Results, times: bool) -> str:
    heads = ["engine", "ms, new keyframe to prediction", "worst", "ms of it on the GPU", "depth off by",
             "poses turned by, °", "other labels", "matches", "within tolerance"]
    return table(heads, [[line["engine"], f"failed: {line['failed']}"] if "failed" in line else
                         [line["engine"], f"{line['ms']:.2f}", f"{line['worst_ms']:.2f}", f"{line['network_ms']:.2f}",
                          percent(line.get("depth")), number(line.get("rotation_deg"), ".2f"),
                          percent(line.get("labels")), percent(line.get("matches")),
                          {True: "yes", False: "NO"}.get(line.get("agrees"), "")]
                         for line in results["engines"]])


def throughput(results: Results, times: bool) -> str:
    heads = ["engine", "windows at once", "windows a second, network alone", "and matches", "images to predictions"]
    return table(heads, [[line["engine"], str(line["batch"]), f"failed: {line['failed']}"] if "failed" in line else
                         [line["engine"], str(line["batch"]), *(f"{line[f'{name}_per_s']:.0f}"
                                                                for name in ("network", "matched", "whole"))]
                         for line in results["throughput"]])


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


def resolutions(results: Results, times: bool) -> str:
    heads = ["pixels that the network sees", "patches", *["ms, one encoded, four decoded"] * times,
             "against the first" if times else "one encoded, four decoded, against the first"]
    return table(heads, [[f"{line['width']} x {line['height']}", str(line["patches"]), *[f"{line['ms']:.1f}"] * times,
                          f"{line['of_first']:.2f}"] for line in results["resolutions"]])


def energy(results: Results, times: bool) -> str:
    if not times:
        return ""
    return table(["energy", "J a window", "W"],
                 [[line["what"], *(number(line[name], ".2f") or "not told" for name in ("joules", "watts"))]
                  for line in results["energy"]])


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


def hops(results: Results, times: bool) -> str:
    heads = ["a VGA image from process to process", *["ms from stamp to callback", "99 of 100 within"] * times,
             "arrived"]
    return table(heads, [[line["way"], *[number(line["ms"], ".1f"), number(line["p99_ms"], ".1f")] * times,
                          f"{line['received']} of {line['sent']}"] for line in results["hops"]])


def node(results: Results, times: bool) -> str:
    n = results["node"]
    names = {"wait": "waiting for the window before", "decode": "decoding", "mapper": "mapping, of it",
             "network": "the network", "publish": "publishing"}
    rows = [[name, *[f"{n[f'{stage}_ms']:.1f}"] * times, f"{n[f'{stage}_ms'] / n['network_ms']:.2f}"]
            for stage, name in (*names.items(), ("stamp_to_cloud", "from stamp to cloud"))]
    heads = ["the node, from an image's stamp to its cloud (medians)", *["ms"] * times, "against the network"]
    return (f"{table(heads, rows)}\n\n{n['received']} of {n['sent']} images received, {n['windows']} windows, "
            f"{n['peak_mb']:.0f} MB at the peak.")


def sfm(results: Results, times: bool) -> str:
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
    parts = {
        "Parts of a window of four views, against the whole without kept tokens": ("network", "part", "of_no_tokens"),
        f"{KEPT}, by number of views, against four": ("view_counts", "views", "kept_of_usual"),
        "Stages of mapping, against the network": ("stages", "stage", "of_network"),
        "Map update, by voxels, against the smallest map": ("map_updates", "voxels", "against_smallest")}
    groups = {title: [(name_of(line[name]), line[value]) for line in results[section]]
              for title, (section, name, value) in parts.items() if results.get(section)}
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


def name_of(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else NAMES.get(value, value)


def summary(results: Results) -> Line:
    """The figures that have a bar, of what was measured."""
    parts = {line["part"]: line for line in results.get("network", ())}
    line: Line = {"peak_memory_mb": results["peak_memory_mb"]}      # of the command itself, with its largest maps
    if parts:
        line |= {"new_keyframe_against_no_tokens": parts[KEPT]["of_no_tokens"],
                 "network_of_peak": parts[KEPT]["of_peak"], "new_keyframe_ms": parts[KEPT]["ms"]}
    if results.get("map_updates"):
        line["map_update_large_against_small"] = results["map_updates"][-1]["against_smallest"]
    if results.get("throughput"):
        line["windows_per_s"] = max((row.get("network_per_s", 0.0) for row in results["throughput"]))
    if results.get("node"):
        line |= {"stamp_to_cloud_of_network": results["node"]["of_network"],
                 "node_peak_memory_mb": results["node"]["peak_mb"]}
    if results.get("sfm"):
        line["sfm_against_ours"] = results["sfm"][0]["times_ours"]
    return line
