"""The explorers without a browser: values move, the picture follows, and nothing is computed twice."""

import io
import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

import gahb
from gahb import bases, datasets
from gahb import jacobians as jacobians_module
from gahb.companion import explorers
from gahb.training import store

SIZE = 12
NET = gahb.BFCNN(depth=3, channels=4, seed=1).eval()
IMAGES = datasets.c_alpha(3, SIZE, 2.0, seed=5)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store with a network of this size and one of another."""
    folder = tmp_path_factory.mktemp("a store")
    for size in (SIZE, 16):
        data = {"class": "disks", "n": 8, "size": size, "seed": 0}
        small = {"network_kwargs": {"depth": 3, "channels": 4}, "images_seen": 16, "batch_size": 8}
        store.load_or_train(gahb.Recipe(f"disks-{size}", data, **small), None, folder, "cpu", progress=False)
    return folder


@pytest.fixture(scope="module")
def explored(stored):
    """One explorer for all tests: each leaves it as it was."""
    return explorers.adaptive_basis(NET, IMAGES, stored)


@pytest.fixture
def jacobians(monkeypatch):
    """Count the Jacobians that are computed: the list grows by one for each."""
    calls, real = [], jacobians_module.jacobian
    monkeypatch.setattr(jacobians_module, "jacobian", lambda *args: calls.append(1) or real(*args))
    return calls


def pixels(explored):
    """The picture as an array (H, W, 4)."""
    return np.asarray(Image.open(io.BytesIO(explored.picture.value)))


def upload(explored, content):
    about = {"name": "mine.png", "type": "image/png", "size": len(content), "last_modified": datetime.now(UTC)}
    explored.controls["file"].value = ({**about, "content": memoryview(content)},)


def png_bytes(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("control", "value"), [("image", 1), ("sigma", 0.5), ("k", 7)])
def test_the_picture_follows_each_control_and_comes_back(explored, control, value):
    before, start = pixels(explored), explored.controls[control].value
    explored.controls[control].value = value
    after = pixels(explored)
    assert after.shape == before.shape and after.std() > 10
    assert (after != before).any()
    explored.controls[control].value = start
    assert (pixels(explored) == before).all()  # the noise is that of the seed
    assert explored.message.value == ""


def test_moving_k_alone_computes_no_jacobian(jacobians, stored):
    explored = explorers.adaptive_basis(NET, IMAGES, stored)
    assert len(jacobians) == 1
    for k in (2, SIZE**2):
        explored.controls["k"].value = k
    assert len(jacobians) == 1
    explored.controls["sigma"].value = 0.3
    explored.controls["image"].value = 2
    assert len(jacobians) == 3


def test_networks_of_this_size_are_offered_and_used(explored, stored):
    own, *others = explored.controls["denoiser"].options
    assert [name.rsplit("-", 1)[0] for name in others] == [f"disks-{SIZE}"]
    before = pixels(explored)
    explored.controls["denoiser"].value = others[0]
    expected = bases.analyse(store.load(stored / others[0]), IMAGES[0], explored.controls["sigma"].value)
    assert explored.picture.value == explorers.png(explorers.draw_basis(expected, 1))
    explored.controls["denoiser"].value = own
    assert (pixels(explored) == before).all()


def test_a_damaged_network_is_reported_and_the_picture_stays(stored, tmp_path):
    (folder,) = stored.glob(f"disks-{SIZE}-*")
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    explored = explorers.adaptive_basis(NET, IMAGES, tmp_path)
    (copy / "weights.safetensors").unlink()
    before = explored.picture.value
    explored.controls["denoiser"].value = copy.name
    assert f"{copy.name} are damaged or missing" in explored.message.value
    assert explored.picture.value == before
    explored.controls["denoiser"].value = explorers.OWN
    assert explored.message.value == ""


def test_a_file_replaces_the_image_until_another_is_chosen(explored):
    before = pixels(explored)
    array = (np.random.default_rng(0).random((SIZE, SIZE + 6)) * 255).astype(np.uint8)
    upload(explored, png_bytes(array))
    clean = torch.from_numpy(array)[None, :, 3:-3].float() / 255  # the central square
    sigma = explored.controls["sigma"].value
    assert explored.picture.value == explorers.png(explorers.draw_basis(bases.analyse(NET, clean, sigma), 1))
    explored.controls["image"].value = 1
    explored.controls["image"].value = 0
    assert explored.controls["file"].value == ()
    assert (pixels(explored) == before).all()


def test_a_file_that_is_not_an_image_gets_a_sentence(explored):
    before = explored.picture.value
    upload(explored, b"<script>alert(1)</script>")
    assert "not an image that can be read" in explored.message.value
    assert explored.picture.value == before
    explored.controls["file"].value = ()
    assert explored.message.value == ""


def test_what_is_drawn_of_the_basis():
    analysis = bases.analyse(NET, IMAGES[0], 0.15)
    fig = explorers.draw_basis(analysis, 5)
    *pictures, curve, dots = fig.axes
    shown = [np.asarray(ax.images[0].get_array()) for ax in pictures]
    expected = [*analysis.images, analysis.basis.vectors[4]]
    assert all(np.array_equal(a, b) for a, b in zip(shown, expected, strict=True))
    assert np.array_equal(curve.lines[0].get_ydata(), analysis.basis.shrinkage)
    assert np.allclose(dots.lines[0].get_ydata(), analysis.coefficients.abs())
    marker = curve.lines[-1]
    assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (5, analysis.basis.shrinkage[4])
    assert pictures[3].get_title() == (
        f"e5: λ = {analysis.basis.shrinkage[4]:.3f}, ⟨x, e⟩ = {analysis.coefficients[4]:.2f}"
    )


def test_the_disk_follows_each_control():
    explored = explorers.disk(NET, SIZE)
    moves = {"row": 3.0, "column": 9.0, "radius": 3.5, "background": 0.6, "sigma": 0.3, "foreground": 0.6}
    for control, value in moves.items():  # the last leaves no contrast: three tangent vectors are zero
        before = pixels(explored)
        explored.controls[control].value = value
        assert explored.message.value == ""
        assert (pixels(explored) != before).any()


def test_what_is_drawn_of_a_disk():
    image, tangents = datasets.disk_at([[4, 6, 3.5, 0.9, 0.2]], SIZE)
    fig = explorers.draw_disk(bases.analyse(NET, image[0], 0.04), tangents[0])
    shown = {ax.get_title(): np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images}
    assert np.array_equal(shown["clean"], image[0, 0])
    assert np.array_equal(shown["tangent: radius"], tangents[0, 2])
    assert sum(title.startswith("e") for title in shown) == 5
    assert "tangent space" in fig.texts[0].get_text()


def test_a_viewer_without_widgets_shows_the_picture(explored):
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(explored)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert json.loads(json.dumps(data["image/png"])).startswith("iVBORw0KGgo")  # PNG in base64
