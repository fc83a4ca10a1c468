"""The pages of `make docs`: every public module, the executed notebooks, and no link or image that leads nowhere."""

import base64
import io

import nbformat
import pytest
from nbformat import v4
from PIL import Image

import gahb
from gahb import docs


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages, with one executed notebook: a heading, a figure, and an explorer."""
    root = tmp_path_factory.mktemp("the pages")
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 128).save(buffer, "PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "Explorer(...)"}
    widget = {docs.WIDGET: {"model_id": "0123", "version_major": 2, "version_minor": 0}}
    outputs = [v4.new_output("display_data", data), v4.new_output("display_data", data | widget)]
    cells = [v4.new_markdown_cell("# A result\n\nsee [above](#A-result)"), v4.new_code_cell("1", outputs=outputs)]
    (root / "runs" / "smoke").mkdir(parents=True)
    nbformat.write(v4.new_notebook(cells=cells), root / "runs" / "smoke" / "03_example.ipynb")
    docs.build(root / "docs", root / "runs")
    return root / "docs"


def test_no_link_and_no_image_is_broken(pages):
    assert docs.broken(pages) == []


def test_every_public_name_has_its_page(pages):
    text = (pages / "gahb.html").read_text(encoding="utf-8")
    assert [name for name in gahb.__all__ if f'id="{name}"' not in text and f"gahb/{name}.html" not in text] == []
    index = (pages / "index.html").read_text(encoding="utf-8")
    for name in ("gahb/jacobian.html", "gahb/datasets/manifolds.html", "notebooks/smoke/03_example.html"):
        assert name in index and (pages / name).is_file()
    assert "Eq. 6" in (pages / "gahb" / "jacobian.html").read_text(encoding="utf-8")


def test_a_widget_is_shown_by_its_picture(pages):
    text = (pages / "notebooks" / "smoke" / "03_example.html").read_text(encoding="utf-8")
    assert text.count("<img") == 2
    assert docs.WIDGET not in text


def test_what_leads_nowhere_is_found(tmp_path):
    (tmp_path / "sub folder").mkdir()
    (tmp_path / "sub folder" / "b.html").write_text("<h1 id='here'>b</h1><a href='../a.html#top'>a</a>")
    (tmp_path / "picture.png").write_bytes(b"")
    good = ["#", "https://example.org", "data:,", "picture.png", "sub%20folder/b.html#here"]
    bad = ["#nowhere", "missing.html", "sub%20folder/b.html#there"]
    links = "".join(f"<a href='{link}'>x</a>" for link in good + bad)
    (tmp_path / "a.html").write_text(f"{links}<img src='picture.png'><img src='lost.png'>")
    assert docs.broken(tmp_path) == sorted(f"a.html: {link}" for link in [*bad, "lost.png"])
