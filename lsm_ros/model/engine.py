"""Runs the network on windows of keyframes and keeps what the encoder said of the frames it has seen."""
from __future__ import annotations

import lsm_ros.threads  # noqa: F401  (before numpy and torch)

# isort: split
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import MOST_ELONGATED, Frame, Keyframe, Window, WindowPrediction
from lsm_ros.errors import ConfigError, InputError, WeightsError
from lsm_ros.geometry.camera import check_intrinsics, scale_intrinsics
from lsm_ros.geometry.sim3 import inverse
from lsm_ros.labels import LabelSet
from lsm_ros.memory import give_back
from lsm_ros.model.compiling import compile_parts, why_not_compile
from lsm_ros.model.graphs import Graphs
from lsm_ros.model.matching import find_places, to_matches
from lsm_ros.model.network import MAX_VIEWS, PATCH, FrameTokens, Network, NetworkOutput, Priors
from lsm_ros.model.weights import load_network

PATCHES = 192   # the most that the network was trained on: 16 x 12
PRODUCTS = 12   # of each precision, before a CPU's is chosen


class NetworkPredictor:
    """The network behind `contracts.Predictor`. Not safe for several threads at once."""

    def __init__(self, config: PredictorConfig = PredictorConfig(), network: Network | None = None):
        """Loads the weights, unless a `network` is given. Raises WeightsError, or ConfigError for the device."""
        self.config, self.device = config, open_device(config.device)
        self.bfloat16 = config.precision == "bfloat16" or config.precision == "auto" and has_bfloat16(self.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.labels = LabelSet.load(config.labels or None)
        on_gpu = self.device.type == "cuda"
        if network is not None:
            self.card = {}
        else:
            network, self.card = load_network(config.weights or None)
            if network.config.embedding != self.labels.embeddings.shape[1]:
                raise WeightsError(f"the weights {config.weights} speak of labels with {network.config.embedding} "
                                   f"numbers; words have {self.labels.embeddings.shape[1]}")
            if self.bfloat16:
                round_products(network)
        self.network = network.to(self.device).eval()
        if self.device.type == "cpu":           # convolutions and the products about them take .9 of the time then
            self.network.to(memory_format=torch.channels_last)
        give_back()                     # what loading took, 60 MB of the node's memory otherwise
        self.compile_failure = why_not_compile(self.device) if config.compile else ""   # why it is not compiled
        if config.compile and not self.compile_failure:
            compile_parts(self.network, dynamic=False)
        self._graphs = Graphs(self.device) if on_gpu and config.cuda_graphs else None
        self._capacity = config.token_cache
        self._tokens: OrderedDict[Hashable, FrameTokens] = OrderedDict()     # by `identity`, oldest use first

    def reset(self) -> None:
        """Forgets the frames seen so far."""
        self._tokens.clear()

    @property
    def graph_failure(self) -> str:
        """Why there are no CUDA graphs although there should be."""
        return self._graphs.failure if self._graphs else ""

    @torch.inference_mode()
    def __call__(self, window: Window) -> WindowPrediction:
        """Encodes the frames that are new, decodes the window. Raises InputError for a window that cannot be run."""
        keyframes = window.keyframes
        size = check_window(window)
        names = [identity(keyframe) for keyframe in keyframes]
        self._remember([keyframe for keyframe, name in zip(keyframes, names, strict=True) if name not in self._tokens],
                       size)
        for name in names:
            self._tokens.move_to_end(name)
        frames = join([self._tokens[name] for name in names])
        found = self.read(frames, len(keyframes), known_priors([window], size, self.device))
        while len(self._tokens) > self._capacity:
            self._tokens.popitem(last=False)
        return to_prediction(window, to_host(found), size)

    @torch.inference_mode()
    def predict_batch(self, windows: Sequence[Window]) -> list[WindowPrediction]:
        """Many windows of one shape at once, without the cache: the evaluation's way, fast on a GPU."""
        size = check_window(windows[0])
        frames = [keyframe.frame for window in windows for keyframe in window.keyframes]
        with self.precision():
            tokens = self.network.encode(*network_input(frames, size, self.device))
            output = self.network.decode(tokens, len(windows[0].keyframes), known_priors(windows, size, self.device))
        found = (read_output(output, index) | self._matches(output, index) for index in range(len(windows)))
        return [to_prediction(window, to_host(each), size) for window, each in zip(windows, found, strict=True)]

    @torch.inference_mode()
    def describe(self, keyframe: Keyframe) -> np.ndarray:
        """(320,) float64 of length 1, alike for images of one place. The tokens are kept for the windows that follow.

        Features of a classifier that has seen photographs find back places that the encoder's own do not: on a walk
        through an office the most alike of the old images shares a view for 86 of 100, by the encoder's tokens for 75.
        """
        if (name := identity(keyframe)) not in self._tokens:
            self._remember([keyframe], check_window(Window((keyframe,))))
        place = self._tokens[name].place[0].double().cpu().numpy()
        return place / np.linalg.norm(place)

    # The network's work, as CUDA graphs where there are any: what these return is overwritten by their next call then.

    @torch.inference_mode()
    def encode(self, images: Tensor, K: Tensor, K_known: Tensor) -> FrameTokens:
        """As Network.encode, in this device's precision."""
        return self._run("encode", self._encode, images, K, K_known)

    @torch.inference_mode()
    def decode(self, frames: FrameTokens, views: int, priors: Priors | None = None) -> NetworkOutput:
        """As Network.decode, in this device's precision."""
        return self._run(("decode", views), partial(self._decode, views), *vars(frames).values(), *parts_of(priors))

    @torch.inference_mode()
    def read(self, frames: FrameTokens, views: int, priors: Priors | None = None) -> dict[str, Tensor]:
        """One window decoded and matched: what `read_output` and `find_places` find in it."""
        return self._run(("read", views), partial(self._read, views), *vars(frames).values(), *parts_of(priors))

    @torch.inference_mode()
    def match(self, descriptors: Tensor, unmatched: Tensor) -> dict[str, Tensor]:
        """As matching.find_places."""
        return self._run("match", find_places, descriptors, unmatched)

    def _run(self, name: Hashable, function: Callable, *inputs: Tensor | None):
        return function(*inputs) if self._graphs is None else self._graphs(name, function, *inputs)

    def _encode(self, images: Tensor, K: Tensor, K_known: Tensor) -> FrameTokens:
        with self.precision():
            return self.network.encode(images, K, K_known)

    def _decode(self, views: int, *inputs: Tensor | None) -> NetworkOutput:
        tokens, told = inputs[:-3], inputs[-3:]
        priors = None if all(part is None for part in told) else Priors(*told)
        with self.precision():
            return self.network.decode(FrameTokens(*tokens), views, priors)

    def _read(self, views: int, *inputs: Tensor | None) -> dict[str, Tensor]:
        output = self._decode(views, *inputs)
        found = read_output(output, 0)
        return found if output.descriptors is None else found | find_places(output.descriptors[0], output.unmatched)

    def _matches(self, output: NetworkOutput, index: int) -> dict[str, Tensor]:
        """Those of window `index` of a batch."""
        return {} if output.descriptors is None else self.match(output.descriptors[index], output.unmatched)

    def _remember(self, keyframes: Sequence[Keyframe], size: tuple[int, int]) -> None:
        """Puts the tokens of `keyframes` into the cache; `size` is the network's (width, height)."""
        # One by one for graphs: those of larger numbers would seldom be used.
        together = max(len(keyframes), 1) if self._graphs is None else 1
        for first in range(0, len(keyframes), together):
            new = keyframes[first:first + together]
            tokens = self.encode(*network_input([keyframe.frame for keyframe in new], size, self.device))
            for index, keyframe in enumerate(new):
                parts = (part[index:index + 1] for part in vars(tokens).values())
                self._tokens[identity(keyframe)] = FrameTokens(*(parts if self._graphs is None else
                                                                 (part.clone() for part in parts)))

    def precision(self):
        """What `precision` of the config says. Rounded weights are not kept for later: a graph would go on reading them
        when they are gone."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False)


def has_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster there than those of float32. NVIDIA's GPUs before Ampere only emulate
    them, and cuDNN has no convolutions of them there. A CPU needs instructions of its own for them, and not all that
    have some gain by them: AMD's since Zen 4 take half the time, an Intel Xeon whose AMX a virtual machine hides twice
    as long. So both are tried."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return True
    try:
        features = Path("/proc/cpuinfo").read_text("ascii", "replace").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(features) and bfloat16_gain() > 1


@cache
def bfloat16_gain() -> float:
    """How many times as long as in bfloat16 a product of the decoder takes in float32 on this CPU: the best of some
    rounds in turns, 50 ms in all."""
    def taken(x: Tensor, weight: Tensor) -> float:
        start = time.perf_counter()
        nn.functional.linear(x, weight)
        return time.perf_counter() - start
    plain = torch.ones(4 * PATCHES, 384), torch.ones(768, 384)
    rounded = tuple(part.bfloat16() for part in plain)
    with torch.inference_mode():
        rounds = np.array([(taken(*plain), taken(*rounded)) for _ in range(PRODUCTS)])
    best = rounds.min(axis=0)
    return float(best[0] / best[1])


def round_products(network: nn.Module) -> None:
    """Rounds the weights of products and convolutions to bfloat16, once: autocast does it in every call."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(torch.bfloat16)


def open_device(name: str) -> torch.device:
    """"auto" is the first GPU where there is one. Raises ConfigError for a device that torch does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device = {name!r} cannot be used: {error}") from error
    return device


def identity(keyframe: Keyframe) -> tuple[int, int]:
    """What the tokens of a keyframe are known by: its id, and a few of its pixels and its K, for another mapper with
    the same network counts its keyframes from 0, too."""
    image, K = keyframe.frame.image, keyframe.frame.K
    return keyframe.id, hash((image.shape, image[::16, ::16].tobytes(), K is not None and np.asarray(K).tobytes()))


def check_window(window: Window) -> tuple[int, int]:
    """(width, height) that the window's images get. Raises InputError if it cannot be run."""
    views = len(window.keyframes)
    if not 1 <= views <= MAX_VIEWS:
        raise InputError(f"a window of {views} views; the network takes 1 to {MAX_VIEWS}")
    shapes = {keyframe.frame.image.shape for keyframe in window.keyframes}
    if len(shapes) > 1:
        raise InputError(f"the images of a window have different shapes: {sorted(shapes)}")
    height, width, _ = shapes.pop()
    return network_size(width, height)


@lru_cache(maxsize=64)
def network_size(width: int, height: int) -> tuple[int, int]:
    """The (width, height) at which the network sees an image: at most 192 patches, the image's shape kept within a few
    per cent (4:3 gives 256x192, 3:2 272x176, 16:9 288x160, portrait likewise). Intrinsics follow exactly."""
    if max(width, height) > MOST_ELONGATED * (min(width, height) + 1):     # which was rounded where it was shrunk
        raise InputError(f"an image of {width}x{height} pixels; its sides may differ by a factor of {MOST_ELONGATED} "
                         "at most")

    def cost(size: tuple[int, int]) -> float:
        distortion = abs(math.log(size[0] * height / (size[1] * width)))
        return 4 * distortion - math.log(size[0] * size[1])

    sizes = [(PATCH * columns, PATCH * rows) for rows in range(4, 33) for columns in range(4, 33)
             if rows * columns <= PATCHES]
    return min(sizes, key=cost)


def network_input(frames: Sequence[Frame], size: tuple[int, int], device: torch.device
                  ) -> tuple[Tensor, Tensor, Tensor]:
    """images (N, 3, H, W) float in 0..1, K (N, 3, 3), K_known (N,) of `frames` at `size` (width, height)."""
    images = torch.stack([resized(frame.image, size, device) for frame in frames]) / 255
    known = torch.tensor([frame.K is not None for frame in frames], device=device)
    K = np.stack([np.eye(3) if frame.K is None else
                  scale_intrinsics(check_intrinsics(frame.K), frame.image.shape[1::-1], size) for frame in frames])
    return images, torch.from_numpy(K).float().to(device), known


def resized(image: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w, 3) uint8 -> (3, H, W) float32 in 0..255, of `size` (width, height): the mean of what a pixel covers."""
    height, width, _ = image.shape
    if torch.device(device).type == "cpu" or width < size[0] or height < size[1]:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(image).to(device).permute(2, 0, 1).float()
    return shrink(torch.tensor(np.ascontiguousarray(image), device=device).permute(2, 0, 1).float(), size)


def shrink(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, h, w) -> (3, H, W), rounded: OpenCV's INTER_AREA as two products. On a processor it takes a millisecond or
    two, on a GPU a twentieth."""
    (height, width), device = pixels.shape[1:], pixels.device
    return (shares(height, size[1], device) @ (pixels @ shares(width, size[0], device).T)).round()


@lru_cache(maxsize=64)
def shares(before: int, after: int, device: torch.device) -> Tensor:
    """(after, before) float32: how much of each of `after` pixels in a row comes from each of `before` smaller ones."""
    edge = np.arange(after + 1) * (before / after)
    pixel = np.arange(before)
    covered = np.minimum(edge[1:, None], pixel + 1) - np.maximum(edge[:-1, None], pixel)
    return torch.from_numpy((covered.clip(0) * (after / before)).astype(np.float32)).to(device)


def known_priors(windows: Sequence[Window], size: tuple[int, int], device: torch.device) -> Priors | None:
    """What the frames of `windows` tell of motion and depth; None where they tell nothing. `size` (width, height) is
    the network's. Odometry counts where all frames of a window have it: then all are seen from the first."""
    frames = [[keyframe.frame for keyframe in window.keyframes] for window in windows]
    with_odometry = [all(frame.T_odom_cam is not None for frame in window) for window in frames]
    with_depth = any(frame.depth is not None for window in frames for frame in window)
    priors = Priors()
    if any(with_odometry):
        motion = np.tile(np.eye(4), (len(frames), len(frames[0]), 1, 1))
        for index in np.flatnonzero(with_odometry):
            T_odom_cam = np.stack([frame.T_odom_cam for frame in frames[index]])
            motion[index] = inverse(T_odom_cam[0]) @ T_odom_cam
        priors.motion = torch.from_numpy(motion).float().to(device)
        priors.motion_known = torch.tensor(with_odometry, device=device)[:, None].expand(-1, len(frames[0]))
    if with_depth:
        rows, columns = size[1] // PATCH, size[0] // PATCH
        depth = [[np.zeros((rows, columns), np.float32) if frame.depth is None else patch_depth(frame.depth, size)
                  for frame in window] for window in frames]
        priors.depth = torch.from_numpy(np.array(depth)).to(device)
    return priors if any(with_odometry) or with_depth else None


def patch_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) measured depth, 0 or NaN where unknown -> (rows, columns) the median of what is known in each patch of an
    image of `size` (width, height), 0 where nothing is."""
    rows, columns = size[1] // PATCH, size[0] // PATCH
    height, width = depth.shape
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0))
    patch = v * rows // height * columns + u * columns // width
    values = depth[v, u]
    order = np.lexsort((values, patch))
    patches, first, count = np.unique(patch[order], return_index=True, return_counts=True)
    result = np.zeros(rows * columns, np.float32)
    result[patches] = values[order][first + count // 2]
    return result.reshape(rows, columns)


def parts_of(priors: Priors | None) -> tuple[Tensor | None, ...]:
    return (None,) * 3 if priors is None else tuple(vars(priors).values())


def join(frames: Sequence[FrameTokens]) -> FrameTokens:
    return FrameTokens(*(torch.cat(parts) for parts in zip(*(vars(frame).values() for frame in frames))))


def read_output(output: NetworkOutput, index: int) -> dict[str, Tensor]:
    """What is asked of window `index` of a batch but for its matches, in metres, on the network's device."""
    cameras = output.cameras
    scale = cameras.log_scale[index].exp()
    return {"scale": scale, "focal": cameras.log_focal[index].exp(), "rotation": cameras.rotation[index],
            "translation": cameras.translation[index] * scale, "pose_error": cameras.log_error[index].exp(),
            "depth": output.log_depth[index].clamp(-7, 7).exp() * scale,
            "confidence": output.log_confidence[index].sigmoid(),
            "semantics": output.semantics[index].permute(0, 2, 3, 1).contiguous(),
            **({} if output.moving is None else {"moving": output.moving[index].sigmoid()})}


def to_host(found: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """All of it as numpy, waiting for a GPU once."""
    host = {name: value.to("cpu", non_blocking=True) for name, value in found.items()}      # into pinned memory
    if found["depth"].is_cuda:
        torch.cuda.current_stream(found["depth"].device).synchronize()
    return {name: value.numpy() for name, value in host.items()}


def to_prediction(window: Window, found: dict[str, np.ndarray], size: tuple[int, int]) -> WindowPrediction:
    """What `read_output` and `find_places` found of a window; `size` is the network's (width, height)."""
    h, w = found["depth"].shape[-2:]
    T_window_cam = np.tile(np.eye(4), (len(found["depth"]), 1, 1))
    T_window_cam[:, :3, :3] = nearest_rotations(found["rotation"].astype(np.float64))
    T_window_cam[:, :3, 3] = found["translation"]
    T_window_cam = np.linalg.inv(T_window_cam[0]) @ T_window_cam    # the first is the identity but for rounding
    K = np.stack([dense_intrinsics(keyframe.frame, float(found["focal"]), (w, h)) for keyframe in window.keyframes])
    matches = to_matches(found, found["semantics"].shape[1:3]) if "place" in found else None
    # The map keeps depth, confidence and what moves: as copies, for pinned memory is scarce.
    return WindowPrediction(depth=found["depth"].copy(), confidence=found["confidence"].copy(), K=K,
                            T_window_cam=T_window_cam, scale=float(found["scale"]), semantics=found["semantics"],
                            matches=matches, overlap=found.get("overlap"), pose_error=found["pose_error"],
                            moving=found["moving"].copy() if "moving" in found else None)


def dense_intrinsics(frame: Frame, focal: float, size: tuple[int, int]) -> np.ndarray:
    """(3, 3) intrinsics of the dense grid of `size` (width, height).

    They are the frame's own, or the predicted `focal` (in image widths) of a camera with square pixels and a central
    axis.
    """
    height, width = frame.image.shape[:2]
    K = frame.K
    if K is None:
        K = np.array([[focal * width, 0, width / 2], [0, focal * width, height / 2], [0, 0, 1]])
    return scale_intrinsics(K, (width, height), size)


def nearest_rotations(matrices: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> the rotations next to them, exact in float64. What is not finite gives NaN, for whoever checks the
    prediction: an SVD of it raises."""
    finite = np.isfinite(matrices).all(axis=(-2, -1), keepdims=True)
    U, _, Vt = np.linalg.svd(np.where(finite, matrices, np.eye(3)))
    return np.where(finite, U @ Vt, np.nan)
