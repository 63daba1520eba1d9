"""ARCHITECTURE.md is true: its table is who imports whom, and names every module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/wordsight"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FACADE = "__init__"


def modules() -> dict[str, Path]:
    """Every module by its path inside the package: "search.py", "models/clip/model.py"."""
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def component_of(module: str) -> str:
    """The component of "models/clip/model.py" is "models", that of "regions.py" is "regions"."""
    component = module.partition("/")[0].removesuffix(".py")
    return "cli" if component == "__main__" else component  # the other way to start it


COMPONENTS = {component_of(module) for module in modules()}


def imported(path: Path) -> set[str]:
    """The components that a file imports, at its top or anywhere below."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "wordsight" and rest != "__version__":
                first = rest.split(".")[0]
                found.add(first if first in COMPONENTS else FACADE)
    return found


def declared() -> dict[str, set[str]]:
    """The table of ARCHITECTURE.md: components in their order, and what each may import."""
    table = TEXT.split("<!-- components -->")[1].split("<!-- /components -->")[0]
    rows = re.findall(r"^\| `([\w/.]+)` \|.*\| ([^|]+) \|$", table, re.MULTILINE)
    return {
        component.removesuffix(".py").removesuffix("/"): set(re.findall(r"`(\w+)`", allowed))
        for component, allowed in rows
    }


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_a_component_imports_what_the_table_says(component: str) -> None:
    files = [path for module, path in modules().items() if component_of(module) == component]
    actual = set().union(*(imported(path) for path in files)) - {component}
    assert actual == declared().get(component), f"the row of {component} in ARCHITECTURE.md"


def test_arrows_point_one_way() -> None:
    seen: set[str] = set()
    for component, allowed in declared().items():
        assert allowed <= seen, f"{component} is listed above what it imports: {allowed - seen}"
        seen.add(component)
    assert seen == COMPONENTS


def test_there_are_few_layers() -> None:
    layer: dict[str, int] = {}
    for component, allowed in declared().items():  # what it may import is listed above it
        layer[component] = 1 + max((layer[below] for below in allowed), default=0)
    assert max(layer.values()) <= LAYERS, layer


LAYERS = 8


def lengths() -> dict[str, int]:
    """Lines of the modules ("search.py") and of their functions ("cli/app.py:examples")."""
    found: dict[str, int] = {}
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        found[module] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name, lines = f"{module}:{node.name}", (node.end_lineno or 0) - node.lineno + 1
                found[name] = max(lines, found.get(name, 0))  # methods may share a name
    return found


def test_functions_and_modules_are_short() -> None:
    table = TEXT.split("<!-- limits -->")[1].split("<!-- /limits -->")[0]
    rows = re.findall(r"^\| `([\w/.:]+)` \| (\d+) \| [^|]{10,} \|$", table, re.MULTILINE)
    allowed = {name: int(lines) for name, lines in rows}
    long = {n: k for n, k in lengths().items() if k > (LONGEST_FUNCTION if ":" in n else LONGEST)}
    assert long.keys() == allowed.keys(), "the exceptions in ARCHITECTURE.md"
    assert {name: k for name, k in long.items() if k > allowed[name]} == {}


LONGEST, LONGEST_FUNCTION = 400, 60


def test_every_module_is_named() -> None:
    named = set(re.findall(r"`(?:src/wordsight/)?([\w/]+\.py)`", TEXT))
    assert set(modules()) - named == set()


def test_nothing_else_is_named() -> None:
    for name in re.findall(r"`([\w./-]+\.(?:py|txt|md|json))`", TEXT):
        places = (ROOT / name, PACKAGE / name)
        assert any(place.exists() for place in places) or name in ON_DISK, name


ON_DISK = {"library.json", "devices.json", "views.lance/checksums.json",
    "skipped.json", "lease.json", "config.json", "detector.json",
           "visual/preprocess_cfg.json", "textual/tokenizer.json",
           "textual/tokenizer_config.json", "preprocessor_config.json",
           "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
"""Files of a library or of a model, which ARCHITECTURE.md describes."""
