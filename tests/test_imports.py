"""The house rules on imports: floors, no cycles, and no torch where a listing must be instant."""

import ast
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nas_t2i"

# From the bottom up: a floor may import from itself and from floors below. docs/architecture.md
# says what lives where and why.
FLOORS = (
    {
        "",
        "errors",
        "streams",
        "records",
        "yaml_files",
        "shipped",
        "store",
        "environment",
        "files",
        "locks",
        "events",
        "expressions",
        "statistics",
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
    {"cli"},
)
FLOOR_OF = {name: level for level, names in enumerate(FLOORS) for name in names}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str, top_level_only: bool = False) -> frozenset[str]:
    """Modules of this package that `module` imports, for types too."""
    tree = ast.parse(FILES[module].read_text())
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and top_level_only:
            return
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in FILES else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return frozenset(name for name in found if name in FILES and name != module)


def floor(module: str) -> int:
    parts = module.split(".")
    return FLOOR_OF[parts[1] if len(parts) > 1 else ""]


def test_every_room_has_a_floor():
    for module in FILES:
        floor(module)


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down(module):
    for other in imports(module):
        assert floor(other) <= floor(module), f"{module} imports {other} from a floor above"


def test_there_are_no_cycles():
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(imports(module, top_level_only=True)):
                walk(other, (*path, module))
            done.add(module)

    for module in FILES:
        walk(module, ())


@pytest.mark.parametrize(
    "module",
    [
        "nas_t2i.records",
        "nas_t2i.store",
        "nas_t2i.arch.spec",
        "nas_t2i.arch.space",
        "nas_t2i.arch.catalog",
        "nas_t2i.arch.families",
        "nas_t2i.protocol.budget",
        "nas_t2i.results.leaderboard",
        "nas_t2i.results.exports",
        "nas_t2i.results.plots",
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


def test_optuna_is_imported_in_one_place():
    users = [
        m
        for m, f in FILES.items()
        if "import optuna" in f.read_text() or "from optuna" in f.read_text()
    ]
    assert users == ["nas_t2i.search.study"]


def test_from_the_command_to_the_training_step_in_six_files():
    way = [
        "cli.search",
        "search.session",
        "search.driver",
        "search.runner",
        "search.trial",
        "training.loop",
    ]
    for here, there in pairwise(way):
        text = FILES[f"nas_t2i.{here}"].read_text()
        assert f"nas_t2i.{there}" in text, f"{here} does not name {there}"
