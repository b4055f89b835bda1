"""Labels in the user's own words: how much worse they are than the shipped ones, on the same predictions.

The network says one vector a pixel, so any words can be asked for afterwards. Three questions, apart:

- words that it was trained on, in other combinations: the shipped names without their synonyms, and a synonym alone;
- words that stand nowhere in the training for the same things (`settee` for the sofa), all at once, and one at a time
  among the shipped words, which is what most users do;
- broader words, never trained either (`seat` for chairs, stools and sofas), scored against the shipped words merged in
  the same way.

What cannot be measured this way: things that no rendered world shows. The worlds and the rectangles know only the
shipped classes, so a word for something else (`kettle`) has no truth here.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from lsm_ros.contracts import Window, WindowPrediction
from lsm_ros.evaluation.datasets import TruthWindow, boxed_frames
from lsm_ros.evaluation.metrics import ClassBox, Confusion, accepted_labels, at_grid, box_score, box_shares
from lsm_ros.evaluation.report import Line
from lsm_ros.labels import LabelSet
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.resources import resource

UNSEEN = {
    "wall": "plaster wall", "floor": "ground", "ceiling": "roof", "door": "front door", "window": "window frame",
    "curtain": "net curtain", "blind": "roller blind", "picture": "photograph", "mirror": "dressing mirror",
    "rug": "mat", "table": "kitchen table", "desk": "writing desk", "coffee table": "low table",
    "chair": "dining chair", "armchair": "lounge chair", "stool": "step stool", "sofa": "settee", "bed": "single bed",
    "pillow": "throw pillow", "cabinet": "sideboard", "wardrobe": "locker", "drawers": "bureau",
    "bookshelf": "bookrack", "shelf": "wall shelf", "counter": "work surface", "sink": "basin", "toilet": "lavatory",
    "bathtub": "tub", "refrigerator": "freezer", "oven": "cooker", "lamp": "reading lamp", "plant": "indoor plant",
    "television": "television set", "monitor": "computer screen", "box": "carton", "book": "paperback",
    "bag": "rucksack", "bottle": "water bottle", "person": "man", "object": "stuff",
}
"""For each shipped class another word of the noun table, which the training must not use. They were chosen by meaning,
before any was scored; where the text encoder does not know a word (its `settee` is far from `couch`), that counts."""

BROADER = {
    "seat": ("chair", "armchair", "stool", "sofa"), "work surface": ("table", "desk", "coffee table", "counter"),
    "furniture": ("cabinet", "wardrobe", "drawers", "bookshelf", "shelf"), "appliance": ("refrigerator", "oven"),
    "screen": ("television", "monitor"), "basin": ("sink", "bathtub"), "container": ("box", "bag", "bottle"),
}
"""Broader words, never trained either, and the shipped classes that each takes in; the others keep their names."""


def synonyms() -> dict[str, list[str]]:
    """shipped name -> the synonyms that its label was trained with."""
    entries = yaml.safe_load(resource("config/labels/indoor.yaml").read_text("utf8"))["labels"]
    return {entry["name"]: entry.get("synonyms", []) for entry in entries}


class Vocabulary:
    """W words to ask for, and how they score beside the shipped labels when those are merged in the same way."""

    def __init__(self, name: str, shipped: LabelSet, labels: LabelSet, group: np.ndarray, counted: np.ndarray):
        """`group` (C,) is the word that is right for each shipped class, `counted` (W,) bool the words to score."""
        self.name, self.shipped, self.labels, self.group, self.counted = name, shipped, labels, group, counted
        self.confusion, self.confusion_shipped = Confusion(len(labels)), Confusion(len(labels))
        self.boxes, self.shares, self.shares_shipped = [], [], []

    def add(self, semantics: np.ndarray, classes: np.ndarray) -> None:
        """semantics (..., D) of rendered views and their true classes (...)."""
        known = classes < len(self.shipped)
        truth = np.where(known, self.group[np.where(known, classes, 0)], len(self.labels))
        self.confusion.add(answer(semantics, self.labels), truth)
        self.confusion_shipped.add(self.group[answer(semantics, self.shipped)], truth)

    def add_boxes(self, semantics: np.ndarray, boxes: Sequence[ClassBox]) -> None:
        """semantics (hs, ws, D) of a view and its rectangles."""
        boxes = [box for box in boxes if self.counted[self.group[accepted_labels(box.name, self.shipped)]].any()]
        self.boxes += [box.name for box in boxes]
        for answers, shares in ((answer(semantics, self.labels), self.shares),
                                (self.group[answer(semantics, self.shipped)], self.shares_shipped)):
            shares += box_shares(answers, boxes, self.shipped, self.group)

    @property
    def iou(self) -> np.ndarray:
        """(W,)"""
        return np.where(self.counted, self.confusion.iou, np.nan)

    @property
    def iou_shipped(self) -> np.ndarray:
        """(W,) of the shipped labels, merged."""
        return np.where(self.counted, self.confusion_shipped.iou, np.nan)


class OneAtATime:
    """The shipped labels with one word exchanged for one that was never trained, for each class in turn."""

    def __init__(self, name: str, shipped: LabelSet):
        self.name, self.shipped = name, shipped
        self.labels = LabelSet.from_entries([{"name": UNSEEN[word]} for word in shipped.names])
        self.counts = np.zeros((3, len(shipped)), np.int64)        # hits, union, shown
        self.confusion_shipped = Confusion(len(shipped))
        self.boxes, self.shares, self.shares_shipped = [], [], []

    def chosen(self, semantics: np.ndarray) -> np.ndarray:
        """(..., C) bool: the pixels of semantics (..., D) that go to class c when its word alone is exchanged."""
        scores = semantics @ self.shipped.embeddings.T
        second, first = np.moveaxis(np.partition(scores, -2, axis=-1)[..., -2:], -1, 0)
        rival = np.where(scores == first[..., None], second[..., None], first[..., None])     # the best of the others
        return semantics @ self.labels.embeddings.T > rival

    def add(self, semantics: np.ndarray, classes: np.ndarray) -> None:
        """semantics (..., D) of rendered views and their true classes (...)."""
        known = classes < len(self.shipped)
        chosen, right = self.chosen(semantics[known]), classes[known][:, None] == np.arange(len(self.shipped))
        self.counts += np.stack([(chosen & right).sum(0), (chosen | right).sum(0), right.sum(0)])
        self.confusion_shipped.add(answer(semantics, self.shipped), classes)

    def add_boxes(self, semantics: np.ndarray, boxes: Sequence[ClassBox]) -> None:
        """semantics (hs, ws, D) of a view and its rectangles, each with the word of its own class exchanged."""
        for box in boxes:
            embeddings, own = self.shipped.embeddings.copy(), accepted_labels(box.name, self.shipped)[:1]
            embeddings[own] = self.labels.embeddings[own]
            self.boxes.append(box.name)
            exchanged = replace(self.shipped, embeddings=embeddings)
            self.shares += box_shares(answer(semantics, exchanged), [box], self.shipped)
            self.shares_shipped += box_shares(answer(semantics, self.shipped), [box], self.shipped)

    @property
    def iou(self) -> np.ndarray:
        """(C,) NaN for a class that the truth doesn't show."""
        hits, union, shown = self.counts
        return np.where(shown > 0, hits / np.maximum(union, 1), np.nan)

    @property
    def iou_shipped(self) -> np.ndarray:
        return self.confusion_shipped.iou


def vocabularies(shipped: LabelSet) -> list[Vocabulary | OneAtATime]:
    """What is asked; the first is the shipped label set itself."""
    trained, C = synonyms(), len(shipped)

    def of(name: str, words: Iterable[str]) -> Vocabulary:
        labels = LabelSet.from_entries([{"name": word} for word in words])
        return Vocabulary(name, shipped, labels, np.arange(C), np.ones(C, bool))

    merged = {part: word for word, parts in BROADER.items() for part in parts}
    words = list(dict.fromkeys(merged.get(name, name) for name in shipped.names))
    broader = Vocabulary("words: broader, never trained", shipped, LabelSet.from_entries([{"name": w} for w in words]),
                         np.array([words.index(merged.get(name, name)) for name in shipped.names]),
                         np.isin(words, list(BROADER)))
    return [Vocabulary("words: as shipped", shipped, shipped, np.arange(C), np.ones(C, bool)),
            of("words: names alone", shipped.names),
            of("words: one trained synonym each", ([name, *trained[name]][-1] for name in shipped.names)),
            OneAtATime("words: one never trained, the rest as shipped", shipped),
            of("words: all never trained", (UNSEEN[name] for name in shipped.names)), broader]


def score_words(predictor: NetworkPredictor, worlds: Iterable[tuple[TruthWindow, WindowPrediction]] = (),
                boxes: str | Path | None = None) -> list[Line]:
    """One line a vocabulary, of predicted windows of rendered `worlds` and of the single views of a file of rectangles
    (datasets.boxed_frames). `kept` is the share of the shipped words' score that is left."""
    asked = vocabularies(LabelSet.load())
    for truth, prediction in worlds:
        classes = at_grid(truth.labels, *prediction.semantics.shape[1:3])
        for vocabulary in asked:
            vocabulary.add(prediction.semantics, classes)
    predictor.reset()
    for boxed in boxed_frames(boxes) if boxes else ():
        semantics = predictor(Window((boxed.keyframe,))).semantics[0]
        for vocabulary in asked:
            vocabulary.add_boxes(semantics, boxed.boxes)
    return [line_of(vocabulary) for vocabulary in asked]


def line_of(vocabulary: Vocabulary | OneAtATime) -> Line:
    """A line of the scoreboard; figures of what was not scored are left out."""
    line: Line = {"set": vocabulary.name, "intrinsics": False}
    shown = np.isfinite(vocabulary.iou)
    if shown.any():
        line["miou"] = float(vocabulary.iou[shown].mean())
        line["miou_kept"] = line["miou"] / max(float(vocabulary.iou_shipped[shown].mean()), 1e-9)
    if vocabulary.boxes:
        score = box_score(vocabulary.boxes, vocabulary.shares)
        line |= {"box_score": score.score, "box_class_score": score.class_score,
                 "boxes_kept": score.score / max(float(np.mean(vocabulary.shares_shipped)), 1e-9),
                 "box_score_by_class": dict(score.by_class)}
    line["by_word"] = {word: {"iou": float(iou), "shipped": float(iou_shipped)} for word, iou, iou_shipped
                       in zip(vocabulary.labels.names, vocabulary.iou, vocabulary.iou_shipped, strict=True)
                       if np.isfinite(iou)}
    return line


def answer(semantics: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(...) the likeliest word of semantics (..., D)."""
    return (semantics @ labels.embeddings.T).argmax(-1)
