"""The network: its parts, whole windows with and without tokens that are kept, and numbers of views.

On a CPU shares are shares of processor time, all cores together: another program that takes a core for a while adds to
the milliseconds but not to that.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from lsm_ros.bench.machine import product_of, seconds
from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.evaluation.scores import Line
from lsm_ros.model.engine import NetworkPredictor, check_window, known_priors, network_input
from lsm_ros.model.matching import match_views

VIEWS = (1, 2, 4, 8)
USUAL = 4                  # views of a window
BATCHES = (1, 4, 16, 64)   # windows at once on a GPU
KEPT, ANEW = "new keyframe to prediction", "new keyframe to prediction, no tokens kept"


class Windows:
    """Windows that slide over frames, which begin again when they end; every keyframe has a new id, from `first` on."""

    def __init__(self, frames: Sequence[Frame], views: int, first: int = 0):
        self._frames, self._ids = frames, count(first)
        self._keyframes = [self._next() for _ in range(views)]

    def _next(self) -> Keyframe:
        number = next(self._ids)
        return Keyframe(number, self._frames[number % len(self._frames)])

    def window(self) -> Window:
        """One with the keyframes of the one before, but for the oldest, and a new one."""
        self._keyframes = [*self._keyframes[1:], self._next()]
        return Window(tuple(self._keyframes))


@dataclass(frozen=True)
class Times:
    """Seconds of one call, round by round."""
    wall: np.ndarray
    cost: np.ndarray           # processor time on a CPU, the same as wall on a GPU

    @property
    def ms(self) -> float:
        return 1e3 * float(np.median(self.wall))

    def against(self, other: Times) -> float:
        """How many times the other's cost: the median over the rounds."""
        return float(np.median(self.cost / other.cost))


def parts(predictor: NetworkPredictor, frames: Sequence[Frame], rounds: int, progress: bool = True) -> list[Line]:
    """A line a part of the work on one window, in the order in which it is done, and two of the whole. All take turns,
    so that they share whatever else the machine does; FLOP are those of products and convolutions."""
    predictor.reset()
    windows, network, device = Windows(frames, USUAL), predictor.network, predictor.device
    window = windows.window()
    size = check_window(window)
    four = [keyframe.frame for keyframe in window.keyframes]
    with torch.inference_mode(), predictor.precision():
        inputs, alone = network_input(four, size, device), network_input(four[:1], size, device)
        tokens, priors = network.encode(*inputs), known_priors([window], size, device)
        output = network.decode(tokens, USUAL, priors)
    calls: dict[str, Callable[[], object]] = {
        "resize one image": lambda: network_input(four[:1], size, device),
        "encode one frame": lambda: network.encode(*alone),
        "encode four frames": lambda: network.encode(*inputs),
        "decode four views": lambda: network.decode(tokens, USUAL, priors),
        "match four views": lambda: match_views(output.descriptors[0], output.unmatched),
        KEPT: lambda: predictor(windows.window()),
        ANEW: lambda: (predictor.reset(), predictor(windows.window()))}
    if output.descriptors is None:
        del calls["match four views"]
    flop = {name: count_flop(calls[name], predictor) for name in ("encode one frame", "encode four frames",
                                                                  "decode four views")}
    flop[KEPT] = flop["encode one frame"] + flop["decode four views"]
    flop[ANEW] = flop["encode four frames"] + flop["decode four views"]
    product, product_flop = product_of(device)
    times = take_turns(calls | {"product": product}, predictor, rounds, "network", progress)
    return [{"part": name, "ms": times[name].ms, "of_no_tokens": times[name].against(times[ANEW]),
             "gflop": flop[name] / 1e9 if name in flop else None, "of_peak": flop[name] / product_flop
             * times["product"].against(times[name]) if name in flop else None} for name in calls]


def view_counts(predictor: NetworkPredictor, frames: Sequence[Frame], rounds: int, progress: bool = True) -> list[Line]:
    """A line a number of views: a window with one new keyframe, tokens kept and not."""
    predictor.reset()
    calls: dict[str, Callable[[], object]] = {}
    for views in VIEWS:
        kept, anew = (Windows(frames, views, views << 32) for _ in range(2))     # the others' tokens serve nobody else
        calls[f"{views} kept"] = lambda windows=kept: predictor(windows.window())
        calls[f"{views} anew"] = lambda windows=anew: predictor.predict_batch([windows.window()])
    times = take_turns(calls, predictor, rounds, "numbers of views", progress)
    usual = times[f"{USUAL} kept"]
    return [{"views": views, "kept_ms": times[f"{views} kept"].ms, "anew_ms": times[f"{views} anew"].ms,
             "kept_of_usual": times[f"{views} kept"].against(usual),
             "anew_of_usual": times[f"{views} anew"].against(usual)} for views in VIEWS]


def throughput(predictor: NetworkPredictor, frames: Sequence[Frame], rounds: int, progress: bool = True) -> list[Line]:
    """A line a batch: windows a second of four views each, nothing kept. Worth it on a GPU."""
    window = Windows(frames, USUAL).window()
    calls = {str(batch): lambda batch=batch: predictor.predict_batch([window] * batch) for batch in BATCHES}
    times = take_turns(calls, predictor, rounds, "batches", progress)
    return [{"batch": int(batch), "windows_per_s": 1e3 * int(batch) / each.ms} for batch, each in times.items()]


def take_turns(calls: dict[str, Callable[[], object]], predictor: NetworkPredictor, rounds: int, title: str,
               progress: bool) -> dict[str, Times]:
    """Each call once a round, after a round that does not count."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    with torch.inference_mode(), predictor.precision():
        for number in tqdm(range(rounds + 1), desc=title, unit="round", disable=not progress):
            for name, call in calls.items():
                taken = seconds(call, predictor.device)
                if number:
                    measured[name].append(taken)
    return {name: Times(*np.array(values).T) for name, values in measured.items()}


def count_flop(call: Callable[[], object], predictor: NetworkPredictor) -> int:
    """FLOP of a call, a multiplication and an addition each counted. (Of attention the counter sees the plain kind.)"""
    with torch.inference_mode(), predictor.precision(), sdpa_kernel(SDPBackend.MATH), \
            FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
