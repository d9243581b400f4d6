"""The embedded benchmark's two VQA models: how right, how alike, and how close to human labels?

    python benchmarks/vqa_models.py                            all figures
    python benchmarks/vqa_models.py --collect RESULTS          choose images again, from studies
    python benchmarks/vqa_models.py --labels FILE              take over what was seen in them
    python benchmarks/vqa_models.py --last-rung STUDY          take over the images that are ranked

All but the first write files of tests/fixtures/labelled_images, which the first reads. RESULTS is a
folder that holds the three studies of results/measured with all their images, STUDY the first of
them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from nas_t2i.data.embedded import shapes
from nas_t2i.environment import cache_dir
from nas_t2i.errors import Where
from nas_t2i.evaluation.embedded import pixels as shapes_vqa
from nas_t2i.evaluation.embedded.learned_data import blur, distorted_scenes, to_tensor, warp
from nas_t2i.evaluation.embedded.prompts import Prompts, make_prompts
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa.learned import LearnedReader, make_learned
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import TrialRecord
from nas_t2i.statistics import seed_spread, spearman
from nas_t2i.store import read_study, read_trials
from nas_t2i.streams import normal_rows, uniform_rows
from tests.fixtures import labelled_images as labelled

STUDIES = ("comparison-embedded", "sdxl-embedded", "extremes-embedded")
TYPES = ("object", "color", "shape", "counting", "spatial")
ON_A_SHEET = 48  # images
TIERS = (0.45, 0.70, 0.88)  # TIFA that parts weak, middling, good and strong models
PER_TIER = {"one": 5, "count": 9, "two": 13, "groups": 13}  # images of a kind of scene
SCENES = 2000  # held-out scenes

Rows = npt.NDArray[np.int64]
Answering = Callable[[labelled.Images, Rows, list[Question]], list[str]]


def main() -> None:
    """Print the figures, or make the files they come from."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--collect", type=Path, metavar="RESULTS")
    parser.add_argument("--labels", type=Path, metavar="FILE")
    parser.add_argument("--last-rung", type=Path, metavar="STUDY")
    parser.add_argument("--cache", type=Path, default=cache_dir())
    options = parser.parse_args()
    if options.collect:
        collect(options.collect)
    if options.labels:
        take_labels(options.labels)
    if options.last_rung:
        take_last_rung(options.last_rung)
    if not options.collect and not options.labels and not options.last_rung:
        report(options.cache)


# Choosing images and taking over labels.


def collect(results: Path) -> None:
    """Choose the images to look at."""
    rows, images = [], []
    for study in STUDIES:
        prompts = prompts_of(results / study)
        kinds = prompts.scenes.kind
        for trial in read_trials(results / study):
            for point in trial.curve:
                tier = sum(point.scores["tifa"].value >= bound for bound in TIERS)
                images.append(sheet_of(results / study, trial, point.step))
                rows += [
                    {
                        "study": study,
                        "trial": folder_name(trial),
                        "step": point.step,
                        "prompt": i,
                        "caption": prompts.captions[i],
                        "kind": shapes.KINDS[kinds[i]],
                        "tier": tier,
                    }
                    for i in range(ON_A_SHEET)
                ]
    chosen = choose(rows)
    labelled.write_grid(labelled.FOLDER / "images.png", np.concatenate(images)[chosen], 20)
    write_rows("images.jsonl", [{"number": n + 1, **rows[i]} for n, i in enumerate(chosen)])
    print(f"{len(chosen)} of {len(rows)} images")


def take_last_rung(study: Path) -> None:
    """Cut out the images of every trial of a study at its last rung, and keep them as data."""
    trials = read_trials(study)
    sheets = [sheet_of(study, trial, trial.curve[-1].step) for trial in trials]
    labelled.write_grid(labelled.FOLDER / "last_rung.png", np.concatenate(sheets), ON_A_SHEET)
    write_rows(
        "last_rung.jsonl",
        ({"trial": folder_name(t), "name": t.name, "control": t.control} for t in trials),
    )
    print(f"{len(trials)} trials at their last rung")


def sheet_of(study: Path, trial: TrialRecord, step: int) -> labelled.Images:
    """Return the images that a trial drew at a rung."""
    return labelled.cut_sheet(study / "trials" / folder_name(trial) / f"pictures-{step:06d}.png")


def choose(rows: list[dict[str, object]]) -> list[int]:
    """Return indices of images, as many of every tier, neighbours of different prompts."""
    lot = uniform_rows(0, "images for the eye", 0, len(rows), 1)[:, 0]
    cells: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        cells[str(row["kind"]), int(str(row["tier"]))].append(i)
    used: Counter[tuple[object, ...]] = Counter()
    chosen: list[int] = []

    def spent(i: int) -> tuple[float, ...]:
        row = rows[i]
        in_tier = used["prompt", row["prompt"], row["tier"]]
        return (used[row["trial"], row["step"]], in_tier, used["prompt", row["prompt"]], lot[i])

    for cell in sorted(cells):
        left = cells[cell]
        for _ in range(PER_TIER[cell[0]]):
            best = min(left, key=spent)
            left.remove(best)
            chosen.append(best)
            row = rows[best]
            used[row["trial"], row["step"]] += 1
            used["prompt", row["prompt"]] += 1
            used["prompt", row["prompt"], row["tier"]] += 1
    waiting = sorted(chosen, key=lambda i: uniform_rows(0, "order for the eye", i, 1, 1)[0, 0])
    order: list[int] = []
    while waiting:
        recent = {rows[i]["prompt"] for i in order[-6:]}
        other = next((i for i in waiting if rows[i]["prompt"] not in recent), waiting[0])
        waiting.remove(other)
        order.append(other)
    return order


def take_labels(file: Path) -> None:
    """Read what was seen, a line an image, and keep it as data."""
    rows = []
    for line, text in enumerate(file.read_text().splitlines(), 1):
        if text.strip():
            number, things = labelled.parse_label(text, Where(str(file), line))
            if things is not None:
                rows.append({"number": number, "things": [thing._asdict() for thing in things]})
    write_rows("labels.jsonl", rows)
    print(f"{len(rows)} labelled images")


def write_rows(name: str, rows: Iterable[dict[str, object]]) -> None:
    """Write a JSON-lines file of the labelled images."""
    (labelled.FOLDER / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def folder_name(trial: TrialRecord) -> str:
    """Return the name of a trial's folder."""
    name = f"{trial.arch_id}-s{trial.seed}"
    return f"{name}-{trial.control}" if trial.control else name


def prompts_of(study: Path) -> Prompts:
    """Return the prompts of a study's budget."""
    return make_prompts(Budget.model_validate(read_study(study).budget.data, strict=False))


# The figures.


def report(cache: Path) -> None:
    """Print everything."""
    steps: list[float] = []
    start, used = time.perf_counter(), time.process_time()
    learned = make_learned(cache, say=lambda step, steps_in_all: steps.append(step / steps_in_all))
    made = "trained" if steps else "read from the cache"
    print(
        f"learned VQA model {learned.identity}: {made} in {time.perf_counter() - start:.1f} s,"
        f" {time.process_time() - used:.1f} s of one core"
    )
    vqa_models = {"shapes": shapes_vqa.answer, "learned": plain(learned)}
    on_scenes(vqa_models)
    by_eye(vqa_models)
    ranking(vqa_models)


def plain(vqa_model: LearnedReader) -> Answering:
    """Return the VQA model as a function that gives texts."""

    def answer(images: labelled.Images, rows: Rows, questions: list[Question]) -> list[str]:
        return [said.text for said in vqa_model.answer_all(images, rows, questions)]

    return answer


def on_scenes(vqa_models: dict[str, Answering]) -> None:
    """Print accuracy on held-out scenes, as rendered, distorted, and without any evidence."""
    scenes = shapes.sample_scenes(1, "held-out scenes", SCENES)
    questions = questions_about(scenes, [str(i) for i in range(len(scenes))])
    rows = np.array([int(question["id"]) for question in questions])
    other = shapes.render(shapes.sample_scenes(1, "other scenes", SCENES))
    noise = 255 * uniform_rows(1, "noise", 0, SCENES, other[0].size)
    sets = {
        "rendered": shapes.render(scenes),
        **distorted(scenes),
        "all at once": distorted_scenes(1, "held-out scenes", scenes),
        "pure noise": noise.astype(np.uint8).reshape(other.shape),
        "another scene": other,
    }
    print(f"\naccuracy on {SCENES} held-out scenes ({len(questions)} questions)")
    header = "".join(f"{kind:>10}" for kind in TYPES)
    print(f"{'':20}{'':9}{header}{'us/answer':>11}")
    for name, images in sets.items():
        for who, answer in vqa_models.items():
            start = time.process_time()
            said = answer(images, rows, questions)
            micros = (time.process_time() - start) / len(questions) * 1e6
            right: defaultdict[str, list[bool]] = defaultdict(list)
            for question, text in zip(questions, said, strict=True):
                right[question["element_type"]].append(text == question["answer"])
            cells = "".join(f"{np.mean(right[kind]):10.3f}" for kind in TYPES)
            print(f"{name:20}{who:9}{cells}{micros:11.0f}")
    chance = ""
    for kind in TYPES:
        guesses = [1 / len(q["choices"]) for q in questions if q["element_type"] == kind]
        chance += f"{np.mean(guesses):10.3f}"
    print(f"{'chance':29}{chance}")


def distorted(scenes: shapes.Scenes) -> dict[str, labelled.Images]:
    """Return the scenes' images under one distortion at a time."""
    images = to_tensor(shapes.render(scenes))
    grain = normal_rows(1, "grain", 0, len(scenes), images[0].numel()).copy()
    small = torch.nn.functional.interpolate(images, (12, 12), mode="bilinear")
    changed = {
        "noise of 20": images + 20 * torch.from_numpy(grain).view_as(images),
        "blurred": blur(images, 1.0),
        "half a pixel aside": warp(images, torch.full((1, 2, 1, 1), 0.5)),
        "colours x 0.6": 0.6 * images,
        "lighter by 30": images + 30,
        "12 pixels and back": torch.nn.functional.interpolate(small, (16, 16), mode="bilinear"),
    }
    return {
        name: np.ascontiguousarray(
            tensor.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        )
        for name, tensor in changed.items()
    }


def by_eye(vqa_models: dict[str, Answering]) -> None:
    """Print how often each VQA model says the human labels say."""
    origin, labels = labelled.read_rows("images.jsonl"), labelled.read_labels()
    images = labelled.read_grid("images.png", len(origin))
    asked = [
        (row["number"] - 1, row["tier"], question)
        for row in origin
        if row["number"] in labels
        for question in questions_of(row["study"])[row["prompt"]]
    ]
    questions = [question for _, _, question in asked]
    where, tiers = np.array([row for row, _, _ in asked]), np.array([tier for _, tier, _ in asked])
    types = np.array([question["element_type"] for question in questions])
    gold = np.array([question["answer"] for question in questions])
    seen = np.array(
        [labelled.human_answer(labels[row + 1], question) or "" for row, _, question in asked]
    )
    said = {who: np.array(answer(images, where, questions)) for who, answer in vqa_models.items()}
    known = seen != ""
    groups = {kind: known & (types == kind) for kind in TYPES}
    for tier, name in enumerate(("weak", "middling", "good", "strong")):
        groups[f"{name} models"] = known & (tiers == tier)
    groups["all"] = known
    print(
        f"\nagreement with human labels: {len(labels)} generated images, {known.sum()} questions"
        f" ({(~known).sum()} more that the labels leave open); standard errors over images"
    )
    print(
        f"{'':17}{'n':>5}" + "".join(f"{who:>17}" for who in said)
        + f"{'learned - shapes':>19}{'only one agrees':>18}"
    )  # fmt: skip
    agreed = {who: said[who] == seen for who in said}
    first, second = agreed["shapes"].astype(int), agreed["learned"].astype(int)
    for name, group in groups.items():
        cells = "".join(cell(agreed[who][group], where[group]) for who in said)
        gain = cell((second - first)[group], where[group])
        alone = [
            int((side[group] == sign).sum())
            for side, sign in ((first - second, 1), (first - second, -1))
        ]
        print(f"{name:17}{group.sum():5}{cells}{gain:>19}{alone[0]:13} :{alone[1]:3}")
    print("\nshare answered as the prompt wants, over the same questions; and over the others")
    groups["labels leave open"] = ~known
    for name, group in groups.items():
        cells = "".join(cell((said[who] == gold)[group], where[group]) for who in said)
        truth = cell((seen == gold)[group], where[group])
        print(
            f"{name:19}{group.sum():5}{cells}" + (f"   labels{truth}" if known[group].all() else "")
        )


def cell(correct: npt.NDArray[np.generic], images: Rows) -> str:
    """Return a mean and its standard error; the answers about one image are not independent."""
    if not len(correct):
        return f"{'':>17}"
    share = float(np.mean(correct))
    names, index = np.unique(images, return_inverse=True)
    residual = np.bincount(index, weights=correct - share)
    n = len(names)
    error = math.sqrt((residual**2).sum() * n / (n - 1)) / len(correct) if n > 1 else math.nan
    return f"{share:9.3f} ±{error:6.3f}"


def questions_of(study: str) -> list[list[Question]]:
    """Return the questions of each prompt of a measured study."""
    if study not in _QUESTIONS:
        prompts = prompts_of(Path("results/measured/v1") / study)
        table: list[list[Question]] = [[] for _ in prompts.captions]
        for question in prompts.questions:
            table[int(question["id"])].append(question)
        _QUESTIONS[study] = table
    return _QUESTIONS[study]


_QUESTIONS: dict[str, list[list[Question]]] = {}


def ranking(vqa_models: dict[str, Answering]) -> None:
    """Print both VQA models' TIFA of every architecture of a study, from 48 images a trial."""
    trials = labelled.read_rows("last_rung.jsonl")
    images = labelled.read_grid("last_rung.png")
    table = questions_of(STUDIES[0])[:ON_A_SHEET]
    questions = [question for asked in table for question in asked]
    rows = np.array([i for i, asked in enumerate(table) for _ in asked])
    recorded = {
        folder_name(trial): trial.curve[-1].scores["tifa"].value
        for trial in read_trials(Path("results/measured/v1") / STUDIES[0])
    }
    scores: defaultdict[str, list[float]] = defaultdict(list)
    same = []
    for i, trial in enumerate(trials):
        own = images[i * ON_A_SHEET : (i + 1) * ON_A_SHEET]
        answers = {who: answer(own, rows, questions) for who, answer in vqa_models.items()}
        for who, said in answers.items():
            right = np.array([a == q["answer"] for a, q in zip(said, questions, strict=True)])
            means = [right[rows == prompt].mean() for prompt in range(ON_A_SHEET)]
            scores[who].append(float(np.mean(means)))
        scores["recorded"].append(recorded[trial["trial"]])
        same.append(float(np.mean(np.array(answers["shapes"]) == np.array(answers["learned"]))))
    print(
        f"\nTIFA at the last rung of {STUDIES[0]}, {ON_A_SHEET} images a trial;"
        " recorded: learned over all prompts"
    )
    names = [trial["name"] for trial in trials]
    tables = {who: by_name(names, values) for who, values in scores.items()}
    alike = by_name(names, same)
    print(f"{'':34}" + "".join(f"{who:>10}" for who in tables) + f"{'same answer':>14}")
    for name in sorted(alike, key=lambda name: -np.mean(tables["recorded"][name])):
        cells = "".join(f"{np.mean(table[name]):10.3f}" for table in tables.values())
        print(f"{name:34}{cells}{np.mean(alike[name]):14.3f}")
    archs = list(dict.fromkeys(trial["name"] for trial in trials if not trial["control"]))
    seeds = {who: np.array([table[name] for name in archs]) for who, table in tables.items()}
    for who in vqa_models:
        spread = seed_spread(seeds[who])
        print(
            f"{who}: standard deviation between architectures {spread.between_net:.3f},"
            f" between seeds {spread.within:.3f}, ratio {spread.ratio():.1f}"
        )
    for a, b in (("shapes", "learned"), ("shapes", "recorded"), ("learned", "recorded")):
        means = spearman(seeds[a].mean(axis=1), seeds[b].mean(axis=1))
        print(
            f"Spearman {a} - {b}: {means:.3f} over {len(archs)} architectures,"
            f" {spearman(seeds[a].ravel(), seeds[b].ravel()):.3f} over {seeds[a].size} trials"
        )


def by_name(names: list[str], values: list[float]) -> dict[str, list[float]]:
    """Return the values of each name."""
    out: defaultdict[str, list[float]] = defaultdict(list)
    for name, value in zip(names, values, strict=True):
        out[name].append(value)
    return dict(out)


if __name__ == "__main__":
    main()
