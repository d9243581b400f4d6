"""examples/plugin as its user has it: installed beside nas-t2i, named in YAML, on record."""

import json
import shutil
from pathlib import Path

from tests.fresh_environment import FreshEnvironment
from tests.test_wheel import build_wheel

ROOT = Path(__file__).parents[2]
UNET = "channels=128,channel_mult=[1,2],transformer_depth=[0,2]"


def test_a_family_and_a_metric_from_another_distribution(tmp_path):
    project = shutil.copytree(ROOT / "examples/plugin", tmp_path / "plugin")
    environment = FreshEnvironment(tmp_path / "venv")
    environment.install(build_wheel(tmp_path))
    environment.install(project)
    work = tmp_path / "work"
    work.mkdir()

    def nas_t2i(*arguments: str) -> str:
        return environment.run("nas-t2i", *arguments, folder=work)

    rows = json.loads(nas_t2i("plugins", "--json"))
    found = [row for row in rows if row["origin"] != "built-in"]
    assert [(row["kind"], row["name"], row["problem"]) for row in found] == [
        ("families", "act_unet", ""),
        ("metrics", "sharpness", ""),
    ]
    assert {row["origin"] for row in found} == {"nas-t2i-example-plugin 1.0.0"}
    assert "keeps to its kind" in nas_t2i("plugins", "--check", "sharpness", "--set", "step=2")
    settings = ["--set", "channels=128", "--set", "channel_mult=[1,2]"]
    settings += ["--set", "transformer_depth=[0,2]", "--set", "activation=mish"]
    assert "keeps to its kind" in nas_t2i("plugins", "--check", "act_unet", *settings)
    profiled = nas_t2i("profile", "--arch", f"family=act_unet,{UNET}")
    assert "gelu" in profiled
    files = (str(project / "space.yaml"), "--budget", str(project / "budget.yaml"))
    nas_t2i("search", *files, "--study", "mine", "--results-dir", str(work / "results"))
    study = work / "results/mine"
    record = json.loads((study / "study.json").read_text())
    assert [
        (origin["name"], origin["distribution"], origin["version"]) for origin in record["plugins"]
    ] == [
        ("act_unet", "nas-t2i-example-plugin", "1.0.0"),
        ("sharpness", "nas-t2i-example-plugin", "1.0.0"),
    ]
    events = [
        json.loads(line)
        for file in study.glob("trials/*/events.jsonl")
        for line in file.read_text().splitlines()
    ]
    scores = [event["point"]["scores"] for event in events if "point" in event]
    assert len(scores) == 4 and all(list(score) == ["tifa", "sharpness"] for score in scores)
    signature = scores[0]["sharpness"]["signature"]
    assert signature.startswith("sharpness|model=laplacian-v1; step=1|prompts=")
    assert signature.endswith("|plugin=nas-t2i-example-plugin 1.0.0")
