"""What a kind of VQA model is: how its name is written, what is checked, how it is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.tifa.types import Question, VqaModel

WHERE = "vqa"


@dataclass(frozen=True)
class Options:
    """How a model is loaded and asked; a kind reads those that it has a use for."""

    revision: str | None = None  # of a hub id
    device: str = "cpu"
    dtype: Literal["fp32", "bf16"] = "fp32"
    batch: int = 32  # questions of one forward pass; decides speed and memory, no answer
    # Log-likelihood of every choice: summed over its tokens and the end of the text, or their mean.
    likelihood: Literal["sum", "mean"] | None = None
    choices_in_prompt: bool = False  # BLIP-2 only: the prompt lists the choices
    new_tokens: int = 50  # longer answers are cut there
    recorded_model: str = ""  # whose answers are in a file that does not say it

    def __post_init__(self) -> None:
        for name in ("batch", "new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{WHERE}.{name}", f"got {getattr(self, name)}", expected="at least 1"
                )


class Vqa(ABC):
    """A kind of VQA model: what a plug-in of the kind ``vqa`` derives from.

    It is named ``NAME`` or ``NAME:ARGUMENT`` in budgets and on the command line.

    Attributes:
        TAKES: what the argument is, for messages, such as MODEL or FILE; "": there is none.
        EMBEDDED: whether it answers the questions of the embedded benchmark, and no others.
        LOOKS: whether it looks at the images.
        LIKELIHOODS: whether it can tell how likely each choice is.
        READS: the command line's options that it has a use for.
    """

    TAKES: ClassVar[str] = ""
    EMBEDDED: ClassVar[bool] = False
    LOOKS: ClassVar[bool] = True
    LIKELIHOODS: ClassVar[bool] = False
    READS: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, argument: str = "") -> None:
        self.argument = argument

    @abstractmethod
    def load(self, options: Options) -> VqaModel:
        """Load the model.

        Raises:
            ConfigError: a file is missing, damaged, or of another kind of model.
            MissingExtraError: the packages of the kind are not installed.
        """

    def check(self, where: str) -> None:  # noqa: B027  there may be nothing to check
        """Check that what the argument names is there, without loading a large model.

        `where` is the setting, for messages. By default there is nothing to check. Raises
        ConfigError.
        """

    def check_questions(self, questions: Sequence[Question]) -> None:  # noqa: B027  likewise
        """Raise ConfigError where it can't answer one of the questions; by default it may try."""

    def tells_likelihoods(self) -> bool:
        """Whether the model at hand can tell how likely each choice is."""
        return self.LIKELIHOODS
