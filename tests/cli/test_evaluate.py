"""`nas-t2i evaluate` on the files of examples/evaluate, and all that can be wrong with it."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nas_t2i.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "evaluate"
TIFA = ("--questions", "questions.json", "-m", "tifa")
RECORDED = ("--images", "images.json", *TIFA, "--vqa", "recorded:result.json")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "example"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    return folder


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *arguments])
    out, err = capsys.readouterr()
    code = end.value.code
    return (0 if code is None else int(code)), out, err


def test_pictures_and_answers_of_others_give_their_own_result_file(capsys, folder):
    code, out, _ = run(capsys, *RECORDED, "--format", "reference", "-o", "out.json")
    assert code == 0
    assert Path("out.json").read_bytes() == Path("result.json").read_bytes()
    table = [line.split() for line in out.splitlines()]
    assert ["TIFA", "0.8481", "±", "0.1309", "0.317", "6", "0", "larger"] in table
    assert ["counting", "0.5000"] in table
    assert not list(folder.glob("*.answers.jsonl"))  # nothing was asked


def test_a_picture_short_is_counted_and_none_at_all_is_a_failure(capsys, folder):
    (folder / "pictures" / "shapes_5.png").unlink()
    code, out, _ = run(capsys, "pictures", *TIFA, "--vqa", "shapes", "-o", "seen.json")
    assert code == 0 and "1 missing" in out
    (result,) = json.loads(Path("seen.json").read_text())["results"]
    assert (result["score"]["n"], result["score"]["n_missing"]) == (5, 1)
    assert result["missing"]["prompts"] == {"shapes_5": "missing"}
    shutil.rmtree("pictures")
    code, out, _ = run(capsys, *RECORDED, "-o", "none.json")
    assert code == 1 and "none" in out and "6 missing" in out
    (result,) = json.loads(Path("none.json").read_text())["results"]
    assert result["score"] is None


def test_compare_reads_the_result_files(capsys):
    run(capsys, *RECORDED, "--recorded-model", "m", "-o", "a.json")
    run(capsys, *RECORDED, "--recorded-model", "m", "-o", "b.json")
    with pytest.raises(SystemExit) as end:
        main(["results", "compare", "a.json", "b.json"])
    assert not end.value.code
    assert "6 prompts" in capsys.readouterr().out


@pytest.mark.slow  # distances of 2048 features
def test_fid_with_weights_in_the_genuine_format(capsys, monkeypatch):
    pytest.importorskip("torch_fidelity")
    from tests.evaluation.metrics.test_inception import NAME, empty_model

    model = empty_model(monkeypatch)
    for name, value in model.state_dict().items():
        if name.endswith("conv.weight"):
            value.normal_(0.0, math.sqrt(2 / value[0].numel()))
    weights = Path(NAME)
    torch.save(model.state_dict(), weights)
    fid = ("-m", "fid", "--inception", str(weights), "--fid-side", "32")
    folder = ("pictures", *fid, "--reference", "pictures", "--save-reference", "real.npz")
    code, out, _ = run(capsys, *folder)
    assert code == 0 and "smaller" in out and "far too high" in out
    code, again, _ = run(capsys, "pictures", *fid, "--reference", "real.npz")
    assert code == 0 and again == out
    code, _, err = run(capsys, "pictures", *fid[:-1], "16", "--reference", "real.npz")
    assert code == 2 and "statistics of the extractor" in err


def test_several_metrics_with_models_of_every_kind(capsys, tmp_path):
    pytest.importorskip("transformers")
    from tests.conditioning.checkpoints import tiny_openclip
    from tests.evaluation.vqa.models import tiny_blip, tiny_sentences

    clip = [str(file) for file in tiny_openclip(tmp_path / "clip")]
    blip, sentences = tiny_blip(tmp_path / "blip"), tiny_sentences(tmp_path / "sentences")
    models = ("--vqa", f"blip:{blip}", "--clip-model", clip[0], "--clip-checkpoint", clip[1])
    embedding = ("pictures", *TIFA, "-m", "clip", *models, "--mapping", f"embedding:{sentences}")
    code, out, _ = run(capsys, *embedding, "-o", "out.json", "--log", "log.jsonl")
    assert code == 0 and "TIFA" in out and "CLIP score" in out
    tifa, cosine = json.loads(Path("out.json").read_text())["results"]
    rows = [row for rows in tifa["question_details"].values() for row in rows.values()]
    assert {row["mapped"] for row in rows} <= {"exact", "embedding"}
    assert len(cosine["score"]["per_prompt"]) == 6
    log = Path("log.jsonl").read_text()
    assert len(log.splitlines()) == 46  # 40 answers, 6 scores
    run(capsys, *embedding, "-o", "again.json", "--log", "log.jsonl")
    assert Path("log.jsonl").read_text() == log
    again = json.loads(Path("again.json").read_text())["results"]
    assert again == [tifa, cosine]
    likelihood = ("pictures", *TIFA, *models[:2], "--mapping", "likelihood")
    code, _, _ = run(capsys, *likelihood, "-o", "out.json", "--log", "log.jsonl")
    (tifa,) = json.loads(Path("out.json").read_text())["results"]
    rows = [row for rows in tifa["question_details"].values() for row in rows.values()]
    assert code == 0 and {row["mapped"] for row in rows} == {"likelihood"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--metric: missing; expected one or more of tifa, clip, fid, hps, image_reward"),
        (("pictures", "-m", "tifaa"), "did you mean 'tifa'?"),
        (("pictures", "-m", "tifa", "-m", "tifa"), "expected each once"),
        (("-m", "tifa"), "SOURCE: missing"),
        (("pictures", "--images", "images.json", "-m", "tifa"), "--images images.json"),
        (("pictured", *TIFA, "--vqa", "shapes"), "pictured: can't be read"),
        (("images.json", *TIFA, "--vqa", "shapes"), "for a map: --images MAP.json"),
        (("pictures", "-m", "tifa"), "--questions: missing"),
        (("pictures", *TIFA), "--vqa: missing"),
        (("pictures", *TIFA, "--vqa", "shaps"), "did you mean 'shapes'?"),
        (("pictures", *TIFA, "--vqa", "recorded:no.json"), "no file 'no.json'"),
        (("pictures", *TIFA, "--vqa", "shapes", "--mapping", "exakt"), "did you mean 'exact'?"),
        (("pictures", *TIFA, "--vqa", "shapes", "--mapping", "likelihood"), "which has none"),
        (("pictures", *TIFA, "--vqa", "shapes", "--budget", "embedded"), "--budget: got it with"),
        (("pictures", *TIFA, "--vqa", "shapes", "--size", "64"), "expected WxH"),
        (("pictures", *TIFA, "--vqa", "shapes", "--device", "gpu"), "expected cpu, cuda or"),
        (("pictures", *TIFA, "--vqa", "shapes", "-o", "no/out.json"), "no folder"),
        (("pictures", *TIFA, "--vqa", "shapes", "--format", "reference"), "and --output"),
        (("pictures", "-m", "clip", "--prompts", "prompts.json"), "expected --clip-model and"),
        (("pictures", "-m", "clip", "--clip-model", "ViT-B-32"), "--clip-checkpoint: missing"),
        (
            ("pictures", "-m", "hps", "--hps-checkpoint", "a.pt", "--hps-version", "v2"),
            "--hps-version: got 'v2'",
        ),
        (
            ("pictures", "-m", "hps", "--hps-checkpoint", "a.pt", "--hps-version", "v2.1"),
            "no file 'a.pt'",
        ),
        (
            ("pictures", "-m", "image-reward", "--image-reward-checkpoint", "r.pt"),
            "no file 'r.pt'",
        ),
        (("pictures", "-m", "fid"), "--reference: missing"),
        (("pictures", "-m", "fid", "--reference", "none.npz"), "none.npz: no such file"),
        (("pictures", *TIFA, "--vqa", "shapes", "--prompts", "coco:x.json"), "coco:ANNOTATIONS"),
        (("pictures", *TIFA, "--vqa", "shapes", "--prompts", "prompt.json"), "no such file"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(
    capsys, folder, arguments, expected
):
    before = sorted(folder.rglob("*"))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1 and err.startswith("nas-t2i: error: ")
    assert sorted(folder.rglob("*")) == before


def test_captions_that_contradict_each_other_are_refused(capsys):
    prompts = json.loads(Path("prompts.json").read_text())
    prompts[2]["caption"] = "something else"
    Path("prompts.json").write_text(json.dumps(prompts))
    arguments = ("pictures", *TIFA, "--vqa", "shapes", "--prompts", "prompts.json")
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "as --prompts has it" in err


def test_a_killed_run_asks_the_rest_only(folder):
    """Killed while it answers; started again, each question stands in the log exactly once."""
    command = (sys.executable, "-c", SLOW, "evaluate", "pictures", *TIFA, "--vqa", "shapes")
    command += ("-o", "seen.json")
    log = folder / "seen.answers.jsonl"
    process = subprocess.Popen(command, cwd=folder)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    some = len(log.read_bytes().splitlines())
    assert 0 < some < 40 and not (folder / "seen.json").exists()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 40
    assert (folder / "seen.json").exists()


# The command line, with half a second a picture.
SLOW = """
import time
from nas_t2i.evaluation.vqa.shapes_answerer import ShapesAnswerer
answer = ShapesAnswerer.answer
def slow(self, image, questions):
    time.sleep(0.5)
    return answer(self, image, questions)
ShapesAnswerer.answer = slow
from nas_t2i.cli.main import main
main()
"""
