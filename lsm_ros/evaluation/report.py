"""The scoreboard in Markdown: every figure for the terminal, a short table for a page such as the README."""
from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsm_ros.errors import InputError, OutputError

Line = dict[str, Any]
"""One row of a table by name. On the scoreboard `set` and `intrinsics` say what was asked, the rest are figures."""

ALONE, SIFT = "network alone", "SIFT"       # what follows the set's name in its further lines
BEGIN, END = "<!-- scoreboard -->", "<!-- /scoreboard -->"

TITLES = {"hololens_dvmvs_000": "HoloLens walk", "tum_fr3_cabinet_58": "TUM fr3/cabinet",
          "nyu_room_5_slambook": "NYU room"}
"""What a page calls a sequence."""

COLUMNS = {"set": "set", "intrinsics": "K", "windows": "windows", "rotation_deg_median": "rot °",
           "translation_deg_median": "transl °", "auc5": "AUC@5", "auc15": "@15", "auc30": "@30",
           "auc30_pairs": "@30 pairs", "absrel": "AbsRel", "absrel_metric": "metric", "delta125": "δ<1.25",
           "confidence_ratio": "sure/unsure", "focal_err_median": "focal", "scale_err_median": "scale", "miou": "mIoU",
           "miou_lsm8": "mIoU LSM-8", "box_score": "boxes", "box_class_score": "by class",
           "moving_iou": "moving IoU", "moving_recall": "moving found",
           "overlap_auroc": "overlap AUROC", "overlap_ece": "overlap ECE", "miou_kept": "mIoU kept",
           "boxes_kept": "boxes kept"}

FOLDER_KEYS = ("rotation_deg_median", "translation_deg_median", "auc5", "auc15", "auc30", "absrel", "delta125",
               "focal_err_median", "scale_err_median", "box_score", "box_class_score", "windows")
"""The figures of a sequence that other programs read; never renamed."""


def markdown(lines: Sequence[Line]) -> str:
    """All figures as a table; columns that no line has are left out."""
    keys = [key for key in COLUMNS if any(line.get(key) is not None for line in lines)]
    return table([COLUMNS[key] for key in keys], [[cell(line.get(key)) for key in keys] for line in lines])


def distance_markdown(lines: Sequence[Line]) -> str:
    """The pose errors by distance between the views, for the lines that have them."""
    rows = []
    for line in lines:
        for key, name, factor in (("by_overlap", "% seen by both", 100), ("by_baseline", "baseline / depth", 1)):
            for row in line.get(key, ()):
                low, high = f"{factor * row['from']:g}", row["to"] and f"{factor * row['to']:g}"
                rows.append([line["set"], cell(line["intrinsics"]),
                             f"{name}: {f'{low} to {high}' if high else f'over {low}'}",
                             *(cell(row.get(figure)) for figure in ("pairs", "rotation_deg_median",
                                                                    "translation_deg_median", "auc30", "auc30_alone"))])
    heads = ["set", "K", "views", "pairs", "rot °", "transl °", "AUC@30", f"AUC@30 {ALONE}"]
    return table(heads, rows) if rows else ""


def summary(lines: Sequence[Line]) -> str:
    """One short row a set: the poses as the mapper uses them, of the network alone and of SIFT, depth, scale, labels.

    Sets that were scored with and without known intrinsics appear once, without.
    """
    rows, names = [], {line["set"] for line in lines}
    for line in lines:
        base, _, part = line["set"].partition(": ")
        if part and base in names or line["intrinsics"] and any(
                other["set"] == line["set"] and not other["intrinsics"] for other in lines):
            continue
        alone, sift = (next((other for other in lines if other["set"] == f"{line['set']}: {name}"
                             and (name == SIFT or other["intrinsics"] == line["intrinsics"])), {})
                       for name in (ALONE, SIFT))
        whole, own = (short(part.get("auc30")) for part in (line, alone))
        labels = [f"{name} {short(line[key])}{tell_kept(line.get(kept))}" for key, name, kept in
                  (("miou", "mIoU", "miou_kept"), ("miou_lsm8", "LSM's 8", ""), ("box_score", "boxes", "boxes_kept"),
                   ("box_class_score", "by class", ""), ("moving_iou", "moving", ""))
                  if line.get(key) is not None]
        scale = line.get("scale_err_median")
        rows.append([title(line["set"]), f"{whole} / {own}" if own else whole, short(sift.get("auc30")),
                     short(line.get("absrel"), 3), "" if scale is None else f"{100 * scale:.0f} %", ", ".join(labels)])
    heads = ["", f"AUC@30 whole / {ALONE.split()[1]}", "SIFT, K known", "AbsRel", "metric scale", "labels"]
    keep = [i for i in range(len(heads)) if i == 0 or any(row[i] for row in rows)]
    return table([heads[i] for i in keep], [[row[i] for i in keep] for row in rows])


def title(name: str) -> str:
    """hololens_dvmvs_000, 4 views 12 apart -> HoloLens walk, 4 views, 12 frames apart."""
    sequence, comma, rest = name.partition(", ")
    return TITLES.get(sequence, sequence) + comma + re.sub(r" views (\d+) apart", r" views, \1 frames apart", rest)


def tell_kept(share: float | None) -> str:
    """How much of the shipped words' score other words leave."""
    return "" if share is None or share == 1 else f" ({100 * share:.0f} % left)"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "known" if value else "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def short(value: float | None, digits: int = 2) -> str:
    """.58; nothing for None."""
    return "" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1) if value < 1 else f"{value:.{digits}f}"


def read_block(path: Path) -> tuple[str, str, str]:
    """What stands before, between and after the lines BEGIN and END of a Markdown file. Raises InputError."""
    try:
        page = path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    before, begin, rest = page.partition(BEGIN)
    block, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{path} has no block between {BEGIN} and {END} for the scoreboard")
    return before, block, after


def rewrite_block(path: Path, text: str) -> None:
    """Replaces the block of a Markdown file. Raises InputError where there is none."""
    before, _, after = read_block(path)
    write(path, f"{before}{BEGIN}\n{text}\n{END}{after}")


def folder_json(lines: Sequence[Line]) -> dict[str, Any]:
    """The scores of one sequence: FOLDER_KEYS (None where not measured), by_overlap, and all else under `more`."""
    line = lines[0]
    more = {key: value for key, value in line.items() if key not in (*FOLDER_KEYS, "by_overlap")}
    more |= {other["set"].rpartition(": ")[2].replace(" ", "_").lower(): other for other in lines[1:]}
    return {key: line.get(key) for key in FOLDER_KEYS} | {"by_overlap": line.get("by_overlap", []), "more": more}


def write_json(path: Path, content: Any) -> None:
    write(path, json.dumps(content, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf8")
    except OSError as error:
        raise OutputError(f"the scores cannot be written to {path}: {error}") from error
