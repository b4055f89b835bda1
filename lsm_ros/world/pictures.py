"""Pictures that hang on the walls of rendered worlds and are seen on their screens: flat, whatever they show.

    python -m lsm_ros.world.pictures TEXTURES OUT.npz --meshes MODELS

takes the textures of a folder or packed file, renders views of worlds, and writes both into OUT.npz: the views as
photographs, the photographs under titles (films, advertisements, covers), and sheets of text, charts and photographs
(notices, scientific posters). Textures are square; a picture is squeezed into one and gets its shape back where it is
shown (materials.PICTURES). Free of what was held out for evaluation.
"""
from __future__ import annotations

import argparse
import io
import sys
from itertools import islice
from math import cos, pi
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from lsm_ros.data.files import check_folder
from lsm_ros.errors import InputError, LsmError
from lsm_ros.world.factory import training_seeds
from lsm_ros.world.materials import UPRIGHT, WIDE, save_textures, stored_textures
from lsm_ros.world.stream import fixed_batch

COUNT = 240                    # pictures of either shape
STREAM = 1 << 16               # of training_seeds, for the worlds that are photographed; far from any leg's
LONG, SHORT = 480, 320         # pixels of a picture before it is made a texture
FLAT = 30                      # deviation of the tones, of 255, below which nobody would hang up a photograph
KINDS, SHARES = ("photograph", "titled", "sheet"), (.5, .2, .3)
INKS = ((15, 15, 20), (25, 35, 80), (120, 20, 25), (10, 70, 60), (240, 240, 235), (240, 200, 40), (235, 90, 30))
GROUNDS = ((250, 250, 248), (244, 240, 228), (225, 232, 240), (24, 26, 32), (20, 40, 90), (150, 30, 35), (30, 90, 70),
           (240, 205, 60))


def make_picture(rng: Random, size: tuple[int, int], photographs: list[Image.Image]) -> Image.Image:
    """One picture of `size` (width, height) pixels, with whichever of the photographs it takes."""
    kind = rng.choices(KINDS, SHARES)[0]
    if kind == "sheet":
        return sheet(rng, size, photographs)
    image = filled(rng, size, photographs)
    if kind == "titled":
        draw, height = ImageDraw.Draw(image), size[1]
        for _ in range(rng.randint(1, 3)):
            lettering(rng, draw, (rng.uniform(0, .4) * size[0], rng.uniform(0, .9) * height),
                      rng.uniform(.05, .2) * height, rng.choice(INKS), rng.randint(1, 2))
    if rng.random() < .25:                                               # on paper with a margin
        edge = int(rng.uniform(.02, .1) * min(size))
        framed = Image.new("RGB", size, rng.choice(GROUNDS))
        framed.paste(image.resize((size[0] - 2 * edge, size[1] - 2 * edge)), (edge, edge))
        image = framed
    return image


def filled(rng: Random, size: tuple[int, int], photographs: list[Image.Image]) -> Image.Image:
    """A part of a photograph in that size, sometimes mirrored or grey."""
    photograph = rng.choice(photographs)
    scale = min(photograph.width / size[0], photograph.height / size[1]) * rng.uniform(.5, 1)
    width, height = size[0] * scale, size[1] * scale
    x, y = rng.uniform(0, photograph.width - width), rng.uniform(0, photograph.height - height)
    part = photograph.resize(size, Image.Resampling.BICUBIC, (x, y, x + width, y + height))
    if rng.random() < .5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return part.convert("L").convert("RGB") if rng.random() < .12 else part


def sheet(rng: Random, size: tuple[int, int], photographs: list[Image.Image]) -> Image.Image:
    """A page in columns: a heading, then text, charts and photographs down to its foot."""
    width, height = size
    ground = rng.choice(GROUNDS)
    inks = [ink for ink in INKS if sum(abs(a - b) for a, b in zip(ink, ground, strict=True)) > 250]
    image = Image.new("RGB", size, ground)
    draw, ink, margin = ImageDraw.Draw(image), rng.choice(inks), int(.04 * min(size))
    y = margin
    if rng.random() < .85:
        band = int(rng.uniform(.06, .18) * height)
        if rng.random() < .4:
            draw.rectangle((0, 0, width, band + margin), fill=rng.choice(GROUNDS))
        lettering(rng, draw, (margin, y), band * .7, rng.choice(inks), 1)
        y += band + margin
    columns = rng.randint(1, 3)
    across = (width - margin) // columns
    for k in range(columns):
        x, here = margin + k * across, y
        while here < height - 2 * margin:
            tall = int(rng.uniform(.08, .3) * height)
            box = (x, here, x + across - margin, min(here + tall, height - margin))
            if box[3] - box[1] > margin:
                block = rng.random()
                if block < .55:
                    text(rng, draw, box, ink)
                elif block < .75:
                    chart(rng, draw, box, inks)
                else:
                    image.paste(filled(rng, (box[2] - box[0], box[3] - box[1]), photographs), box[:2])
            here += tall + margin
    return image


def lettering(rng: Random, draw: ImageDraw.ImageDraw, at: tuple[float, float], height: float, ink, words: int) -> None:
    letters = " ".join("".join(rng.choices("aeiourstlnmdchbgpkvw", k=rng.randint(2, 9))) for _ in range(words))
    draw.text(at, letters.upper() if rng.random() < .5 else letters.capitalize(), fill=ink,
              font=ImageFont.load_default(max(8, height)))


def text(rng: Random, draw: ImageDraw.ImageDraw, box, ink) -> None:
    """Lines of words as they look from where one cannot read them."""
    pitch = rng.uniform(5, 9)
    y = box[1]
    while y + pitch < box[3]:
        x, end = box[0], box[2] - (rng.uniform(0, .6) * (box[2] - box[0]) if rng.random() < .15 else 0)
        while x < end:
            word = rng.uniform(1.5, 6) * pitch
            draw.rectangle((x, y, min(x + word, end), y + .45 * pitch), fill=ink)
            x += word + .6 * pitch
        y += pitch


def chart(rng: Random, draw: ImageDraw.ImageDraw, box, inks) -> None:
    """Bars, a curve, or a diagram of boxes."""
    x0, y0, x1, y1 = box
    n, ink, kind = rng.randint(3, 9), rng.choice(inks), rng.choice(("bars", "curve", "boxes"))
    step = (x1 - x0) / n
    if kind == "bars":
        for k in range(n):
            draw.rectangle((x0 + k * step, y1 - rng.random() * (y1 - y0), x0 + (k + .7) * step, y1), fill=ink)
    elif kind == "curve":
        phase, waves = rng.uniform(0, 2 * pi), rng.uniform(.3, 2)
        draw.line([(x0 + k * (x1 - x0) / 30, (y0 + y1) / 2 - (y1 - y0) * .45 * cos(phase + waves * k / 5))
                   for k in range(31)], fill=ink, width=rng.randint(1, 4))
        draw.line([(x0, y0), (x0, y1), (x1, y1)], fill=rng.choice(inks), width=2)
    else:
        for k in range(n):
            x, y = rng.uniform(x0, x1 - step), rng.uniform(y0, y0 + .7 * (y1 - y0))
            draw.rectangle((x, y, x + step, y + .3 * (y1 - y0)), fill=rng.choice(GROUNDS), outline=ink, width=2)


def photograph_worlds(count: int, textures: Path | None, meshes: Path | None) -> list[Image.Image]:
    """Views of as many training worlds, LONG x SHORT pixels."""
    seeds, found = training_seeds(STREAM, 0), []
    with tqdm(total=count, unit="view") as bar:
        while len(found) < count:
            batch = fixed_batch(list(islice(seeds, 8)), (SHORT, LONG), 1, "cpu", textures, meshes)
            images = (batch.image[batch.valid, 0].permute(0, 2, 3, 1) * 255).round().byte().numpy()
            good = [image for image in images if image.std() > FLAT]
            found.extend(map(Image.fromarray, good))
            bar.update(len(good))
    return found[:count]


def add_pictures(textures: str | Path, file: str | Path, meshes: str | Path | None = None, count: int = COUNT,
                 size: int = 128) -> int:
    """Writes `textures` with `count` pictures of either shape into `file`. Returns the number of pictures.

    Raises InputError for a count below 1, and for textures or models that cannot be read, OutputError for a file that
    cannot be written.
    """
    if count < 1:
        raise InputError(f"count = {count}; it is the number of pictures of either shape, at least 1")
    check_folder(file, "the textures")
    images = {name: data for name, data in stored_textures(Path(textures)) if name.split("/")[0] not in (UPRIGHT, WIDE)}
    photographs, rng = photograph_worlds(count, textures, meshes), Random("pictures")
    for category, shape in ((UPRIGHT, (SHORT, LONG)), (WIDE, (LONG, SHORT))):
        for k in range(count):
            buffer = io.BytesIO()
            make_picture(rng, shape, photographs).resize((size, size), Image.Resampling.LANCZOS).save(
                buffer, "JPEG", quality=92)
            images[f"{category}/{k:04d}.jpg"] = buffer.getvalue()
    save_textures(file, list(images), list(images.values()))
    return 2 * count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.world.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("textures", type=Path, help="folder or packed file of photo textures")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--meshes", type=Path, help="file of furniture models")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures of either shape (default %(default)s)")
    options = parser.parse_args()
    try:
        made = add_pictures(options.textures, options.out, options.meshes, options.count)
    except (LsmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {made} pictures, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
