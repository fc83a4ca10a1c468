"""What every notebook does first, and how a run fails."""

import inspect
import json
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from papermill import translators

from gahb.companion import ledger, notebook, plotting, report
from gahb.companion.reproduce import run_notebook
from gahb.training import Recipe


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"scale": "huge"}, "unknown scale 'huge'"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"faces": "no/such/folder"}, "faces: there is no folder or file /.*/no/such/folder; give"),
        ({"scenes": "no/such/file.npz"}, "scenes: there is no folder or file"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 0.5}, "seed must be"),
    ],
)
def test_bad_parameters_fail_with_one_sentence(parameters, sentence, tmp_path):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=sentence):
        notebook.start("test", store=tmp_path, figures=tmp_path, **parameters)


def test_a_folder_whose_name_is_a_number(tmp_path, monkeypatch):
    """Papermill takes 2024 for a number."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    run = notebook.start("test", faces=2024, store=2025, figures=2026)
    assert (run.faces_source, str(run.store), str(run.figures)) == ("2024", "2025", "2026/smoke")


def test_what_stand_ins_give_is_kept_apart(tmp_path):
    """The report of a scale is of its own faces; the figures of a notebook run without any are not among them."""
    names = [notebook.start("test", "laptop", faces, figures=tmp_path).figures.name for faces in (None, str(tmp_path))]
    assert names == ["laptop-stand-ins", "laptop"]
    assert notebook.start("test", figures=tmp_path).figures.name == "smoke"  # whose faces are those of scikit-image


def test_a_device_without_float64_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(ValueError, match=r"device mps lacks the float64 of the analyses; .* take cpu here"):
        notebook.start("test", figures=tmp_path, device="mps")


def test_start_takes_the_parameters_of_the_notebooks():
    taken = set(inspect.signature(notebook.start).parameters) - {"notebook"}
    assert taken == set(notebook.PARAMETERS) - {"denoiser", "model"}  # of notebooks 03 and 07 alone, which read them


def test_a_figure_names_the_networks_that_made_it(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "display", lambda figure: None)
    run = notebook.start("test", store=tmp_path, figures=tmp_path, device="cpu")

    def network(kind):
        data = {"class": kind, "n": 2, "size": 12, "seed": 0}
        return run.network(Recipe(kind, data, network_kwargs={"depth": 2, "channels": 2}, images_seen=2, batch_size=2))

    def names(**options):
        run.save(plotting.new(1, 1), "figure", "Figure 1", "A figure.", **options)
        made_by = json.loads((run.figures / "provenance.json").read_text())["figures"]["figure"]
        return [name.rpartition("-")[0] for name in made_by["networks"]]

    assert names() == []
    disks, ray = network("disks"), network("ray")
    assert names() == ["disks", "ray"]
    assert names() == ["disks", "ray"]  # none loaded since: all so far
    network("sinusoids")
    assert names() == ["sinusoids"]
    assert names(networks=[ray, disks]) == ["disks", "ray"]
    assert names(networks=[]) == []
    run.finish()
    about = json.loads((run.figures / "provenance.json").read_text())["notebooks"]["test"]
    assert [name.rpartition("-")[0] for name in about["networks"]] == ["disks", "ray", "sinusoids"]


def test_a_figure_has_its_caption_and_a_claim_its_null_in_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "display", lambda figure: None)
    run = notebook.start("05_x", "laptop", str(tmp_path), figures=tmp_path, device="cpu")
    run.save(plotting.new(1, 1), "fig05_x", "Figure 5: disks", "Five vectors.", ["5.2"])
    null = {"name": "another disk", "cosine": np.float32(0.1)}
    run.claim("5.2", null=null, interval=np.array([0.96, 0.98]), chosen_after="their number", cosine=torch.tensor(0.97))
    printed = capsys.readouterr().out
    assert printed.startswith("claim 5.2 (reproduced)\n") and "null: name another disk; cosine 0.1\n" in printed
    row = ledger.read(run.figures)["5.2"]
    assert row["measured"] == {"cosine": pytest.approx(0.97)} and row["interval"] == [0.96, 0.98]
    assert row["chosen_after"] == "their number"
    text = report.report(run.figures)
    assert (
        "### Figure 5: disks\n\n![Figure 5: disks](fig05_x.png)\n\nFive vectors. Made by `05_x`.\n\n- The top" in text
    )
    assert text.endswith("(claim 5.2) Here: **reproduced**.\n")


def write_notebook(path, *cells):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nb.cells[0].metadata["tags"] = ["parameters"]
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, path)
    return path


START = "from gahb.companion import notebook\nrun = notebook.start('n', scale=scale, store=store, figures=store)"


@pytest.mark.slow
def test_unknown_parameter_is_refused(tmp_path):
    """Papermill injects a parameter that the notebook does not have, and only warns."""
    import papermill

    path = write_notebook(tmp_path / "n.ipynb", "scale = 'smoke'\nstore = '.'", START)
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter sclae"):
        papermill.execute_notebook(
            str(path), str(tmp_path / "out.ipynb"), {"sclae": "laptop"}, kernel_name="python3", progress_bar=False
        )


def test_names_of_the_user_and_of_papermill_are_not_parameters(tmp_path, monkeypatch):
    injected = translators.papermill_translators.find_translator("python3", "python").codify(
        {"scale": "smoke", "PAPERMILL_INPUT_PATH": "n.ipynb", "store": "a\nsclae = 1"}
    )
    shell = SimpleNamespace(user_ns={"In": ["", "x = 3", injected]})
    monkeypatch.setattr(notebook, "get_ipython", lambda: shell)
    assert notebook.start("test", figures=tmp_path).scale.name == "smoke"


@pytest.mark.slow
def test_known_parameters_pass_and_the_kernel_of_this_environment_is_taken(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "scale = 'smoke'\nstore = '.'", START, "print(run.scale.name)")
    nb = nbformat.read(path, as_version=4)
    nb.metadata["kernelspec"] = {"name": "somebody-elses", "display_name": "x", "language": "python"}
    nbformat.write(nb, path)
    parameters = {"scale": "laptop", "store": str(tmp_path), "faces": "unused"}
    assert run_notebook(path, tmp_path / "out.ipynb", parameters, 120) is None
    assert "laptop" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os._exit(1)", "DeadKernelError"),
        ("import time; time.sleep(600)", "CellTimeoutError"),
    ],
)
def test_a_cell_that_fails_dies_or_hangs_is_one_sentence(cell, sentence, tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "scale = 'smoke'", cell)
    error = run_notebook(path, tmp_path / "out.ipynb", {}, 8)
    assert error is not None
    assert sentence in error
    assert (tmp_path / "out.ipynb").is_file()
