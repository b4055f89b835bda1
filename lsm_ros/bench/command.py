"""Measures on this machine what mapping costs: the network, every other stage, and how the map's size weighs.

    lsm bench                                     the table; about two minutes on two cores
    lsm bench --json out.json --plot out.png      ... and as files
    lsm bench --device cuda                       on a GPU, with windows a second in batches
    lsm bench --sfm FOLDER                        beside structure from motion, on a sequence with truth: color/ pose/
                                                  intrinsics.txt (needs pycolmap: pip install 'lsm_ros[sfm]')

Whatever is compared takes turns within one run, and shares are of processor time on a CPU: so they hold on a busy
machine too, milliseconds on an idle one alone.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lsm_ros.bench import machine, network, report, sfm, stages, voxels
from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.evaluation.pictures import save
from lsm_ros.evaluation.report import check_folder, read_block, rewrite_block, write_json
from lsm_ros.mapping.views import View
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.resources import resource

ROUNDS, QUICK_ROUNDS = 15, 1
UPDATES, QUICK_UPDATES = 200, 5
QUICK_FRAMES = 12
QUICK_SIZES = (10_000, 40_000)


def measure(arguments: argparse.Namespace, predictor: NetworkPredictor) -> report.Results:
    """All that is measured, by section; see `report`."""
    quick, progress = arguments.quick, sys.stderr.isatty()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    results: report.Results = {"machine": machine.describe(predictor.device) | {
        "gemm_gflops": machine.gemm_gflops(predictor.device), "copy_gbs": machine.copy_gbs(predictor.device)}}
    frames, decoding = stages.read_frames(arguments.source or resource("recordings/apartment"),
                                          QUICK_FRAMES if quick else None)
    results["stages"] = stages.stages(predictor, frames, decoding, progress)
    spread = frames[::max(len(frames) // 16, 1)]
    results["network"] = network.parts(predictor, spread, rounds, progress)
    results["view_counts"] = network.view_counts(predictor, spread, rounds, progress)
    if predictor.device.type == "cuda":
        results["throughput"] = network.throughput(predictor, spread, rounds, progress)
    results["map_updates"] = voxels.map_updates(one_view(predictor, frames[0]), QUICK_UPDATES if quick else UPDATES,
                                                QUICK_SIZES if quick else voxels.SIZES, progress)
    results["peak_memory_mb"] = machine.peak_memory_mb()
    if arguments.sfm:
        results["sfm_folder"] = Path(arguments.sfm).name
        results["sfm"] = sfm.compare(predictor, arguments.sfm, arguments.frames, arguments.gap, progress)
    return results


def one_view(predictor: NetworkPredictor, frame: Frame) -> View:
    """What the network sees in a frame alone."""
    predictor.reset()
    window = network.Windows([frame], 1).window()
    return View.from_prediction(Keyframe(0, frame), predictor(window), 0, predictor.labels)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", help="what to map, as for `lsm map` (default: the shipped recording)")
    parser.add_argument("--quick", action="store_true", help="some seconds, to see that it runs; rough figures")
    parser.add_argument("--sfm", type=Path, metavar="FOLDER",
                        help="compare with structure from motion on this sequence")
    parser.add_argument("--frames", type=int, default=sfm.FRAMES, help="of FOLDER (default %(default)s)")
    parser.add_argument("--gap", type=int, default=sfm.GAP, help="frames of FOLDER between two (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="write a picture of them here")
    parser.add_argument("--markdown", type=Path, help="a Markdown file: write the tables, in ratios alone on a CPU, "
                        "between its lines <!-- scoreboard --> and <!-- /scoreboard -->")
    parser.add_argument("--weights", default="", help="weights file (default: the shipped one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the network; 0 lets torch choose")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="lsm bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    for path in filter(None, (arguments.json, arguments.plot)):
        check_folder(path)                 # before minutes are spent
    if arguments.markdown:
        read_block(arguments.markdown)
    if arguments.sfm:
        sfm.check(arguments.sfm, arguments.frames, arguments.gap)
    predictor = NetworkPredictor(PredictorConfig(weights=arguments.weights, device=arguments.device,
                                                 threads=arguments.threads))
    results = measure(arguments, predictor)
    results["summary"] = report.summary(results)
    print(report.tables(results))
    if arguments.json:
        write_json(arguments.json, results)
    if arguments.plot:
        save(arguments.plot, report.picture(results))
    if arguments.markdown:
        rewrite_block(arguments.markdown, report.tables(results, times=predictor.device.type == "cuda"))
