import json
from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget, load_budget

SHIPPED = Path(__file__).parents[2] / "budgets/embedded_v1.yaml"


def changed(tmp_path, old: str, new: str) -> Path:
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "b.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_the_id_is_of_what_decides_a_score_and_of_nothing_else(tmp_path):
    budget = load_budget(SHIPPED)
    for old, new in (
        ("name: embedded", "name: other"),
        ("sampler: tpe", "sampler: random"),
        ("prompts:", "# a comment\n  prompts:"),
    ):
        assert load_budget(changed(tmp_path, old, new)).budget_id == budget.budget_id
    for old, new in (
        ("caption_drop: 0.1", "caption_drop: 0.2"),
        ("channel_divisor: 16", "channel_divisor: 32"),
        ("guidance: 2.0", "guidance: 3.0"),
        ("threads: 1", "threads: 2"),
    ):
        assert load_budget(changed(tmp_path, old, new)).budget_id != budget.budget_id


def test_a_budget_survives_the_round_trip_through_json():
    budget = load_budget(SHIPPED)
    again = Budget.model_validate(budget.model_dump(mode="json"), strict=False)
    assert again == budget and again.budget_id == budget.budget_id


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "sampler: tpe",
            "sampler: tpee",
            r"search\.sampler: got \"tpee\"; expected .*; did you mean 'tpe'",
        ),
        (
            "  prompts:",
            "  promts:",
            r"evaluation\.promts: unknown key 'promts'; .*did you mean 'prompts'",
        ),
        ("name: embedded_v1", "name: ../up", r":\d+:1: name: got \"\.\./up\""),
        ("caption_drop: 0.1", "caption_drop: yes", r"caption_drop: got \"yes\"; expected a number"),
        ("source: shapes", "source: laion", r"data\.source: got \"laion\"; expected 'shapes'"),
        ("zero_stage: 0", "zero_stage: 4", r"training\.zero_stage: got 4; expected 0, 1, 2 or 3"),
        ("  source: shapes\n", "", r"data.source: the key 'source' is missing"),
        (
            "micro_batch: 32",
            "trials_per_device: 2",
            r"execution: got trials_per_device 2; expected 1, or trials of one rank on CUDA",
        ),
        (
            "micro_batch: 32",
            "micro_batch: 5",
            r"execution: got micro_batch 5; expected a divisor of 32",
        ),
        (
            "micro_batch: 32",
            "ranks: 3",
            r"training: got a batch of 32 for 3 ranks; expected a mult",
        ),
        (
            "micro_batch: 32",
            "compile: reduce_overhead",
            r"compile: got \"reduce_overhead\"; expected .*; did you mean 'reduce-overhead'",
        ),
        (
            "micro_batch: 32",
            "offload: {optimiser: {}}",
            r"offload of \['optimiser'\]; expected 'opt",
        ),
        (
            "metric: tifa\n  vqa: learned",
            "metric: heldout_r2\n  pictures: 0",
            r"evaluation: got the metric 'heldout_r2', which needs held-out pairs",
        ),
    ],
)
def test_bad_values_are_told_with_line_column_and_key(tmp_path, old, new, expected):
    with pytest.raises(ConfigError, match=rf"b\.yaml:\d+:\d+: .*{expected}|{expected}") as error:
        load_budget(changed(tmp_path, old, new))
    assert "\n" not in str(error.value)


def test_rungs_end_at_the_last_step(tmp_path):
    text = SHIPPED.read_text()
    rungs = next(line for line in text.splitlines() if line.startswith("rungs:"))
    with pytest.raises(
        ConfigError, match=r"b\.yaml:\d+:1: rungs: got \[5, 3\]; expected ascending"
    ):
        load_budget(changed(tmp_path, rungs, "rungs: [5, 3]"))


def test_every_rung_but_the_last_has_its_share(tmp_path):
    text = SHIPPED.read_text()
    keep = next(line.partition("#")[0].strip() for line in text.splitlines() if "keep:" in line)
    with pytest.raises(ConfigError, match=r"got 1 shares; expected 2, one for each rung"):
        load_budget(changed(tmp_path, keep, "keep: [0.5]"))
    with pytest.raises(ConfigError, match=r"keep\[1\]: got 1.5; expected at most 1"):
        load_budget(changed(tmp_path, keep, "keep: [0.5, 1.5]"))


def test_the_id_of_an_older_budget_stays():
    # As a study recorded it before there was an execution block.
    file = Path(__file__).with_name("budget-536981040a44.json")
    budget = Budget.model_validate(json.loads(file.read_text()), strict=False)
    assert budget.budget_id == file.stem


def test_execution_is_not_in_the_id(tmp_path):
    other = changed(tmp_path, "micro_batch: 32", "{ranks: 2, compile: true, workers: 0}")
    text = other.read_text().replace("execution:\n  {", "execution: {")
    other.write_text(text)
    assert load_budget(other).budget_id == load_budget(SHIPPED).budget_id


@pytest.mark.parametrize("file", sorted(SHIPPED.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_budget_is_named_like_its_file_and_loads(file):
    assert load_budget(file).name == file.stem


def paper(tmp_path, old="", new=""):
    text = (SHIPPED.parent / "paper_256.yaml").read_text()
    assert old in text
    path = tmp_path / "b.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_regional_compilation_is_for_zero_stages_that_keep_weights_whole(tmp_path):
    path = paper(tmp_path, "compile: true", "compile: regional")
    load_budget(path)
    path.write_text(path.read_text().replace("zero_stage: 1", "zero_stage: 3"))
    with pytest.raises(ConfigError, match=r"got compile 'regional' with ZeRO stage 3; expected tr"):
        load_budget(path)


def test_the_paper_s_ablations_are_other_budgets_and_a_cache_elsewhere_is_not(tmp_path):
    ids = {load_budget(SHIPPED.parent / f"paper_{name}.yaml").budget_id for name in (
        "256", "512", "256_bs4096",
    )}  # fmt: skip
    assert len(ids) == 3
    base = load_budget(paper(tmp_path)).budget_id
    assert load_budget(paper(tmp_path, "$DATA/cache-256", "/elsewhere")).budget_id == base
    # Swapping the VAE is one line, and another budget.
    other = paper(tmp_path, "stabilityai/sdxl-vae ", "stabilityai/sd-vae-ft-mse ")
    assert load_budget(other).budget_id != base


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "probability: 0.5, first: 5",
            "probability: 0.4, first: 5",
            r"data\.captions: got probabilities that add up to 0\.9; expected 1",
        ),
        ("source: shards", "source: shard", r"sources\[0\].*got \"shard\".*did you mean 'shards'"),
        (
            "encoder: openclip\n  model: ViT-H-14\n  checkpoint: laion2b_s32b_b79k\n"
            "  layer: last                # not stated\n"
            "  padding: zero              # not stated; 'keep' stores all 77 tokens, 154 KiB a "
            "caption in half precision\n  precision: fp32",
            "encoder: shapes\n  width: 64\n  steps: 250\n  seed: 0",
            "text: got the encoder 'shapes', which reads the embedded captions only",
        ),
        (
            "aesthetic >= 5",
            "aesthetic => 5",
            r"b\.yaml:\d+:\d+: data\.filters\[1\]\.keep: in 'aesthetic => 5' at column 11: invalid",
        ),
        (
            "compile: true",
            "compile: true\n  runner: rayy",
            r"runner: got 'rayy'; expected local, ray or ray:HOST:PORT; did you mean 'ray'",
        ),
        (
            "compile: true",
            "compile: reduce-overhead",
            r"execution: got compile 'reduce-overhead' with ZeRO stage 1; expected training\.zero",
        ),
        (
            "compile: true",
            "compile: reginal",
            r"compile: got \"reginal\"; expected .*; did you mean 'regional'",
        ),
        (
            "compile: true",
            "cuda_graphs: true",
            r"execution: got cuda_graphs with ZeRO stage 1 on the device cuda; expected training",
        ),
        (
            "compile: true",
            "compile: true\n  cuda_graphs: true",
            "execution: got cuda_graphs with compile; expected one of them",
        ),
        ("posterior: sample", "posterior: mode", "posterior: got \"mode\"; expected 'sample' or"),
    ],
)
def test_bad_values_of_the_real_recipe_are_told(old, new, expected, tmp_path):
    with pytest.raises(ConfigError, match=expected) as error:
        load_budget(paper(tmp_path, old, new))
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path))
