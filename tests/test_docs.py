"""The pages of `make docs`: every public module, the executed notebooks, and no link or image that leads nowhere."""

import base64
import io
import re
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat import v4
from PIL import Image

import gahb
from gahb import docs


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages, with one executed notebook: a heading, formulas, a figure, an explorer, and a bar that has run."""
    root = tmp_path_factory.mktemp("the pages")
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 128).save(buffer, "PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "Explorer(...)"}
    widget = {docs.WIDGET: {"model_id": "0123", "version_major": 2, "version_minor": 0}}
    shown = (data, data | widget, {"text/plain": "faces:   0%|"} | widget)
    outputs = [v4.new_output("display_data", each) for each in shown]
    text = "# A result\n\nsee [above](#A-result): $a < b_k$, and\n\n$$f(y) = \\sum_k \\lambda_k, \\tag{6}$$"
    cells = [
        v4.new_markdown_cell(text),
        v4.new_markdown_cell("## For $\\alpha = 3$"),
        v4.new_code_cell("1", outputs=outputs),
    ]
    (root / "runs" / "smoke").mkdir(parents=True)
    nbformat.write(v4.new_notebook(cells=cells), root / "runs" / "smoke" / "03_example.ipynb")
    (root / "runs" / "smoke" / "04_cut.ipynb").write_text('{"cells": [')
    with pytest.warns(UserWarning, match="04_cut.ipynb of smoke is left out; run it again"):
        docs.build(root / "docs", root / "runs")
    return root / "docs"


def test_no_link_and_no_image_is_broken(pages):
    assert docs.broken(pages) == []


def test_a_formula_in_a_heading(notebook):
    heading = re.search(r"<h2.*?For .*?</h2>", notebook).group()
    assert re.search(r"<math[^>]*><mrow><mi>α</mi><mo>=</mo><mn>3</mn></mrow></math>", heading)


def test_every_public_name_has_its_page(pages):
    text = (pages / "gahb.html").read_text(encoding="utf-8")
    assert [name for name in gahb.__all__ if f'id="{name}"' not in text and f"gahb/{name}.html" not in text] == []
    index = (pages / "index.html").read_text(encoding="utf-8")
    for name in ("gahb/jacobian.html", "gahb/datasets/manifolds.html", "notebooks/smoke/03_example.html"):
        assert name in index and (pages / name).is_file()
    assert "Eq. 6" in (pages / "gahb" / "jacobian.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def notebook(pages):
    """The page of the executed notebook."""
    return (pages / "notebooks" / "smoke" / "03_example.html").read_text(encoding="utf-8")


def test_a_widget_is_shown_by_its_picture_and_a_bar_not_at_all(notebook):
    assert notebook.count("<img") == 2
    assert docs.WIDGET not in notebook and "faces:" not in notebook


def test_formulas_need_no_script(notebook):
    inline, block, _ = (ElementTree.fromstring(text) for text in re.findall("<math.*?</math>", notebook, re.S))
    assert (inline.get("display"), block.get("display")) == ("inline", "block")
    assert "".join(inline.itertext()) == "a<bk" and "".join(block.itertext()) == "f(y)=∑kλk,(6)"
    assert "$" not in re.sub("(?s)<style.*?</style>", "", notebook)


def test_no_page_loads_anything_from_another_server(pages):
    for page in pages.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert (
            re.findall(
                r"<(?:script|img|iframe)[^>]*src=['\"]?(?:https?:)?//|@import|import\(|<link[^>]*https?://", text
            )
            == []
        )


def test_what_leads_nowhere_is_found(tmp_path):
    (tmp_path / "sub folder").mkdir()
    (tmp_path / "sub folder" / "b.html").write_text("<h1 id='here'>b</h1><a href='../a.html#top'>a</a>")
    (tmp_path / "picture.png").write_bytes(b"")
    good = ["#", "https://example.org", "data:,", "picture.png", "sub%20folder/b.html#here"]
    bad = ["#nowhere", "missing.html", "sub%20folder/b.html#there"]
    links = "".join(f"<a href='{link}'>x</a>" for link in good + bad)
    (tmp_path / "a.html").write_text(f"{links}<img src='picture.png'><img src='lost.png'>")
    assert docs.broken(tmp_path) == sorted(f"a.html: {link}" for link in [*bad, "lost.png"])
