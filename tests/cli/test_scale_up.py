"""From the committed study to the files of a full-scale run, which the program itself reads."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from nas_t2i.arch.profile import profile
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.space import load_space
from nas_t2i.arch.spec import Arch
from nas_t2i.cli.export import _full_scale
from nas_t2i.cli.main import main
from nas_t2i.protocol.budget import load_budget
from nas_t2i.records import BudgetUsed
from nas_t2i.store import read_trials
from tests.results.record_factory import study, trial, write_records

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "results/measured"
SMALL = (
    "family=unet,channels=32,channel_mult=[1, 2],transformer_depth=[0, 1],res_blocks=1,"
    "head_dim=8,norm_groups=8,text_dim=1024,latent_channels=4"
)
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
}


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def scale_up(capsys, folder, *options):
    study = ("sdxl-embedded", "--results-dir", str(MEASURED))
    return run(capsys, "scale-up", *study, "-o", str(folder), *options)


def test_the_winner_is_written_as_the_program_reads_it(capsys, tmp_path):
    code, out, err = scale_up(capsys, tmp_path / "full", "--tflops", "150")
    assert (code, err) == (0, "")
    paper = load_budget(ROOT / "budgets/paper_256.yaml")
    budget = load_budget(tmp_path / "full/budget.yaml")
    kept = {"exclude": {"name", "search"}}
    assert budget.model_dump(**kept) == paper.model_dump(**kept)
    assert (budget.search.trials, budget.search.early_stopping) == (1, None)
    ((name, arch),) = load_space(tmp_path / "full/space.yaml").included
    winner = next(t for t in read_trials(MEASURED / "sdxl-embedded") if t.name == name)
    assert name == "unet-C384-m1.2.4-TD0.2.2" and arch.arch_id == winner.arch_id
    flops = 6e9 * winner.profile.gmacs * 2048 * 600_000
    assert f"= {flops:.2e} FLOPs" in out
    days = flops / (150e12 * 8) / 86400
    assert f"Time: {int(days)} d " in out and "No score is predicted: the study differs" in out
    assert "the best with probability 54 %" in out and "not told apart from SDXL-TD4" in out
    text = (tmp_path / "full/budget.yaml").read_text()
    assert "# 1.21 B parameters; 142.04 GMACs" in text
    assert "eps: 1e-08               # not stated" in text
    assert run(capsys, "validate", *map(str, (tmp_path / "full").glob("*.yaml")))[0] == 0


def study_of(folder: Path, arch: Arch, name: str) -> Path:
    """Write a study whose only trial trained `arch` under the embedded budget."""
    embedded = load_budget(ROOT / "budgets/embedded.yaml")
    used = BudgetUsed(budget_id=embedded.budget_id, data=embedded.model_dump(mode="json"))
    made = trial(name).model_copy(
        update={"arch": arch.canonical(), "arch_id": arch.arch_id, "budget_id": used.budget_id}
    )
    record = study(folder.name, budget=used, budget_id=used.budget_id)
    return write_records(folder, record, [made])


def test_the_written_command_passes_a_dry_run(capsys, tmp_path):
    """With an architecture that a CPU can time, and the config of an autoencoder at hand."""
    arch = resolve_arch(SMALL).arch
    folder = study_of(tmp_path / "small", arch, "small")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps(VAE))
    text = (ROOT / "budgets/paper_256.yaml").read_text()
    text = text.replace("stabilityai/sdxl-vae", str(tmp_path / "vae"))
    (tmp_path / "recipe.yaml").write_text(text)
    here = ("--device", "cpu", "--precision", "fp32", "--ranks", "1", "--batch", "1")
    recipe = ("--recipe", str(tmp_path / "recipe.yaml"), "-o", str(tmp_path / "full"))
    code, out, _ = run(capsys, "scale-up", str(folder), *recipe, *here)
    assert code == 0 and "Not checked" not in out
    assert "No time is predicted: what is missing is a throughput" in out
    command = shlex.split(out.splitlines()[-1].removeprefix("Train:"))
    code, planned, err = run(capsys, *command[1:], "--dry-run")
    assert (code, err) == (0, "")
    gmacs = profile(arch, latent_size=32, text_tokens=77).gmacs
    assert f"({6e9 * gmacs * 600_000 / 1e15:.2f} PFLOPs of training)" in planned


def test_the_script_runs_the_printed_command_and_passes_options_on(capsys, tmp_path):
    folder = tmp_path / "with a space"
    _, out, _ = scale_up(capsys, folder)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/nas-t2i"
    program.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    program.chmod(0o755)
    shell = subprocess.run(
        ["/bin/sh", folder / "train.sh", "--dry-run"],
        env={"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    printed = shlex.split(out.splitlines()[-1].removeprefix("Train:"))
    assert shell.stdout.splitlines() == [*printed[1:], "--dry-run"]


def test_options_take_the_recipe_s_place_and_are_named(capsys, tmp_path):
    options = (
        "--steps",
        "120000",
        "--shards",
        "/my/{00..99}.tar",
        "--cache",
        "none",
        "--ranks",
        "4",
    )
    code, out, _ = scale_up(capsys, tmp_path / "a", *options, "--resolution", "512")
    assert code == 0
    budget = load_budget(tmp_path / "a/budget.yaml")
    assert budget.training.steps == budget.full_rungs[-1] == 120_000
    assert budget.full_rungs == (10_000, 20_000, 30_000, 50_000, 80_000, 120_000)
    assert budget.data.sources[0].urls == ("/my/{00..99}.tar",) and budget.data.cache is None
    text = (tmp_path / "a/budget.yaml").read_text()
    assert "  steps: 120000              # --steps; the recipe has 600000\n" in text
    assert "at 64x64 latents" in out and "look at them for 512 px" in out


def test_nothing_is_overwritten_unless_asked(capsys, tmp_path):
    assert scale_up(capsys, tmp_path)[0] == 0
    before = (tmp_path / "budget.yaml").read_bytes()
    code, _, err = scale_up(capsys, tmp_path, "--steps", "1000")
    assert code == 2 and "has space.yaml, budget.yaml, train.sh already" in err
    assert (tmp_path / "budget.yaml").read_bytes() == before
    assert scale_up(capsys, tmp_path, "--steps", "1000", "--overwrite")[0] == 0
    assert load_budget(tmp_path / "budget.yaml").training.steps == 1000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--name", "SDXL-TD3"], "--name: got 'SDXL-TD3'; expected an architecture of sdxl-emb"),
        (["--recipe", "embedded"], "got a budget of the embedded shapes; expected one of pairs"),
        (["--recipe", "papr_256"], "did you mean 'paper_256'?"),
        (["--ranks", "3"], "got a batch of 2048 for 3 ranks; expected a multiple"),
        (["--tflops", "0"], "--tflops: got 0; expected a positive number"),
        (["--tflops", "1", "--images-per-second", "2"], "expected one of the two"),
        (["--latency", "no.json"], "no.json: no such file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(capsys, tmp_path, options, expected):
    code, _, err = scale_up(capsys, tmp_path / "full", *options)
    assert code == 2 and expected in err
    assert err.count("\n") == 1 and err.startswith("nas-t2i: error: ")
    assert not (tmp_path / "full").exists()


def test_a_name_on_record_is_no_path_and_no_command(capsys, tmp_path):
    name = "../../up\x1b[31m; touch 'x'"
    arch = resolve_arch("SDXL-C128").arch
    folder = study_of(tmp_path / "demo", arch, name)
    code, out, err = run(capsys, "scale-up", str(folder))
    assert (code, err) == (0, "")
    assert not set(out) & set("\x1b\x07")
    written = folder / "scale-up" / arch.arch_id
    assert sorted(file.name for file in written.iterdir()) == [
        "budget.yaml",
        "space.yaml",
        "train.sh",
    ]
    script = (written / "train.sh").read_text().splitlines()
    assert [line for line in script if "touch" in line and not line.startswith("#")] == []
    assert f"--study {arch.arch_id}-full" in script[-1]
    # An export of one of its trials points there.
    (file,) = (folder / "trials").iterdir()
    (made,) = read_trials(folder)
    assert _full_scale(file, made) == f"scale-up/{arch.arch_id}"
    (written / "budget.yaml").unlink()
    assert _full_scale(file, made) == ""
