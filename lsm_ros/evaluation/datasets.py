"""Windows with their truth: from real sequences in a folder, and from rendered worlds that no training has seen."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.data.sequences import FolderSequence
from lsm_ros.errors import InputError
from lsm_ros.evaluation.metrics import ClassBox

FARTHEST_M = 40.0   # beyond it (the sky outside a window) rendered depth is not scored, as it isn't trained


@dataclass(frozen=True)
class TruthWindow:
    """A window as the predictor gets it, and what is true of its views."""
    window: Window
    T_world_cam: np.ndarray       # (S, 4, 4) float64, metres
    K: np.ndarray                 # (S, 3, 3) float64 pixels of the images, whether or not the window's frames tell it
    depth: np.ndarray             # (S, H, W) float32 metres, NaN where unknown
    labels: np.ndarray | None     # (S, H, W) uint16 index into the shipped labels, or none of them


class FolderWindows(Sequence[TruthWindow]):
    """Windows of a folder of the truth layout (data/sequences.py): `views` frames `gap` apart, begun every `stride`.

    Raises InputError for a folder without intrinsics, poses or depth, or one that is too short for a window.
    """

    def __init__(self, folder: str | Path, views: int = 4, gap: int = 8, stride: int = 2, intrinsics: bool = False):
        if views < 1 or gap < 1:
            raise InputError(f"views = {views} and gap = {gap}; both must be at least 1")
        sequence = FolderSequence(Path(folder))
        if sequence.K is None:
            raise InputError(f"{folder} has no intrinsics.txt; its windows have no truth")
        self.name, self.K, self.intrinsics = Path(folder).name, sequence.K, intrinsics
        span = (views - 1) * gap
        starts = range(0, len(sequence) - span, stride)
        self.indices = [list(range(start, start + span + 1, gap)) for start in starts
                        if all(has_truth(Path(folder), sequence.images[start + i * gap].stem) for i in range(views))]
        if not self.indices:
            raise InputError(f"{folder} gives no window of {views} frames {gap} apart: it has {len(sequence)} frames, "
                             "and every frame of a window needs its pose and depth")
        self.read = lru_cache(maxsize=span + 2)(sequence.__getitem__)   # neighbouring windows share most frames

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> TruthWindow:
        frames = [self.read(i) for i in self.indices[index]]
        return TruthWindow(window=Window(tuple(Keyframe(i, self.shown(frame.frame))
                                               for i, frame in zip(self.indices[index], frames, strict=True))),
                           T_world_cam=np.stack([frame.T_world_cam for frame in frames]),
                           K=np.stack([self.K] * len(frames)), depth=np.stack([frame.depth for frame in frames]),
                           labels=None if any(frame.labels is None for frame in frames) else
                           np.stack([frame.labels for frame in frames]))

    def shown(self, frame: Frame) -> Frame:
        """The frame as the predictor gets it."""
        return Frame(frame.stamp_ns, frame.image, self.K if self.intrinsics else None)


def has_truth(folder: Path, stem: str) -> bool:
    """Whether a frame has depth and a pose of finite numbers (ScanNet writes -inf where tracking was lost)."""
    pose = folder / "pose" / f"{stem}.txt"
    return (folder / "depth" / f"{stem}.png").exists() and pose.exists() and "inf" not in pose.read_text("utf8").lower()


@dataclass(frozen=True)
class BoxedFrame:
    """An image with rectangles that lie inside one class each."""
    keyframe: Keyframe
    boxes: tuple[ClassBox, ...]


def boxed_frames(path: str | Path, folder: str | Path | None = None, intrinsics: bool = False) -> Iterator[BoxedFrame]:
    """The frames of a file of rectangles: {"SEQUENCE/color/NAME.jpg": [{"cls": name, "box": [x0, y0, x1, y1]}]}.

    Args:
        path: the JSON file; box corners are shares of width and height.
        folder: the sequence's folder, which is the only one that is read; None finds each one near the file.
        intrinsics: whether the frames tell theirs.

    Raises InputError for an unreadable file, or one that has no rectangle for `folder`.
    """
    path = Path(path)
    try:
        entries = {name: tuple(ClassBox(box["cls"], tuple(box["box"])) for box in boxes)
                   for name, boxes in json.loads(path.read_text("utf8")).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"the rectangles {path} cannot be read: {error!r}") from error
    if folder is not None:
        entries = {name: boxes for name, boxes in entries.items() if Path(name).parts[0] == Path(folder).name}
        if not entries:
            raise InputError(f"{path} has no rectangle for the sequence {Path(folder).name!r}")
    for name, boxes in entries.items():
        root = Path(folder) if folder is not None else path.parents[1] / Path(name).parts[0]
        sequence = open_folder(root)
        stems = [image.stem for image in sequence.images]
        if Path(name).stem not in stems:
            raise InputError(f"{root} has no image {Path(name).name}, which {path} has rectangles for")
        index = stems.index(Path(name).stem)
        frame = sequence[index].frame
        yield BoxedFrame(Keyframe(index, Frame(frame.stamp_ns, frame.image, frame.K if intrinsics else None)), boxes)


@lru_cache(maxsize=4)
def open_folder(folder: Path) -> FolderSequence:
    return FolderSequence(folder)


class WorldWindows(Sequence[TruthWindow]):
    """Held-out rendered worlds: camera paths of 8 views, cut into windows of 1, 2, 4 or 8.

    However many views a window has, the same images are scored.
    """
    VIEWS = 8

    def __init__(self, worlds: int, size: tuple[int, int] = (192, 256), views: int = 4, intrinsics: bool = False,
                 device: str = "cpu"):
        """Renders the first `worlds` held-out seeds at `size` (height, width) on `device`."""
        if views not in (1, 2, 4, 8):
            raise InputError(f"views = {views}; rendered paths of {self.VIEWS} views are cut into 1, 2, 4 or 8")
        self.rendered, self.views, self.intrinsics = render_held_out(worlds, size, device), views, intrinsics
        self.name = f"rendered worlds, {views} view{'s' * (views > 1)}"
        self.per_world = self.VIEWS // views

    def __len__(self) -> int:
        return len(self.rendered.image) * self.per_world

    def __getitem__(self, index: int) -> TruthWindow:
        if not 0 <= index < len(self):
            raise IndexError(index)
        world, part = divmod(index, self.per_world)
        views = slice(part * self.views, (part + 1) * self.views)
        data = self.rendered
        keyframes = tuple(Keyframe(world * self.VIEWS + view, Frame(view, data.image[world, view],
                                                                    data.K[world, view] if self.intrinsics else None))
                          for view in range(self.VIEWS)[views])
        return TruthWindow(Window(keyframes), data.T_world_cam[world, views], data.K[world, views],
                           data.depth[world, views], data.labels[world, views])


@dataclass(frozen=True)
class RenderedPaths:
    """N camera paths of V views."""
    image: np.ndarray         # (N, V, H, W, 3) uint8 RGB
    depth: np.ndarray         # (N, V, H, W) float32 metres, NaN beyond FARTHEST_M
    labels: np.ndarray        # (N, V, H, W) uint16
    K: np.ndarray             # (N, V, 3, 3) float64 pixels
    T_world_cam: np.ndarray   # (N, V, 4, 4) float64


@lru_cache(maxsize=2)
def render_held_out(worlds: int, size: tuple[int, int], device: str) -> RenderedPaths:
    """The first `worlds` held-out seeds, less the paths that the renderer calls unusable."""
    from lsm_ros.world.stream import HELD_OUT_SEEDS, fixed_batch  # compiles its kernel; the real sets do without
    if not 1 <= worlds <= len(HELD_OUT_SEEDS):
        raise InputError(f"worlds = {worlds}; there are 1 to {len(HELD_OUT_SEEDS)} held-out worlds")
    seeds = list(HELD_OUT_SEEDS[:worlds])
    parts: list[RenderedPaths] = []
    for start in range(0, len(seeds), 16):                         # 128 images at a time
        batch = fixed_batch(seeds[start:start + 16], size, WorldWindows.VIEWS, device)
        keep = batch.valid.cpu().numpy().astype(bool)
        depth = batch.depth.float().cpu().numpy()[keep]
        parts.append(RenderedPaths(
            image=(batch.image.float().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()[keep],
            depth=np.where((depth > 0) & (depth < FARTHEST_M), depth, np.float32(np.nan)),
            labels=batch.label.cpu().numpy()[keep].astype(np.uint16),
            K=batch.K.double().cpu().numpy()[keep], T_world_cam=batch.T_world_cam.double().cpu().numpy()[keep]))
    return RenderedPaths(*(np.concatenate([getattr(part, name) for part in parts])
                           for name in RenderedPaths.__dataclass_fields__))
