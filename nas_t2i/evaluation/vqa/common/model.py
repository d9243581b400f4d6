"""What the VQA models in the format of transformers have in common.

An image goes through its encoder once for all its questions. Questions are batched by their number
of tokens, so that nothing is ever padded: padding changes the answers of some of these models, and
a score must not depend on the batch. Decoding is greedy.

Images are resized by Pillow on 8-bit values, as the models' first releases did and the TIFA
reference with them; torchvision's resizing, which newer releases take where it is installed, gives
other pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from nas_t2i.conditioning.pretrained import (
    find_checkpoint,
    load_tokenizer,
    load_weights,
    quiet,
    transformers_library,
)
from nas_t2i.conditioning.weights import (
    CONFIG,
    DTYPES,
    fingerprint_of,
    lasting,
    local_folder,
    one_line,
)
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.tifa.types import Answer, Question
from nas_t2i.evaluation.vqa.common.base import Options, Vqa
from nas_t2i.evaluation.vqa.common.decoding import (
    Continued,
    equal_batches,
    greedy,
    log_likelihood,
)
from nas_t2i.files import read_json

_WHERE = "vqa"
_PACKAGES = ("transformers", "torch", "pillow")  # whose versions answers may depend on
# Old releases write the first, new ones the second, with the image processor under a key of it.
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
_IMAGE_FACTS = (
    "do_resize",
    "size",
    "size_divisor",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "do_pad",
)


class PretrainedVqa(Vqa):
    """A kind of model in the format of transformers: a local folder or a hub id."""

    TAKES: ClassVar[str] = "MODEL"
    LIKELIHOODS: ClassVar[bool] = True
    READS: ClassVar[frozenset[str]] = frozenset({"--vqa-revision", "--vqa-dtype", "--likelihood"})
    MODEL: ClassVar[type[PretrainedVqaModel]]

    def load(self, options: Options) -> PretrainedVqaModel:
        """Load the model; see `Vqa.load`."""
        return self.MODEL(self.argument, options)

    def check(self, where: str) -> None:
        """Check that a local folder is there; a hub id is looked up when it is loaded."""
        local_folder(self.argument, None, where)


class PretrainedVqaModel(ABC):
    """A frozen model that answers questions about an image.

    Raises:
        ConfigError: a file is missing, damaged, or of another kind of model.
        MissingExtraError: the package transformers is not installed.
    """

    name: str  # in identities and messages
    model_type: str  # in config.json
    model_class: str  # of transformers
    image_class: str  # of transformers, without its ending

    def __init__(self, model: str, options: Options) -> None:
        what = f"the VQA model {self.name!r}"
        library = transformers_library(what)
        self._options = options
        self._checkpoint = find_checkpoint(
            model,
            options.revision,
            _WHERE,
            what=what,
            kinds=(self.model_type,),
            more_files=_IMAGE_FILES,
        )
        self._config = self._checkpoint.config
        self._check()
        self._tokenizer = load_tokenizer(self._checkpoint)
        self._image_processor = self._load_image_processor(library)
        self._device = torch.device(options.device)
        loaded = load_weights(self._checkpoint, getattr(library, self.model_class), options.dtype)
        self._model = loaded.to(self._device)
        self.identity = self._identify()

    @torch.inference_mode()
    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer]:
        """Answer all questions about one image, in order.

        Raises:
            ConfigError: a question has more tokens than the model has positions.
        """
        if not questions:
            return []
        seen = self._look(image)
        prompts = [self._tokenize(question) for question in questions]
        answers: dict[int, Answer] = {}
        for batch in equal_batches(map(len, prompts), self._options.batch):
            tokens = torch.tensor([prompts[i] for i in batch], device=self._device)
            found = self._answer_batch(seen, tokens, [questions[i] for i in batch])
            answers.update(zip(batch, found, strict=True))
        return [answers[i] for i in range(len(questions))]

    # What the models differ in.

    @abstractmethod
    def _check(self) -> None:
        """Raise ConfigError where the config or the options ask for what this model can't do."""

    @abstractmethod
    def _read_image(self, image: Mapping[str, Tensor]) -> Any:
        """Encode one preprocessed image, (1, 3, H, W) ``pixel_values``, for all questions."""

    @abstractmethod
    def _tokenize(self, question: Question) -> list[int]:
        """Return the tokens of what the model is asked."""

    @abstractmethod
    def _answer_batch(self, seen: Any, tokens: Tensor, questions: list[Question]) -> list[Answer]:
        """Answer questions of (n, L) tokens about the image that `_read_image` returned."""

    @abstractmethod
    def _manner(self) -> list[str]:
        """Return how the model is asked, for its identity."""

    # What they have in common.

    def _look(self, image: Image.Image) -> Any:
        pixels = self._image_processor(images=image.convert("RGB"), return_tensors="pt")
        dtype = DTYPES[self._options.dtype]
        return self._read_image(
            {
                name: value.to(self._device, dtype if value.is_floating_point() else None)
                for name, value in pixels.items()
            }
        )

    def _within(self, tokens: list[int], question: Question, most: int) -> list[int]:
        """Return the tokens. Raises ConfigError where they are more than `most`."""
        if len(tokens) > most:
            raise ConfigError(
                f"question {question['question']!r:.60} of {question['id']!r}",
                f"{len(tokens)} tokens for {self.name}",
                expected=f"at most {most}",
            )
        return tokens

    def _load_image_processor(self, library: Any) -> Any:
        file, settings = _image_settings(self._checkpoint.folder)
        kind = settings.get("image_processor_type", settings.get("feature_extractor_type"))
        if kind is not None and _stem_of(str(kind)) != self.image_class:
            raise ConfigError(str(file), f"got {kind!r}", expected=self.image_class)
        try:
            with quiet(library):
                processor = getattr(library, f"{self.image_class}Pil").from_dict(settings)
                shape = processor(images=Image.new("RGB", (64, 48)))["pixel_values"][0].shape
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                str(file), f"images can't be prepared as it says ({one_line(error)})"
            ) from None
        self._check_size(file, (shape[-2], shape[-1]))
        return processor

    def _check_size(self, file: Path, size: tuple[int, int]) -> None:
        """Raise ConfigError where images are not prepared at the size of the vision model."""
        side = self._config.vision_config.image_size
        if size != (side, side):
            raise ConfigError(
                str(file),
                f"images become {size[0]} x {size[1]} pixels",
                expected=f"{side} x {side}, as {CONFIG} has it",
            )

    def _identify(self) -> str:
        settings = self._image_processor.to_dict()
        image = {key: settings[key] for key in _IMAGE_FACTS if settings.get(key) is not None}
        facts = {
            "config": lasting(read_json(self._checkpoint.folder / CONFIG)),
            "image": {key: _plain(value) for key, value in image.items()},
        }
        files = [*self._checkpoint.weights_files, *self._checkpoint.tokenizer_files]
        parts = [
            fingerprint_of(self.name, facts, files),
            f"image={_describe(image)}",
            self._options.dtype,
            *self._manner(),
            *(f"{package}={version(package)}" for package in _PACKAGES),
        ]
        return ";".join(parts)


class GenerativeVqaModel(PretrainedVqaModel):
    """A model that writes its answer, token by token."""

    _ends: list[int]  # tokens that end an answer; the first is the one a choice is scored with

    def _answer_batch(self, seen: Any, tokens: Tensor, questions: list[Question]) -> list[Answer]:
        asked = self._ask(seen, tokens)
        rows = torch.arange(len(tokens), device=self._device)
        start = self._continue(asked, rows, tokens.new_empty((len(tokens), 0)))
        written = greedy(start, self._ends, self._options.new_tokens)
        texts = [self._tokenizer.decode(row, skip_special_tokens=True).strip() for row in written]
        if self._options.likelihood is None:
            return [Answer(text) for text in texts]
        likelihoods = self._likelihoods(asked, questions)
        return [Answer(*pair) for pair in zip(texts, likelihoods, strict=True)]

    def _likelihoods(self, asked: Any, questions: list[Question]) -> list[tuple[float, ...]]:
        """Return the log-likelihood of each choice of each question."""
        pairs = [
            (row, [*self._choice_tokens(choice), self._ends[0]])
            for row, question in enumerate(questions)
            for choice in question["choices"]
        ]
        values: dict[int, float] = {}
        for batch in equal_batches((len(tokens) for _, tokens in pairs), self._options.batch):
            rows = torch.tensor([pairs[i][0] for i in batch], device=self._device)
            tokens = torch.tensor([pairs[i][1] for i in batch], device=self._device)
            logits = self._continue(asked, rows, tokens[:, :-1]).logits
            found = log_likelihood(logits, tokens)
            if self._options.likelihood == "mean":
                found = found / tokens.shape[1]
            values.update(zip(batch, found.tolist(), strict=True))
        in_order = (values[i] for i in range(len(pairs)))
        return [tuple(islice(in_order, len(question["choices"]))) for question in questions]

    @abstractmethod
    def _ask(self, seen: Any, tokens: Tensor) -> Any:
        """Read (n, L) prompts about one image; what it returns can be continued many times."""

    @abstractmethod
    def _continue(self, asked: Any, rows: Tensor, tokens: Tensor) -> Continued:
        """Go on from the prompts of `rows` (m,) with (m, k) tokens; k may be 0."""

    @abstractmethod
    def _choice_tokens(self, choice: str) -> list[int]:
        """Return the tokens of an answer that reads like `choice`, without an end."""

    def _tokens_named(self, config: Any, key: str) -> list[int]:
        """Return a config's start or end of an answer. Raises ConfigError where it has none."""
        tokens = getattr(config, key, None)
        if tokens is None:
            raise ConfigError(
                str(self._checkpoint.folder / CONFIG), f"no {key}", expected="a token's number"
            )
        return list(tokens) if isinstance(tokens, list | tuple) else [int(tokens)]

    def _manner(self) -> list[str]:
        manner = [f"prompt={self._prompt_form()}", f"greedy<={self._options.new_tokens}"]
        if self._options.likelihood is not None:
            manner.append(f"likelihood={self._options.likelihood}")
        return manner

    def _prompt_form(self) -> str:
        return "{question}"


def reject_choices_in_prompt(options: Options, name: str) -> None:
    """Raise ConfigError where a model that takes no choices is to be shown them."""
    if options.choices_in_prompt:
        raise ConfigError(
            f"{_WHERE}.choices_in_prompt", f"got it for {name!r}", expected="it with 'blip2' only"
        )


def _image_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    for name in _IMAGE_FILES:
        file = folder / name
        if file.is_file():
            settings = read_json(file)
            nested = settings.get("image_processor")
            if isinstance(nested, dict):
                return file, nested
            if name == _IMAGE_FILES[0]:
                return file, settings
    raise ConfigError(
        str(folder), "does not say how images are prepared", expected=" or ".join(_IMAGE_FILES)
    )


def _stem_of(kind: str) -> str:
    """Return an image processor's name without what tells its releases and back ends apart."""
    kind = kind.replace("FeatureExtractor", "ImageProcessor")
    return kind.removesuffix("Fast").removesuffix("Pil")


def _plain(value: Any) -> Any:
    """Return a setting as plain JSON data."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _describe(image: Mapping[str, Any]) -> str:
    """Return the settings that matter most, to be read."""
    size = image.get("crop_size") if image.get("do_center_crop") else image.get("size")
    sides = "x".join(str(side) for side in _plain(size).values()) if size else "?"
    parts = [sides, Image.Resampling(image.get("resample", 3)).name.lower()]
    for key in ("mean", "std"):
        parts.append(f"{key} " + "/".join(f"{value:.4g}" for value in image[f"image_{key}"]))
    return ",".join(parts)
