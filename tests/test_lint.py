"""The linters that are quick: style, type hints and the direction of imports; and the docstrings of public names.

By numpydoc: each parameter in its order, what is returned, a summary that ends.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import gahb
from gahb.training.store import project

CHECKS = {
    "SS03",  # the summary ends with a period
    "PR01", "PR02", "PR03",  # all parameters, no others, in their order
    "PR10",  # a space before the colon
    "RT01", "YD01",  # what is returned or yielded
}  # fmt: skip
MODULES = [name for _, name, package in pkgutil.iter_modules(gahb.__path__) if not package and name[0] != "_"]


def public(module):
    """Names that a module exports, or else those of the functions and classes that it defines."""
    defined = [
        key for key, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__ and callable(x)
    ]
    return [f"{module.__name__}.{key}" for key in getattr(module, "__all__", defined) if not key.startswith("_")]


NAMES = [
    name
    for module in (*MODULES, "datasets", "datasets.image_sets", "datasets.survey", "training")
    for name in public(importlib.import_module(f"gahb.{module}"))
]


DATACLASSES = [name for name in NAMES if dataclasses.is_dataclass(pkgutil.resolve_name(name))]


@pytest.mark.parametrize("name", sorted({*NAMES} - {*DATACLASSES}))
def test_a_docstring_says_what_goes_in_and_what_comes_out(name):
    assert [text for code, text in validate(name)["errors"] if code in CHECKS] == []


@pytest.mark.parametrize("name", DATACLASSES)
def test_a_dataclass_lists_its_fields(name):
    thing = pkgutil.resolve_name(name)
    listed = [name for each in NumpyDocString(inspect.getdoc(thing))["Attributes"] for name in each.name.split(", ")]
    assert listed == [field.name for field in dataclasses.fields(thing)]


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "lint-imports"])
def test_lint(command):
    tool, *arguments = command.split()
    program = Path(sys.executable).with_name(tool)
    done = subprocess.run([program, *arguments], cwd=project(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
