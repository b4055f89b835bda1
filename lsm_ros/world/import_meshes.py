"""Packs furniture models into the file that meshes.py reads.

    python -m lsm_ros.world.import_meshes FOLDER OUT.npz

FOLDER holds furniture libraries of Sweet Home 3D (*.sh3f, as the Debian package sweethome3d-furniture installs them in
/usr/share/sweethome3d/furniture, or unpacked folders of the same): Wavefront OBJ in centimetres, y up, front at +z,
with a catalogue of names, sizes and authors. fast-simplification must be installed; nothing else here needs it.
"""
from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from lsm_ros.data.files import check_folder
from lsm_ros.errors import InputError, LsmError
from lsm_ros.labels import LabelSet
from lsm_ros.world.materials import FINISHES
from lsm_ros.world.meshes import MAX_PARTS, MeshLibrary, Model, Part, save_meshes
from lsm_ros.world.plants import grown_models
from lsm_ros.world.simplification import simplify
from lsm_ros.world.wavefront import Material, Soup, read_obj

TRIANGLES = 1200
CATALOGUE = "PluginFurnitureCatalog.properties"
FREE_LICENCES = ("creative commons attribution", "cc-by", "cc0", "cc-0", "public domain", "free art license")

ROLES: dict[str, tuple[str, str]] = {
    # role: its label, and the ids of the models that play it. Chosen by looking at every model: names mislead ("Box" is
    # a sideboard, "Chest" a chest of drawers), and groups, such as a vanity under its mirror, are left out.
    "chair": ("chair", "plasticChair chair antiqueChair chair2 designChair thonet chair3 chair4 cafe_set_mota_chair "
              "cafe_set_tonon_chair ella_chair_f plaidChair kitchenChair dining-chair tubular_chair "
              "white_kitchen_chair chairWithCushion childChair children_chair osakaChair plastic_chair "
              "modern_armchair classSeat silla_teca cafe-chair BlendSwapCC-BY#foldingChair BlendSwapCC-0#armchair"),
    "office chair": ("chair", "office-chair office_chair kids_desk_chair"),
    "stool": ("stool", "green_stool pianoBench puff BlendSwapCC-0#foldingChair"),
    "bar stool": ("stool", "silla2 stool stool2 kitchen_stool bar-stool bar_chair"),
    "armchair": ("armchair", "BlendSwapCC-0#armchair2 modernArmchair BlendSwapCC-BY#armchair1 fotel "
                 "mid-century-chair armchair3 Scopia#armchair Scopia#armchair1 Scopia#armchair2 leaf_chair armChair2 "
                 "winchesterArmchair rattanArmchair"),
    "sofa": ("sofa", "L_shaped_sofa corner_sofa cornerSofa couch couch2 couch3 burlap_sofa clear_sofa futon-couch "
             "sofa2 sofa3 mid-century-bench-sofa mid-century-sofa simple_sofa leather_sofa sofa_white_beige "
             "beige_sofa_2seats beige_sofa winchesterSofa rattanSofa convertible-sofa-BZ-closed"),
    "table": ("table", "oakTable table black_table tableWithTablecloth cafe_set_mota_table cafe_set_tonon_table "
              "round-table table3 table4 wooden_table_office white_kitchen_table table-with-leaning-feet "
              "table-on-trestles glass-dining-table metal_glass_table glass_table_office desk_table folding-table "
              "cafe-table bar_table children_table"),
    "coffee table": ("coffee table", "coffeeTable saloon_table coffee_table table_wood_and_iron coffee-table2 "
                     "living_room_table rattanTable"),
    "desk": ("desk", "desk lbDesk biurko3 simpleDesk officeTable custom-desk kids_desk_table kids_wooden_desk "
             "wooden_office_alder_table wooden_office_pear_table_rect wooden_office_pear_table "
             "wooden_office_teak_table technicalTable1 technicalTable2"),
    "bed": ("bed", "bed1 bed2 bedWithTexture bed3 lettoCloud bunkBed captains-bed juniorBed children_bed "
            "day_bed_frame hospital-bed iron_bed crib futon"),
    "wardrobe": ("wardrobe", "wardrobeWithSlidingDoors wardrobe wardrobe2 wardrobe1"),
    "low cabinet": ("cabinet", "tvStand box_room lowerCabinet kitchenLowerCabinet kitchenSmallLowerCabinet "
                    "kitchenIsland drawersCabinet kitchenDrawersCabinet"),
    "tall cabinet": ("cabinet", "cupboard office_box office_furniture1 televisionCabinet"),
    "wall cupboard": ("cabinet", "upperCabinet kitchenUpperCabinet glassDoorCabinet kitchenGlassDoorCabinet "
                      "smallUpperCabinet kitchenSmallUpperCabinet"),
    "small drawers": ("drawers", "bedsideTable bedsideTable2 filing-cabinet"),
    "drawers": ("drawers", "dresserWithDrawers chest changing-table"),
    "bookshelf": ("bookshelf", "bookcase dining_room full-bookcase kids_shelves"),
    "rack": ("shelf", "shelves utility-shelving verticalShelves workbench"),
    "washbasin": ("sink", "washbasin washbasin_jay_hardy modernVanity kitchenSink sinkCabinet bathroom3 bathroom4 "
                  "small_lavatory"),
    "toilet": ("toilet", "toiletsUnit toilets_unit_jay_hardy modernToilet"),
    "bathtub": ("bathtub", "bath_jay_hardy islandBath corner_bathtub"),
    "refrigerator": ("refrigerator", "fridge largeFridge refrigerator"),
    "oven": ("oven", "propane-stove largeStove doubleOven oven"),
    "microwave": ("oven", "microwave small-oven"),
    "table lamp": ("lamp", "desklamp desk_lamp1 desk_lamp2 lamp table_lamp livingroom_lamp1 little_lamp1 "
                   "little_lamp2 little_lamp3 pedestal-vase-lamp"),
    "floor lamp": ("lamp", "living_lamp little_lamp3 pedestal-vase-lamp"),
    "ceiling lamp": ("lamp", "ceiling-lamp chandelier-lamp hangingLight hanging-restaurant-light lamp2 fluorescent "
                     "fluorescent-strip saloon_lamp"),
    "plant": ("plant", "decorativePlant ficus mediumIndoorPlant maceta spatifilum plant yuccaPlant"),
    "small plant": ("plant", "cactus littlePlant augalas luckyBamboo succulentPlant orchids bonsai-tree tulip tulips "
                    "white_lily calla_lily_with_roses flowerBox plantie spider_plant"),
    "person": ("person", "female01 female02 female03 female-01-casual-clothing male01 male02 male03 male-01-suit "
               "boyStanding girlStanding holdingMale01 holdingFemale01 holdingFemale02 holdingFemale03"),
    "television": ("television", "led_tv tv"),
    "hung television": ("television", "wall-flat-tv"),
    "monitor": ("monitor", "apple_pc apple-imac-1998"),
    "laptop": ("monitor", "apple-ibook-2001 laptop"),
    "box": ("box", "cardboard-box open-cardboard-box crate ammoBox box gift"),
    "book": ("book", "book"),
    "bag": ("bag", "backpack handbag suitcase briefcase"),
    "bottle": ("bottle", "wine_bottle red-wine-bottle-01 beer_bottle com_bath com_bath2_jabon_pijo com_bath2_soap "
               "yogurtBottle mamadeira medicoscopia_bottle2"),
    "cup": ("object", "caffe_final coffee_cup coffee-mug cup 12-oz-glass highball-glass glass beerGlass plasticCup"),
    "bowl": ("object", "bowl apples bowlWithFruits bowlWithSalad dinner-plate"),
    "vase": ("object", "vase1 vase2 vase3 jar old_jar pottery"),
    "bin": ("object", "dustbin bullet-trash-can recycling-bin clothes-basket"),
    "pot": ("object", "largePan boiler espressokettle teapot sugar"),
    "small object": ("object", "teddyBear ballonFoot basketball carrito-de-madera toyTrain headphones radio phone "
                     "mini_stereo speaker2 speaker3 tableFan clock folded_clothes com_bath3_toalla casque chapeau "
                     "sneakers mp3_base_for_ipad penbox inkjet_and_scanner_printer stereo_amplifier "
                     "wirelessOfficePhone3 bandeja"),
    "kitchen object": ("object", "toaster coffee-maker coffee_machine kitchenblender kitchenaid kitchenKnifeStandSet "
                       "breadBox cooker deepFryerWithFrenchFries kitchenScale spiceTower paperTowelHolder "
                       "coffeeBrewer utensilsPot tetrapak birthday_cake bread"),
    "large object": ("object", "clothes_washing_machine dryer_machine washing_machine piano aquarium caballito "
                     "doll-house step-ladder-wood step-ladder-metal stroller tricycle indoor-bike treadmill "
                     "water_cooler electricGuitar clothes-horse fireplace1 furnace punching-ball wheelchair barrel "
                     "fireExtinguisher dog bulldog cat umbrellaFolded electric_water_heater sef-kasa "
                     "white_board"),
    "radiator": ("object", "radiator radiator3 modernRadiator radiator1"),
}

FINISH_WORDS = (       # in the names of materials and of texture files -> finish; the first that occurs
    ("screen off", "screen display ecran pantalla"),
    ("leaves", "leaf leaves hoja feuille foglia grass stem petal flower"),
    ("soil", "soil dirt earth terra tierra"),
    ("mirror", "mirror miroir espejo"),
    ("glass", "glass vidrio verre vetro cristal"),
    ("leather", "leather cuir cuero"),
    ("linen", "sheet pillow mattress colcha duvet blanket quilt"),
    ("fabric", "fabric cloth tissu tela cotton cushion textile velvet wool upholster felt carpet seat cojin"),
    ("wood", "wood oak pine teak bois madera walnut beech parquet plywood mahogany cherry birch alder legno"),
    ("metal", "metal chrome steel inox iron alumin brass gold silver copper nickel handle knob"),
    ("ceramic", "ceramic porcelain enamel"),
    ("stone", "stone marble granit concrete"),
    ("dark plastic", "rubber tire wheel"),
    ("plastic", "plastic"),
    ("cardboard", "cardboard carton"),
    ("basket", "wicker rattan"),
)
UNDRESSED = ("person", "book", "small object", "kitchen object", "bowl", "large object")   # keep their own colours
PAINTED = ("person", "bookshelf", "plant", "small plant", "bed", "small object", "kitchen object", "large object",
           "bowl", "washbasin", "oven", "microwave", "refrigerator", "television", "monitor", "tall cabinet", "rack",
           "bag", "bottle")
"""Roles whose textures paint one part of the model like this and another like that."""
SOFT = ("sofa", "armchair")
WOODEN = ("table", "coffee table", "desk", "wardrobe", "low cabinet", "tall cabinet", "wall cupboard", "small drawers",
          "drawers", "bookshelf", "rack", "chair", "stool", "bar stool", "bed")


@dataclass(frozen=True)
class Entry:
    """One model of a source's catalogue."""
    library: str               # "Scopia"
    id: str                    # "bed1"
    name: str
    path: str                  # of the OBJ in the library
    size: tuple[float, float, float]     # metres: width, depth, height
    elevation: float
    rotation: np.ndarray       # (3, 3) that the source's catalogue asks for
    credit: str


# ---- sources

class Source:
    """The files of one library: a zip archive (.sh3f), or a folder."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.archive = None if path.is_dir() else zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise InputError(f"{path} is no furniture library: {error}") from error

    def read(self, name: str) -> bytes:
        name = name.lstrip("/")
        return self.archive.read(name) if self.archive else (self.path / name).read_bytes()

    def entries(self) -> list[Entry]:
        text = self.read(CATALOGUE).decode("latin-1")
        licence = re.search(r"^license\s*=\s*(.*)$", text, re.MULTILINE)
        licence = licence[1].strip() if licence else "no licence given"
        rows: dict[int, dict[str, str]] = {}
        for key, number, value in re.findall(r"^(\w+)#(\d+)\s*=[ \t]*(.*)$", text, re.MULTILINE):
            rows.setdefault(int(number), {})[key] = value.strip()
        entries = []
        for number, row in rows.items():
            terms = row.get("license") or licence
            if not any(word in terms.lower() for word in FREE_LICENCES):
                continue
            try:
                entries.append(read_entry(row, terms))
            except (KeyError, ValueError) as error:
                print(f"left out: number {number} of {self.path}: {error!r}", file=sys.stderr)
        return entries


def read_entry(row: dict[str, str], terms: str) -> Entry:
    """The keys of one model. Raises KeyError for one that is missing, ValueError for what is no number or no size."""
    library, _, identity = row["id"].rpartition("#")
    rotation = np.array(row.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float).reshape(3, 3)
    size = tuple(float(row[key]) / 100 for key in ("width", "depth", "height"))
    if not min(size) > 0:
        raise ValueError(f"a size of {size} m")
    return Entry(library.replace(" ", ""), identity, row["name"], row["model"], size,
                 float(row.get("elevation", 0)) / 100, rotation,
                 f"{row.get('creator', 'unknown')} ({library}): {terms.split('©')[0].strip()}")


def sources(folder: Path) -> list[Source]:
    found = [Source(path) for path in sorted(folder.iterdir())
             if path.suffix == ".sh3f" or (path / CATALOGUE).is_file()] if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder} holds no furniture libraries (*.sh3f, or folders with a {CATALOGUE})")
    return found


def role_of(entry: Entry) -> list[str]:
    return [role for role, (_, ids) in ROLES.items()
            if entry.id in ids.split() or f"{entry.library}#{entry.id}" in ids.split()]


def face_colors(source: Source, soup: Soup, areas: np.ndarray, role: str) -> tuple[np.ndarray, np.ndarray]:
    """(f, 3) sRGB 0..1, the texture's mean over the face times the material's colour, and (f,) opacity."""
    colors, opacity = np.zeros((len(soup.faces), 3)), np.ones(len(soup.faces))
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [3, 3, 1], [1, 3, 3], [3, 1, 3]], float)
    weights /= weights.sum(axis=1, keepdims=True)
    for i, material in enumerate(soup.materials):
        mine = soup.material == i
        opacity[mine], colors[mine] = material.opacity, material.color
        if not mine.any() or not material.texture:
            continue
        try:
            image = Image.open(io.BytesIO(source.read(material.texture))).convert("RGBA")
        except (OSError, KeyError, UnidentifiedImageError):
            continue
        image.thumbnail((256, 256))
        pixels = np.asarray(image, float) / 255
        uv = np.einsum("sk,fkc->fsc", weights, soup.uv[mine])
        uv = np.where(np.isfinite(uv), uv, .5) % 1.0
        x = np.minimum((uv[..., 0] * pixels.shape[1]).astype(int), pixels.shape[1] - 1)
        y = np.minimum(((1 - uv[..., 1]) * pixels.shape[0]).astype(int), pixels.shape[0] - 1)
        sampled = pixels[y, x]
        alpha = sampled[..., 3:]
        mean = (sampled[..., :3] * (alpha + 1e-3)).sum(axis=1) / (alpha + 1e-3).sum(axis=1)
        tint = np.array(material.color) / max(material.color) if max(material.color) > .05 else np.ones(3)
        colors[mine] = mean * tint
        if role not in PAINTED or mine.sum() < 60:             # a repeating print: single faces would be blotches of it
            sizes = np.nan_to_num(areas[mine]) + 1e-12
            colors[mine] = np.average(colors[mine], axis=0, weights=sizes)
        opacity[mine] *= alpha.mean(axis=(1, 2))
    return colors, opacity


# ---- one model

def convert(source: Source, entry: Entry, role: str, triangles: int = TRIANGLES):
    """Vertices (v, 3) uint16, triangles (f, 3), parts (f,), the Parts, the tops. Raises InputError for an empty one."""
    soup = read_obj(source.read, entry.path)
    vertices = fit_box(soup.vertices, soup.faces, entry)
    kinds = [finish_of(material) for material in soup.materials]
    corners = vertices[soup.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    colors, opacity = face_colors(source, soup, area, role)
    keep = (area > 1e-9) & (opacity > .08)
    if not keep.any():
        raise InputError(f"{entry.path} has no visible faces")
    faces, colors, area, material = soup.faces[keep], colors[keep], area[keep], soup.material[keep]
    part, part_colors = clusters(colors, np.array([number_of(kinds[m]) for m in material]), area)
    group = np.array([bunch(m, soup, colors, material) for m in range(len(soup.materials))])[material]
    v, f, p = simplify(vertices, faces, group, part, area, triangles)
    parts = []
    for k, color in enumerate(part_colors):
        mine = part == k
        most = np.bincount(material[mine], area[mine]).argmax()
        parts.append(Part(tuple(np.round(color, 4).tolist()), guess_finish(kinds[most], color, role)))
    quantised = np.clip(np.round((v / (np.array(entry.size) / 2) + 1) * 32767.5), 0, 65535).astype(np.uint16)
    return quantised, f, p, tuple(parts), tops_of(v, f, entry.size, role)


def fit_box(points: np.ndarray, faces: np.ndarray, entry: Entry) -> np.ndarray:
    """OBJ (y up, front at +z, any unit) -> the catalogue's box, its middle at 0; axes as parts.Piece."""
    turned = points @ entry.rotation.T
    ours = np.stack([-turned[:, 0], turned[:, 2], turned[:, 1]], axis=1)
    used = ours[np.unique(faces)]
    low, high = used.min(axis=0), used.max(axis=0)
    return (ours - (low + high) / 2) * (np.array(entry.size) / np.maximum(high - low, 1e-9))


def finish_of(material: Material) -> str:
    words = f"{material.name} {PurePosixPath(material.texture).name}".lower()
    if material.opacity < .6:
        return "glass"
    return next((finish for finish, hints in FINISH_WORDS if any(hint in words for hint in hints.split())), "")


def guess_finish(kind: str, color: np.ndarray, role: str) -> str:
    """The finish in which a part may be dressed anew; "" leaves it as it is."""
    if role in UNDRESSED:
        return ""
    if kind:
        return kind
    r, g, b = color
    light, strong = max(color), max(color) - min(color)
    if role in ("plant", "small plant"):
        return "leaves" if g >= max(r, b) - .02 else "pot" if r > b and strong > .15 else ""
    if role in SOFT:
        return "fabric"
    if role in ("toilet", "bathtub", "washbasin"):
        return "ceramic" if light > .6 else ""
    if role in ("refrigerator", "oven", "microwave"):
        return "appliance" if light > .35 else "screen off"
    if role in ("television", "hung television", "monitor", "laptop"):
        return "dark plastic" if light < .3 else "plastic"
    if role in WOODEN:
        if role == "bed" and light > .5:
            return "linen"
        if r > g > b and strong > .12:
            return "wood"
        return "metal" if strong < .06 and light < .75 and role in ("chair", "stool", "bar stool") else "lacquer"
    return {"box": "cardboard", "bag": "leather", "bottle": "glass", "cup": "ceramic", "vase": "ceramic",
            "bin": "plastic", "pot": "metal", "radiator": "lacquer", "office chair": "dark plastic",
            "table lamp": "", "floor lamp": ""}.get(role, "")


def number_of(kind: str) -> int:
    return ["", *(finish for finish, _ in FINISH_WORDS)].index(kind)


def bunch(m: int, soup: Soup, colors: np.ndarray, material: np.ndarray) -> int:
    """Materials of one colour are simplified together."""
    mine = material == m
    mean = colors[mine].mean(axis=0) if mine.any() else np.zeros(3)
    return int((np.round(mean * 5) * (1, 7, 49)).sum())


def clusters(colors: np.ndarray, kind: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces' colours (f, 3), kinds (f,), areas (f,) -> the part of each face (f,) and the parts' colours (p, 3): at
    most MAX_PARTS of about one colour and one kind, by Lloyd's algorithm from the farthest points."""
    features = np.concatenate([colors, .35 * (kind[:, None] == np.unique(kind))], axis=1)
    centres = [features[area.argmax()]]
    weight = area / area.sum() + 1e-4
    while len(centres) < MAX_PARTS:
        distance = np.min([((features - c) ** 2).sum(axis=1) for c in centres], axis=0)
        if distance.max() < .03:
            break
        score = np.where(distance > .03, distance * np.sqrt(weight), 0)
        centres.append(features[score.argmax()])
    centres = np.array(centres)
    for _ in range(12):
        part = ((features[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        total = np.bincount(part, area, len(centres))
        for k in np.flatnonzero(total > 0):
            centres[k] = np.average(features[part == k], axis=0, weights=area[part == k])
    used, part = np.unique(part, return_inverse=True)
    return part, centres[used, :3]


# ---- where things can stand

STANDS = {"table", "coffee table", "desk", "low cabinet", "small drawers", "drawers", "wardrobe", "tall cabinet",
          "rack", "bookshelf", "refrigerator"}
SOFT_STANDS = {"sofa", "armchair", "bed"}              # for pillows


def tops_of(vertices: np.ndarray, faces: np.ndarray, size, role: str, cells: int = 28) -> tuple[tuple[float, ...], ...]:
    """The largest level rectangle that is open to above, and for racks the boards below: rows of meshes.Model.tops."""
    soft = role in SOFT_STANDS
    if role not in STANDS and not soft:
        return ()
    size = np.array(size)
    corners = (vertices / size + .5)[faces]                                # 0..1
    metric = vertices[faces]
    normal = np.cross(metric[:, 1] - metric[:, 0], metric[:, 2] - metric[:, 0])
    level = abs(normal[:, 2]) > .97 * np.linalg.norm(normal, axis=1)
    at = (np.arange(cells) + .5) / cells
    x, y = np.meshgrid(at, at, indexing="ij")
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]

    def side(p, q):                                                        # (f, cells, cells)
        return (q[:, 0] - p[:, 0])[:, None, None] * (y - p[:, 1, None, None]) - \
            (q[:, 1] - p[:, 1])[:, None, None] * (x - p[:, 0, None, None])
    s = np.stack([side(a, b), side(b, c), side(c, a)])
    covers = (s >= -1e-9).all(axis=0) | (s <= 1e-9).all(axis=0)
    z = np.where(covers & (abs(s.sum(axis=0)) > 1e-12),
                 (s[1] * a[:, 2, None, None] + s[2] * b[:, 2, None, None] + s[0] * c[:, 2, None, None])
                 / np.where(abs(s.sum(axis=0)) > 1e-12, s.sum(axis=0), 1), -1)
    highest, step = z.max(axis=0), .05 if soft else .02
    tops = []
    lowest = .2 if soft else .5 if role in ("table", "coffee table", "desk") else .8       # a bookcase's foot is no top
    levels = highest[highest > lowest]
    if len(levels):
        bins = np.round(levels * size[2] / step).astype(int)
        z_top = np.bincount(bins).argmax() * step / size[2]
        mask = abs(highest - z_top) * size[2] < 1.25 * step
        x0, x1, y0, y1 = largest_rectangle(mask)
        if (x1 - x0) * size[0] / cells > .18 and (y1 - y0) * size[1] / cells > .16:
            tops.append((x0 / cells, x1 / cells, y0 / cells, y1 / cells, float(np.median(highest[mask])), 2.0))
    if role in ("rack", "bookshelf"):
        heights = np.round(corners[level].mean(axis=1)[:, 2] * size[2] / .06).astype(int)
        area = np.bincount(heights, np.linalg.norm(normal[level], axis=1) / 2)
        boards = [k for k in np.flatnonzero(area > .5 * size[0] * size[1])]
        found = [(corners[level][heights == k][:, :, 2].max()) for k in boards]
        for low, high in zip(found[:-1], found[1:]):
            clear = (high - low) * size[2] - .05
            if clear > .12:
                tops.append((.08, .92, .2, .85, float(low), float(clear)))
    return tuple(tops)


def largest_rectangle(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Rows i0..i1 and columns j0..j1 (ends excluded) of the largest rectangle of true cells."""
    best, found = 0, (0, 0, 0, 0)
    for i0 in range(len(mask)):
        run = np.ones(mask.shape[1], bool)
        for i1 in range(i0, len(mask)):
            run = run & mask[i1]
            edges = np.flatnonzero(np.diff(np.concatenate([[0], run.astype(int), [0]])))
            for j0, j1 in edges.reshape(-1, 2):
                if (j1 - j0) * (i1 + 1 - i0) > best:
                    best, found = (j1 - j0) * (i1 + 1 - i0), (i0, i1 + 1, int(j0), int(j1))
    return found


# ---- the library

def import_meshes(folder: str | Path, file: str | Path, triangles: int = TRIANGLES) -> tuple[Model, ...]:
    """Packs the models of `folder` that ROLES names, and grown plants. Raises InputError where there are none, and
    OutputError for a file that cannot be written."""
    check_folder(file, "the models")
    labels = set(LabelSet.load().names)
    assert all(label in labels for label, _ in ROLES.values()) and all(finish in FINISHES for finish, _ in FINISH_WORDS)
    models, arrays = [], []
    for source in sources(Path(folder)):
        for entry in source.entries():
            for role in role_of(entry):
                try:
                    v, f, p, parts, tops = convert(source, entry, role, triangles)
                except InputError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    continue
                models.append(Model(len(models), entry.name.lower(), role, ROLES[role][0], entry.size, entry.elevation,
                                    tops, parts, entry.credit))
                arrays.append((v, f, p))
    if not models:
        raise InputError(f"{folder} holds none of the models that import_meshes.ROLES names")
    for model, v, f, p in grown_models(len(models)):
        models.append(model)
        arrays.append((v, f, p))
    library = MeshLibrary(vertices=np.concatenate([v for v, _, _ in arrays]),
                          triangles=np.concatenate([f for _, f, _ in arrays]).astype(np.uint16),
                          part=np.concatenate([p for _, _, p in arrays]),
                          vertex_end=np.cumsum([len(v) for v, _, _ in arrays]),
                          triangle_end=np.cumsum([len(f) for _, f, _ in arrays]),
                          size=np.array([model.size for model in models], np.float32))
    save_meshes(file, library, tuple(models))
    return tuple(models)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.world.import_meshes", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the libraries lie")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--triangles", type=int, default=TRIANGLES, help="of one model (default %(default)s)")
    options = parser.parse_args()
    try:
        models = import_meshes(options.folder, options.out, options.triangles)
    except (LsmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {len(models)} models, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
