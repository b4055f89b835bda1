"""The scoreboard: how good the weights are on real sequences and on rendered worlds that no training has seen.

    lsm eval FOLDER --views 4 --gap 8 --json out.json     a sequence with truth: color/ depth/ pose/ intrinsics.txt
    lsm eval worlds                                       held-out rendered worlds, by number of views and by kind
    lsm eval words --data FOLDER                          the same labels asked for in other words
    lsm eval walks --walks 2 --odometry --cache FOLDER    long drives of a robot through held-out buildings
    lsm eval walk FOLDER --omit 4                         a whole sequence with truth, mapped from end to end
    lsm eval all --data FOLDER --card WEIGHTS             all of it but the walks, kept in the card of the weights file
    lsm eval card                                         what the card of the weights says
"""
from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lsm_ros.arguments import exit_code
from lsm_ros.config import MapperConfig, PredictorConfig
from lsm_ros.contracts import Window, WindowPrediction
from lsm_ros.data.files import check_folder
from lsm_ros.errors import ConfigError, InputError, OutputError
from lsm_ros.evaluation import walks
from lsm_ros.evaluation.baseline import SiftBaseline
from lsm_ros.evaluation.datasets import (
    KINDS,
    FolderWindows,
    TruthWindow,
    WorldStyle,
    WorldWindows,
    boxed_frames,
    read_boxes,
)
from lsm_ros.evaluation.metrics import accepted_labels, box_score, box_shares, from_first, of_pairs, pose_errors
from lsm_ros.evaluation.pictures import Gallery, check_picture
from lsm_ros.evaluation.report import (
    ALONE,
    SIFT,
    distance_markdown,
    folder_json,
    markdown,
    read_block,
    rewrite_block,
    summary,
    write_json,
)
from lsm_ros.evaluation.scores import Line, classify, distance_rows, pose_summary, score_window, summarise
from lsm_ros.evaluation.words import score_words
from lsm_ros.mapping.refinement import PoseRefiner
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.model.weights import SHIPPED, read_card, update_card
from lsm_ros.world.edges import BORDER_KINDS

BATCH = 16               # windows at once on a GPU
PRECISION = "float32"
WORLDS = 64              # held-out worlds: 128 windows of four views
GAPS = {"hololens_dvmvs_000": (4, 12), "tum_fr3_cabinet_58": (1, 4), "nyu_room_5_slambook": (1,)}
TALL = (256, 192)        # height and width of images that a phone takes as it is held
DEFAULT_GAPS = (4, 12)   # frames between the views of a window, of a sequence that is not listed
BOXES = "semantic_boxes/boxes.json"
OF_WALKS = ("walks", "walk")
TARGETS = ("worlds", "words", *OF_WALKS, "all", "card")


def scoreboard(weights: str | Path | None = None, *, data: str | Path | None = None, device: str = "auto",
               worlds: int = WORLDS, textures: str | Path | None = None, meshes: str | Path | None = None,
               refine: bool = False, progress: bool = True) -> list[Line]:
    """The whole scoreboard of a weights file (None: the shipped one) for a training leg's card; `refine` scores the
    poses as the mapper uses them, beside those of the network alone."""
    predictor = NetworkPredictor(PredictorConfig(weights=str(weights or ""), device=device, precision=PRECISION))
    style = WorldStyle(str(textures or "") or None, str(meshes or "") or None)
    return score_all(predictor, data, worlds, style, progress=progress, refine=refine)


def score_all(predictor: NetworkPredictor, data: str | Path | None = None, worlds: int = WORLDS,
              style: WorldStyle = WorldStyle(), *, progress: bool = True, refine: bool = True, baseline: bool = False,
              gallery: Gallery | None = None) -> list[Line]:
    """Rendered worlds, then every sequence with truth in the folder `data` and its rectangles, then other words."""
    folders = [] if data is None else find_sequences(data)
    boxes = find_boxes(data)
    options = {"progress": progress, "refine": refine}
    lines = score_worlds(predictor, worlds, style, baseline=baseline, gallery=gallery, **options)
    words = score_own_words(predictor, worlds, style, boxes, progress)          # while their worlds are kept
    lines += score_other_cameras(predictor, worlds, style, **options)
    lines += score_kinds(predictor, worlds, style, gallery=gallery, **options)
    for folder in folders:
        for gap in GAPS.get(folder.name, DEFAULT_GAPS):
            for intrinsics in (False, True):
                windows = FolderWindows(folder, 4, gap, intrinsics=intrinsics)
                lines += score_set(predictor, f"{folder.name}, 4 views {gap} apart", windows,
                                   baseline=baseline and intrinsics, gallery=None if intrinsics else gallery, **options)
    if boxes:
        lines.append({"set": "rectangles, single views", "intrinsics": False} | score_boxes(predictor, boxes))
    return lines + words


def find_sequences(data: str | Path) -> list[Path]:
    """The folders in `data` that hold a sequence with truth. Raises InputError where there is none."""
    folders = sorted(path.parent for path in Path(data).glob("*/intrinsics.txt"))
    if not folders:
        raise InputError(f"{data} holds no sequence with truth (a folder with color/, depth/, pose/, intrinsics.txt)")
    return folders


def find_boxes(data: str | Path | None) -> Path | None:
    """The file of rectangles in the folder `data`, if there is one."""
    return Path(data) / BOXES if data is not None and (Path(data) / BOXES).exists() else None


def score_worlds(predictor: NetworkPredictor, worlds: int = WORLDS, style: WorldStyle = WorldStyle(), *,
                 progress: bool = True, refine: bool = True, baseline: bool = False,
                 gallery: Gallery | None = None) -> list[Line]:
    """Held-out rendered worlds. The same images are scored at every number of views, so the lines compare."""
    lines = []
    for views, intrinsics in ((1, False), (2, False), (4, False), (4, True), (8, False)):
        windows = WorldWindows(worlds, views=views, intrinsics=intrinsics, device=str(predictor.device), style=style)
        lines += score_set(predictor, windows.name, windows, progress=progress, refine=refine,
                           baseline=baseline and intrinsics, gallery=gallery if views == 4 and not intrinsics else None)
    return lines


def score_other_cameras(predictor: NetworkPredictor, worlds: int = WORLDS, style: WorldStyle = WorldStyle(), *,
                        progress: bool = True, refine: bool = True) -> list[Line]:
    """Four views of the same worlds once more as other cameras would have taken them: automatic ones, with borders,
    held askew, without contrast; with somebody or something that moves; as small robots see them; and in images that
    are higher than wide."""
    changes = ("automatic", "borders", "rolled", "flat", "moving", "low")
    lines = []
    for made in (*({"style": replace(style, **{change: True})} for change in changes), {"style": style, "size": TALL}):
        windows = WorldWindows(worlds, device=str(predictor.device), **made)
        lines += score_set(predictor, windows.name, windows, progress=progress, refine=refine)
    return lines


def score_kinds(predictor: NetworkPredictor, worlds: int = WORLDS, style: WorldStyle = WorldStyle(), *,
                progress: bool = True, refine: bool = True, gallery: Gallery | None = None) -> list[Line]:
    """Held-out rendered worlds of one kind each, half as many of a kind as of all."""
    lines = []
    for kind in KINDS:
        windows = WorldWindows(max(worlds // 2, len(KINDS[kind])), device=str(predictor.device),
                               style=WorldStyle(style.textures, style.meshes, kind))
        lines += score_set(predictor, windows.name, windows, progress=progress, refine=refine, gallery=gallery)
    return lines


def score_own_words(predictor: NetworkPredictor, worlds: int = WORLDS, style: WorldStyle = WorldStyle(),
                    boxes: str | Path | None = None, progress: bool = True) -> list[Line]:
    """The labels in other words than the shipped ones, on held-out rendered worlds and on rectangles."""
    predictor.reset()
    windows = WorldWindows(worlds, device=str(predictor.device), style=style)
    return score_words(predictor, predict_all(predictor, windows, "words", progress), boxes)


def score_set(predictor: NetworkPredictor, name: str, windows: FolderWindows | WorldWindows, *, progress: bool = True,
              refine: bool = True, baseline: bool = False, gallery: Gallery | None = None) -> list[Line]:
    """The line of one set: windows as the mapper uses them, with poses refined by matched points; then a line of the
    network alone, and one of the baseline if it is asked for. Without `refine` the first is the network alone."""
    predictor.reset()                    # keyframe ids start anew with each set
    refiner, scores, alone = PoseRefiner(), [], []
    for truth, prediction in predict_all(predictor, windows, name, progress):
        alone.append(score_window(prediction, truth, predictor.labels))
        if refine and len(truth.K) > 1:
            scores.append(score_window(refiner(truth.window, prediction).prediction, truth, predictor.labels))
    about = {"intrinsics": windows.intrinsics}
    lines: list[Line] = [{"set": name} | about | summarise(scores or alone, predictor.labels)
                         | distance_rows(scores or alone, alone if scores else None)]
    if scores:
        lines.append({"set": f"{name}: {ALONE}"} | about | summarise(alone, predictor.labels))
    if baseline:
        lines.append({"set": f"{name}: {SIFT}", "intrinsics": True} | score_baseline(windows, progress))
    if gallery is not None:
        def predict(index: int) -> tuple[TruthWindow, WindowPrediction]:
            truth = windows[index]
            prediction = predictor.predict_batch([truth.window])[0]
            return truth, refiner(truth.window, prediction).prediction if scores else prediction

        gallery.add(name, scores or alone, predict)
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
    if unknown := sorted({name for name in names if not len(accepted_labels(name, predictor.labels))}):
        warnings.warn(f"{boxes}: no label {', '.join(map(repr, unknown))}; nothing is right in these rectangles",
                      stacklevel=2)
    score = box_score(names, shares)
    return {"box_score": score.score, "box_class_score": score.class_score,
            "box_score_by_class": dict(score.by_class), "boxes": len(shares)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", help="a folder with color/, depth/, pose/ and intrinsics.txt; or one of "
                        f"{', '.join(TARGETS)}, as above (./{TARGETS[0]} is a folder)")
    parser.add_argument("folder", nargs="?", help="of `walk`: the sequence")
    parser.add_argument("--views", type=int, default=4, help="views in a window of FOLDER, 1 to 8 (default 4)")
    parser.add_argument("--gap", type=int, default=8, help="frames of FOLDER between two views (default 8)")
    parser.add_argument("--stride", type=int, default=2, help="frames between the starts of two windows (default 2)")
    parser.add_argument("--intrinsics", action="store_true", help="tell the network the true intrinsics of FOLDER")
    parser.add_argument("--odometry", action="store_true",
                        help="tell it how the camera of FOLDER or of the walks moved, with the errors of wheels")
    parser.add_argument("--depth", action="store_true", help="tell it the true depth of FOLDER, one value a patch")
    parser.add_argument("--border", choices=tuple(BORDER_KINDS), help="draw a black border around FOLDER's images: "
                        "a frame 3 %% wide on each side, bars of 15 %% above and below, the bowed sides of a rectified "
                        "wide lens, or dark corners. It is found and filled as any other; what it hides is not scored")
    parser.add_argument("--turned", type=int, choices=(0, 90, 180, 270), default=0, help="turn the camera "
                        "of FOLDER, or of `walk`, clockwise by so many degrees: on its side or upside down")
    parser.add_argument("--boxes", type=Path, help="JSON file of class rectangles; on frames of FOLDER, or for `words`")
    parser.add_argument("--baseline", choices=("sift",), help="score SIFT + five points + RANSAC beside the network")
    parser.add_argument("--data", type=Path, help="for `all` and `words`: a folder that holds sequences like FOLDER")
    parser.add_argument("--worlds", type=int, default=WORLDS, help=f"rendered worlds to score (default {WORLDS})")
    parser.add_argument("--textures", help="photo textures of the rendered worlds (lsm_ros/world/materials.py)")
    parser.add_argument("--meshes", help="furniture meshes of the rendered worlds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="a Markdown file: write a short table between its lines "
                        "<!-- scoreboard --> and <!-- /scoreboard -->; of walks a row each")
    parser.add_argument("--card", type=Path, help="for `all`: score this weights file and keep the lines in its card")
    parser.add_argument("--pictures", type=Path, help="write pictures of the best, median and worst windows here")
    parser.add_argument("--montage", type=Path, help="write one picture of the median window of each set here")
    parser.add_argument("--weights", default="", help="weights file (default: the shipped one)")
    parser.add_argument("--labels", default="", help="label file (default: the shipped one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument("--precision", default=PRECISION, help="of the network's products: float32, bfloat16, or auto, "
                        "which is what the node takes on this machine (default float32: the same figures everywhere)")
    walks.add_arguments(parser)


def run(arguments: argparse.Namespace) -> list[Line]:
    """What `lsm eval` does: prints the tables, writes what was asked for."""
    if arguments.card and (arguments.target != "all" or arguments.weights):
        raise ConfigError(f"--card {arguments.card} goes with `all` and without --weights: it is the file to score")
    if arguments.folder and arguments.target != "walk":
        raise ConfigError(f"the second folder {arguments.folder} goes with `walk`, not with {arguments.target!r}")
    if arguments.odometry and arguments.target == "walk":
        raise ConfigError("--odometry goes with `walks` and the windows of a FOLDER; `walk` is of the camera alone")
    for option, others in (("border", TARGETS), ("turned", set(TARGETS) - {"walk"})):
        value = getattr(arguments, option)
        if value and (arguments.target in others or arguments.boxes):
            raise ConfigError(f"--{option} {value} goes with a FOLDER, and without --boxes, which are those of its "
                              "images as they are")
    if arguments.json:
        check_folder(arguments.json, "the scores")       # before minutes are spent
    if arguments.boxes:
        read_boxes(arguments.boxes)
    if arguments.montage:
        check_picture(arguments.montage)
    if arguments.pictures and arguments.pictures.exists() and not arguments.pictures.is_dir():
        raise OutputError(f"the pictures cannot be written to {arguments.pictures}: it is no folder")
    if arguments.markdown:
        read_block(arguments.markdown)
    lines = read_lines(arguments.weights or SHIPPED) if arguments.target == "card" else score(arguments)
    if arguments.target in OF_WALKS:
        print(f"{walks.walks_markdown(lines)}\n\n{walks.overview_markdown(lines)}" if len(lines) > 1 else
              walks.walks_markdown(lines))
    else:
        print(markdown(lines))
    if distances := distance_markdown(lines):
        print(f"\n{distances}")
    if arguments.json:
        write_json(arguments.json, lines if arguments.target in TARGETS else folder_json(lines))
    if arguments.card:
        update_card(arguments.card, {"scoreboard": for_card(lines), "scoreboard_worlds": {
            "worlds": arguments.worlds, "precision": arguments.precision,
            "textures": bool(arguments.textures), "meshes": bool(arguments.meshes)}})
    if arguments.markdown:
        rewrite_block(arguments.markdown,
                      walks.overview_markdown(lines) if arguments.target in OF_WALKS else summary(lines))
    return lines


def score(arguments: argparse.Namespace) -> list[Line]:
    """The lines of the target, and its pictures."""
    predictor = NetworkPredictor(PredictorConfig(weights=str(arguments.card or arguments.weights),
                                                 labels=arguments.labels, device=arguments.device,
                                                 precision=arguments.precision))
    if arguments.target in OF_WALKS:
        kept = walks.Kept(arguments.cache, arguments.weights, arguments.precision) if arguments.cache else None
        return walks.score_walks(predictor, walks.walks_of(arguments), chain=arguments.chain, kept=kept,
                                 config=MapperConfig(loops=not arguments.no_loops,
                                                     leave_out_moving=not arguments.keep_moving))
    style = WorldStyle(arguments.textures, arguments.meshes)
    gallery = None
    if arguments.pictures or arguments.montage:
        gallery = Gallery(predictor.labels, arguments.pictures, arguments.montage)
    options = {"baseline": arguments.baseline is not None, "gallery": gallery}
    if arguments.target == "worlds":
        lines = score_worlds(predictor, arguments.worlds, style, **options)
        lines += score_other_cameras(predictor, arguments.worlds, style)
        lines += score_kinds(predictor, arguments.worlds, style, gallery=gallery)
    elif arguments.target == "all":
        lines = score_all(predictor, arguments.data, arguments.worlds, style, **options)
    elif arguments.target == "words":
        boxes = arguments.boxes or find_boxes(arguments.data)
        lines = score_own_words(predictor, arguments.worlds, style, boxes)
    else:
        views, gap = arguments.views, arguments.gap
        windows = FolderWindows(arguments.target, views, gap, arguments.stride, arguments.intrinsics,
                                arguments.odometry, arguments.depth, arguments.border, arguments.turned // 90)
        name = f"{windows.name}, {views} views {gap} apart" + (f", border {windows.border}" if windows.border else "") \
            + (f", turned {arguments.turned}" if windows.turned else "")
        boxes = {}
        if arguments.boxes:                # first, so that a bad file is known at once
            boxes = score_boxes(predictor, arguments.boxes, arguments.target, arguments.intrinsics)
        lines = score_set(predictor, name, windows, **options)
        lines[0] |= boxes
    if gallery is not None:
        gallery.close()
    return lines


def for_card(value: Any) -> Any:
    """Lines as a card keeps them: four digits, and no figures of single words."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: for_card(item) for key, item in value.items() if key != "by_word"}
    return [for_card(item) for item in value] if isinstance(value, list) else value


def read_lines(weights: str | Path) -> list[Line]:
    """The scoreboard in the card of a weights file. Raises InputError where it has none."""
    lines = read_card(weights).get("scoreboard")
    if not lines:
        raise InputError(f"the card of {weights} has no scoreboard; `lsm eval all --card {weights}` writes one")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="lsm eval", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(exit_code(main))
