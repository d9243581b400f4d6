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


CLIP_BY_KEY = ("--set", "clip.model=m", "--set", "clip.checkpoint=c")


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *arguments])
    out, err = capsys.readouterr()
    code = end.value.code
    return (0 if code is None else int(code)), out, err


def test_images_and_answers_of_others_give_their_own_result_file(capsys, folder):
    code, out, _ = run(capsys, *RECORDED, "--format", "reference", "-o", "out.json")
    assert code == 0
    assert Path("out.json").read_bytes() == Path("result.json").read_bytes()
    table = [line.split() for line in out.splitlines()]
    assert ["TIFA", "0.8481", "±", "0.1309", "0.317", "6", "0", "larger"] in table
    assert ["counting", "0.5000"] in table
    assert not list(folder.glob("*.answers.jsonl"))  # nothing was asked


def test_a_image_short_is_counted_and_none_at_all_is_a_failure(capsys, folder):
    (folder / "images" / "shapes_5.png").unlink()
    code, out, _ = run(capsys, "images", *TIFA, "--vqa", "shapes", "-o", "seen.json")
    assert code == 0 and "1 missing" in out
    (result,) = json.loads(Path("seen.json").read_text())["results"]
    assert (result["score"]["n"], result["score"]["n_missing"]) == (5, 1)
    assert result["missing"]["prompts"] == {"shapes_5": "missing"}
    shutil.rmtree("images")
    code, out, _ = run(capsys, *RECORDED, "-o", "none.json")
    assert code == 1 and "none" in out and "6 missing" in out
    assert "- image 'shapes_0' missing: images/shapes_0.png: no such file\n" in out
    (result,) = json.loads(Path("none.json").read_text())["results"]
    assert result["score"] is None


def test_a_file_without_one_answer_is_a_failure_and_nothing_is_lost(capsys):
    Path("none.json").write_text('{"question_details": {}}')
    recorded = ("--images", "images.json", *TIFA, "--vqa", "recorded:none.json", "-o", "out.json")
    code, out, _ = run(capsys, *recorded)
    assert code == 1 and "6 no answer" in out
    assert json.loads(Path("out.json").read_text())["results"][0]["score"] is None


def test_one_caption_has_no_standard_error(capsys):
    questions = json.loads(Path("questions.json").read_text())
    Path("one.json").write_text(json.dumps([q for q in questions if q["id"] == "shapes_0"]))
    one = ("images", "--questions", "one.json", "-m", "tifa", "--vqa", "shapes")
    code, out, _ = run(capsys, *one, "--format", "reference", "-o", "out.json")
    assert code == 0 and "1.0000 ± unknown" in out
    assert json.loads(Path("out.json").read_text())["tifa_stdev"] is None


def test_prompts_drawn_from_coco_are_those_of_the_seed(capsys, tmp_path):
    pytest.importorskip("open_clip")
    from tests.conditioning.checkpoints import tiny_openclip

    config, weights = map(str, tiny_openclip(tmp_path / "clip"))
    rows = [
        (image, 10 * image + n, f"caption {n} of {image}") for image in range(9) for n in (1, 2)
    ]
    annotations = [{"image_id": i, "id": n, "caption": text} for i, n, text in rows]
    Path("coco.json").write_text(json.dumps({"annotations": annotations}))
    images = {f"coco_{n}": f"images/shapes_{n % 6}.png" for _, n, _ in rows}
    Path("all.json").write_text(json.dumps(images))
    clip = ("--images", "all.json", "-m", "clip", "--clip-model", config)
    clip += ("--clip-checkpoint", weights, "--prompts", "coco:coco.json:5", "-o", "out.json")

    def drawn(*seed: str) -> list[str]:
        code, out, _ = run(capsys, *clip, *seed)
        found = json.loads(Path("out.json").read_text())
        told = f"5 prompts drawn from coco.json with seed {seed[1] if seed else 0}"
        assert code == 0 and f"- {told}\n" in out and told in found["notes"]
        return found["results"][0]["prompts"]

    first = drawn("--seed", "7")
    assert len({int(name.removeprefix("coco_")) // 10 for name in first}) == 5  # one an image
    assert drawn("--seed", "7") == first != drawn()


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
    folder = ("images", *fid, "--reference", "images", "--save-reference", "real.npz")
    code, out, _ = run(capsys, *folder)
    assert code == 0 and "smaller" in out and "far too high" in out
    code, again, _ = run(capsys, "images", *fid, "--reference", "real.npz")
    assert code == 0 and again == out
    code, _, err = run(capsys, "images", *fid[:-1], "16", "--reference", "real.npz")
    assert code == 2 and "statistics of the extractor" in err


def test_several_metrics_with_models_of_every_kind(capsys, tmp_path):
    pytest.importorskip("transformers")
    from tests.conditioning.checkpoints import tiny_openclip
    from tests.evaluation.vqa.models import tiny_blip, tiny_sentences

    clip = [str(file) for file in tiny_openclip(tmp_path / "clip")]
    blip, sentences = tiny_blip(tmp_path / "blip"), tiny_sentences(tmp_path / "sentences")
    vqa = ("--vqa", f"blip:{blip}", "--vqa-tokens", "5")
    models = (*vqa, "--clip-model", clip[0], "--clip-checkpoint", clip[1])
    embedding = ("images", *TIFA, "-m", "clip", *models, "--mapping", f"embedding:{sentences}")
    code, out, _ = run(capsys, *embedding, "-o", "out.json", "--log", "log.jsonl")
    assert code == 0 and "TIFA" in out and "CLIP score" in out
    tifa, cosine = json.loads(Path("out.json").read_text())["results"]
    rows = [row for rows in tifa["question_details"].values() for row in rows.values()]
    assert {row["mapped"] for row in rows} <= {"exact", "embedding"}
    for row in rows:  # what reads like its choice is not measured
        assert (row["similarity"] is None) == (row["margin"] is None) == (row["mapped"] == "exact")
    assert ";torch=" in tifa["answerer"] and ";pillow=" in tifa["answerer"]
    assert len(cosine["score"]["per_prompt"]) == 6
    log = Path("log.jsonl").read_text()
    assert len(log.splitlines()) == 46  # 40 answers, 6 scores
    run(capsys, *embedding, "-o", "again.json", "--log", "log.jsonl")
    assert Path("log.jsonl").read_text() == log
    again = json.loads(Path("again.json").read_text())["results"]
    assert again == [tifa, cosine]
    likelihood = ("images", *TIFA, *vqa, "--mapping", "likelihood")
    code, _, _ = run(capsys, *likelihood, "-o", "out.json", "--log", "log.jsonl")
    (tifa,) = json.loads(Path("out.json").read_text())["results"]
    rows = [row for rows in tifa["question_details"].values() for row in rows.values()]
    assert code == 0 and {row["mapped"] for row in rows} == {"likelihood"}
    assert all(row["similarity"] <= 0 <= row["margin"] for row in rows)
    assert all(len(row["likelihoods"]) == len(row["choices"]) for row in rows)
    recorded = ("images", *TIFA, "--vqa", "recorded:out.json", "--mapping", "likelihood")
    code, _, _ = run(capsys, *recorded, "-o", "read.json")
    (read,) = json.loads(Path("read.json").read_text())["results"]
    assert code == 0 and read["question_details"] == tifa["question_details"]


def test_a_batch_changes_no_key_and_no_result(capsys, tmp_path):
    pytest.importorskip("transformers")
    from tests.conditioning.checkpoints import tiny_openclip
    from tests.evaluation.vqa.models import tiny_blip

    clip = [str(file) for file in tiny_openclip(tmp_path / "clip")]
    command = ("images", *TIFA, "-m", "clip", "--vqa", f"blip:{tiny_blip(tmp_path / 'blip')}")
    command += ("--clip-model", clip[0], "--clip-checkpoint", clip[1], "--vqa-tokens", "5")
    found, keys = [], []
    for batch in ("1", "4", "32"):
        code, _, _ = run(capsys, *command, "--batch", batch, "-o", f"{batch}.json")
        assert code == 0
        found.append(json.loads(Path(f"{batch}.json").read_text())["results"])
        lines = Path(f"{batch}.answers.jsonl").read_text().splitlines()
        keys.append([{**json.loads(line), "value": None} for line in lines])
    assert keys[0] == keys[1] == keys[2]
    (tifa, cosine), *others = found
    assert "greedy<=5;" in tifa["answerer"]
    for tifa_too, cosine_too in others:
        assert tifa_too == tifa
        assert cosine_too["score"]["signature"] == cosine["score"]["signature"]
        scores, same = (c["score"]["per_prompt"] for c in (cosine, cosine_too))
        assert scores == pytest.approx(same, abs=2e-6)  # rounded to six digits


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--metric: missing; expected one or more of clip, fid, hps, image_reward, tifa, held"),
        (("images", "-m", "text_gain"), "images: holds images, and text_gain is measured on a"),
        (("--images", "images.json", "-m", "caption_gain"), "a diffusers model with --budget"),
        (("images", "-m", "tifaa"), "did you mean 'tifa'?"),
        (("images", "-m", "tifa", "-m", "tifa"), "expected each once"),
        (("-m", "tifa"), "SOURCE: missing"),
        (("images", "--images", "images.json", "-m", "tifa"), "--images images.json"),
        (("imaged", *TIFA, "--vqa", "shapes"), "imaged: can't be read"),
        (("images.json", *TIFA, "--vqa", "shapes"), "for a map: --images MAP.json"),
        (("images", "-m", "tifa"), "--questions: missing"),
        (("images", *TIFA), "--vqa: missing"),
        (("images", *TIFA, "--vqa", "shaps"), "did you mean 'shapes'?"),
        (("images", *TIFA, "--vqa", "recorded:no.json"), "no file 'no.json'"),
        (("images", *TIFA, "--vqa", "shapes", "--mapping", "exakt"), "did you mean 'exact'?"),
        (("images", *TIFA, "--vqa", "shapes", "--mapping", "likelihood"), "which has none"),
        (("images", *TIFA, "--vqa", "shapes", "--budget", "embedded"), "--budget: got it with"),
        (("images", *TIFA, "--vqa", "shapes", "--size", "64"), "expected WxH"),
        (("images", *TIFA, "--vqa", "shapes", "--device", "gpu"), "expected cpu, cuda or"),
        (("images", *TIFA, "--vqa", "shapes", "-o", "no/out.json"), "no folder"),
        (("images", *TIFA, "--vqa", "shapes", "-o", "images"), "can't be written: a folder"),
        (("images", *TIFA, "--vqa", "shapes", "-o", "./questions.json"), "which is read too"),
        (("images", *TIFA, "--vqa", "shapes", "--seed", "1"), "--seed: got it with images"),
        (("images", *TIFA, "--vqa", "shapes", "--device", "cuda:99"), "expected one of cpu"),
        (("images", *TIFA, "--vqa", "shapes", "--vqa-choices"), "expected it with blip2"),
        (
            ("images", *TIFA, "--vqa", "shapes", "--vqa-dtype", "bf16"),
            "it with blip or",
        ),
        (("images", *TIFA, "--vqa", "shapes", "--recorded-model", "m"), "it with recorded"),
        (("images", *TIFA, "--vqa", "shapes", "--likelihood", "sum"), "it with likelihood"),
        (("images", *TIFA, "--vqa", "shapes", "--reference", "x"), "expected --metric fid"),
        (
            ("images", *TIFA, "--vqa", "shapes", "--clip-prefix", "a"),
            "--metric: got options of clip; expected --metric clip",
        ),
        (
            ("images", "-m", "clip", "--mapping", "exact", *CLIP_BY_KEY),
            "got options of tifa",
        ),
        (
            ("images", "-m", "hps", "--set", "hps.checkpointt=a.pt"),
            "--set hps.checkpointt: no such setting; expected one of checkpoint, version, model; "
            "did you mean 'checkpoint'?",
        ),
        (
            ("images", "-m", "clip", "--clip-model", "m", "--set", "clip.scale=none"),
            "--clip-checkpoint: missing, and clip needs it; expected a pretrained tag",
        ),
        (
            ("images", "--questions", "strange.json", "-m", "tifa", "--vqa", "learned"),
            "'is this a surfer?': not a question of the embedded benchmark",
        ),
        (
            ("images", "--questions", "foreign.json", "-m", "tifa", "--vqa", "blip:none"),
            "expected ids such as coco_1",
        ),
        (("images", *TIFA, "--vqa", "shapes", "--format", "reference"), "and --output"),
        (("images", "-m", "clip", "--prompts", "prompts.json"), "--clip-model: missing"),
        (("images", "-m", "clip", "--clip-model", "ViT-B-32"), "--clip-checkpoint: missing"),
        (
            ("images", "-m", "hps", "--hps-checkpoint", "a.pt", "--hps-version", "v2"),
            "--hps-version: got 'v2'",
        ),
        (
            ("images", "-m", "hps", "--hps-checkpoint", "a.pt", "--hps-version", "v2.1"),
            "no file 'a.pt'",
        ),
        (
            ("images", "-m", "image-reward", "--image-reward-checkpoint", "r.pt"),
            "no file 'r.pt'",
        ),
        (("images", "-m", "fid"), "--reference: missing"),
        (("images", "-m", "fid", "--reference", "none.npz"), "none.npz: no such file"),
        (("images", *TIFA, "--vqa", "shapes", "--prompts", "coco:x.json"), "coco:ANNOTATIONS"),
        (("images", *TIFA, "--vqa", "shapes", "--prompts", "prompt.json"), "no such file"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(
    capsys, folder, arguments, expected
):
    questions = json.loads((folder / "questions.json").read_text())
    for name, change in (
        ("strange", {"question": "is this a surfer?"}),
        ("foreign", {"id": "coco_1"}),
    ):
        (folder / f"{name}.json").write_text(json.dumps([questions[0] | change]))
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
    arguments = ("images", *TIFA, "--vqa", "shapes", "--prompts", "prompts.json")
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "as --prompts has it" in err


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_was_stopped_asks_the_rest_only(folder, sent, status):
    """Stopped while it answers; started again, each question stands in the log exactly once."""
    program = (sys.executable, "-c", SLOW)
    command = ("evaluate", "images", *TIFA, "--vqa", "shapes", "-o", "seen.json")
    log = folder / "seen.answers.jsonl"
    process = subprocess.Popen(
        (*program, "60", *command), cwd=folder, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    _, told = process.communicate()
    assert process.returncode == status
    assert ("interrupted: the same command goes on from here" in told) == (status == 130)
    some = len(log.read_bytes().splitlines())
    assert 0 < some < 40 and not (folder / "seen.json").exists()
    subprocess.run((*program, "0", *command), cwd=folder, check=True, capture_output=True)
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 40
    assert (folder / "seen.json").exists()


# The command line; before the second image it halts for the seconds of the first argument.
SLOW = """
import signal, sys, time
from nas_t2i.evaluation.vqa.shapes import PixelReader
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
answer, halts = PixelReader.answer, [0.0, float(sys.argv.pop(1))]
def slow(self, image, questions):
    time.sleep(halts.pop(0) if halts else 0.0)
    return answer(self, image, questions)
PixelReader.answer = slow
from nas_t2i.cli.main import main
main()
"""


def test_the_older_name_of_save_images_works_and_is_not_shown(capsys):
    # Of images that are there none are drawn: the request refuses either name in the same way.
    seen = ("images", *TIFA, "--vqa", "shapes")
    both = [run(capsys, *seen, name, "drawn") for name in ("--save-images", "--pictures")]
    assert both[0] == both[1] and both[0][0] == 2
    assert "--save-images: got it with images; expected it with a model to draw with" in both[0][2]
    code, _, err = run(capsys, *seen, "--pictures", "a", "--save-images", "b")
    assert code == 2 and "--pictures: got it with --save-images b; expected one of the" in err
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "--save-images" in out and "--pictures" not in out
