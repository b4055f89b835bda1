"""The network: its parts, whole windows with and without tokens that are kept, and numbers of views.

On a CPU shares are shares of processor time, all cores together: another program that takes a core for a while adds to
the milliseconds but not to that.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from lsm_ros.bench.machine import product_of, seconds
from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.evaluation.report import Line
from lsm_ros.model.engine import NetworkPredictor, check_window, known_priors, network_input
from lsm_ros.model.network import PATCH

VIEWS = (1, 2, 4, 8)
USUAL = 4                  # views of a window
SIZES = ((256, 192), (192, 256), (288, 160), (192, 144), (320, 256))      # width and height as the network sees them
KEPT, ANEW = "new keyframe to prediction", "new keyframe to prediction, no tokens kept"
FLOAT32 = "the same in float32"


Output = TypeVar("Output")


def noise(count: int) -> list[Frame]:
    """VGA images for want of better ones: a texture that moves on by some pixels each time."""
    texture = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    wide = cv2.resize(texture, (1280, 480), interpolation=cv2.INTER_CUBIC)
    return [Frame(number, np.ascontiguousarray(wide[:, 32 * number % 640:][:, :640])) for number in range(count)]


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
    """A line a part of the work on one window, in the order in which it is done, and of the whole with and without what
    makes it fast. All take turns, so that they share whatever else the machine does; FLOP are those of products and
    convolutions."""
    predictor.reset()
    windows, network, device = Windows(frames, USUAL), predictor.network, predictor.device
    window = windows.window()
    size = check_window(window)
    four = [keyframe.frame for keyframe in window.keyframes]
    inputs, alone = network_input(four, size, device), network_input(four[:1], size, device)
    tokens, priors = own(predictor.encode(*inputs)), known_priors([window], size, device)
    output = own(predictor.decode(tokens, USUAL, priors))
    calls: dict[str, Callable[[], object]] = {
        "resize one image": lambda: network_input(four[:1], size, device),
        "encode one frame": lambda: predictor.encode(*alone),
        "encode four frames": lambda: predictor.encode(*inputs),
        "decode four views": lambda: predictor.decode(tokens, USUAL, priors),
        "match four views": lambda: predictor.match(output.descriptors[0], output.unmatched),
        KEPT: lambda: predictor(windows.window()),
        ANEW: lambda: (predictor.reset(), predictor(windows.window()))}
    if predictor.bfloat16 and device.type == "cpu":
        plain = NetworkPredictor(replace(predictor.config, precision="float32"),
                                 None if predictor.card else predictor.network)
        others = Windows(frames, USUAL)        # or `predictor` would have to encode the frames that only `plain` saw
        calls[FLOAT32] = lambda: (plain.reset(), plain(others.window()))
    if output.descriptors is None:
        del calls["match four views"]
    flop = {"encode one frame": count_flop(lambda: network.encode(*alone), predictor),
            "decode four views": count_flop(lambda: network.decode(tokens, USUAL, priors), predictor)}
    flop["encode four frames"] = USUAL * flop["encode one frame"]
    flop[KEPT] = flop["encode one frame"] + flop["decode four views"]
    flop[ANEW] = flop["encode four frames"] + flop["decode four views"]
    product, product_flop = product_of(device, predictor.bfloat16)
    whole = FLOAT32 if FLOAT32 in calls else ANEW
    times = take_turns(calls | {"product": product}, device, rounds, "network", progress)
    return [{"part": name, "ms": times[name].ms, "of_no_tokens": times[name].against(times[whole]),
             "gflop": flop[name] / 1e9 if name in flop else None, "of_peak": flop[name] / product_flop
             * times["product"].against(times[name]) if name in flop else None} for name in calls]


def view_counts(predictor: NetworkPredictor, frames: Sequence[Frame], rounds: int, progress: bool = True,
                numbers: Sequence[int] = VIEWS) -> list[Line]:
    """A line a number of views, one of them the usual: a window with one new keyframe, tokens kept and not."""
    predictor.reset()
    calls: dict[str, Callable[[], object]] = {}
    for views in numbers:
        kept, anew = (Windows(frames, views, views << 32) for _ in range(2))     # the others' tokens serve nobody else
        calls[f"{views} kept"] = lambda windows=kept: predictor(windows.window())
        calls[f"{views} anew"] = lambda windows=anew: predictor.predict_batch([windows.window()])
    times = take_turns(calls, predictor.device, rounds, "numbers of views", progress)
    usual = times[f"{USUAL} kept"]
    return [{"views": views, "kept_ms": times[f"{views} kept"].ms, "anew_ms": times[f"{views} anew"].ms,
             "kept_of_usual": times[f"{views} kept"].against(usual),
             "anew_of_usual": times[f"{views} anew"].against(usual)} for views in numbers]


def resolutions(predictor: NetworkPredictor, rounds: int, progress: bool = True,
                sizes: Sequence[tuple[int, int]] = SIZES) -> list[Line]:
    """A line a size (width, height) of the images as the network sees them, the first against itself: one frame is
    encoded and four views are decoded, of noise. A camera of another shape is seen at another of these; beyond 192
    patches the network was not trained, which costs accuracy, not memory alone."""
    random = torch.Generator().manual_seed(0)

    def call(width: int, height: int) -> Callable[[], object]:
        images = torch.rand(USUAL, 3, height, width, generator=random).to(predictor.device)
        K, known = torch.eye(3, device=predictor.device).repeat(USUAL, 1, 1), images.new_zeros(USUAL, dtype=torch.bool)
        tokens = own(predictor.encode(images, K, known))
        return lambda: (predictor.encode(images[:1], K[:1], known[:1]), predictor.decode(tokens, USUAL))

    times = take_turns({str(size): call(*size) for size in sizes}, predictor.device, rounds, "resolutions", progress)
    return [{"width": size[0], "height": size[1], "patches": size[0] * size[1] // PATCH ** 2,
             "ms": times[str(size)].ms, "of_first": times[str(size)].against(times[str(sizes[0])])} for size in sizes]


def take_turns(calls: dict[str, Callable[[], object]], device: torch.device, rounds: int, title: str,
               progress: bool) -> dict[str, Times]:
    """Each call once a round, after a round that does not count."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in tqdm(range(rounds + 1), desc=title, unit="round", disable=not progress):
        for name, call in calls.items():
            taken = seconds(call, device)
            if number:
                measured[name].append(taken)
    return {name: Times(*np.array(values).T) for name, values in measured.items()}


def own(output: Output) -> Output:
    """A copy of a dataclass of tensors: what a predictor returns is overwritten by its next call."""
    return replace(output, **{name: value.clone() for name, value in vars(output).items() if isinstance(value, Tensor)})


def count_flop(call: Callable[[], object], predictor: NetworkPredictor) -> int:
    """FLOP of a call, a multiplication and an addition each counted. (Of attention the counter sees the plain kind.)"""
    with torch.inference_mode(), predictor.precision(), sdpa_kernel(SDPBackend.MATH), \
            FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
