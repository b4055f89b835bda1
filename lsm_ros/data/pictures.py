"""Pictures of a run: the cloud by colour and by class with the camera's path, and frames with depth and labels.

Drawn with numpy, OpenCV and Pillow alone: no window, no GL, the same on every machine.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsm_ros.contracts import Cloud
from lsm_ros.data.splat import OrthographicView, fit_view, render
from lsm_ros.errors import InputError
from lsm_ros.labels import LabelSet

PAPER, INK, FAINT, MISSING = (250, 249, 246), (38, 40, 44), (120, 122, 128), (214, 213, 209)
PATH_COLORS = np.array([[0, 140, 150], [240, 178, 30], [222, 54, 60]])     # start, middle, end
MARGIN = 28                     # pixels around everything
SUPERSAMPLING = 2               # clouds and lines are drawn this much larger and scaled down
LEGEND_ROWS = 24
LEGEND_WIDTH = 300
OBLIQUE_ELEVATION = np.radians(52)


@dataclass(frozen=True)
class FrameSample:
    """A frame as the mapper saw it, for pictures and for comparing with the truth."""
    stamp_ns: int
    image: np.ndarray           # (H, W, 3) uint8 RGB
    depth: np.ndarray           # (h, w) float32 metres
    labels: np.ndarray          # (h, w) uint16


def map_picture(cloud: Cloud, trajectory: Sequence[tuple[int, np.ndarray]], labels: LabelSet, *, by_class: bool,
                title: str = "", size: tuple[int, int] = (1920, 1080)) -> np.ndarray:
    """(H, W, 3) uint8: the map from an oblique angle and from above, with the path, a scale bar and a legend.

    Points above the cameras and of the class "ceiling" are left out, so that one sees into the rooms. Raises InputError
    for an empty cloud.
    """
    if len(cloud) == 0:
        raise InputError("a map without points can't be drawn")
    width, height = size
    positions = np.array([T_map_cam[:3, 3] for _, T_map_cam in trajectory]).reshape(-1, 3)
    heading = np.array([T_map_cam[:3, 2] for _, T_map_cam in trajectory]).reshape(-1, 3).sum(0)
    keep = ~above_rooms(cloud, positions, labels.names)
    points = cloud.points[keep].astype(np.float64)
    colors = labels.colors[cloud.labels[keep]] if by_class else cloud.colors[keep]

    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    top = MARGIN + 74
    draw.text((MARGIN, MARGIN - 6), title or "Map", INK, _font(34))
    draw.text((MARGIN, MARGIN + 38), _subtitle(cloud, positions, by_class), FAINT, _font(19))

    legend_width = LEGEND_WIDTH if by_class else 0
    panels_width, box_height = width - 3 * MARGIN - legend_width, height - top - MARGIN
    oblique_width = int(panels_width * 0.58)
    boxes = [(MARGIN, oblique_width, OBLIQUE_ELEVATION),
             (2 * MARGIN + oblique_width, panels_width - oblique_width, np.pi / 2)]
    for left, box_width, elevation in boxes:
        view = fit_view(points, positions, heading, elevation,
                        (box_width * SUPERSAMPLING, (box_height - 40) * SUPERSAMPLING), margin=12 * SUPERSAMPLING)
        panel = Image.fromarray(render(points, colors, view, PAPER))
        _draw_path(ImageDraw.Draw(panel), view, positions)
        panel = panel.resize((box_width, box_height - 40), Image.Resampling.LANCZOS)
        canvas.paste(panel, (left, top))
        _scale_bar(draw, (left + 4, top + box_height - 26), view.metres_per_pixel * SUPERSAMPLING, box_width)
    _path_legend(draw, (width - MARGIN - 272, MARGIN + 12))
    if by_class:
        _legend(draw, (width - MARGIN - LEGEND_WIDTH, top), cloud, labels)
    return np.asarray(canvas)


def frames_picture(samples: Sequence[FrameSample], labels: LabelSet, title: str = "") -> np.ndarray:
    """(H, W, 3) uint8: one row a sample, the image, its depth with the range in metres, its labels with their names."""
    panels, captions = [], []
    for sample in samples:
        depth, near, far = depth_picture(sample.depth)
        size = sample.image.shape[1::-1]
        panels += [sample.image, cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR),
                   label_picture(sample.image, sample.labels, labels)]
        seconds = (sample.stamp_ns - samples[0].stamp_ns) * 1e-9
        captions += [f"image at {seconds:.1f} s", f"depth, {near:.1f} m (bright) to {far:.1f} m", "labels"]
    return contact_sheet(panels, captions, columns=3 if len(samples) < 4 else 6, title=title)


def depth_picture(depth: np.ndarray, near: float | None = None,
                  far: float | None = None) -> tuple[np.ndarray, float, float]:
    """Depth (h, w) in metres to (h, w, 3) uint8, near bright and far dark, and the range in metres.

    The colours (matplotlib's magma) are even to the eye, and run over the logarithm of the depth; no depth is grey.
    """
    good = np.isfinite(depth) & (depth > 0)
    if not good.any():
        return np.full((*depth.shape, 3), MISSING, np.uint8), float("nan"), float("nan")
    low, high = np.percentile(depth[good], (1, 99))
    near, far = near or float(low), far or float(high)
    closeness = 1 - np.log(np.where(good, depth, far) / near) / max(np.log(far / near), 1e-6)
    levels = np.clip(closeness * 235 + 20, 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
    picture[~good] = MISSING
    return picture, near, far


def label_picture(image: np.ndarray, classes: np.ndarray, labels: LabelSet, names: bool = True) -> np.ndarray:
    """An (H, W, 3) image tinted by its (h, w) classes, with the name of each larger region in its middle."""
    H, W = image.shape[:2]
    classes = cv2.resize(classes, (W, H), interpolation=cv2.INTER_NEAREST)
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    tint = labels.colors[classes].astype(np.float32)
    picture = np.clip(tint * (0.45 + 0.55 * light / 255) * 0.85 + light * 0.15, 0, 255).astype(np.uint8)
    edges = np.zeros((H, W), bool)
    edges[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    edges[1:] |= classes[1:] != classes[:-1]
    picture[edges] = (255, 255, 255)
    return _name_regions(picture, classes, labels) if names else picture


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str] = (), columns: int | None = None,
                  cell_width: int = 320, title: str = "") -> np.ndarray:
    """(H, W, 3) uint8: images of any sizes, grey or RGB uint8, in rows of `columns`, a caption under each.

    Raises InputError if there is no image.
    """
    if not images:
        raise InputError("a contact sheet of no images")
    columns = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
    gap, line, head = 12, 24 if any(captions) else 0, 62 if title else 0
    cells = [_to_width(image, cell_width) for image in images]
    rows = [cells[start:start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + line for row in rows]
    canvas = Image.new("RGB", (columns * (cell_width + gap) - gap + 2 * MARGIN,
                               sum(heights) + gap * (len(rows) - 1) + 2 * MARGIN + head), PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((MARGIN, MARGIN - 4), title, INK, _font(34))
    y = MARGIN + head
    for start, row, height in zip(range(0, len(cells), columns), rows, heights, strict=True):
        for column, cell in enumerate(row):
            x = MARGIN + column * (cell_width + gap)
            canvas.paste(cell, (x, y))
            if start + column < len(captions):
                draw.text((x, y + cell.height + 3), captions[start + column], FAINT, _font(15))
        y += height + gap
    return np.asarray(canvas)


def class_shares(cloud: Cloud, labels: LabelSet) -> dict[str, float]:
    """name -> share of the points, of the classes that occur, the largest first."""
    counts = np.bincount(cloud.labels, minlength=len(labels.names)) / max(len(cloud), 1)
    return {labels.names[i]: float(counts[i]) for i in np.argsort(-counts, kind="stable") if counts[i] > 0}


def path_length(positions: np.ndarray) -> float:
    """Metres along (N, 3) positions."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def above_rooms(cloud: Cloud, positions: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) bool: the ceiling and what hangs from it, which would hide the rooms from above.

    Args:
        positions: (M, 3) of the camera in the cloud's frame, z up, metres.
        names: of the labels.
    """
    z = cloud.points[:, 2]
    floor = np.percentile(z, 2)
    cut = max(floor + 2.0, positions[:, 2].max() + 0.3 if len(positions) else -np.inf)
    above = z > cut
    if "ceiling" in names:
        above |= cloud.labels == names.index("ceiling")
    return np.zeros_like(above) if above.all() else above


def _subtitle(cloud: Cloud, positions: np.ndarray, by_class: bool) -> str:
    extent = np.percentile(cloud.points, 99, axis=0) - np.percentile(cloud.points, 1, axis=0)
    kind = "by class" if by_class else "by colour"
    return (f"{kind}   ·   {len(cloud):,} points   ·   {extent[0]:.1f} x {extent[1]:.1f} x {extent[2]:.1f} m   ·   "
            f"path {path_length(positions):.1f} m, {len(positions)} keyframes   ·   drawn without the ceiling")


def _draw_path(draw: ImageDraw.ImageDraw, view: OrthographicView, positions: np.ndarray) -> None:
    if len(positions) == 0:
        return
    pixels, _ = view.project(positions)
    colors = _path_colors(len(pixels))
    line = [tuple(pixel) for pixel in pixels]
    draw.line(line, (255, 255, 255), 7 * SUPERSAMPLING, joint="curve")
    for a, b, color in zip(line, line[1:], colors, strict=False):
        draw.line((a, b), tuple(color), 4 * SUPERSAMPLING)
    for pixel, color in zip(pixels, colors, strict=True):
        _dot(draw, pixel, 3 * SUPERSAMPLING, tuple(color))
    for pixel, color in ((pixels[0], colors[0]), (pixels[-1], colors[-1])):
        _dot(draw, pixel, 9 * SUPERSAMPLING, (255, 255, 255))
        _dot(draw, pixel, 6 * SUPERSAMPLING, tuple(color))


def _path_colors(count: int) -> np.ndarray:
    """(count, 3) int from the start's colour to the end's."""
    stops = np.linspace(0, 1, len(PATH_COLORS))
    shares = np.linspace(0, 1, count)
    return np.rint(np.stack([np.interp(shares, stops, channel) for channel in PATH_COLORS.T], axis=1)).astype(int)


def _path_legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    x, y = corner
    draw.text((x - 12, y), "camera  start", FAINT, _font(18), anchor="rm")
    colors = _path_colors(220)
    for i, color in enumerate(colors):
        draw.rectangle((x + i, y - 2, x + i + 1, y + 2), tuple(color))
    _dot(draw, (x, y), 7, tuple(colors[0]))
    _dot(draw, (x + 220, y), 7, tuple(colors[-1]))
    draw.text((x + 234, y), "end", FAINT, _font(18), anchor="lm")


def _legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int], cloud: Cloud, labels: LabelSet) -> None:
    """The classes by share of the points."""
    x, y = corner
    draw.text((x, y), "Classes, share of points", INK, _font(20))
    y += 38
    shares = list(class_shares(cloud, labels).items())
    largest = shares[0][1]
    for name, share in shares[:LEGEND_ROWS]:
        color = tuple(int(c) for c in labels.colors[labels.index(name)])
        draw.rounded_rectangle((x, y + 2, x + 22, y + 22), 5, color)
        draw.text((x + 34, y), name, INK, _font(18))
        draw.text((x + 290, y), f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %", FAINT, _font(18), anchor="ra")
        draw.rectangle((x + 34, y + 25, x + 34 + int(256 * share / largest), y + 26), color)
        y += 34
    rest = shares[LEGEND_ROWS:]
    if rest:
        draw.text((x + 34, y), f"{len(rest)} more", FAINT, _font(18))
        draw.text((x + 290, y), f"{100 * sum(share for _, share in rest):.1f} %", FAINT, _font(18), anchor="ra")


def _scale_bar(draw: ImageDraw.ImageDraw, corner: tuple[int, int], metres_per_pixel: float, width: int) -> None:
    steps = np.array([0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    length = steps[np.argmin(np.abs(np.log(steps / (metres_per_pixel * width / 6))))]
    x, y = corner
    pixels = length / metres_per_pixel
    draw.rectangle((x, y + 8, x + pixels, y + 12), INK)
    draw.text((x + pixels + 10, y - 1), f"{length:g} m", INK, _font(18))


def _name_regions(picture: np.ndarray, classes: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Writes a class's name where its largest region is thickest, unless that is less than 1 % of the picture."""
    H, W = classes.shape
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    font = _font(max(11, W // 25))
    for label in np.unique(classes):
        count, regions, stats, _ = cv2.connectedComponentsWithStats((classes == label).astype(np.uint8))
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) if count > 1 else 0
        if largest == 0 or stats[largest, cv2.CC_STAT_AREA] < 0.01 * H * W:
            continue
        inside = np.pad((regions == largest).astype(np.uint8), 1)           # the border counts as outside
        _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(inside, cv2.DIST_L2, 3))
        name = labels.names[label]
        left, upper, right, lower = draw.textbbox((x, y), name, font, anchor="mm")
        x += max(0, 5 - left) - max(0, right + 5 - W)                       # all of it within the picture
        y += max(0, 4 - upper) - max(0, lower + 4 - H)
        left, upper, right, lower = draw.textbbox((x, y), name, font, anchor="mm")
        draw.rounded_rectangle((left - 4, upper - 3, right + 4, lower + 3), 4, (255, 255, 255))
        draw.text((x, y), name, INK, font, anchor="mm")
    return np.asarray(canvas)


def _dot(draw: ImageDraw.ImageDraw, centre: Sequence[float], radius: float, color: tuple[int, ...]) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)


def _to_width(image: np.ndarray, width: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    return picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
