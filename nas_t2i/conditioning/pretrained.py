"""Frozen checkpoints in the format of transformers: config, tokenizer and weights.

Classes are named by the caller and never by the checkpoint, so that no code that comes with a model
is run. Weights are read from safetensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_t2i.conditioning.weights import (
    CONFIG,
    DTYPES,
    fetch,
    one_line,
    weights_files,
    weights_patterns,
)
from nas_t2i.errors import ConfigError, MissingExtraError
from nas_t2i.files import read_json

ENCODER, TOKENIZER = "text_encoder", "tokenizer"  # folders of a diffusers pipeline
_STEM = "model"
# Any of the first is a tokenizer; the others change what it does.
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
_TOKENIZER_SETTINGS = (
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class Checkpoint:
    """Where a model lies and what its config says."""

    folder: Path
    kind: str  # the model type, as config.json names it
    config: Any  # the library's config object
    tokenizers: tuple[str, ...]  # names of files, any of which is a tokenizer

    @property
    def tokenizer_folder(self) -> Path:
        """The model's own, or the one beside it in a pipeline. Raises ConfigError."""
        # text_encoder_2 has its tokenizer in tokenizer_2.
        beside = self.folder.parent / self.folder.name.replace(ENCODER, TOKENIZER)
        for folder in (self.folder, beside):
            if any((folder / name).is_file() for name in self.tokenizers):
                return folder
        place = f" there or in {str(beside)!r}" if beside != self.folder else ""
        raise ConfigError(
            str(self.folder),
            "no tokenizer in it",
            expected=f"one of {', '.join(self.tokenizers)}{place}",
        )

    @property
    def tokenizer_files(self) -> list[Path]:
        """The files that decide how text becomes tokens. Raises ConfigError: there are none."""
        folder, names = self.tokenizer_folder, (*self.tokenizers, *_TOKENIZER_SETTINGS)
        return [file for name in names if (file := folder / name).is_file()]

    @property
    def weights_files(self) -> list[Path]:
        """The safetensors files. Raises ConfigError where they are missing or not whole."""
        return weights_files(self.folder, _STEM)


def transformers_library(what: str) -> Any:
    """Return the package transformers. Raises MissingExtraError, naming `what` needs it."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError(what, "text") from None
    return transformers


def checkpoint_files(tokenizers: Iterable[str] = _TOKENIZERS) -> tuple[str, ...]:
    """Return the names of the files that a checkpoint may have, as patterns."""
    return (CONFIG, *weights_patterns(_STEM), *tokenizers, *_TOKENIZER_SETTINGS)


def find_checkpoint(
    model: str,
    revision: str | None,
    where: str,
    *,
    what: str,
    kinds: Iterable[str] = (),
    more_files: Iterable[str] = (),
) -> Checkpoint:
    """Return a checkpoint, its config read; files of a hub id are fetched, `more_files` too.

    `where` is the key path of the setting and `what` a name for the part, for messages; `kinds` are
    the model types that may come (all where there are none).

    Raises:
        ConfigError: there is no such model, it is of another type, or its config can't be used.
        MissingExtraError: the package transformers is not installed.
    """
    transformers_library(what)  # before anything is downloaded
    folder = fetch(model, revision, (*checkpoint_files(), *more_files), where)
    return read_checkpoint(folder, what, dict.fromkeys(kinds, "AutoConfig"))


def read_checkpoint(
    folder: Path,
    what: str,
    config_classes: Mapping[str, str],
    tokenizers: tuple[str, ...] = _TOKENIZERS,
) -> Checkpoint:
    """Return the checkpoint in a local folder, its config read.

    `config_classes` has the library's class of the config for each model type that may come; where
    it is empty, all may.

    Raises:
        ConfigError: it is of another type, or its config can't be used.
        MissingExtraError: the package transformers is not installed.
    """
    library = transformers_library(what)
    kind = read_json(folder / CONFIG).get("model_type")
    if not isinstance(kind, str) or (config_classes and kind not in config_classes):
        raise ConfigError(
            str(folder / CONFIG),
            f"got a model of type {kind!r}",
            expected=", ".join(config_classes) or "a model type that transformers has",
        )
    from huggingface_hub.errors import StrictDataclassError

    config_class = getattr(library, config_classes.get(kind, "AutoConfig"))
    with quiet(library):
        try:
            config = config_class.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, TypeError, ValueError, KeyError, StrictDataclassError) as error:
            raise ConfigError(
                str(folder / CONFIG), f"not a config of a {kind} ({one_line(error)})"
            ) from None
    return Checkpoint(folder, kind, config, tokenizers)


def load_tokenizer(checkpoint: Checkpoint, **options: Any) -> Any:
    """Return the checkpoint's tokenizer; `options` are the library's.

    Raises:
        ConfigError: there is none, or it can't be read.
        MissingExtraError: a package that it needs is not installed.
    """
    folder = checkpoint.tokenizer_folder
    what = f"the tokenizer in {str(folder)!r}"
    library = transformers_library(what)
    try:
        with quiet(library):
            return library.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **options
            )
    except ImportError:
        raise MissingExtraError(what, "text") from None
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            str(folder), f"the tokenizer can't be loaded ({one_line(error)})"
        ) from None


def load_weights(
    checkpoint: Checkpoint, model_class: Any, dtype: str | None, unused: tuple[str, ...] = ()
) -> Any:
    """Return the frozen model, of `model_class` (or an auto class), in ``fp32`` or ``bf16``.

    Without a `dtype` it has the checkpoint's own. Tensors whose names start with one of `unused`
    may be missing.

    Raises:
        ConfigError: the weights are missing, damaged, or of another model than the config's.
    """
    files = checkpoint.weights_files
    with quiet(transformers_library("a model")):
        loaded, report = model_class.from_pretrained(
            checkpoint.folder,
            config=checkpoint.config,
            dtype=DTYPES[dtype] if dtype else "auto",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            # Reported below, as one line.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(unused))
    others = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or others:
        what = f"no {missing[0]}" if missing else f"{others[0]} of another size"
        raise ConfigError(
            str(files[0]),
            f"not weights of a {type(loaded).__name__} as {CONFIG} has it: {what} "
            f"({len(missing) + len(others)} such tensors)",
        )
    return loaded.eval().requires_grad_(False)


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Without transformers' reports and progress bars: what matters in them is raised."""
    log = library.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
