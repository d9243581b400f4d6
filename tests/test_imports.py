"""The rules on imports: layers, no circles of any kind, and no torch where a listing is instant."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nas_t2i"

# From the bottom up: a layer may import from itself and from layers below. docs/architecture.md
# says what lives where and why.
LAYERS = (
    {
        "errors",
        "streams",
        "version",
        "statistics",
        "ranking",
        "plugins",
        "records",
        "yaml_files",
        "shipped",
        "store",
        "environment",
        "files",
        "logs",
        "locks",
        "mirror",
        "events",
        "expressions",
        "untrusted",
    },
    {"arch"},
    {"protocol"},
    {"schemas"},
    {"data"},
    {"conditioning"},
    {"training"},
    {"evaluation"},
    {"search"},
    {"results"},
    {"tracking"},
    {"contracts"},
    {"benchmark"},
    {"api"},
    {"cli", ""},
)
LAYER_OF = {name: level for level, names in enumerate(LAYERS) for name in names}
MOST_MODULES = 14  # of a folder
MOST_LINES = 400  # of a module


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of this package that `module` imports: in functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in FILES else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return frozenset(name for name in found if name in FILES and name != module)


def layer(module: str) -> int:
    parts = module.split(".")
    return LAYER_OF[parts[1] if len(parts) > 1 else ""]


def test_every_module_has_a_layer():
    for module in FILES:
        layer(module)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module):
    for other in imports(module):
        assert layer(other) <= layer(module), f"{module} imports {other} from a layer above"


def test_there_are_no_circles():
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(imports(module)):
                walk(other, (*path, module))
            done.add(module)

    for module in FILES:
        walk(module, ())


def test_no_module_and_no_folder_grows_out_of_hand():
    lines = {module: len(file.read_text().splitlines()) for module, file in FILES.items()}
    assert {module: n for module, n in lines.items() if n > MOST_LINES} == {}
    modules = Counter(file.parent for file in FILES.values() if file.stem != "__init__")
    assert {str(folder): n for folder, n in modules.items() if n > MOST_MODULES} == {}


@pytest.mark.parametrize(
    "module",
    [
        "nas_t2i",
        "nas_t2i.records",
        "nas_t2i.store",
        "nas_t2i.arch.spec",
        "nas_t2i.arch.space",
        "nas_t2i.arch.catalog",
        "nas_t2i.arch.families",
        "nas_t2i.protocol.budget",
        "nas_t2i.ranking.posterior",
        "nas_t2i.results.leaderboard",
        "nas_t2i.results.tables.exports",
        "nas_t2i.results.power",
        "nas_t2i.benchmark.build",
        "nas_t2i.benchmark.table",
        "nas_t2i.results.figures.every",
        "nas_t2i.results.figures.drawing",
        "nas_t2i.results.report.page",
        "nas_t2i.results.laws.scaling",
        "nas_t2i.results.laws.statements",
        "nas_t2i.cli.main",
    ],
)
def test_no_torch_where_a_listing_must_be_instant(module):
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'optuna', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def imported_packages(module: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(FILES[module].read_text())))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


def test_optuna_is_imported_by_what_stores_a_study_alone():
    users = [module for module in FILES if "optuna" in imported_packages(module)]
    assert users == ["nas_t2i.search.storage", "nas_t2i.search.study"]


def test_ray_is_imported_by_the_runner_on_it_alone():
    users = {module for module in FILES if "ray" in imported_packages(module)}
    assert users == {
        f"nas_t2i.search.on_ray.{name}" for name in ("cluster", "ears", "rank", "runner")
    }


def started_as_processes(module: str) -> set[str]:
    """Modules of this package that `module` names as a whole string, to run them as processes."""
    nodes = ast.walk(ast.parse(FILES[module].read_text()))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and n.value in FILES}


def test_from_the_command_to_the_training_step_in_six_files():
    way = [
        "cli.search",
        "search.session",
        "search.driver",
        "search.runner",
        "search.trial",
        "training.loop",
    ]
    for here, there in pairwise(f"nas_t2i.{name}" for name in way):
        assert there in imports(here) | started_as_processes(here), f"{here} does not reach {there}"


def test_every_folder_of_the_package_is_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    beside = set(settings["package-dir"])  # spaces and budgets lie beside the package
    folders = {".".join(f.parent.relative_to(ROOT).parts) for f in PACKAGE.rglob("__init__.py")}
    assert set(settings["packages"]) - beside == folders - beside
