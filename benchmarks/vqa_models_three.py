"""The embedded benchmark's VQA models on scenes of up to three objects: right? as human labels say?

    python -m benchmarks.vqa_models_three

The scenes are those of budgets/embedded.yaml. The human labels are of 154 images that scratch runs
under that budget's scenes, of other lengths and other pairs left out, drew for its prompts
(tests/fixtures/labelled_images/three).
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.vqa_models import SCENES, TYPES, Answering, cell, plain
from nas_t2i.data.embedded import shapes
from nas_t2i.environment import cache_dir
from nas_t2i.evaluation.embedded import pixels
from nas_t2i.evaluation.embedded.learned_data import distorted_scenes
from nas_t2i.evaluation.embedded.learned_model import LearnedSettings
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa.learned import make_learned
from nas_t2i.streams import uniform_rows
from tests.fixtures import labelled_images as labelled

MIXTURE = shapes.Mixture(two=0.25, groups=0.1, three=0.5)  # as budgets/embedded.yaml
PROMPTS = 512


def main() -> None:
    """Print all figures."""
    torch.set_num_threads(1)
    networks = {
        "learned": make_learned(cache_dir()),
        "learned3": make_learned(cache_dir(), LearnedSettings(groups=3)),
    }
    print(*(f"{name} {reader.identity}" for name, reader in networks.items()), sep="\n")
    vqa_models: dict[str, Answering] = {"shapes": pixels.answer}
    vqa_models |= {name: plain(reader) for name, reader in networks.items()}
    on_scenes(vqa_models)
    by_labels(vqa_models)


def on_scenes(vqa_models: dict[str, Answering]) -> None:
    """Print accuracy on held-out scenes, as rendered, distorted, and without any evidence."""
    scenes = shapes.sample_scenes(1, "held-out scenes", SCENES, mixture=MIXTURE)
    questions = questions_about(scenes, [str(i) for i in range(SCENES)])
    rows = np.array([int(question["id"]) for question in questions])
    types = np.array([question["element_type"] for question in questions])
    gold = np.array([question["answer"] for question in questions])
    other = shapes.render(shapes.sample_scenes(1, "other scenes", SCENES, mixture=MIXTURE))
    noise = 255 * uniform_rows(1, "noise", 0, SCENES, other[0].size)
    sets = {
        "rendered": shapes.render(scenes),
        "all distortions": distorted_scenes(1, "held-out scenes", scenes),
        "pure noise": noise.astype(np.uint8).reshape(other.shape),
        "another scene": other,
    }
    print(f"\naccuracy on {SCENES} held-out scenes ({len(questions)} questions)")
    print(f"{'':28}" + "".join(f"{kind:>10}" for kind in TYPES))
    for name, images in sets.items():
        for who, answer in vqa_models.items():
            right = np.array(answer(images, rows, questions)) == gold
            cells = "".join(f"{right[types == kind].mean():10.3f}" for kind in TYPES)
            print(f"{name:18}{who:10}{cells}")
    guesses = np.array([1 / len(question["choices"]) for question in questions])
    print(f"{'chance':28}" + "".join(f"{guesses[types == kind].mean():10.3f}" for kind in TYPES))


def by_labels(vqa_models: dict[str, Answering]) -> None:
    """Print how often each VQA model says what the human labels say."""
    origin = labelled.read_rows("three/images.jsonl")
    labels = labelled.read_labels("three/labels.jsonl")
    images = labelled.read_grid("three/images.png", len(origin))
    scenes = shapes.sample_scenes(0, "evaluation prompts", PROMPTS, mixture=MIXTURE)
    table: list[list[Question]] = [[] for _ in range(PROMPTS)]
    for question in questions_about(scenes, [str(i) for i in range(PROMPTS)]):
        table[int(question["id"])].append(question)
    asked = [
        (row["number"] - 1, row["kind"], question)
        for row in origin
        if row["number"] in labels
        for question in table[row["prompt"]]
    ]
    assert all(table[row["prompt"]][0]["caption"] == row["caption"] for row in origin)
    where, kinds = np.array([row for row, _, _ in asked]), np.array([kind for _, kind, _ in asked])
    questions = [question for _, _, question in asked]
    types = np.array([question["element_type"] for question in questions])
    gold = np.array([question["answer"] for question in questions])
    seen = np.array(
        [labelled.human_answer(labels[row + 1], question) or "" for row, _, question in asked]
    )
    said = {who: np.array(answer(images, where, questions)) for who, answer in vqa_models.items()}
    known = seen != ""
    groups = {kind: known & (types == kind) for kind in TYPES}
    groups |= {f"scenes: {kind}": known & (kinds == kind) for kind in shapes.KINDS}
    groups["all"] = known
    print(
        f"\nagreement with human labels: {len(labels)} generated images, {known.sum()} questions"
        f" ({(~known).sum()} more that the labels leave open); standard errors over images"
    )
    print(f"{'':17}{'n':>5}" + "".join(f"{who:>17}" for who in said))
    for name, group in groups.items():
        cells = "".join(cell((answers == seen)[group], where[group]) for answers in said.values())
        print(f"{name:17}{group.sum():5}{cells}")
    print("\nshare answered as the prompt wants, over the same questions; and over those left open")
    for name, group in (("known", known), ("left open", ~known)):
        shares = "".join(f"{(answers == gold)[group].mean():17.3f}" for answers in said.values())
        labels_say = f"   labels {(seen == gold)[group].mean():.3f}" if name == "known" else ""
        print(f"{name:17}{group.sum():5}{shares}{labels_say}")


if __name__ == "__main__":
    main()
