"""A reader's session in a real browser: JupyterLab, notebook 03, Run All, and a slider that moves."""

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import nbformat
import pytest

from gahb.store import project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [
    name
    for name, there in {
        "Chromium": CHROMIUM,
        "chromedriver": shutil.which("chromedriver"),
        "selenium": importlib.util.find_spec("selenium"),
    }.items()
    if not there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no browser test: {', '.join(MISSING)} not installed")

NOTEBOOK = "03_jacobian_basis.ipynb"
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "force-device-scale-factor=1", "window-size=1400,1600"),
)
SETTINGS = {  # no network, and every cell in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
PIXELS = """
const image = arguments[0], canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
canvas.getContext("2d").drawImage(image, 0, 0);
return image.complete && image.naturalWidth ? canvas.toDataURL() : "";
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A reader's folder: the notebooks, their figures beside them, and nobody's settings."""
    home = tmp_path_factory.mktemp("a reader")
    shutil.copytree(project() / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(project() / "pyproject.toml", home)  # pairs the notebooks
    for path in (home / "notebooks" / NOTEBOOK).with_suffix(".py"), home / "notebooks" / NOTEBOOK:
        path.write_text(path.read_text().replace("figures = None", f"figures = '{home / 'figures'}'"))
    for name, setting in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    return home


@pytest.fixture(scope="module")
def lab(home):
    """The address of a JupyterLab on that folder, with its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    folders |= {"IPYTHONDIR": "ipython", "GAHB_STORE": "store"}
    environment = os.environ | {name: str(home / folder) for name, folder in folders.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home}"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with (
        (home / "lab.log").open("w") as log,
        subprocess.Popen(command, cwd=home, env=environment, stderr=log) as server,
    ):
        try:
            wait(lambda: answers(f"{address}/api?token={token}"), 60, "JupyterLab to answer")
            yield f"{address}/lab/tree/notebooks/{NOTEBOOK}?token={token}"
        finally:
            server.terminate()  # it ends its kernels


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def answers(address):
    try:
        with urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def wait(condition, seconds, what):
    """What ``condition`` returns, as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {what}")


def find(browser, selector):
    return browser.find_elements("css selector", selector)


@pytest.fixture(scope="module")
def explored(browser, lab):
    """The browser with notebook 03, all of its cells run."""
    browser.get(lab)
    wait(
        lambda: browser.find_elements("xpath", "//*[@id='jp-bottom-panel']//*[contains(text(), '| Idle')]"),
        120,
        "a kernel",
    )
    browser.find_element("xpath", "//div[contains(@class, 'lm-MenuBar-itemLabel')][. = 'Run']").click()
    wait(lambda: find(browser, "li[data-command='runmenu:run-all']"), 10, "the menu")[0].click()
    wait(lambda: errors(browser) or pixels(browser), 300, "the explorer")
    return browser


def errors(browser):
    return [output.text for output in find(browser, "[data-mime-type='application/vnd.jupyter.error']")]


def pixels(browser):
    images = find(browser, "img.widget-image")
    return images and browser.execute_script(PIXELS, images[0])


def test_every_cell_runs_and_none_fails(explored, home):
    from selenium.webdriver import ActionChains, Keys

    def saved():
        ActionChains(explored).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
        cells = nbformat.read(home / "notebooks" / NOTEBOOK, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        return errors(explored) or (all(cell.execution_count for cell in code) and code)

    code = wait(saved, 30, "the notebook to be saved with all of its cells run")
    assert errors(explored) == []
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) >= 4


@pytest.mark.parametrize("label", ["vector k", "noise σ"])
def test_a_slider_changes_the_picture(explored, label):
    from selenium.webdriver import Keys

    slider = explored.find_element("xpath", f"//div[contains(@class, 'widget-slider')][label = '{label}']")
    handle = slider.find_element("css selector", ".noUi-handle")
    explored.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", handle)
    before, value = pixels(explored), readout(slider)
    handle.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: pixels(explored) not in ("", before), 20, "another picture")
    assert readout(slider) > value


def readout(slider):
    return float(slider.find_element("css selector", ".widget-readout").text)


def test_the_server_logs_no_error(explored, home):
    log = (home / "lab.log").read_text()
    assert "Traceback" not in log, log
