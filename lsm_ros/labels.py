"""The classes of the map: their names, their colours, and what the words look like to the network.

The network gives every pixel a unit vector in a small text space. A label is the embedding of its words in that space:
a label set is a list of words, and another one needs no other weights.
"""
from __future__ import annotations

import colorsys
import difflib
import json
import logging
import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open

from lsm_ros.errors import ConfigError, InputError, WeightsError
from lsm_ros.resources import resource

logger = logging.getLogger(__name__)

NOUN_TABLE = Path(__file__).parent / "weights" / "nouns.safetensors"
"""Embeddings of some 1,300 household nouns; made by lsm_ros/training/text_table.py."""

LONGEST_WORD = 200
"""Letters; to look for words that are like it takes time with its length."""

LOGIT_SCALE = 20.0
"""Cosine -> logit. The semantic head is trained with it, so it belongs to the text space, not to a label set."""

GROUPINGS = {
    "lsm8": ("wall", "floor", "ceiling", "chair", "table", "sofa", "bed", "other"),
    "scannet20": ("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture",
                  "counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub",
                  "otherfurniture"),
    "nyu40": ("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture",
              "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes",
              "ceiling", "books", "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard",
              "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture",
              "otherprop"),
}
"""The coarser label sets that results are compared in, in their published order (NYU-40's ids start at 1)."""


@lru_cache(maxsize=1)
def noun_embeddings() -> dict[str, np.ndarray]:
    """noun -> (D,) float32 unit vector, for every word that a label may be made of."""
    try:
        with safe_open(NOUN_TABLE, framework="numpy") as table:
            nouns, vectors = json.loads(table.metadata()["nouns"]), table.get_tensor("embeddings").astype(np.float32)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the noun table {NOUN_TABLE} cannot be read: {error}") from error
    return dict(zip(nouns, unit(vectors), strict=True))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass(frozen=True)
class LabelSet:
    """C classes; a class is known by its index."""
    names: tuple[str, ...]
    colors: np.ndarray                     # (C, 3) uint8 sRGB
    embeddings: np.ndarray                 # (C, D) float32 unit vectors
    things: np.ndarray                     # (C,) bool: objects that can be counted; false for the building itself
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # grouping -> (C,) int64 index in it, -1 where none
    words: tuple[tuple[str, ...], ...] = ()                      # of each class: its name and its synonyms
    logit_scale: float = LOGIT_SCALE

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The class called `name`. Raises InputError, which names the close ones."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"no label {name!r}{alike(name, self.names)}") from None

    def logits(self, semantics: np.ndarray) -> np.ndarray:
        """Unit vectors (..., D) -> the scores of the classes (..., C) float32."""
        vectors = semantics.astype(np.float32, copy=False)
        logits = vectors.reshape(-1, vectors.shape[-1]) @ (np.float32(self.logit_scale) * self.embeddings).T
        return logits.reshape(*semantics.shape[:-1], len(self))                     # one product, not one a row

    def log_probabilities(self, semantics: np.ndarray) -> np.ndarray:
        """Unit vectors (..., D) -> log-softmax over the classes (..., C) float32."""
        logits = self.logits(semantics)              # none beyond the scale: exp cannot overflow
        logits -= np.log(np.exp(logits) @ np.ones((len(self), 1), np.float32))      # a product sums faster than `sum`
        return logits

    @classmethod
    def load(cls, path: str | Path | None = None) -> LabelSet:
        """The set in a YAML file (config/labels/indoor.yaml shows the form), by default the shipped one.

        Raises ConfigError for a file of another form and InputError for a word that the noun table doesn't hold.
        """
        path = Path(path) if path else resource("config/labels/indoor.yaml")
        try:
            content = yaml.safe_load(path.read_text("utf8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:    # a date that is none
            raise ConfigError(f"the label file {path} cannot be read: {error}") from error
        entries = content.get("labels") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ConfigError(f"{path} has no list `labels:` of names")
        entries = [read_entry(entry, path) for entry in entries]
        try:
            return cls.from_entries(entries)
        except (ConfigError, InputError) as error:
            raise type(error)(f"{path}: {error}") from error

    @classmethod
    def from_entries(cls, entries: list[dict[str, Any]]) -> LabelSet:
        """The set of checked entries (read_entry), in their order."""
        names = tuple(entry["name"] for entry in entries)
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise ConfigError(f"label {', '.join(map(repr, twice))} is given more than once")
        if len(names) > 65535:
            raise ConfigError(f"{len(names)} labels; a map point has room for 65535")
        words = tuple((entry["name"], *entry.get("synonyms", [])) for entry in entries)
        return cls(names=names, words=words,
                   colors=np.array([entry.get("color", spread_color(i)) for i, entry in enumerate(entries)], np.uint8),
                   embeddings=np.stack([embed(of_class) for of_class in words]),
                   things=np.array([entry.get("thing", True) for entry in entries]),
                   groups={key: np.array([members.index(entry[key]) if key in entry else -1 for entry in entries])
                           for key, members in GROUPINGS.items()})


def embed(words: Sequence[str]) -> np.ndarray:
    """The (D,) unit vector of a label that goes by several words: their mean.

    A word that the noun table doesn't hold is encoded where the text encoder is installed (lsm_ros/text.py);
    otherwise InputError names it.
    """
    return unit(np.mean([embed_word(word) for word in words], axis=0))


def embed_word(word: str) -> np.ndarray:
    if len(word) > LONGEST_WORD:
        raise InputError(f"a word of {len(word)} letters, {word[:40]!r} ...; {LONGEST_WORD} are the most")
    table = noun_embeddings()
    if word in table:
        return table[word]
    from lsm_ros import text  # loads torch, which reading the shipped labels does without
    folder = text.encoder_folder()
    if folder is None:
        raise InputError(f"no embedding for the word {word!r}{alike(word, table)} (for words outside the table: "
                         f"{text.INSTALL})")
    logger.warning("%r is not in the noun table and is encoded as it stands%s", word, alike(word, table))
    with safe_open(NOUN_TABLE, framework="numpy") as file:
        mean, projection = (file.get_tensor(name).astype(np.float32) for name in ("mean", "projection"))
    return unit((text.encode(word, folder) - mean) @ projection)


def alike(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    """The end of an error message: "; did you mean ...", or nothing."""
    close = difflib.get_close_matches(word, known, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


# YAML's aliases make values whose whole text would fill the memory.
short = reprlib.Repr()
short.maxstring = short.maxother = 80
short.maxlevel = 2
short = short.repr


def read_entry(entry: Any, path: Path) -> dict[str, Any]:
    """One checked item of `labels:`, a name or a mapping with a name. Raises ConfigError: file, label and value."""
    entry = {"name": entry} if isinstance(entry, str) else entry
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise ConfigError(f"{path}: {short(entry)} is neither a name nor a mapping with a `name`")
    if not (name and name.isprintable() and name == " ".join(name.split())):
        # A line break would end the comment of cloud.ply that tells the name, and the file could not be read.
        raise ConfigError(f"{path}: the name {short(name)} must be words in one line, with single spaces between them")
    unknown = set(entry) - {"name", "color", "thing", "synonyms", *GROUPINGS}
    if unknown:
        raise ConfigError(f"{path}: label {short(name)} has the unknown key {', '.join(sorted(map(short, unknown)))}")
    color, synonyms = entry.get("color", [0, 0, 0]), entry.get("synonyms", [])
    if not (isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)):
        raise ConfigError(f"{path}: color {short(color)} of label {short(name)} is not three whole numbers of 0..255")
    if not (isinstance(synonyms, list) and all(isinstance(word, str) for word in synonyms)):
        raise ConfigError(f"{path}: synonyms {short(synonyms)} of label {short(name)} is not a list of words")
    if not isinstance(entry.get("thing", True), bool):
        raise ConfigError(f"{path}: thing {short(entry['thing'])} of label {short(name)} is neither true nor false")
    for key in GROUPINGS.keys() & entry.keys():
        if entry[key] not in GROUPINGS[key]:
            raise ConfigError(f"{path}: {key} {short(entry[key])} of label {short(name)} is none of "
                              f"{', '.join(GROUPINGS[key])}")
    return entry


def spread_color(i: int) -> tuple[int, int, int]:
    """The i-th of a run of colours that stay apart: the hue moves on by the golden angle, the lightness by thirds."""
    red, green, blue = colorsys.hls_to_rgb(i * 0.381966 % 1, (0.55, 0.4, 0.7)[i % 3], 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)
