"""Free-form answers read by meaning: the choice whose sentence embedding is nearest.

As TIFA has it (Hu et al. 2023, arXiv 2303.11897): token features averaged over the text, compared
by their cosine. An answer that reads like one of the choices is taken for it without a look at the
embeddings; the reference does so for those that are the same letter for letter, here letter case
and white space do not count.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nas_t2i.conditioning.pretrained import (
    Checkpoint,
    find_checkpoint,
    load_tokenizer,
    load_weights,
    transformers_library,
)
from nas_t2i.conditioning.weights import CONFIG, fingerprint_of, lasting
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.tifa.types import Answer, Mapped, exact_match
from nas_t2i.evaluation.vqa.common.decoding import equal_batches
from nas_t2i.files import read_json

DEFAULT_MODEL = "sentence-transformers/all-mpnet-base-v2"
_WHERE = "mapping"
_WHAT = "the sentence embedding"
_POOLING = "1_Pooling/config.json"
_BATCH = 64
_ENDLESS = 10**9  # tokenizers that know no bound say one far above it


class SentenceMapping:
    """Takes an answer for the choice that means nearest the same.

    Equal similarities go to the choice that comes first.

    Raises:
        ConfigError: a file is missing or damaged, or its embeddings are no mean over tokens.
        MissingExtraError: the package transformers is not installed.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, revision: str | None = None, device: str = "cpu"
    ) -> None:
        library = transformers_library(_WHAT)
        found = find_checkpoint(model, revision, _WHERE, what=_WHAT, more_files=(_POOLING,))
        _check_pooling(found)
        self._tokenizer = load_tokenizer(found)
        self._most = min(self._tokenizer.model_max_length, _most_tokens(found))
        self._device = torch.device(device)
        # A pooling layer, where the class has one, is not used.
        loaded = load_weights(found, library.AutoModel, "fp32", unused=("pooler.",))
        self._model = loaded.to(self._device)
        self._embedded: dict[str, Tensor] = {}
        facts = {"config": lasting(read_json(found.folder / CONFIG)), "most": self._most}
        files = [*found.weights_files, *found.tokenizer_files]
        name = fingerprint_of(f"sentence-{found.kind}", facts, files)
        self.identity = f"{name};exact first;mean;cosine;transformers={library.__version__}"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        """Return the choice that an answer stands for; ``Mapped("", "none")`` of no choices."""
        same = exact_match(answer.text, choices)
        if same is not None:
            return Mapped(same, "exact")
        if not choices:
            return Mapped("", "none")
        said, *offered = self.embed([answer.text, *choices])
        similarities = [float(said @ choice) for choice in offered]
        best = max(range(len(choices)), key=similarities.__getitem__)
        others = similarities[:best] + similarities[best + 1 :]
        margin = similarities[best] - max(others) if others else None
        return Mapped(choices[best], "embedding", similarities[best], margin)

    def embed(self, texts: list[str]) -> Tensor:
        """(N, width) float32 embeddings of length 1, on the CPU; kept in memory, by text."""
        self._embed_new(sorted(set(texts) - self._embedded.keys()))
        return torch.stack([self._embedded[text] for text in texts])

    @torch.inference_mode()
    def _embed_new(self, texts: list[str]) -> None:
        tokens = [
            self._tokenizer(text, truncation=True, max_length=self._most).input_ids
            for text in texts
        ]
        # Of equal length, so that there is no padding to leave out of the mean or to round by.
        for batch in equal_batches(map(len, tokens), _BATCH):
            ids = torch.tensor([tokens[i] for i in batch], device=self._device)
            features = self._model(input_ids=ids, attention_mask=torch.ones_like(ids))
            means = features.last_hidden_state.mean(dim=1)
            embeddings = functional.normalize(means, dim=-1).cpu()
            self._embedded.update((texts[i], row) for i, row in zip(batch, embeddings, strict=True))


def _check_pooling(found: Checkpoint) -> None:
    """Raise ConfigError where the checkpoint says that another pooling than the mean is meant."""
    file = found.folder / _POOLING
    if not file.is_file():
        return
    settings = read_json(file)
    flag = "pooling_mode_"  # one flag a mode, in files of older releases
    modes = [key.removeprefix(flag) for key, on in settings.items() if key[:13] == flag and on]
    mode = settings.get("pooling_mode", "+".join(modes))
    if mode not in ("", "mean", "mean_tokens"):
        raise ConfigError(str(file), f"got the pooling {mode!r}", expected="the mean over tokens")


def _most_tokens(found: Checkpoint) -> int:
    positions = getattr(found.config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return _ENDLESS
    # Models of this kind count positions from the padding token's row on.
    offset = (
        found.config.pad_token_id + 1 if found.kind in ("mpnet", "roberta", "xlm-roberta") else 0
    )
    return positions - offset
