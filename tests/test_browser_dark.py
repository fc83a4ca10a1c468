"""A reader with Lab's dark theme: notebook 05, Run All; bars that move, figures on white, its explorer."""

import pytest
from reader import MISSING, chromium, errors, home_with, jupyterlab, pixels, readout, run_all, slider, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no browser test: {', '.join(MISSING)} not installed"),
]

NOTEBOOK = "05_manifolds.ipynb"
DARK = {"apputils-extension/themes": {"theme": "JupyterLab Dark"}}
BARS = """
return [...document.querySelectorAll(".jp-OutputArea .jupyter-widgets.widget-hbox")].map(box =>
  [box.querySelector(".widget-html")?.textContent.trim(), box.querySelector(".progress-bar")?.style.width])
  .filter(([label, width]) => label && width);
"""
# Of each figure of the notebook: its width on the page and in itself, and the colour of its corners.
FIGURES = """
return [...document.querySelectorAll(".jp-RenderedImage img")].map(image => {
  const canvas = document.createElement("canvas"), [w, h] = [image.naturalWidth, image.naturalHeight];
  [canvas.width, canvas.height] = [w, h];
  const paper = canvas.getContext("2d");
  paper.drawImage(image, 0, 0);
  const corners = [[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]];
  return {shown: image.getBoundingClientRect().width, own: w,
          corners: corners.flatMap(([x, y]) => [...paper.getImageData(x, y, 1, 1).data])};
});
"""
PAGE = """
return [...getComputedStyle(document.querySelector(".jp-Notebook")).backgroundColor.matchAll(/\\d+/g)].map(Number);
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The browser with all cells of notebook 05 run, and the (label, width) of the bars seen meanwhile."""
    home, bars = home_with(tmp_path_factory.mktemp("a night reader"), [NOTEBOOK], DARK), set()

    def there():
        bars.update(map(tuple, browser.execute_script(BARS)))
        return errors(browser) or pixels(browser)

    with jupyterlab(home) as lab, chromium(tmp_path_factory.mktemp("chromium")) as browser:
        run_all(browser, lab(f"lab/tree/notebooks/{NOTEBOOK}"))
        wait(there, 300, "the explorer")
        yield browser, bars


def test_every_cell_runs(seen):
    assert errors(seen[0]) == []


def test_bars_move_while_a_network_is_trained(seen):
    widths = {}
    for label, width in seen[1]:
        widths.setdefault(label.partition(":")[0], set()).add(width)  # the label ends with the percentage
    assert max(map(len, widths.values()), default=0) >= 3, widths
    assert any(label.startswith("disks-N1000") for label in widths)


def test_figures_are_readable_on_a_dark_page(seen):
    figures = seen[0].execute_script(FIGURES)
    assert sum(seen[0].execute_script(PAGE)[:3]) < 3 * 64  # it is dark
    assert len(figures) == 4
    for figure in figures:
        assert figure["corners"] == [255] * 16  # white and opaque
        assert figure["shown"] == pytest.approx(100 / 150 * figure["own"], abs=1)  # 100 dots an inch, not shrunk


@pytest.mark.parametrize("label", ["row", "radius", "noise σ"])
def test_a_disk_is_moved_and_its_tangent_space_follows(seen, label):
    from selenium.webdriver import Keys

    moved, handle = slider(seen[0], label)
    before, value = pixels(seen[0]), readout(moved)
    seen[0].execute_script("arguments[0].focus()", handle)
    handle.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: pixels(seen[0]) not in ("", before), 20, "another picture")
    assert readout(moved) > value
