"""The command line: what a user types, and the sentence that a mistake gets."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from gahb.companion import ledger, scales
from gahb.companion.claims import CLAIMS
from gahb.companion.cli import main
from gahb.training import parallel
from gahb.training.loop import TrainingFailed


@pytest.fixture(autouse=True)
def own_store(monkeypatch, tmp_path):
    """Commands without ``--store`` do not touch the user's own."""
    monkeypatch.setenv("GAHB_STORE", str(tmp_path / "default store"))


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_help_names_every_command_with_an_example():
    result = run("--help")
    assert result.exit_code == 0
    for name, command in main.commands.items():
        assert name in result.output
        assert f"Example: gahb {name}" in command.help
        assert run(name, "--help").exit_code == 0


def test_a_misspelt_scale_is_reported_before_the_slow_imports():
    code = "import sys; from click.testing import CliRunner as R; from gahb.companion.cli import main; "
    code += "print(*(R().invoke(main, [c, '--scale', 'huge']).stderr for c in ('reproduce', 'train', 'claims')), "
    code += "{'papermill', 'matplotlib', 'scipy.stats'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count("unknown scale 'huge': take one of") == 3
    assert said.endswith("set()\n")


def tiny(monkeypatch):
    """A smoke scale whose networks train in no time."""
    fast = scales.SMOKE_TRAINING | {"images_seen": 64, "network_kwargs": {"depth": 2, "channels": 2}}
    scale = replace(scales.get("smoke"), training=fast, synthetic_training=fast, class_N=8)
    monkeypatch.setitem(scales.SCALES, "smoke", scale)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_train_list_and_train_again(jobs, monkeypatch, tmp_path):
    tiny(monkeypatch)
    arguments = ("train", "--only", "faces-S1", "--store", tmp_path / "store", "--jobs", jobs)
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    assert first.output.count("trained in") == 3
    assert "3 of 3 networks are in the store" in run(*arguments).output
    listed = run("list", "--store", tmp_path / "store").output
    assert listed.count("faces-S1-N") == 3
    assert "64 images" in listed


def test_a_training_stopped_by_the_time_limit_resumes(monkeypatch, tmp_path):
    tiny(monkeypatch)
    arguments = ("train", "--only", "disks", "--store", tmp_path, "--jobs", 1)
    stopped = run(*arguments, "--time-limit", 1e-6)
    assert stopped.exit_code == 0
    assert "time limit reached" in stopped.output
    assert not list(tmp_path.glob("*/weights.safetensors"))
    assert run(*arguments).exit_code == 0
    assert len(list(tmp_path.glob("*/weights.safetensors"))) == 1


def test_a_training_that_fails_does_not_stop_the_others(monkeypatch, tmp_path):
    tiny(monkeypatch)
    real = parallel.stores.load_or_train

    def load_or_train(recipe, *arguments, **options):
        if recipe.name.endswith("N10"):
            raise TrainingFailed("the loss became nan")
        return real(recipe, *arguments, **options)

    monkeypatch.setattr(parallel.stores, "load_or_train", load_or_train)
    result = run("train", "--only", "faces-S1", "--store", tmp_path, "--jobs", 1)
    assert result.exit_code == 1
    assert "faces-S1-N10 FAILED: the loss became nan" in result.output
    assert "1 of 3 trainings failed" in result.stderr
    assert len(list(tmp_path.glob("*/weights.safetensors"))) == 2


def die(*arguments):
    os._exit(1)


@pytest.mark.slow
def test_a_process_that_dies_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "_train_one", die)
    scale = scales.get("smoke")
    tasks = [(scales.class_recipe(scale, name), None) for name in ("disks", "sinusoids")]
    with pytest.raises(RuntimeError, match=r"died, perhaps for lack of memory.*--jobs 1"):
        parallel.train_all(tasks, tmp_path, "cpu", 2, echo=lambda line: None)


def test_claims_are_judged_from_the_ledger(tmp_path):
    null = {"name": "tangent space of another disk", "cosine": 0.1}
    ledger.record("5.2", {"cosine": 0.97}, "laptop", tmp_path / "laptop", null, [0.96, 0.98])
    lines = run("claims", "--scale", "laptop", "--figures", tmp_path).output.splitlines()
    assert len(lines) == len(CLAIMS)
    assert [line for line in lines if "not tested" not in line] == [
        "5.2  reproduced      The top five vectors span the tangent space."
    ]
    path = tmp_path / "laptop" / "claims.json"
    rows = json.loads(path.read_text())
    row = next(row for row in rows if row["id"] == "5.2")
    row["measured"]["cosine"] = 0.5
    path.write_text(json.dumps(rows))
    assert "5.2  not reproduced" in run("claims", "--scale", "laptop", "--figures", tmp_path).output
    row["null"] = None
    path.write_text(json.dumps(rows))
    shown = run("claims", "--scale", "laptop", "--figures", tmp_path).output
    assert "(its null is not measured: tangent space of another disk)" in shown
