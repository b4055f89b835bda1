"""Measures on this machine what mapping costs: the network, every other stage, and how the map's size weighs.

    lsm bench                                     the tables; some minutes on two cores
    lsm bench --json out.json --plot out.png      ... and as files
    lsm bench --only network,energy               some of the sections alone
    lsm bench --device cuda                       on a GPU: its engines side by side, and windows a second too
    lsm bench --sfm FOLDER                        beside structure from motion, on a sequence with truth: color/ pose/
                                                  intrinsics.txt (needs pycolmap: pip install 'lsm_ros[sfm]')

Whatever is compared takes turns within one run. On a CPU the shares of the network's parts, views, shapes and maps are
of processor time and hold on a busy machine, too; those of the stages and the node are of the time that passes, and
hold on an idle one alone, like milliseconds. A section for which something is missing (ROS 2, say) is left out with a
word, and one that fails costs no other; the exit code is 1 then.
"""
from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch

from lsm_ros.bench import energy, machine, network, report
from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.data.files import check_folder
from lsm_ros.errors import ConfigError, InputError
from lsm_ros.evaluation.report import read_block, rewrite_block, write_json
from lsm_ros.mapping.views import View
from lsm_ros.memory import memory_mb
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.resources import resource
from lsm_ros.ros.presence import check_ros

# In the order in which they are measured: on a GPU its own come first. What they need beyond torch, numpy and OpenCV is
# imported by the section that needs it.
SECTIONS = ("engines", "throughput", "network", "view_counts", "resolutions", "energy", "stages", "map_updates",
            "hops", "node", "sfm")
GPU_SECTIONS = ("engines", "throughput")
SLOW = ("resolutions", "hops", "node")     # left out by --quick, unless they are asked for
ROUNDS, GPU_ROUNDS, QUICK_ROUNDS = 15, 50, 1
UPDATES, QUICK_UPDATES = 200, 5
QUICK_FRAMES, QUICK_VIEWS, QUICK_SIZES = 12, (1, 4), (10_000, 40_000)
IMAGES, QUICK_IMAGES = 150, 15         # sent from process to process
ENERGY_S, QUICK_ENERGY_S = 5.0, .5
FRAMES, GAP = 20, 4                    # of --sfm


class Bench:
    """What there is to measure, a method a section."""

    def __init__(self, arguments: argparse.Namespace, predictor: NetworkPredictor, config: PredictorConfig,
                 sequence: Sequence | None = None):
        self._arguments, self._predictor, self._config = arguments, predictor, config
        self._sequence, self._quick, self._progress = sequence, arguments.quick, sys.stderr.isatty()
        on_gpu = predictor.device.type == "cuda"
        self._rounds = QUICK_ROUNDS if self._quick else GPU_ROUNDS if on_gpu else ROUNDS

    def machine(self):
        return machine.describe(self._predictor.device) | {
            "precision": "bfloat16" if self._predictor.bfloat16 else "float32"}

    def peaks(self):
        device = self._predictor.device
        return {"gemm_gflops": machine.gemm_gflops(device), "copy_gbs": machine.copy_gbs(device)}

    @cached_property
    def _recorded(self) -> tuple[list[Frame], list[float]]:
        from lsm_ros.bench.stages import read_frames
        return read_frames(self._arguments.source or resource("recordings/apartment"),
                           QUICK_FRAMES if self._quick else None)

    @cached_property
    def _spread(self) -> list[Frame]:
        """Some sixteen frames; of noise where the shipped recording can't be read (rosbags is missing, say)."""
        try:
            frames = self._recorded[0]
        except (ModuleNotFoundError, InputError):
            if self._arguments.source:
                raise
            return network.noise(16)
        return frames[::max(len(frames) // 16, 1)]

    def engines(self):
        from lsm_ros.bench import gpu
        return gpu.engines(self._config, self._spread, self._rounds, self._progress, self._arguments.compile)

    def throughput(self):
        from lsm_ros.bench import gpu
        return gpu.throughput(self._config, self._spread, max(3, self._rounds // 5), self._progress,
                              self._arguments.compile)

    def network(self):
        return network.parts(self._predictor, self._spread, self._rounds, self._progress)

    def view_counts(self):
        return network.view_counts(self._predictor, self._spread, self._rounds, self._progress,
                                   QUICK_VIEWS if self._quick else network.VIEWS)

    def resolutions(self):
        return network.resolutions(self._predictor, self._rounds, self._progress,
                                   network.SIZES[:2] if self._quick else network.SIZES)

    def energy(self):
        windows = network.Windows(self._spread, network.USUAL, 1 << 40)
        return energy.per_window(lambda: self._predictor(windows.window()), self._predictor.device,
                                 QUICK_ENERGY_S if self._quick else ENERGY_S)

    def stages(self):
        from lsm_ros.bench.stages import stages
        return stages(self._predictor, *self._recorded, self._progress)

    def map_updates(self):
        from lsm_ros.bench import voxels
        return voxels.map_updates(one_view(self._predictor, self._spread[0]),
                                  QUICK_UPDATES if self._quick else UPDATES,
                                  QUICK_SIZES if self._quick else voxels.SIZES, self._progress)

    def hops(self):
        check_ros("this section measures")
        from lsm_ros.ros.bench import hops
        return hops(QUICK_IMAGES if self._quick else IMAGES)

    def node(self):
        check_ros("this section measures")
        from lsm_ros.ros.bench import node
        return node(self._arguments.source and Path(self._arguments.source), self._config)

    def sfm(self):
        from lsm_ros.bench import sfm
        return sfm.compare(self._predictor, self._sequence, self._progress)


def measure(bench: Bench, sections: Sequence[str], keep: Callable[[report.Results], None] = lambda results: None
            ) -> report.Results:
    """What was measured, by section (see `report`), and `left_out` and `failed`: why a section is not among it. `keep`
    gets it after each."""
    results: report.Results = {"machine": bench.machine(), "left_out": {}, "failed": {}}
    for section in (*sections, "peaks"):
        if section == "peaks":                                  # last, for their copies take half a gigabyte
            results["peak_memory_mb"] = memory_mb()["peak_mb"]
        try:
            results[section] = getattr(bench, section)()
        except (ModuleNotFoundError, ConfigError) as error:
            results["left_out"][section] = str(error)
        except Exception as error:          # noqa: BLE001 the others are measured all the same
            traceback.print_exc()
            results["failed"][section] = machine.told(error)
            if isinstance(error, torch.cuda.OutOfMemoryError):
                torch.cuda.empty_cache()
        keep(results)
    return results


def one_view(predictor: NetworkPredictor, frame: Frame) -> View:
    """What the network sees in a frame alone."""
    predictor.reset()
    window = network.Windows([frame], 1).window()
    return View.from_prediction(Keyframe(0, frame), predictor(window), 0, predictor.labels)


def chosen(arguments: argparse.Namespace, on_gpu: bool) -> list[str]:
    """The sections to measure. Raises InputError for one that there is not."""
    if arguments.only:
        names = [name.strip() for name in arguments.only.split(",")]
        if unknown := [name for name in names if name not in SECTIONS]:
            raise InputError(f"--only {','.join(unknown)}: the sections are {', '.join(SECTIONS)}")
        if "sfm" in names and not arguments.sfm:
            raise InputError("--only sfm needs --sfm FOLDER")
        return [name for name in SECTIONS if name in names]
    absent = set(() if on_gpu else GPU_SECTIONS) | set(SLOW if arguments.quick else ()) | {"sfm"}
    return [name for name in SECTIONS if name not in absent or name == "sfm" and arguments.sfm]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", help="what to map, as for `lsm map` (default: the shipped recording)")
    parser.add_argument("--quick", action="store_true", help="some seconds, to see that it runs; rough figures, and "
                        f"without {', '.join(SLOW)} unless --only names them")
    parser.add_argument("--only", default="", metavar="SECTIONS", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--compile", action="store_true", help="on a GPU: torch.compile's engine too; takes minutes")
    parser.add_argument("--sfm", type=Path, metavar="FOLDER",
                        help="compare with structure from motion on this sequence")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of FOLDER (default %(default)s)")
    parser.add_argument("--gap", type=int, default=GAP, help="frames of FOLDER between two (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="write a picture of them here")
    parser.add_argument("--markdown", type=Path, help="a Markdown file: write the tables, in ratios alone on a CPU, "
                        "between its lines <!-- scoreboard --> and <!-- /scoreboard -->")
    parser.add_argument("--weights", default="", help="weights file (default: the shipped one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the network; 0 lets torch choose")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lsm bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    for path in filter(None, (arguments.json, arguments.plot)):
        check_folder(path, "the scores")                 # before minutes are spent
    if arguments.plot:
        from lsm_ros.evaluation.pictures import check_picture
        check_picture(arguments.plot)
    if arguments.markdown:
        read_block(arguments.markdown)
    sequence = None
    if arguments.sfm:
        from lsm_ros.bench import sfm
        sfm.require()
        sequence = sfm.read_frames(arguments.sfm, arguments.frames, arguments.gap)
    if arguments.source:
        from lsm_ros.data.sequences import open_sequence
        open_sequence(arguments.source)    # what can't be opened would fail section by section
    config = PredictorConfig(weights=arguments.weights, device=arguments.device, threads=arguments.threads)
    chosen(arguments, True)                # a section that there is not is told before the weights are read
    predictor = NetworkPredictor(config)
    on_gpu = predictor.device.type == "cuda"
    results = measure(Bench(arguments, predictor, config, sequence), chosen(arguments, on_gpu),
                      lambda results: write_json(arguments.json, results) if arguments.json else None)
    if arguments.sfm:
        results["sfm_folder"] = arguments.sfm.name
    results["peak_gpu_memory_mb"] = machine.peak_gpu_memory_mb(predictor.device)
    results["summary"] = report.summary(results)
    print(report.tables(results))
    if arguments.json:
        write_json(arguments.json, results)
    if arguments.plot:
        from lsm_ros.evaluation.pictures import save
        save(arguments.plot, report.picture(results))
    if arguments.markdown:
        rewrite_block(arguments.markdown, report.tables(results, times=on_gpu))
    return 1 if results["failed"] else 0
