"""Signatures of scores, which say what may be compared with what, and the keys of new records.

The tests are few and long: each may run in a process of its own, and a search takes seconds.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conditioning.checkpoints import tiny_openclip
from tests.golden.frozen import REWRITE, differences, key_paths, nas_t2i, read, write

HERE = Path(__file__).parent
SIGNATURES, KEYS = HERE / "signatures.json", HERE / "record_keys.json"
EVALUATE = HERE / "evaluate"
QUESTIONS = ("--questions", EVALUATE / "questions.json", "-m", "tifa")


def normal(signature: str, *folders: Path) -> str:
    """Without what differs between machines: versions, random weights, folders of the test."""
    for folder in folders:
        signature = signature.replace(str(folder), "FOLDER")
    signature = re.sub(r"\bweights=[0-9a-f]+", "weights=*", signature)
    packages = r"\b(torch|torchvision|open_clip_torch|transformers|pillow|numpy)=[^;|,]+"
    return re.sub(packages, r"\1=*", signature)


def said(score: dict, folder: Path, *, values: bool = False) -> dict[str, Any]:
    """Of a score, what no training decides; its values too where the images are the same."""
    kept = {key: score[key] for key in ("metric", "n", "n_missing", "chance")}
    kept["signature"] = normal(score["signature"], folder)
    kept["types"] = sorted(score["by_type"])
    if values:
        kept |= {key: score[key] for key in ("value", "stderr", "by_type", "per_prompt")}
    return kept


def check(file: Path, part: str, now: Any) -> None:
    """Hold `now` against one part of a frozen file."""
    if REWRITE:
        write(file, {**read(file), part: now})
    frozen = read(file)[part]
    if isinstance(frozen, list):  # of keys
        assert not sorted(set(frozen) - set(now)), f"{part}: keys removed or renamed"
    else:
        assert not differences(frozen, now, part)


def evaluated(file: Path) -> dict:
    return json.loads(file.read_text())


def clip_options(folder: Path) -> tuple:
    config, weights = tiny_openclip(folder)
    return ("-m", "clip", "--clip-model", config, "--clip-checkpoint", weights)


def test_a_search_and_a_drawing_from_its_trial(tmp_path):
    clip = clip_options(tmp_path / "clip")
    budget = tmp_path / "tiny.yaml"
    text = (HERE / "tiny_budget.yaml").read_text()
    budget.write_text(text.replace("CLIP_FOLDER", str(tmp_path / "clip")))
    where = ("--results-dir", tmp_path / "results", "--study", "tiny", "--trials", 1, "--seeds", 1)
    search = ("search", HERE / "tiny_space.yaml", "--budget", budget, *where)
    nas_t2i(*search, cache=tmp_path / "cache")
    study = tmp_path / "results" / "tiny"
    (trial,) = (study / "trials").iterdir()
    lines = (trial / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]

    rungs = [event["point"] for event in events if event["event"] == "rung"]
    scores = {
        f"{rung['step']}/{name}": said(score, tmp_path)
        for rung in rungs
        for name, score in rung["scores"].items()
    }
    check(SIGNATURES, "search", scores)

    check(KEYS, "study.json", sorted(key_paths(json.loads((study / "study.json").read_text()))))
    check(KEYS, "config.json", sorted(key_paths(json.loads((trial / "config.json").read_text()))))
    kinds = sorted({event["event"] for event in events})
    check(KEYS, "event kinds", kinds)
    for kind in kinds:
        keys = set().union(*(key_paths(event) for event in events if event["event"] == kind))
        check(KEYS, f"events.jsonl: {kind}", sorted(keys))
    check(KEYS, "leaderboard.json", sorted(key_paths(evaluated(study / "leaderboard.json"))))

    drawn = tmp_path / "drawn.json"
    nas_t2i("evaluate", trial, "-m", "tifa", *clip, "-o", drawn, cache=tmp_path / "cache")
    results = evaluated(drawn)["results"]
    assert all("|drawn=" in result["score"]["signature"] for result in results)
    now = {result["metric"]: said(result["score"], tmp_path) for result in results}
    check(SIGNATURES, "drawn from a trial", now)
    check(KEYS, "evaluate: drawn from a trial", sorted(result_keys(evaluated(drawn))))


def result_keys(data: dict) -> set[str]:
    data["config"] = {}  # the options of the command line as they were given
    for result in data["results"]:
        if details := result.pop("question_details", None):  # keyed by prompt, then by question
            result["answers"] = [row for rows in details.values() for row in rows.values()]
    return key_paths(data)


@pytest.mark.parametrize("vqa_model", ["recorded", "learned", "shapes"])
def test_images_made_elsewhere(vqa_model, tmp_path):
    """Whoever answers; the learned model's weights are shipped, so its answers are frozen."""
    images, vqa, more = (EVALUATE / "images",), vqa_model, ()
    if vqa_model == "recorded":
        images, vqa = ("--images", EVALUATE / "images.json"), f"recorded:{EVALUATE}/answers.json"
    if vqa_model == "shapes":
        more = clip_options(tmp_path / "clip")
    file = tmp_path / "out.json"
    asked = (*images, *QUESTIONS, "--vqa", vqa, *more, "-o", file)
    nas_t2i("evaluate", *asked, cache=tmp_path / "cache")
    results = evaluated(file)["results"]
    now = {
        result["metric"]: said(result["score"], tmp_path, values=result["metric"] == "tifa")
        for result in results
    }
    assert set(now) == ({"tifa", "clip"} if more else {"tifa"})
    check(SIGNATURES, f"evaluate: {vqa_model}", now)
    check(KEYS, f"evaluate: {vqa_model}", sorted(result_keys(evaluated(file))))
