"""Everything the rungs of a budget's trials share: prompts, questions, noise, the answerer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nas_t2i.data import shapes
from nas_t2i.evaluation.sampling import Denoiser, sample
from nas_t2i.evaluation.tifa import tifa_score
from nas_t2i.evaluation.vqa import shapes as shapes_vqa
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Score
from nas_t2i.training import noise
from nas_t2i.training.inputs import Inputs, mixture

Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prompts:
    """The prompts of a budget with their questions, in TIFA's layout."""

    scenes: shapes.Scenes
    captions: list[str]
    questions: list[shapes.Question]
    rows: npt.NDArray[np.int64]  # the prompt that each question is about
    chance: shapes_vqa.Chance
    signature: str  # what two scores must share to be comparable


def make_prompts(budget: Budget) -> Prompts:
    """Draw the evaluation prompts of `budget`: a function of the budget alone."""
    settings = budget.evaluation
    scenes = shapes.sample_scenes(
        settings.seed, "evaluation prompts", settings.prompts, mixture=mixture(budget)
    )
    questions = shapes.questions(scenes, [str(i) for i in range(len(scenes))])
    sampler = settings.sampler
    digest = hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()[:12]
    return Prompts(
        scenes=scenes,
        captions=shapes.captions(scenes),
        questions=questions,
        rows=np.array([int(question["id"]) for question in questions]),
        chance=shapes_vqa.chance_level(questions),
        signature=(
            f"tifa|vqa=shapes-v{shapes_vqa.VERSION}|questions={digest}"
            f"|ddim{sampler.steps}|guidance={sampler.guidance:g}|seed={settings.seed}"
        ),
    )


class Evaluator:
    """Draws the budget's prompts with a denoiser and scores the pictures."""

    def __init__(self, budget: Budget, inputs: Inputs) -> None:
        self.prompts = make_prompts(budget)
        self._budget, self._inputs = budget, inputs
        self._text: Tensor = inputs.encoder.encode(self.prompts.captions)

    def draw(self, denoiser: Denoiser) -> Pictures:
        """Return (prompts, H, W, 3) pictures; the noise of a prompt is the same for every model."""
        settings = self._budget.evaluation
        latents = sample(
            denoiser,
            self._text,
            self._inputs.null_text,
            latent_shape=self._inputs.latent_shape,
            schedule=noise.ldm_schedule(),
            prediction=self._budget.objective.prediction,
            steps=settings.sampler.steps,
            guidance=settings.sampler.guidance,
            seed=settings.seed,
            batch=settings.sampler.batch,
        )
        pictures: Pictures = self._inputs.codec.decode(latents).permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(pictures)

    def score(self, pictures: Pictures) -> Score:
        """Return the TIFA of pictures of the prompts, in order."""
        answers = shapes_vqa.answer(pictures, self.prompts.rows, self.prompts.questions)
        return tifa_score(
            self.prompts.questions,
            answers,
            chance=self.prompts.chance.tifa,
            signature=self.prompts.signature,
        )
