"""The scoreboard: how good the weights are on real sequences and on rendered worlds that no training has seen.

    lsm eval FOLDER --views 4 --gap 8 --json out.json     a sequence with truth: color/ depth/ pose/ intrinsics.txt
    lsm eval worlds                                       held-out rendered worlds, by number of views
    lsm eval all --data FOLDER                            all of it, as a table
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Window, WindowPrediction
from lsm_ros.errors import InputError, OutputError
from lsm_ros.evaluation.baseline import SiftBaseline
from lsm_ros.evaluation.datasets import FolderWindows, TruthWindow, WorldWindows, boxed_frames
from lsm_ros.evaluation.metrics import box_score, box_shares, from_first, of_pairs, pose_errors
from lsm_ros.evaluation.pictures import save_pictures
from lsm_ros.evaluation.scores import WindowScore, classify, pose_summary, score_window, summarise
from lsm_ros.mapping.refinement import PoseRefiner
from lsm_ros.model.engine import NetworkPredictor

Line = dict[str, Any]
"""One row of the scoreboard: `set` and `intrinsics` say what was asked, the rest are figures."""

ALONE, SIFT = "network alone", "SIFT"       # what follows the set's name in its further lines
BATCH = 16               # windows at once on a GPU
WORLDS = 64              # held-out worlds: 128 windows of four views
GAPS = {"hololens_dvmvs_000": (4, 12), "tum_fr3_cabinet_58": (1, 4), "nyu_room_5_slambook": (1,)}
DEFAULT_GAPS = (4, 12)   # frames between the views of a window, of a sequence that is not listed
BOXES = "semantic_boxes/boxes.json"

COLUMNS = {"set": "set", "intrinsics": "K", "windows": "windows", "rotation_deg_median": "rot °",
           "translation_deg_median": "transl °", "auc5": "AUC@5", "auc15": "@15", "auc30": "@30",
           "auc30_pairs": "@30 pairs", "absrel": "AbsRel", "absrel_metric": "metric", "delta125": "δ<1.25",
           "focal_err_median": "focal", "scale_err_median": "scale", "miou": "mIoU", "miou_lsm8": "mIoU LSM-8",
           "box_score": "boxes", "box_class_score": "by class"}


def scoreboard(weights: str | Path | None = None, *, data: str | Path | None = None, device: str = "auto",
               worlds: int = WORLDS, progress: bool = True) -> list[Line]:
    """The whole scoreboard of a weights file (None: the shipped one), the network alone: for a training leg's card."""
    predictor = NetworkPredictor(PredictorConfig(weights=str(weights or ""), device=device))
    return score_all(predictor, data, worlds=worlds, progress=progress, refine=False)


def score_all(predictor: NetworkPredictor, data: str | Path | None = None, *, worlds: int = WORLDS,
              progress: bool = True, refine: bool = True, baseline: bool = False,
              pictures: Path | None = None) -> list[Line]:
    """Rendered worlds by number of views, then every sequence with truth in the folder `data`, and its rectangles."""
    lines = score_worlds(predictor, worlds, progress=progress, refine=refine, baseline=baseline, pictures=pictures)
    if data is None:
        return lines
    folders = sorted(path.parent for path in Path(data).glob("*/intrinsics.txt"))
    if not folders:
        raise InputError(f"{data} holds no sequence with truth (a folder with color/, depth/, pose/, intrinsics.txt)")
    for folder in folders:
        for gap in GAPS.get(folder.name, DEFAULT_GAPS):
            for intrinsics in (False, True):
                windows = FolderWindows(folder, 4, gap, intrinsics=intrinsics)
                lines += score_set(predictor, f"{folder.name}, 4 views {gap} apart", windows, progress=progress,
                                   refine=refine, baseline=baseline and intrinsics, pictures=pictures)
    if (boxes := Path(data) / BOXES).exists():
        lines.append({"set": "rectangles, single views", "intrinsics": False} | score_boxes(predictor, boxes))
    return lines


def score_worlds(predictor: NetworkPredictor, worlds: int = WORLDS, *, progress: bool = True, refine: bool = True,
                 baseline: bool = False, pictures: Path | None = None) -> list[Line]:
    """Held-out rendered worlds. The same images are scored at every number of views, so the lines compare."""
    lines = []
    for views, intrinsics in ((1, False), (2, False), (4, False), (4, True), (8, False)):
        windows = WorldWindows(worlds, views=views, intrinsics=intrinsics, device=str(predictor.device))
        lines += score_set(predictor, windows.name, windows, progress=progress, refine=refine,
                           baseline=baseline and intrinsics,
                           pictures=pictures if views == 4 and not intrinsics else None)
    return lines


def score_set(predictor: NetworkPredictor, name: str, windows: FolderWindows | WorldWindows, *, progress: bool = True,
              refine: bool = True, baseline: bool = False, pictures: Path | None = None) -> list[Line]:
    """The line of one set: windows as the mapper uses them, with poses refined by matched points; then a line of the
    network alone, and one of the baseline if it is asked for. Without `refine` the first is the network alone."""
    predictor.reset()                    # keyframe ids start anew with each set
    refiner, scores, alone = PoseRefiner(), [], []
    for truth, prediction in predict_all(predictor, windows, name, progress):
        alone.append(score_window(prediction, truth, predictor.labels))
        if refine and len(truth.K) > 1:
            scores.append(score_window(refiner(truth.window, prediction).prediction, truth, predictor.labels))
    about = {"intrinsics": windows.intrinsics}
    lines: list[Line] = [{"set": name} | about | summarise(scores or alone, predictor.labels)]
    if scores:
        lines.append({"set": f"{name}: {ALONE}"} | about | summarise(alone, predictor.labels))
    if baseline:
        lines.append({"set": f"{name}: {SIFT}", "intrinsics": True} | score_baseline(windows, progress))
    if pictures is not None:
        save_examples(predictor, windows, alone, pictures, name)
    return lines


def predict_all(predictor: NetworkPredictor, windows: Sequence[TruthWindow], name: str,
                progress: bool) -> Iterator[tuple[TruthWindow, WindowPrediction]]:
    """In batches on a GPU. On a CPU one by one, where the tokens of frames that windows share are kept."""
    run: Callable[[list[Window]], list[WindowPrediction]] = predictor.predict_batch
    batch = BATCH
    if predictor.device.type == "cpu":
        run, batch = (lambda single: [predictor(single[0])]), 1
    with tqdm(total=len(windows), desc=name, unit="window", disable=not progress) as bar:
        for start in range(0, len(windows), batch):
            part = [windows[index] for index in range(start, min(start + batch, len(windows)))]
            yield from zip(part, run([truth.window for truth in part]), strict=True)
            bar.update(len(part))


def score_baseline(windows: Sequence[TruthWindow], progress: bool = True) -> Line:
    """The poses that SIFT and five points find with known intrinsics."""
    sift, first, pairs = SiftBaseline(), [], []
    for truth in tqdm(windows, desc="SIFT", unit="window", disable=not progress):
        views = np.stack(np.triu_indices(len(truth.K), 1), axis=1)      # (0, 1), (0, 2) ... come first
        found, others = sift(truth, views), len(truth.K) - 1
        first.append(pose_errors(found[:others], from_first(truth.T_world_cam)))
        pairs.append(pose_errors(found, of_pairs(truth.T_world_cam), signed=False))
    return {"windows": len(windows)} | pose_summary(first, pairs)


def score_boxes(predictor: NetworkPredictor, boxes: str | Path, folder: str | Path | None = None,
                intrinsics: bool = False) -> Line:
    """Share of right pixels in rectangles that lie inside one class, from single views."""
    predictor.reset()
    names, shares = [], []
    for boxed in boxed_frames(boxes, folder, intrinsics):
        classes = classify(predictor(Window((boxed.keyframe,))), predictor.labels)[0]
        shares += box_shares(classes, boxed.boxes, predictor.labels)
        names += [box.name for box in boxed.boxes]
    score = box_score(names, shares)
    return {"box_score": score.score, "box_class_score": score.class_score,
            "box_score_by_class": dict(score.by_class), "boxes": len(shares)}


def save_examples(predictor: NetworkPredictor, windows: Sequence[TruthWindow], scores: Sequence[WindowScore],
                  folder: Path, name: str) -> None:
    """Pictures of the best, the median and the worst window by AbsRel."""
    absrel = [score.depth.absrel if score.depth else np.inf for score in scores]
    order = np.argsort(absrel)
    for rank, index in {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}.items():
        truth = windows[int(index)]
        save_pictures(folder / f"{name} {rank}.png".replace(", ", "-").replace(" ", "-"), truth,
                      predictor.predict_batch([truth.window])[0], scores[index], predictor.labels,
                      title=f"{name}: {rank}")


def markdown(lines: Sequence[Line]) -> str:
    """The scoreboard as a table; columns that no line has are left out."""
    def cell(value: Any) -> str:
        if isinstance(value, bool):
            return "known" if value else "-"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    keys = [key for key in COLUMNS if any(key in line for line in lines)]
    rows = [[COLUMNS[key] for key in keys], ["---"] * len(keys),
            *([cell(line[key]) if key in line else "" for key in keys] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_json(path: Path, content: Any) -> None:
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", "utf8")
    except OSError as error:
        raise OutputError(f"the scores cannot be written to {path}: {error}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", help="a folder with color/, depth/, pose/ and intrinsics.txt; or `worlds`: held-out "
                        "rendered worlds; or `all`: the whole scoreboard")
    parser.add_argument("--views", type=int, default=4, help="views in a window of FOLDER, 1 to 8 (default 4)")
    parser.add_argument("--gap", type=int, default=8, help="frames of FOLDER between two views (default 8)")
    parser.add_argument("--stride", type=int, default=2, help="frames between the starts of two windows (default 2)")
    parser.add_argument("--intrinsics", action="store_true", help="tell the network the true intrinsics of FOLDER")
    parser.add_argument("--boxes", type=Path, help="JSON file of class rectangles on frames of FOLDER, scored too")
    parser.add_argument("--baseline", choices=("sift",), help="score SIFT + five points + RANSAC beside the network")
    parser.add_argument("--data", type=Path, help="for `all`: a folder that holds sequences like FOLDER")
    parser.add_argument("--worlds", type=int, default=WORLDS, help=f"rendered worlds to score (default {WORLDS})")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--pictures", type=Path, help="write pictures of the best, median and worst windows here")
    parser.add_argument("--weights", default="", help="weights file (default: the shipped one)")
    parser.add_argument("--labels", default="", help="label file (default: the shipped one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")


def run(arguments: argparse.Namespace) -> list[Line]:
    """What `lsm eval` does: prints the table, writes what was asked for."""
    predictor = NetworkPredictor(PredictorConfig(weights=arguments.weights, labels=arguments.labels,
                                                 device=arguments.device))
    options = {"baseline": arguments.baseline is not None, "pictures": arguments.pictures}
    if arguments.target == "worlds":
        lines = score_worlds(predictor, arguments.worlds, **options)
    elif arguments.target == "all":
        lines = score_all(predictor, arguments.data, worlds=arguments.worlds, **options)
    else:
        views, gap = arguments.views, arguments.gap
        windows = FolderWindows(arguments.target, views, gap, arguments.stride, arguments.intrinsics)
        lines = score_set(predictor, f"{windows.name}, {views} views {gap} apart", windows, **options)
        if arguments.boxes:
            lines[0] |= score_boxes(predictor, arguments.boxes, arguments.target, arguments.intrinsics)
    print(markdown(lines))
    if arguments.json:
        others = {line["set"].rpartition(": ")[2].replace(" ", "_").lower(): line for line in lines[1:]}
        write_json(arguments.json, lines if arguments.target in ("worlds", "all") else lines[0] | others)
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="lsm eval", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
