"""On a GPU: the engines side by side, how far they agree with float32, and windows a second in batches."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from lsm_ros.bench.machine import seconds, told
from lsm_ros.bench.network import USUAL, Windows, own, take_turns
from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Frame, Window, WindowPrediction
from lsm_ros.evaluation.report import Line
from lsm_ros.geometry.sim3 import rotation_angle
from lsm_ros.labels import LabelSet
from lsm_ros.model.engine import NetworkPredictor, check_window, network_input
from lsm_ros.model.network import NetworkOutput

REFERENCE, PLAIN, GRAPHS = "float32", "bfloat16", "bfloat16, CUDA graphs"
CHANNELS_LAST, COMPILED = "the same, channels last", "the same, compiled"
BATCHES = (1, 4, 16, 64)         # windows at once
COMPARED = 4                     # windows that the engines are compared on
TOLERANCE = {"depth": .01, "rotation_deg": .5, "labels": .02}
"""What bfloat16 may cost: the median change of depth, the median turn of a pose, the share of other labels."""


def engines(config: PredictorConfig, frames: Sequence[Frame], rounds: int, progress: bool = True,
            compiled: bool = False) -> list[Line]:
    """A line an engine: milliseconds of a window as the mapper asks for it, and of the network's own part of that; and
    its distance from the first. One that fails has the key `failed` alone. Compiling takes a minute or more."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False                        # else the reference's convolutions are rounded, too
    try:
        made, lines = {}, {}
        for name in (REFERENCE, PLAIN, GRAPHS, CHANNELS_LAST, *[COMPILED] * compiled):
            try:
                made[name] = make(name, config)
                outcome = [made[name](window) for window in compared(frames)]
                lines[name] = {"engine": name}
                if name == REFERENCE:
                    expected, labels = outcome, made[name].labels
                elif REFERENCE in made:
                    lines[name] |= distance(outcome, expected, labels)
                if failure := made[name].graph_failure:
                    raise RuntimeError(f"no CUDA graphs: {failure}")
            except Exception as error:      # noqa: BLE001 the others are measured all the same
                made.pop(name, None)
                lines[name] = {"engine": name, "failed": told(error)}
        times = one_at_a_time(made, frames, rounds, progress)
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    return [line | times.get(name, {}) for name, line in lines.items()]


def make(name: str, config: PredictorConfig) -> NetworkPredictor:
    if name == REFERENCE:
        return NetworkPredictor(replace(config, cuda_graphs=False, precision="float32"))
    predictor = NetworkPredictor(replace(config, cuda_graphs=name != PLAIN, compile=name == COMPILED))
    if predictor.compile_failure:
        raise RuntimeError(f"not compiled: {predictor.compile_failure}")
    if name == CHANNELS_LAST:
        predictor.network.to(memory_format=torch.channels_last)
    return predictor


def compared(frames: Sequence[Frame]) -> list[Window]:
    """Windows whose frames lie apart."""
    return [Windows(frames, USUAL, first=100 * number + number).window() for number in range(COMPARED)]


def distance(found: Sequence[WindowPrediction], expected: Sequence[WindowPrediction], labels: LabelSet) -> Line:
    """How far predictions are apart: the median change of depth, as a share; the median turn between poses; the share
    of cells with another label; the number of matches against the expected one; and whether TOLERANCE allows it."""
    pairs = list(zip(found, expected, strict=True))
    turns = [rotation_angle(a.T_window_cam[1:, :3, :3], b.T_window_cam[1:, :3, :3]) for a, b in pairs]
    line: Line = {
        "depth": float(np.median([np.median(np.abs(np.log(a.depth / b.depth))) for a, b in pairs])),
        "rotation_deg": float(np.degrees(np.median(turns))),
        "labels": float(np.mean([labels.log_probabilities(a.semantics).argmax(-1)
                                 != labels.log_probabilities(b.semantics).argmax(-1) for a, b in pairs]))}
    if all(prediction.matches is not None for pair in pairs for prediction in pair):
        line["matches"] = sum(len(a.matches.a) for a, _ in pairs) / max(1, sum(len(b.matches.a) for _, b in pairs))
    return line | {"agrees": all(line[name] <= most for name, most in TOLERANCE.items())}


def one_at_a_time(made: dict[str, NetworkPredictor], frames: Sequence[Frame], rounds: int, progress: bool
                  ) -> dict[str, Line]:
    """Milliseconds by engine. `ms` is from the new frame to the prediction on the host, three frames known; and
    `network_ms` one frame encoded and four views decoded and matched, on the GPU."""
    calls = {}
    for name, predictor in made.items():
        predictor.reset()
        windows = Windows(frames, USUAL, 1 << 32)
        calls[name] = lambda predictor=predictor, windows=windows: predictor(windows.window())
        window = windows.window()
        four = [keyframe.frame for keyframe in window.keyframes]
        inputs = network_input(four, check_window(window), predictor.device)
        alone, tokens = tuple(part[:1] for part in inputs), own(predictor.encode(*inputs))

        def network(predictor=predictor, alone=alone, tokens=tokens) -> None:
            predictor.encode(*alone)
            predictor.read(tokens, USUAL)

        calls[name, "network"] = network
    if not calls:
        return {}
    device = next(iter(made.values())).device
    times = take_turns(calls, device, rounds, "engines", progress)
    return {name: {"ms": times[name].ms, "worst_ms": 1e3 * float(times[name].wall.max()),
                   "network_ms": times[name, "network"].ms} for name in made}


def throughput(config: PredictorConfig, frames: Sequence[Frame], rounds: int, progress: bool = True,
               compiled: bool = False, batches: Sequence[int] = BATCHES) -> list[Line]:
    """A line an engine and batch: windows a second of four views each, nothing kept; of the network with its input and
    output on the GPU (without and with the search for matches), and from images to predictions in numpy. Batches for
    which the memory is too small are left out. (Graphs save nothing here; compiling starts anew for each batch, so
    there it is the largest alone.)"""
    window = Windows(frames, USUAL).window()
    rows = [(PLAIN, batch) for batch in batches] + [(CHANNELS_LAST, batch) for batch in batches[-2:]]
    rows += [(COMPILED, batches[-1])] * compiled
    lines: list[Line] = []
    for name, batch in tqdm(rows, desc="batches", unit="batch", disable=not progress):
        try:
            lines.append({"engine": name, "batch": batch} | windows_a_second(make(name, config), window, batch, rounds))
        except Exception as error:          # noqa: BLE001 the others are measured all the same
            lines.append({"engine": name, "batch": batch, "failed": told(error)})
            torch.cuda.empty_cache()
    return lines


def windows_a_second(predictor: NetworkPredictor, window: Window, batch: int, rounds: int) -> Line:
    images = network_input([keyframe.frame for keyframe in window.keyframes], check_window(window), predictor.device)
    inputs = tuple(part.repeat(batch, *[1] * (part.dim() - 1)) for part in images)

    @torch.inference_mode()
    def network() -> NetworkOutput:
        with predictor.precision():
            return predictor.network.decode(predictor.network.encode(*inputs), USUAL)

    def matched() -> None:
        output = network()
        for descriptors in () if output.descriptors is None else output.descriptors:
            predictor.match(descriptors, output.unmatched)

    calls = {"network": network, "matched": matched, "whole": lambda: predictor.predict_batch([window] * batch)}
    return {f"{name}_per_s": batch / usual_seconds(call, predictor, rounds) for name, call in calls.items()}


def usual_seconds(call: Callable[[], object], predictor: NetworkPredictor, rounds: int) -> float:
    """Seconds: the median of some calls after two that do not count."""
    return float(np.median([seconds(call, predictor.device)[0] for _ in range(rounds + 2)][2:]))
