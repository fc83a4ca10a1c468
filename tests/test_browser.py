"""A reader in a real browser: JupyterLab, notebooks 03 and 05, Run All, their explorers; the pages of `make docs`."""

import nbformat
import pytest
from reader import MISSING, build_docs, chromium, errors, home_with, jupyterlab, pixels, readout, run_all, slider, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no browser test: {', '.join(MISSING)} not installed"),
]

NOTEBOOK = "03_jacobian_basis.ipynb"

# Images of a page that do not show, and text that cannot be read. Transitions are switched off, or a change of theme
# would not be seen at once.
SEEN = """
document.head.insertAdjacentHTML("beforeend", "<style>* { transition: none !important }</style>");
const rgba = text => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) + 0.05;
const paint = e => e ? rgba(getComputedStyle(e).backgroundColor) : arguments[0];
function contrast(element) {
  let behind = element;
  while (paint(behind)[3] === 0) behind = behind.parentElement;
  const [a, b] = [light(rgba(getComputedStyle(element).color)), light(paint(behind))];
  return Math.max(a / b, b / a);
}
const texts = e => [...e.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
return {
  images: document.images.length,
  lost: [...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 80)),
  faint: [...document.body.querySelectorAll("*")].filter(e => texts(e) && e.checkVisibility() && contrast(e) < 3)
    .map(e => `${e.textContent.trim().slice(0, 40)}: ${contrast(e).toFixed(1)}`),
};
"""
PAPER = {"light": [255, 255, 255, 1], "dark": [18, 18, 18, 1]}  # behind a page that paints no background


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return home_with(tmp_path_factory.mktemp("a reader"), [NOTEBOOK])


@pytest.fixture(scope="module")
def lab(home):
    with jupyterlab(home) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def explored(browser, lab):
    """The browser with notebook 03, all of its cells run."""
    run_all(browser, lab(f"lab/tree/notebooks/{NOTEBOOK}"))
    wait(lambda: errors(browser) or pixels(browser), 300, "the explorer")
    return browser


@pytest.fixture(scope="module")
def executed(explored, home):
    """The notebook as Ctrl-S saves it, when all of its cells have run."""
    from selenium.webdriver import ActionChains, Keys

    path = home / "notebooks" / NOTEBOOK

    def saved():
        ActionChains(explored).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        return errors(explored) or all(cell.execution_count for cell in code)

    wait(saved, 60, "the notebook to be saved with all of its cells run")
    return path


def test_every_cell_runs_and_none_fails(explored, executed):
    outputs = [output for cell in nbformat.read(executed, as_version=4).cells for output in cell.get("outputs", [])]
    assert errors(explored) == []
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4


@pytest.mark.parametrize("label", ["vector k", "noise σ", "test image"])
def test_the_mouse_drags_a_slider_and_the_picture_follows_there_and_back(explored, label):
    from selenium.webdriver import ActionChains

    moved, handle = slider(explored, label)
    before, value = pixels(explored), readout(moved)
    drag = ActionChains(explored).click_and_hold(handle)
    for _ in range(5):
        drag.move_by_offset(8, 0)
    drag.perform()
    wait(lambda: pixels(explored) not in ("", before), 20, "another picture while the button is held")
    assert readout(moved) > value
    ActionChains(explored).move_by_offset(-40, 0).release().perform()
    wait(lambda: pixels(explored) == before, 20, "the first picture")
    assert readout(moved) == value


def test_the_server_logs_no_error(executed, home):
    log = (home / "lab.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def pages(executed, tmp_path_factory):
    """The pages of `make docs`, with the notebook that the browser has executed."""
    root = tmp_path_factory.mktemp("the pages")
    assert build_docs(root, executed) == (0, "")
    return root / "docs"


@pytest.mark.parametrize("theme", PAPER)
@pytest.mark.parametrize("page", ["index.html", "api/gahb.jacobians.html", f"runs/smoke/{NOTEBOOK[:-6]}.html"])
def test_a_page_of_the_docs_is_whole_and_readable_in_both_themes(browser, pages, page, theme):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get((pages / page).as_uri())
    seen = browser.execute_script(SEEN, PAPER[theme])
    assert (seen["lost"], seen["faint"]) == ([], [])
    assert seen["images"] >= (4 if page.startswith("runs") else 0)
    assert [message for message in browser.get_log("browser") if message["level"] == "SEVERE"] == []


# --- The dark theme of JupyterLab: notebook 05 ------------------------------------------------------------------------

DISKS = "05_manifolds.ipynb"
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
    home, bars = home_with(tmp_path_factory.mktemp("a night reader"), [DISKS], DARK), set()

    def there():
        bars.update(map(tuple, browser.execute_script(BARS)))
        return errors(browser) or pixels(browser)

    with jupyterlab(home) as lab, chromium(tmp_path_factory.mktemp("chromium")) as browser:
        run_all(browser, lab(f"lab/tree/notebooks/{DISKS}"))
        wait(there, 300, "the explorer")
        yield browser, bars


def test_every_cell_runs_in_the_dark(seen):
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
