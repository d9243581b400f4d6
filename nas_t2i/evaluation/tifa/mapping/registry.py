"""Ways to read free-form answers, by name."""

from __future__ import annotations

from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.types import Mapping

KINDS = ("exact", "embedding", "likelihood")


def check_mapping(name: str) -> None:
    """Raise ConfigError where `name` is no mapping; nothing is loaded."""
    kind, colon, model = name.partition(":")
    if kind not in KINDS or (colon and (kind != "embedding" or not model)):
        raise ConfigError(
            "mapping",
            f"got {name!r}",
            expected="exact, embedding, embedding:MODEL or likelihood",
            hint=did_you_mean(kind, KINDS) if kind not in KINDS else "",
        )


def make_mapping(name: str, device: str = "cpu") -> Mapping:
    """Return the mapping that `name` says.

    - ``exact``: the choice that reads the same
    - ``embedding``, ``embedding:MODEL``: the nearest sentence embedding; MODEL is a local folder or
      a hub id, by default TIFA's
    - ``likelihood``: the likeliest choice; the VQA model has to be asked for likelihoods

    Raises:
        ConfigError: no such mapping or model.
        MissingExtraError: the packages of the mapping are not installed.
    """
    check_mapping(name)
    kind, _, model = name.partition(":")
    if kind == "embedding":
        # Here, because it needs packages of its own.
        from nas_t2i.evaluation.tifa.mapping.sentence import DEFAULT_MODEL, SentenceMapping

        return SentenceMapping(model or DEFAULT_MODEL, device=device)
    if kind == "likelihood":
        from nas_t2i.evaluation.tifa.mapping.likelihood import LikelihoodMapping

        return LikelihoodMapping()
    return ExactMapping()
