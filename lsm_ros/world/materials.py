"""What surfaces look like: random materials by finish, and the photo textures that some of them carry.

A material with a texture multiplies the texture (linear light) by its first colour, so that colour is then a tint; a
material without one mixes its two colours by its pattern. Colours are written in sRGB here and stored as linear light.
"""
from __future__ import annotations

import io
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from lsm_ros.data.packed import read_npz, write_npz
from lsm_ros.errors import InputError
from lsm_ros.world.scene import MATERIAL_COLUMNS

MAX_MATERIALS = 96
PHOTO_SHARE = 0.45
"""Share of the surfaces that carry a photo texture where a catalogue is given."""
JPEGS = (".jpg", ".jpeg")
NO_TEXTURES = "holds no textures (expected CATEGORY/*.jpg, *.jpeg or *.png)"

UPRIGHT, WIDE = PICTURES = "UprightPicture", "WidePicture"
"""Categories of textures that are shown whole: pictures for sheets that are higher than wide, and wider than high
(pictures.py)."""

PICTURED = 0.75
"""Share of the art on walls and of the screens that are on which are pictures, where a catalogue has any."""

PLAIN, NOISE, CHECKS, STRIPES, RINGS, BRICKS, SPECKLE = range(7)

WHITES = ((.93, .92, .90), (.97, .97, .97), (.90, .87, .80), (.85, .86, .88), (.95, .93, .85))
PASTELS = ((.80, .86, .88), (.88, .84, .72), (.78, .84, .76), (.90, .80, .76), (.74, .78, .86), (.86, .78, .62))
BOLD = ((.70, .22, .18), (.18, .32, .55), (.20, .42, .30), (.80, .62, .18), (.45, .20, .40), (.82, .45, .20),
        (.25, .55, .58))
GREYS = ((.25, .25, .26), (.45, .45, .46), (.62, .62, .63), (.75, .75, .74), (.12, .12, .13))
WOODS = ((.55, .36, .20), (.72, .54, .34), (.36, .22, .13), (.82, .68, .48), (.46, .28, .16), (.25, .16, .11),
         (.65, .45, .30))
CLOTHS = GREYS + BOLD + PASTELS + ((.35, .30, .26), (.58, .50, .40), (.20, .22, .30), (.50, .16, .16), (.88, .84, .76))
DARKS = ((.06, .06, .07), (.12, .12, .13), (.20, .20, .21))
GREENS = ((.16, .36, .12), (.25, .46, .18), (.34, .50, .22), (.12, .26, .14), (.44, .52, .26), (.40, .20, .26))
SKINS = ((.92, .74, .62), (.78, .58, .44), (.52, .36, .26), (.34, .23, .17))
HAIRS = ((.07, .05, .05), (.16, .10, .07), (.30, .19, .11), (.50, .34, .18), (.78, .62, .38), (.46, .20, .10),
         (.55, .55, .56), (.86, .85, .83))
DENIMS = ((.16, .20, .32), (.26, .34, .48), (.45, .55, .68))
VIVID = ((.82, .12, .14), (.95, .80, .15), (.15, .55, .85), (.95, .50, .15), (.20, .65, .35), (.90, .40, .60))
SKIES = ((.80, .88, .98), (.62, .78, .95), (.92, .94, .96), (.98, .88, .74), (.40, .48, .60))
METALS = ((.72, .72, .73), (.55, .55, .57), (.80, .79, .76), (.70, .58, .38), (.40, .36, .33))
EARTHS = ((.22, .16, .11), (.32, .25, .18))
BROWNS = ((.68, .52, .35), (.74, .60, .43), (.60, .46, .31))


@dataclass(frozen=True)
class Finish:
    """The range of materials that one kind of surface is drawn from; pairs are bounds."""
    colors: tuple[tuple[float, float, float], ...]
    patterns: tuple[int, ...] = (PLAIN,)
    frequency: tuple[float, float] = (2.0, 20.0)         # cells a metre
    stretch: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (0.1, 0.5)
    textures: tuple[str, ...] = ()                       # categories of the catalogue
    texture_scale: tuple[float, float] = (0.5, 2.0)      # repeats a metre; (0, 0): a picture, once over the face
    gloss: tuple[float, float] = (0.0, 0.15)
    emission: tuple[float, float] = (0.0, 0.0)
    mirror: tuple[float, float] = (0.0, 0.0)


ANY_PATTERN = (NOISE, CHECKS, STRIPES, RINGS, SPECKLE)
FINISHES: dict[str, Finish] = {
    # the building
    "wall paint": Finish(3 * WHITES + PASTELS + BOLD[:2] + GREYS[1:4], (PLAIN, PLAIN, NOISE, SPECKLE), (1, 60),
                         contrast=(.02, .2),
                         textures=("Plaster", "Plaster", "Paint", "Concrete"), texture_scale=(.4, 1.5)),
    "wallpaper": Finish(2 * PASTELS + 2 * WHITES + CLOTHS, (STRIPES, CHECKS, NOISE, SPECKLE), (2, 14), (1, 6), (.1, .7),
                        ("Wallpaper", "Fabric", "Wallpaper"), (.5, 2.0)),
    "masonry": Finish(((.62, .36, .28), (.74, .68, .60), (.86, .84, .80)) + GREYS, (BRICKS,), (3, 8), (1.5, 3),
                      (.3, .9),
                      ("Bricks", "Concrete", "Planks", "WoodSiding"), (.5, 1.5)),
    "wall tiles": Finish(WHITES + PASTELS + BOLD, (CHECKS, BRICKS), (3, 12), (1, 3), (.1, .6),
                         ("Tiles", "Tiles", "Marble", "Terrazzo"), (.5, 2.0), (.2, .7), mirror=(0, .06)),
    "ceiling": Finish(WHITES, (PLAIN, PLAIN, SPECKLE, CHECKS), (1.5, 40), contrast=(.02, .2),
                      textures=("OfficeCeiling", "Plaster", "Paint", "WoodSiding"), texture_scale=(.4, 1.2)),
    "wood floor": Finish(WOODS, (RINGS, BRICKS, STRIPES), (4, 12), (3, 8), (.15, .6),
                         ("WoodFloor", "WoodFloor", "Planks"),
                         (.4, 1.2), (.05, .5), mirror=(0, .08)),
    "tile floor": Finish(WHITES + PASTELS + GREYS + BOLD[:2], (CHECKS, BRICKS, SPECKLE), (1.5, 5), (1, 2), (.1, .9),
                         ("Tiles", "Marble", "Terrazzo", "PavingStones", "Granite", "Travertine"), (.4, 1.2), (.1, .7),
                         mirror=(0, .12)),
    "carpet floor": Finish(CLOTHS, (NOISE, SPECKLE, CHECKS), (8, 80), contrast=(.1, .5),
                           textures=("Carpet", "Carpet", "Fabric"),
                           texture_scale=(.6, 2.5), gloss=(0, 0)),
    "concrete": Finish(GREYS, (NOISE, SPECKLE), (1, 30), contrast=(.1, .4),
                       textures=("Concrete", "Asphalt", "Terrazzo"),
                       texture_scale=(.3, 1.0), gloss=(0, .3), mirror=(0, .05)),
    "trim": Finish(WHITES + WHITES + WOODS + GREYS + DARKS, (PLAIN, PLAIN, RINGS), (4, 12), (3, 8), (.05, .3),
                   ("Wood", "Paint"),
                   (.5, 2.0), (.05, .3)),
    "door": Finish(WHITES + WHITES + WOODS + WOODS + BOLD[:3] + GREYS + DARKS, (PLAIN, RINGS, NOISE), (3, 10), (3, 8),
                   (.05, .5),
                   ("Wood", "Planks", "Wood"), (.4, 1.2), (.05, .35)),
    "light trim": Finish(WHITES + GREYS[2:4], contrast=(.02, .1), textures=("Paint",), gloss=(.05, .3)),
    "dark door": Finish(DARKS + DARKS + WOODS[5:6] + GREYS[:1] + ((.10, .12, .18), (.16, .08, .07)),
                        (PLAIN, PLAIN, NOISE), (1, 10), contrast=(.02, .15), gloss=(0, .4)),
    "outside": Finish(SKIES, (NOISE, NOISE, PLAIN, BRICKS), (.4, 4), (1, 2), (.2, 1.0),
                      ("Ground", "Grass", "Bricks", "ScatteredLeaves", "Rocks"), (.2, .6), emission=(1.0, 5.0)),
    # furniture
    "wood": Finish(WOODS + WOODS + WHITES[:2] + DARKS, (RINGS, RINGS, NOISE, PLAIN), (3, 15), (3, 10), (.1, .6),
                   ("Wood", "Wood", "Planks", "Chipboard", "Bamboo"), (.6, 2.0), (.02, .4), mirror=(0, .04)),
    "lacquer": Finish(WHITES + WHITES + BOLD + GREYS + PASTELS + 2 * DARKS, (PLAIN, PLAIN, NOISE), (1, 10),
                      contrast=(.02, .15),
                      textures=("Paint", "Plastic", "Wood"), texture_scale=(.4, 1.5), gloss=(.1, .7), mirror=(0, .07)),
    "dark front": Finish(DARKS, (PLAIN, PLAIN, NOISE), (1, 10), contrast=(.02, .15), gloss=(0, .5), mirror=(0, .05)),
    "fabric": Finish(CLOTHS + DARKS, (NOISE, STRIPES, CHECKS, SPECKLE, PLAIN, PLAIN), (6, 60), (1, 3), (.05, .6),
                     ("Fabric", "Fabric", "Fabric", "Carpet"), (1.0, 4.0), (0, .05)),
    "leather": Finish(DARKS + ((.38, .20, .12), (.55, .34, .20), (.85, .80, .72), (.30, .10, .08)), (PLAIN, NOISE),
                      (10, 60),
                      contrast=(.05, .25), textures=("Fabric", "Rubber", "Plastic"), texture_scale=(1.0, 4.0),
                      gloss=(.15, .5)),
    "linen": Finish(WHITES + WHITES + PASTELS + CLOTHS, (PLAIN, PLAIN, STRIPES, CHECKS, SPECKLE), (5, 40), (1, 4),
                    (.05, .7),
                    ("Fabric",), (1.0, 4.0), (0, 0)),
    "rug": Finish(CLOTHS + BOLD, ANY_PATTERN, (1.5, 14), (1, 4), (.2, .9), ("Carpet", "Fabric", "Fabric", "Tatami"),
                  (.5, 2.0),
                  (0, 0)),
    "curtain": Finish(WHITES + CLOTHS, (PLAIN, STRIPES, NOISE, CHECKS), (2, 20), (1, 5), (.05, .6),
                      ("Fabric", "Wallpaper"),
                      (.8, 2.5), (0, 0)),
    "metal": Finish(METALS + DARKS, (PLAIN, PLAIN, NOISE), (4, 40), (1, 6), (.05, .3),
                    ("Metal", "Metal", "Metal", "Rust", "DiamondPlate"), (1.0, 4.0), (.3, .9), mirror=(0, .25)),
    "appliance": Finish(WHITES + WHITES + METALS[:3] + DARKS, (PLAIN,), contrast=(0, .05), textures=("Metal", "Paint"),
                        texture_scale=(.5, 1.5), gloss=(.3, .8), mirror=(0, .15)),
    "ceramic": Finish(WHITES + WHITES + PASTELS[:2], (PLAIN,), contrast=(0, .05),
                      textures=("Porcelain",), texture_scale=(.5, 1.5), gloss=(.4, .9), mirror=(0, .1)),
    "stone": Finish(GREYS + WHITES + 2 * DARKS, (NOISE, SPECKLE), (5, 50), (1, 2), (.1, .6),
                    ("Granite", "Marble", "Terrazzo", "Onyx", "Travertine", "Wood"), (.6, 2.0), (.2, .7),
                    mirror=(0, .15)),
    "plastic": Finish(WHITES + BOLD + GREYS + DARKS, (PLAIN, PLAIN, NOISE), (4, 20), contrast=(.02, .2),
                      textures=("Plastic",),
                      texture_scale=(1.0, 4.0), gloss=(.1, .6)),
    "dark plastic": Finish(DARKS + DARKS + GREYS[:1], (PLAIN,), contrast=(0, .1), textures=("Rubber", "Plastic"),
                           texture_scale=(1.0, 4.0), gloss=(.1, .5)),
    "screen off": Finish(DARKS[:2], (PLAIN,), contrast=(0, 0), gloss=(.5, 1.0), mirror=(.05, .3)),
    "screen on": Finish(SKIES + BOLD + PASTELS, (NOISE, CHECKS, STRIPES, BRICKS), (2, 25), (1, 5), (.3, 1.0),
                        ("Wallpaper", "Grass", "Ground", "Fabric", "Rocks", "Onyx"), (1.0, 4.0), (.3, .8), (.5, 1.6)),
    "mirror": Finish(((.90, .92, .92), (.82, .84, .86)), (PLAIN,), contrast=(0, 0), gloss=(.2, .5), mirror=(.8, .97)),
    "glass": Finish(((.55, .62, .64), (.30, .36, .38), (.75, .80, .80)), (PLAIN,), contrast=(0, 0), gloss=(.6, 1.0),
                    mirror=(.15, .45)),
    "art": Finish(BOLD + PASTELS + CLOTHS + WHITES, (NOISE, NOISE, CHECKS, STRIPES, RINGS, BRICKS, SPECKLE), (1.5, 16),
                  (1, 4),
                  (.3, 1.0), ("Paper", "Wallpaper", "Grass", "Rocks", "Onyx", "Fabric", "Ground", "Moss", "Marble",
                              "Snow",
                              "GlazedTerracotta", "Rust", "Bark"), (.6, 2.5), (0, .4)),
    "upright picture": Finish(WHITES[1:2], textures=(UPRIGHT,), texture_scale=(0, 0), gloss=(0, .4)),
    "wide picture": Finish(WHITES[1:2], textures=(WIDE,), texture_scale=(0, 0), gloss=(0, .4)),
    "screen picture": Finish(WHITES[1:2], textures=(WIDE,), texture_scale=(0, 0), gloss=(.3, .8), emission=(.5, 1.6)),
    "paper": Finish(WHITES + PASTELS, (PLAIN, STRIPES), (10, 60), (1, 3), (.05, .5), ("Paper",), (1.0, 4.0)),
    "book": Finish(BOLD + CLOTHS + WHITES, (STRIPES, STRIPES, PLAIN, NOISE), (15, 45), (1, 1), (.3, 1.0),
                   ("Paper", "Fabric", "Paint"), (2.0, 6.0), (0, .3)),
    "cardboard": Finish(BROWNS, (PLAIN, NOISE, STRIPES), (2, 20), contrast=(.05, .3),
                        textures=("Cardboard", "Cardboard", "Paper"),
                        texture_scale=(1.0, 3.0)),
    "basket": Finish(WOODS + BROWNS, (CHECKS, STRIPES), (15, 50), (1, 3), (.3, .8),
                     ("ThatchedRoof", "Bamboo", "Tatami"),
                     (1.5, 4.0)),
    "leaves": Finish(GREENS, (NOISE, STRIPES, PLAIN, SPECKLE), (6, 40), (1, 5), (.1, .6),
                     ("Grass", "Moss", "ScatteredLeaves"),
                     (1.5, 5.0), (0, .3)),
    "soil": Finish(EARTHS, (SPECKLE, NOISE), (20, 60), contrast=(.2, .5), textures=("Ground", "Gravel"),
                   texture_scale=(1, 3)),
    "pot": Finish(((.70, .40, .28), (.62, .34, .22)) + WHITES + GREYS + BOLD, (PLAIN, NOISE, STRIPES), (4, 20),
                  contrast=(.05, .5),
                  textures=("Clay", "GlazedTerracotta", "Concrete", "Porcelain"), texture_scale=(1.0, 3.0),
                  gloss=(0, .6)),
    "lamp shade": Finish(WHITES + PASTELS + BOLD[3:4], (PLAIN, PLAIN, STRIPES), (6, 30), contrast=(.05, .3),
                         emission=(.3, 2.5)),
    "shade off": Finish(WHITES + CLOTHS, (PLAIN, STRIPES), (6, 30), contrast=(.05, .4), textures=("Fabric", "Paper"),
                        texture_scale=(1.0, 3.0)),
    "light": Finish(((1., .98, .94), (1., .92, .78), (.92, .96, 1.)), emission=(1.5, 6.0)),
    "skin": Finish(SKINS, (PLAIN,), contrast=(0, .1)),
    "hair": Finish(HAIRS, (PLAIN, NOISE), (20, 80), (1, 6), (.05, .4), gloss=(0, .3)),
    "shirt": Finish(CLOTHS + WHITES + DARKS + VIVID, (PLAIN, PLAIN, PLAIN, STRIPES, CHECKS, SPECKLE), (10, 60), (1, 3),
                    (.1, .8), ("Fabric",), (1.5, 5.0), (0, .08)),
    "trousers": Finish(GREYS + DARKS + DENIMS + DENIMS + ((.58, .50, .40), (.35, .30, .26), (.76, .70, .58)),
                       (PLAIN, PLAIN, NOISE), (20, 80), (1, 4), (.05, .3), ("Fabric",), (2.0, 6.0), (0, .05)),
}


@dataclass(frozen=True)
class TextureCatalogue:
    """Category -> indices into the atlas."""
    categories: dict[str, tuple[int, ...]]
    everything: tuple[int, ...] = field(init=False)      # but for pictures, which are no surfaces

    def __post_init__(self):
        object.__setattr__(self, "everything", tuple(i for name, items in self.categories.items()
                                                     if name not in PICTURES for i in items))


class MaterialPool:
    """Draws the materials of one scene; when all places are taken it hands out those that are there."""

    def __init__(self, rng: Random, textures: TextureCatalogue | None = None, room: int = MAX_MATERIALS):
        self.rng, self.textures, self.room = rng, textures, room
        self.rows: list[tuple[float, ...]] = []
        self.by_finish: dict[str, list[int]] = {}

    def draw(self, finish: str, limit: int = MAX_MATERIALS) -> int:
        """Index of a new material; an old one of that finish once there are `limit` of it or the pool is full."""
        made = self.by_finish.setdefault(finish, [])
        if len(made) >= limit or len(self.rows) >= self.room:
            return self.rng.choice(made) if made else self.rng.randrange(len(self.rows))
        self.rows.append(random_material(FINISHES[finish], self.rng, self.textures))
        made.append(len(self.rows) - 1)
        return made[-1]

    def by(self, rng: Random) -> MaterialPool:
        """The same pool, drawn from by other random numbers."""
        other = copy(self)
        other.rng = rng
        return other

    def place(self, rows: list[tuple[float, ...]]) -> int | None:
        """Adds materials that belong together and returns the index of the first; None where they do not fit."""
        if len(self.rows) + len(rows) > self.room:
            return None
        self.rows.extend(rows)
        return len(self.rows) - len(rows)

    def array(self) -> np.ndarray:
        """(M, 16) float32, MATERIAL_COLUMNS."""
        materials = np.asarray(self.rows, np.float64).reshape(-1, len(MATERIAL_COLUMNS))
        materials[:, :6] = srgb_to_linear(materials[:, :6])
        return materials.astype(np.float32)


def random_material(finish: Finish, rng: Random, textures: TextureCatalogue | None) -> tuple[float, ...]:
    """One row in the order of MATERIAL_COLUMNS, colours still in sRGB."""
    between, luminous = rng.uniform, finish.emission[1] > 0
    first = jittered(rng.choice(finish.colors), rng)
    second = jittered(rng.choice(finish.colors), rng) if rng.random() < .5 else shaded(first, rng.uniform(.35, 1.2))
    if not luminous and finish.mirror[1] < .5 and rng.random() < .03:   # the odd colour that nobody expects
        first = (between(.1, .9), between(.1, .9), between(.1, .9))
    texture, scale = -1, 1.0
    if finish.texture_scale[1] == 0 and has_pictures(finish, textures):
        texture, scale = rng.choice(textures.categories[finish.textures[0]]), 0.0
    elif textures is not None and finish.textures and rng.random() < PHOTO_SHARE:
        fitting = [name for name in finish.textures if name in textures.categories]
        if fitting and rng.random() < .93:
            texture = rng.choice(textures.categories[rng.choice(fitting)])
        elif textures.everything:
            texture = rng.choice(textures.everything)
        scale = log_uniform(rng, *finish.texture_scale)
    if texture >= 0 and scale > 0:
        grey = 1.0 if rng.random() < .5 else between(.45, 1.0)
        dye = between(0, .35) if rng.random() < .6 else between(.35, 1.0)     # most keep the photograph's own colour
        first = tuple(grey * (1 + (c - 1) * dye) for c in first)
    return (*first, *second, rng.choice(finish.patterns), log_uniform(rng, *finish.frequency), between(*finish.stretch),
            between(*finish.contrast), texture, scale, between(*finish.gloss), between(*finish.emission),
            between(*finish.mirror), rng.randrange(1 << 16))


def has_pictures(finish: Finish, textures: TextureCatalogue | None) -> bool:
    return textures is not None and bool(textures.categories.get(finish.textures[0]))


def jittered(color, rng: Random) -> tuple[float, ...]:
    light = rng.uniform(.85, 1.12)
    return tuple(min(1.0, max(.02, c * light + rng.uniform(-.06, .06))) for c in color)


def shaded(color, factor: float) -> tuple[float, ...]:
    return tuple(min(1.0, c * factor) for c in color)


def log_uniform(rng: Random, low: float, high: float) -> float:
    return low * (high / low) ** rng.random()


def srgb_to_linear(color: np.ndarray) -> np.ndarray:
    """0..1 -> 0..1 (IEC 61966-2-1)."""
    return np.where(color <= .04045, color / 12.92, ((color + .055) / 1.055) ** 2.4)


def load_textures(source: str | Path, size: int = 128) -> tuple[TextureCatalogue, np.ndarray]:
    """Reads textures from a folder with one sub-folder of images a category, or from a file of `pack_textures`.

    Returns the catalogue and the atlas, (N, size, size, 3) uint8 sRGB; each image is cropped to its middle square.
    Raises InputError for a source without textures or with an image that cannot be read.
    """
    categories: dict[str, list[int]] = {}
    tiles = []
    for name, data in stored_textures(Path(source)):
        image = decoded(source, name, data)
        side, (width, height) = min(image.size), image.size
        corner = ((width - side) // 2, (height - side) // 2)
        image = image.crop((*corner, corner[0] + side, corner[1] + side))
        tiles.append(np.asarray(image if side == size else image.resize((size, size), Image.Resampling.LANCZOS)))
        categories.setdefault(name.split("/")[0], []).append(len(tiles) - 1)
    if not tiles:
        raise InputError(f"{source} {NO_TEXTURES}")
    return TextureCatalogue({name: tuple(items) for name, items in categories.items()}), np.stack(tiles)


def decoded(source: str | Path, name: str, data: bytes) -> Image.Image:
    """The RGB image in `data`, texture `name` of `source`. Raises InputError where it is damaged."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.mode.startswith("I"):      # grey of 16 bits, of which PIL makes white
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")
    except Exception as error:      # noqa: BLE001 PIL has a dozen types for a damaged file
        raise InputError(f"texture {name} of {source} cannot be read: {error}") from error


def pack_textures(folder: str | Path, file: str | Path, quality: int = 92) -> int:
    """Writes a folder's textures into one npz (names, JPEG bytes, offsets), easy to move. Returns their number.

    Raises InputError for a folder without textures or with an image that cannot be read, OutputError for a file that
    cannot be written.
    """
    names, chunks = [], []
    for name, data in stored_textures(Path(folder)):
        buffer = io.BytesIO()
        decoded(folder, name, data).save(buffer, "JPEG", quality=quality)
        names.append(name)
        chunks.append(min(buffer.getvalue(), data, key=len) if name.lower().endswith(JPEGS) else buffer.getvalue())
    if not names:
        raise InputError(f"{folder} {NO_TEXTURES}")
    save_textures(file, names, chunks)
    return len(names)


def save_textures(file: str | Path, names: list[str], images: list[bytes]) -> None:
    """Writes encoded images, named CATEGORY/NAME, as `load_textures` reads them."""
    write_npz(file, {"names": np.array(names), "bytes": np.frombuffer(b"".join(images), np.uint8),
                     "ends": np.cumsum([len(image) for image in images], dtype=np.int64)})


def stored_textures(source: Path):
    """Yields (category/file name, encoded image) in a fixed order."""
    if source.is_dir():
        for path in sorted(source.glob("*/*")):
            if path.suffix.lower() in (*JPEGS, ".png") and not path.name.startswith("."):     # as in FolderSequence
                yield f"{path.parent.name}/{path.name}", path.read_bytes()
    elif source.is_file():
        packed = read_npz(source)
        try:
            data, start = packed["bytes"].tobytes(), 0
            entries = list(zip(map(str, packed["names"].tolist()), map(int, packed["ends"].tolist()), strict=True))
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{source} holds no textures: {error!r}") from error
        for name, end in entries:
            yield name, data[start:end]
            start = end
    else:
        raise InputError(f"no textures at {source}: neither a folder nor a file")
