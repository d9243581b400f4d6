"""The page as text: what it says of every kind of study, and that nothing in it is markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_t2i.errors import IncomparableError, Where
from nas_t2i.evaluation.sampling.contact_sheet import save_sheet
from nas_t2i.events import TornTail
from nas_t2i.records import TrialState
from nas_t2i.results.figures.chart import Chart, Role, Series
from nas_t2i.results.figures.ranked import ranked, read_ranked
from nas_t2i.results.report.page import report
from nas_t2i.results.report.payload import chart_json
from nas_t2i.results.report.pictures import pictures
from nas_t2i.store import Study
from tests.results.fronts.test_front import timed
from tests.results.record_factory import study, trial, write_records

MEASURED = Path(__file__).parents[3] / "results" / "measured" / "v2"


class Text(HTMLParser):
    """The text of a page, and its elements; what is in scripts and styles is none."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)


def of(*trials, torn=(), running=False, **changes) -> str:
    made = Study(Path("nowhere"), study("demo", **changes), list(trials), list(torn), running)
    return Text(report(ranked([made]))).text


def test_the_answer_names_the_best_its_uncertainty_and_what_ties() -> None:
    text = Text(report(read_ranked([MEASURED / "sdxl-embedded"]))).text
    answer = text[text.index("Answer") :]
    assert re.search(
        r"SDXL-TD4 is the best of 24 architectures with probability \d+ %: expected TIFA at the "
        r"last rung 0\.7\d\d \(95 % interval 0\.\d+ to 0\.\d+\), measured with \d seeds\.",
        answer,
    )
    assert re.search(r"Its true rank lies between 1 and \d with 95 %; the next is SDXL-TD2", answer)
    assert re.search(r"\d+ architectures? can't be told apart from it: SDXL-TD2", answer)


def test_a_front_that_was_sought_has_its_table() -> None:
    folder = MEASURED.parent / "sdxl-front-embedded"
    text = Text(report(read_ranked([folder]))).text
    front = text[text.index("The front that was sought: tifa, -gmacs") : text.index("held fixed")]
    assert "architecture TIFA GMACs P(front) P(knee) 21. unet-C128-m1.2.4-TD0.2.2 0.3" in front
    assert "P(front): probability that none of the 24 is as good in TIFA and as cheap" in front
    assert "Hypervolume: " in front and "--reference" not in front
    none = Text(report(read_ranked([MEASURED / "sdxl-embedded"]))).text
    assert "that was sought" not in none


def test_a_front_whose_latencies_are_of_two_machines_is_none_and_said(tmp_path: Path) -> None:
    made = []
    for name, hardware in (("one", "CPU A"), ("two", "CPU B")):
        record = study(name)
        search = {"trials": 1, "objectives": ["tifa", "-latency"]}
        used = record.budget.model_copy(update={"data": {"search": search}})
        timed_there = timed(0.01, hardware=hardware)
        trials = [
            trial(f"{name}-{i}", gmacs=10.0 + i, study=name).model_copy(
                update={"latency": timed_there}
            )
            for i in range(2)
        ]
        record = record.model_copy(update={"budget": used})
        made.append(Study(Path("nowhere"), record, trials, [], False))
    told = "There is no front of tifa, -latency: what was measured doesn't compare"
    both = Text(report(ranked(made))).text
    assert told in both and "that was sought" not in both
    alone = Text(report(ranked(made[:1]))).text
    assert told not in alone and "The front that was sought: tifa, -latency" in alone


def test_it_says_what_was_searched_fixed_taken_and_how_to_repeat_it() -> None:
    text = Text(report(read_ranked([MEASURED / "sdxl-exhaustive"]))).text
    for told in (
        "channels, varied one of 128, 192, 256, 320, 384",
        "transformer_depth[4], varied",
        "limits gmacs (max 150)",
        "ranked by TIFA, chance level 0.295",
        "budget-2cf4fa755ab6",
        "AMD EPYC, 2 cores",
        "nas-t2i search sdxl --budget embedded --study sdxl-exhaustive --seed 0 --trials 60 "
        "--seeds 2 --sampler qmc --no-early-stopping",
        "The same in all rows: channel_mult [1, 2, 4]",
        "Of architectures left out of the fit the model explains",
    ):
        assert told in text, told


def test_a_study_carried_on_with_more_seeds_is_repeated_with_as_many() -> None:
    text = of(*(trial("A", seed=seed) for seed in range(3)))
    assert "up to 3 seeds an architecture" in text and "--seed 0 --seeds 3" in text


def test_an_empty_study_and_one_without_a_score_are_a_page() -> None:
    assert "No trial is on record yet" in of() and "has no trial on record yet" in of()
    text = of(trial("A", {}, state=TrialState.FAILED, reason="out of memory"))
    assert "none with a score (failed), so there is nothing to rank" in text
    assert "out of memory" in text


def test_a_running_and_a_torn_study_say_so() -> None:
    running = of(trial("A", state=TrialState.RUNNING), running=True)
    assert "is being searched: this is what is on record so far" in running
    torn = of(trial("A"), torn=[TornTail(Where("t/events.jsonl", 3, 7), 12)])
    assert "(an interrupted write); all before it is shown" in torn


def test_broken_trials_stand_with_their_reasons() -> None:
    text = of(
        trial("A", {100: 0.4, 200: 0.6}),
        trial("B", {}, state=TrialState.FAILED, reason="CUDA out of memory"),
        trial("C", {100: 0.4}, state=TrialState.DIVERGED, reason="loss is nan at step 120"),
    )
    assert "A is the only architecture with a measurement" in text
    assert "2 trials that did not complete" in text
    assert "CUDA out of memory" in text and "loss is nan at step 120" in text


def test_studies_of_two_budgets_are_refused() -> None:
    made = [Study(Path("a"), study("one"), [trial("A")], [], False)]
    other = study("two", budget_id="b", budget={"name": "x", "budget_id": "b", "data": {}})
    made.append(Study(Path("b"), other, [], [], False))
    with pytest.raises(IncomparableError, match=r"embedded-1 \(study one\) and b \(study two\)"):
        ranked(made)


HOSTILE = st.text(
    st.sampled_from(list("<>&\"'/;=!-{}%()[] abs\n\t\x00\x1b\u2028\u202e\ud800")), min_size=1
)


@settings(max_examples=25, deadline=None)
@given(HOSTILE, HOSTILE)
def test_no_text_of_a_record_becomes_markup(name: str, reason: str) -> None:
    def page(shown: str, why: str) -> Text:
        failed = trial("B", {}, state=TrialState.FAILED).model_copy(update={"reason": why})
        good = trial("A", {100: 0.4, 200: 0.6}).model_copy(
            update={"name": shown, "arch": {"family": "unet", shown: shown}}
        )
        record = study("demo").model_copy(update={"note": why, "stop_rule": shown})
        made = Study(Path("nowhere"), record, [good, failed], [], False)
        return Text(report(ranked([made])))

    tame, wild = page("x", "y"), page(name, reason)
    assert [tag for tag, _ in wild.tags] == [tag for tag, _ in tame.tags]
    assert not set(wild.text) & set("\x00\x1b\u202e")


@settings(deadline=None)
@given(HOSTILE)
def test_a_chart_in_a_script_is_json_without_tags(name: str) -> None:
    chart = Chart(
        key="k", title=name, caption=name, x_title=name, y_title=name,
        series=(Series(name, Role.BEST, (1.0, float("nan")), (2.0, 3.0), hover=(name, name)),),
    )  # fmt: skip
    text = chart_json(chart)
    assert not set(text) & set("<>&")
    assert json.loads(text)["series"][0]["x"] == [1, None]


def test_the_policy_names_every_script_that_runs_and_nothing_else() -> None:
    page = report(read_ranked([MEASURED / "sdxl-embedded"]))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    allowed = set(re.findall(r"&#39;sha256-([^&]+)&#39;", policy[1]))
    run = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}
    assert hashes == allowed and len(run) == 2
    assert "default-src &#39;none&#39;" in policy[1]
    for tag, attributes in Text(page).tags:
        assert tag not in ("link", "iframe", "object", "embed", "form", "base")
        address = attributes.get("src") or attributes.get("href") or ""
        assert address.startswith(("data:image/png", "#")) or not address
        assert not [name for name in attributes if name.startswith("on")]


def test_one_page_is_the_same_twice() -> None:
    assert report(read_ranked([MEASURED / "sdxl-embedded"])) == report(
        read_ranked([MEASURED / "sdxl-embedded"])
    )


def test_images_of_the_same_prompts_are_cut_from_sheets(tmp_path: Path) -> None:
    trials = [trial(name, {200: 0.45 + i / 10}, number=i) for i, name in enumerate("ABCDE")]
    folder = write_records(tmp_path / "demo", study("demo"), trials)
    captions = [f"a <b>red</b> circle {i}" for i in range(10)]
    for i, made in enumerate(trials):
        images = np.full((10, 16, 16, 3), 40 * i, np.uint8)
        place = folder / "trials" / f"{made.arch_id}-s0"
        save_sheet(place / "pictures-000100.png", images[:, :, :, ::-1] + 7, captions)
        save_sheet(place / "pictures-000200.png", images, captions)
    found = pictures(read_ranked([folder]))
    assert found is not None
    assert [row.name for row in found.rows] == ["E", "C", "A"]
    assert [prompt.text for prompt in found.prompts] == captions
    for row, value in zip(found.rows, (160, 80, 0), strict=True):
        assert len(row.images) == 10 and row.step == 200
        content = base64.b64decode(row.images[9].uri.partition(",")[2])
        image = np.asarray(Image.open(io.BytesIO(content)))
        assert image.shape == (96, 96, 3) and (image == value).all()
    assert found.rows[0].images[3].score == trials[4].curve[-1].scores["tifa"].per_prompt[3]
    page = report(read_ranked([folder]))
    assert "a &lt;b&gt;red&lt;/b&gt; circle 3" in page and "<b>red" not in page


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", None])
def test_a_picture_that_is_none_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    folder = write_records(tmp_path / "demo", study("demo"), [trial("A")])
    file = folder / "trials" / "unet-a-s0" / "pictures-000200.png"
    if content is None:
        Image.new("RGB", (9000, 9000)).save(file)
    else:
        file.write_bytes(content)
    assert pictures(read_ranked([folder])) is None
    assert "A is the only architecture" in report(read_ranked([folder]))


def test_an_id_that_is_a_path_opens_no_file_elsewhere(tmp_path: Path) -> None:
    made = trial("A").model_copy(update={"arch_id": "../../outside/x"})
    outside = tmp_path / "outside" / "x-s0"
    outside.mkdir(parents=True)
    save_sheet(outside / "pictures-000200.png", np.zeros((8, 16, 16, 3), np.uint8), ["c"] * 8)
    folder = write_records(tmp_path / "demo", study("demo"), [])
    (folder / "trials").mkdir()
    record = Study(folder, study("demo"), [made], [], False)
    assert pictures(ranked([record])) is None


def test_no_torch_to_write_a_page() -> None:
    code = (
        "import sys; from pathlib import Path; from nas_t2i.results.report.page import report\n"
        "from nas_t2i.results.figures.ranked import read_ranked\n"
        f"report(read_ranked([Path({str(MEASURED / 'sdxl-embedded')!r})]))\n"
        "print([m for m in ('torch', 'optuna', 'diffusers', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
