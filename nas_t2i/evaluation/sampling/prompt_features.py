"""Prompts as the denoiser reads them, encoded once for all trials and kept in the cache folder.

The text encoder is not even loaded where the features are there already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from nas_t2i.files import make_folder, write_atomically
from nas_t2i.training.feeds.inputs import Inputs

_VERSION = 1  # of the layout: part of a file's name
_NAME = "text"


def encode_prompts(prompts: Sequence[str], inputs: Inputs) -> Tensor:
    """Return the features of prompts (N, tokens, width), float32 on the CPU.

    They are kept as ``prompt-text/<hash>.safetensors``, named by the text encoder's fingerprint and
    the distinct prompts. Processes that need them at the same time may each encode them: whoever
    comes last replaces a file by an equal one.

    Raises:
        StorageError: the cache folder can't be written.
    """
    distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    named_by = [_VERSION, inputs.fingerprints["text"], list(distinct)]
    key = hashlib.sha256(json.dumps(named_by).encode()).hexdigest()[:20]
    file = inputs.cache_dir / "prompt-text" / f"{key}.safetensors"
    features = _read(file, len(distinct))
    if features is None:
        features = inputs.encoder.encode(list(distinct)).cpu()
        make_folder(file.parent)
        write_atomically(file, save({_NAME: features.contiguous()}))
    return features[[distinct[prompt] for prompt in prompts]]


def _read(file: Path, rows: int) -> Tensor | None:
    """Return the features in a file, None where they have to be made (again)."""
    try:
        features: Tensor = load_file(file)[_NAME]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if len(features) == rows else None
