"""The linters that are quick: style, type hints and docstrings by ruff, and the direction of imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from gahb.training.store import project

COMMANDS = ["ruff check", "ruff format --check", "lint-imports"]


@pytest.mark.parametrize("command", COMMANDS)
def test_lint(command):
    tool, *arguments = command.split()
    program = Path(sys.executable).with_name(tool)
    done = subprocess.run([program, *arguments], cwd=project(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
