"""Names from outside: found, refused in one line, the same in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_t2i import plugins
from nas_t2i.arch.families import arch_from_dict, family
from nas_t2i.arch.space import load_space
from nas_t2i.cli import main as cli
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation import metrics
from nas_t2i.protocol.budget import load_budget
from nas_t2i.results.metrics import display_name

ROOT = Path(__file__).parents[1]
SHARP = """
from typing import ClassVar, Literal
from nas_t2i.evaluation.metrics.common.per_image import PerImageMetric
class Sharp(PerImageMetric):
    DISPLAY_NAME: ClassVar[str] = "sharp"
    metric: str
    level: int = 1
    def load_model(self, device):
        return self
    name: ClassVar[str] = "sharp"
    identity: ClassVar[str] = "sharp-v1"
    def score(self, images, prompts):
        return [1.0 for _ in images]
class Abstract(PerImageMetric):
    DISPLAY_NAME: ClassVar[str] = "abstract"
class NoMetric:
    pass
"""
FAMILY = """
from typing import ClassVar
from nas_t2i.arch.families.unet import UNet
class Wide(UNet):
    FAMILY: ClassVar[str] = "wide_unet"
"""


def distribution(folder: Path, name: str, entries: str, **modules: str) -> None:
    """Lay out an installed distribution with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


def find(folder: Path, kind: str, name: str) -> str:
    """Look a name up in a process that sees the distributions of `folder`."""
    code = (
        "import sys\nfrom nas_t2i import plugins\n"
        "try: found = plugins.find(*sys.argv[1:])\n"
        "except plugins.PluginError as error: print(error)\n"
        "else: print(found.cls.__name__, 'of', found.source)\n"
    )
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, kind, name],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_an_installed_distribution_offers(tmp_path):
    entries = (
        "[nas_t2i.metrics]\nsharp = sharp_plugin:Sharp\nabstract = sharp_plugin:Abstract\n"
        "nothing = sharp_plugin:NoMetric\ngone = sharp_plugin:Gone\nclip = sharp_plugin:Sharp\n"
        "twice = sharp_plugin:Sharp\n"
        "[nas_t2i.families]\nwide = sharp_plugin:Wide\nwide_unet = sharp_plugin:Wide\n"
    )
    distribution(tmp_path, "sharp-plugin", entries, sharp_plugin=SHARP + FAMILY)
    distribution(tmp_path, "other", "[nas_t2i.metrics]\ntwice = sharp_plugin:Sharp\n")
    whose = "of sharp-plugin 1.0"
    found = {
        name: find(tmp_path, "metrics", name)
        for name in ("sharp", "abstract", "nothing", "gone", "clip", "twice", "sharpp")
    }
    assert found["sharp"] == f"Sharp {whose}"
    lacks = f"metric 'abstract' {whose}: the class Abstract lacks load_model"
    assert found["abstract"] == lacks
    assert found["nothing"].startswith(f"metric 'nothing' {whose}: got <class")
    assert "expected a class derived from nas_t2i.evaluation.metric.Metric" in found["nothing"]
    assert found["gone"].startswith(f"metric 'gone' {whose} does not load: AttributeError")
    assert found["clip"].startswith(f"metric 'clip' {whose}: the name is taken by nas-t2i itself")
    assert found["twice"].startswith("metric 'twice': offered by ")
    assert "sharp-plugin 1.0" in found["twice"] and "other 1.0" in found["twice"]
    assert found["sharpp"].endswith("did you mean 'sharp'?")
    assert find(tmp_path, "families", "wide_unet") == f"Wide {whose}"
    assert "FAMILY is 'wide_unet'; expected the name" in find(tmp_path, "families", "wide")


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with modules, a space and a budget that name them; nothing known from before."""
    monkeypatch.setattr(plugins, "_used", {})
    (tmp_path / "mine.py").write_text(SHARP + FAMILY)
    (tmp_path / "space.yaml").write_text(
        "name: wide\nfamily: mine:Wide\nparameters:\n  channels: {choice: [128, 192]}\n"
        "  channel_mult: [1, 2]\n  transformer_depth: [0, 1]\n"
    )
    text = (ROOT / "budgets/embedded.yaml").read_text()
    line = "    batch: 256\n"
    assert line in text
    added = "  metrics:\n    - metric: mine:Sharp\n      level: 3\n"
    (tmp_path / "budget.yaml").write_text(text.replace(line, line + added))
    return tmp_path


def test_a_class_of_a_file_beside_the_yaml(beside):
    plain = load_budget(ROOT / "budgets/embedded.yaml")
    budget = load_budget(beside / "budget.yaml")
    (metric,) = budget.evaluation.metrics
    assert (metric.metric, metric.level, metric.load_model("cpu").name) == (
        "mine:Sharp",
        3,
        "sharp",
    )
    assert budget.budget_id != plain.budget_id
    space = load_space(beside / "space.yaml")
    archs = list(space.enumerate())
    assert {arch.FAMILY for arch in archs} == {"wide_unet"} and len(archs) == 2
    assert arch_from_dict(archs[0].canonical()).arch_id == archs[0].arch_id
    assert [origin.name for origin in plugins.used()] == ["mine:Wide", "mine:Wide", "mine:Sharp"]


def test_another_process_finds_the_same_code_or_says_that_it_changed(beside):
    load_budget(beside / "budget.yaml")
    load_space(beside / "space.yaml")
    origins = json.dumps([origin.model_dump() for origin in plugins.used()])
    code = (
        "import json, sys\nfrom nas_t2i import plugins\n"
        "from nas_t2i.arch.families import family\n"
        "plugins.restore(map(plugins.Origin.model_validate, json.loads(sys.argv[1])))\n"
        "print(family('wide_unet').__name__, plugins.find('metrics', 'mine:Sharp').cls.__name__)\n"
    )

    def restored() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, origins], capture_output=True, text=True, cwd=ROOT
        )

    assert restored().stdout.strip() == "Wide Sharp"
    (beside / "mine.py").write_text(SHARP + FAMILY + "# changed\n")
    changed = restored()
    assert changed.returncode != 0
    assert "with which the study began" in changed.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mine:Sharp", "mine:Sharpp", "mine.py has no 'Sharpp'"),
        ("mine:Sharp", "yours:Sharp", "yours.py: no such file"),
        ("level: 3", "levle: 3", "unknown key 'levle'; expected one of at, level, metric"),
        ("level: 3", "level: high", 'level: got "high"; expected a valid integer'),
    ],
)
def test_what_is_wrong_with_a_file_of_ones_own_is_one_line(beside, old, new, message):
    file = beside / "budget.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises((ConfigError, plugins.PluginError)) as error:
        load_budget(file)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_built_in_ones_are_found_by_the_names_of_their_modules():
    for kind in plugins.KINDS.values():
        for name in plugins.builtin_names(kind.name):
            found = plugins.find(kind.name, name)
            assert found.origin is None and issubclass(found.cls, kind.base_class())
    assert family("unet").FAMILY == "unet"


BRIGHTNESS = '''
from typing import ClassVar, Literal
import numpy as np
from pydantic import Field
from nas_t2i.evaluation.metrics.common.per_image import PerImageMetric
class Brightness(PerImageMetric):
    """The mean of all pixels, times a level."""
    DISPLAY_NAME: ClassVar[str] = "brightness"
    SCORES: ClassVar[dict[str, str]] = {"brightness_mean": "mean brightness"}
    metric: Literal["brightness"]
    level: float = Field(description="of white")
    def load_model(self, device):
        return Bright(self.level)
class Bright:
    name = "brightness_mean"
    def __init__(self, level):
        self.level, self.identity = level, f"brightness {level}"
    def score(self, images, prompts):
        return [self.level * float(np.asarray(image).mean()) / 255 for image in images]
'''


@pytest.fixture
def new_builtin(tmp_path):
    """A module more in the package of the metrics, and nothing else changed."""
    home = tmp_path / "metrics"
    home.mkdir()
    (home / "brightness.py").write_text(BRIGHTNESS)
    metrics.__path__.append(str(home))
    plugins.builtin_names.cache_clear()
    yield
    metrics.__path__.remove(str(home))
    plugins.builtin_names.cache_clear()
    sys.modules.pop("nas_t2i.evaluation.metrics.brightness", None)


def status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


def test_a_new_built_in_metric_touches_its_own_file_only(new_builtin, tmp_path, capsys):
    text = (ROOT / "budgets/embedded.yaml").read_text()
    line = "    batch: 256\n"
    added = "  metrics:\n    - metric: brightness\n      level: 2\n"
    (tmp_path / "budget.yaml").write_text(text.replace(line, line + added))
    (metric,) = load_budget(tmp_path / "budget.yaml").evaluation.metrics
    assert metric.level == 2 and plugins.origin_of(type(metric)) is None
    assert display_name("brightness") == "brightness"
    assert display_name("brightness_mean") == "mean brightness"
    assert status("plugins", "--check", "brightness", "--set", "level=2") == 0
    images, prompts, out = tmp_path / "images", tmp_path / "prompts.json", tmp_path / "out.json"
    images.mkdir()
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).convert("RGB").save(images / "a.png")
    prompts.write_text(json.dumps([{"id": "a", "caption": "a line"}]))
    command = ["evaluate", str(images), "-m", "brightness", "--prompts", str(prompts)]
    command += ["-o", str(out)]
    assert status(*command) == 2
    assert "--set brightness.level: missing" in capsys.readouterr().err
    assert status(*command, "--set", "brightness.level=2") == 0
    assert "mean brightness" in capsys.readouterr().out
    (result,) = json.loads(out.read_text())["results"]
    assert result["score"]["value"] == 0.5


def test_the_table_of_display_names_says_what_the_metrics_say():
    for name in plugins.builtin_names("metrics"):
        cls = plugins.find("metrics", name).cls
        assert display_name(name) == cls.DISPLAY_NAME
        assert {score: display_name(score) for score in cls.SCORES} == cls.SCORES
