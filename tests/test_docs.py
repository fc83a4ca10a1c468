"""The pages of `make docs`: the API, executed notebooks, formulas without a script, and broken links as errors."""

import base64
import io
import re
import shutil
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat import v4
from PIL import Image
from reader import build_docs, run_sphinx

import gahb
from gahb.training.store import project

WIDGET = "application/vnd.jupyter.widget-view+json"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages, with a notebook of a heading, formulas, a figure, an explorer, and a progress bar that has ended."""
    root = tmp_path_factory.mktemp("the pages")
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 128).save(buffer, "PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "Explorer(...)"}
    widget = {WIDGET: {"model_id": "0123", "version_major": 2, "version_minor": 0}}
    shown = (data, data | widget, {"text/plain": "faces:   0%|"} | widget)
    outputs = [v4.new_output("display_data", each) for each in shown]
    cells = [
        v4.new_markdown_cell("# A result\n\n$a < b_k$, and\n\n$$f(y) = \\sum_k \\lambda_k, \\tag{6}$$"),
        v4.new_markdown_cell("## For $\\alpha = 3$"),
        v4.new_code_cell("1", outputs=outputs),
    ]
    about = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=about), root / "03_example.ipynb")
    assert build_docs(root, root / "03_example.ipynb") == (0, "")
    return root / "docs"


@pytest.fixture(scope="module")
def notebook(pages):
    """The page of the executed notebook."""
    return (pages / "runs" / "smoke" / "03_example.html").read_text(encoding="utf-8")


def test_every_public_name_has_its_place(pages):
    places = "".join(path.read_text(encoding="utf-8") for path in pages.glob("api/*.html"))
    names = {name: getattr(gahb, name) for name in gahb.__all__}
    names = {name: f"{thing.__module__}.{name}" for name, thing in names.items() if callable(thing)}
    names |= {name: f"gahb.datasets.{name}" for name in gahb.datasets.__all__}
    assert [name for name, place in names.items() if f'id="{place}"' not in places] == []


def test_a_widget_is_shown_by_its_picture_and_an_ended_bar_not_at_all(notebook):
    assert notebook.count("<img") == 2
    assert "faces:" not in notebook


def test_formulas_need_no_script(notebook):
    inline, block, heading, *_ = map(ElementTree.fromstring, re.findall("<math.*?</math>", notebook, re.DOTALL))
    formulas = ["".join("".join(formula.itertext()).split()) for formula in (inline, block, heading)]
    assert formulas == ["a<bk", "f(y)=∑kλk,(6)", "α=3"]
    assert (inline.get("display"), block.get("display")) == (None, "block")


def test_no_page_loads_anything_from_another_server(pages):
    loads = r"<(?:script|img|iframe)[^>]*src=['\"]?(?:https?:)?//|@import|import\(|<link[^>]*stylesheet[^>]*https?://"
    for page in pages.rglob("*.html"):
        assert re.findall(loads, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_an_error(tmp_path):
    (tmp_path / "source").mkdir()
    shutil.copy(project() / "tools" / "docs" / "conf.py", tmp_path / "source")
    (tmp_path / "source" / "index.md").write_text("# A\n\n[nowhere](nowhere.md), {py:func}`gahb.nowhere`")
    status, messages = run_sphinx(tmp_path)
    assert status == 1
    assert "cross-reference target not found: 'nowhere.md'" in messages
    assert "reference target not found: gahb.nowhere" in messages
