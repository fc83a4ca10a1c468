"""What the tests of pages and notebooks in a browser share: Debian's Chromium, driven by selenium; `make docs`."""

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.request import urlopen

from gahb.training.store import project

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


def build_docs(root, executed):
    """Build the pages of `make docs`, with an executed notebook, in ``root / "docs"``; returns status and messages."""
    shutil.copytree(project() / "tools" / "docs", root / "source")
    (root / "source" / "runs" / "smoke").mkdir()
    shutil.copy(executed, root / "source" / "runs" / "smoke")
    return run_sphinx(root)


def run_sphinx(root):
    """Run Sphinx as `make docs` does, from ``root / "source"``; returns its status and messages."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-nq", root / "source", root / "docs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def home_with(home, notebooks, settings=None):
    """Make a reader's folder: the notebooks, their figures beside them, and only these settings of Jupyter."""
    shutil.copytree(project() / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(project() / "pyproject.toml", home)  # pairs the notebooks
    for notebook in notebooks:
        for path in (home / "notebooks" / notebook).with_suffix(".py"), home / "notebooks" / notebook:
            path.write_text(path.read_text().replace("figures = None", f"figures = '{home / 'figures'}'"))
    for name, setting in (SETTINGS | (settings or {})).items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    return home


@contextmanager
def jupyterlab(home):
    """Run JupyterLab on that folder; yields a function from a path in it to its address."""
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
            yield lambda path: f"{address}/{path}?token={token}"
        finally:
            server.terminate()  # it ends its kernels


@contextmanager
def chromium(profile):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def answers(address):
    try:
        with urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def wait(condition, seconds, what):
    """Return what ``condition`` returns, as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {what}")


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def run_all(browser, address):
    """Open a notebook, and choose Run All in the menu."""
    browser.get(address)
    idle = "//*[@id='jp-bottom-panel']//*[contains(text(), '| Idle')]"
    wait(lambda: browser.find_elements("xpath", idle), 120, "a kernel")
    browser.find_element("xpath", "//div[contains(@class, 'lm-MenuBar-itemLabel')][. = 'Run']").click()
    wait(lambda: find(browser, "li[data-command='runmenu:run-all']"), 10, "the menu")[0].click()


def errors(browser):
    return [output.text for output in find(browser, "[data-mime-type='application/vnd.jupyter.error']")]


def pixels(browser):
    """Return the picture of the explorer, or nothing."""
    images = find(browser, "img.widget-image")
    return images and browser.execute_script(PIXELS, images[0])


def slider(browser, label):
    """Return a slider of the explorer, scrolled into view, and its handle."""
    found = browser.find_element("xpath", f"//div[contains(@class, 'widget-slider')][label = '{label}']")
    handle = found.find_element("css selector", ".noUi-handle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    return found, handle


def readout(found):
    return float(found.find_element("css selector", ".widget-readout").text)
