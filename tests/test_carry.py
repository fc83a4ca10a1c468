"""Packed denoisers: whole or refused, never outside the store, never over one that is trained further."""

import json
import warnings
import zipfile

import pytest
import safetensors.torch
from click.testing import CliRunner
from test_store import assert_undisturbed, contents, folder_of, get, recipe

from gahb import scales, training
from gahb._files import read_tensors, write_tensors
from gahb.carry import HALF_TRAINED, TRAINED, pack, unpack
from gahb.cli import main
from gahb.store import identity, locked
from gahb.training import TrainingStopped

NAME = identity(recipe())


def half(root, monkeypatch, steps=7):
    """Train so many steps of twenty; the bytes of the checkpoint."""
    inner, begun = training.draw_sigmas, [0]

    def draw(*arguments):
        begun[0] += 1
        if begun[0] > steps:
            raise KeyboardInterrupt
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "draw_sigmas", draw)
        with pytest.raises(KeyboardInterrupt):
            get(root)
    return (folder_of(root) / "checkpoint.safetensors").read_bytes()


def packed(root):
    (one,) = pack(root.parent / "carried", store=root)
    return root.parent / "carried" / f"{one.name}.zip"


def holds(root):
    return {name.rpartition("/")[2]: content for name, content in contents(root).items() if not name.endswith(".lock")}


def test_a_trained_denoiser_arrives_whole(tmp_path):
    get(tmp_path / "a")
    file = packed(tmp_path / "a")
    assert str(unpack(file, tmp_path / "b")) == f"{NAME}  trained"
    assert holds(tmp_path / "b") == holds(tmp_path / "a")
    assert sorted(holds(tmp_path / "b")) == sorted(TRAINED)
    assert_undisturbed(get(tmp_path / "b"))


def test_a_half_trained_one_goes_on_bit_for_bit(tmp_path, monkeypatch):
    checkpoint = half(tmp_path / "a", monkeypatch)
    (one,) = pack(tmp_path / "carried", store=tmp_path / "a")
    assert str(one) == f"{NAME}  56 of 160 images"
    unpack(tmp_path / "carried" / f"{NAME}.zip", tmp_path / "b")
    assert holds(tmp_path / "b") == {"checkpoint.safetensors": checkpoint}
    net = get(tmp_path / "b")
    assert_undisturbed(net)
    assert net.history[0]["images"] == 8  # the history came along, and the steps before were not made again


def test_one_is_packed_while_it_trains(tmp_path, monkeypatch):
    checkpoint = half(tmp_path / "a", monkeypatch)
    with locked(folder_of(tmp_path / "a")):
        file = packed(tmp_path / "a")
    with zipfile.ZipFile(file) as archive:
        assert archive.read("checkpoint.safetensors") == checkpoint


def test_two_packings_are_the_same_bytes(tmp_path):
    get(tmp_path / "a")
    first = packed(tmp_path / "a").read_bytes()
    packed(tmp_path / "a").unlink()
    assert packed(tmp_path / "a").read_bytes() == first


def test_a_file_of_the_paper_s_size_is_under_16_mb(tmp_path):
    """One step of the paper's network: weights, two moments of Adam, statistics."""
    asked = recipe("paper", size=scales.PAPER_TRAINING["size"], batch_size=1, images_seen=1_000)
    with pytest.raises(TrainingStopped):
        get(tmp_path / "a", asked, time_limit=0)
    tensors, _ = read_tensors(tmp_path / "a" / identity(asked) / "checkpoint.safetensors")
    assert sum(value.numel() for name, value in tensors.items() if name.startswith("optimizer")) > 2 * 665_856
    assert 4 * 3 * 665_856 < packed(tmp_path / "a").stat().st_size < 16e6


# --- what is there already --------------------------------------------------------------------------------------------


def test_what_is_trained_further_is_left_alone(tmp_path, monkeypatch):
    early, late = tmp_path / "early" / "s", tmp_path / "late" / "s"
    checkpoint = half(early, monkeypatch, 5)
    further = half(late, monkeypatch, 9)
    first, second = packed(early), packed(late)
    result = unpack(first, late)
    assert result.kept and str(result) == f"{NAME}  40 of 160 images; left alone, what is there is trained as far"
    assert holds(late) == {"checkpoint.safetensors": further}
    assert not unpack(second, early).kept
    assert holds(early) == {"checkpoint.safetensors": further} != {"checkpoint.safetensors": checkpoint}
    get(late)
    before = holds(late)
    assert unpack(second, late).kept and holds(late) == before
    assert not unpack(packed(late), early).kept  # over its own file of the half-trained one, and over the checkpoint
    assert holds(early) == before


def test_a_packed_one_that_is_trained_further_is_left_alone(tmp_path, monkeypatch):
    early, late, to = tmp_path / "early", tmp_path / "late", tmp_path / "to"
    half(early, monkeypatch, 5)
    half(late, monkeypatch, 9)
    assert [[one.kept for one in pack(to, store=store)] for store in (early, late, early)] == [[False], [False], [True]]
    assert unpack(to / f"{NAME}.zip", tmp_path / "c").seen == 72
    (to / f"{NAME}.zip").write_bytes(b"damaged")
    assert [one.kept for one in pack(to, store=early)] == [False]


def test_a_damaged_one_is_replaced(tmp_path, monkeypatch):
    half(tmp_path / "a", monkeypatch, 5)
    get(tmp_path / "b")
    weights = folder_of(tmp_path / "b") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"weights\.safetensors in tiny-\w+ is damaged"):
        assert not unpack(packed(tmp_path / "a"), tmp_path / "b").kept
    assert_undisturbed(get(tmp_path / "b"))


def test_one_that_is_being_trained_is_left_alone(tmp_path, monkeypatch):
    half(tmp_path / "a", monkeypatch)
    with (
        locked(folder_of(tmp_path / "b")),
        pytest.raises(RuntimeError, match="is being trained by another process; stop"),
    ):
        unpack(packed(tmp_path / "a"), tmp_path / "b")
    assert holds(tmp_path / "b") == {}


# --- files that somebody made -----------------------------------------------------------------------------------------


def zipped(path, entries, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of the same name twice
        for name, content in entries:
            archive.writestr(name, content)


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


def forged(root, **changes):
    """A checkpoint with another recipe and a right checksum."""
    tensors, about = read_tensors(folder_of(root) / "checkpoint.safetensors")
    about["recipe"] |= changes
    path = root.parent / "forged.safetensors"
    write_tensors(path, tensors, about)
    return path.read_bytes()


NOT_OURS = r"carried\.zip is no denoiser that gahb store pack wrote, or it is damaged: "
ALTERED = r"carried\.zip is damaged or was altered \("
PLANTED = {
    "a path upwards": (lambda good: [("../../ran", b""), *good.items()], NOT_OURS + r"it holds '\.\./\.\./ran'"),
    "only a path upwards": (lambda good: [("../checkpoint.safetensors", *good.values())], NOT_OURS),
    "an absolute path": (lambda good: [("/ran", b""), *good.items()], NOT_OURS + "it holds '/ran'"),
    "a folder": (lambda good: [("checkpoint.safetensors/", b"")], NOT_OURS),
    "a link": (lambda good: [(link("checkpoint.safetensors"), "../../../ran")], ALTERED),
    "one name twice": (lambda good: [*good.items(), *good.items()], NOT_OURS),
    "nothing": (lambda good: [], NOT_OURS + "it holds nothing"),
    "no weights": (lambda good: [("recipe.json", b"{}"), ("history.csv", b"")], NOT_OURS),
    "a pickle": (lambda good: [("checkpoint.safetensors", b"\x80\x04N.")], ALTERED),
    "another program's": (
        lambda good: [("checkpoint.safetensors", safetensors.torch.save({}, {"gahb": "[]"}))],
        ALTERED,
    ),
}


def refused(file, root, sentence):
    with pytest.raises(ValueError, match=sentence):
        unpack(file, root)
    assert not root.exists() and not list(root.parent.rglob("ran*"))


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_files_are_refused(planted, tmp_path, monkeypatch):
    good = {"checkpoint.safetensors": half(tmp_path / "a", monkeypatch)}
    entries, sentence = PLANTED[planted]
    zipped(tmp_path / "carried.zip", entries(good))
    refused(tmp_path / "carried.zip", tmp_path / "b", sentence)


def test_a_name_that_would_leave_the_store_is_refused(tmp_path, monkeypatch):
    half(tmp_path / "a", monkeypatch)
    for name in ("../../ran", "/ran", "", 3):
        zipped(tmp_path / "carried.zip", [("checkpoint.safetensors", forged(tmp_path / "a", name=name))])
        refused(tmp_path / "carried.zip", tmp_path / "b", ALTERED)
    zipped(tmp_path / "carried.zip", [("checkpoint.safetensors", forged(tmp_path / "a", unknown=1))])
    refused(tmp_path / "carried.zip", tmp_path / "b", ALTERED + ".*unknown")


def test_compressed_files_are_refused(tmp_path, monkeypatch):
    """So that no small file can grow."""
    half(tmp_path / "a", monkeypatch)
    zipped(tmp_path / "carried.zip", [("checkpoint.safetensors", bytes(10**6))], zipfile.ZIP_DEFLATED)
    refused(tmp_path / "carried.zip", tmp_path / "b", NOT_OURS + "its files are compressed or encrypted")


@pytest.mark.parametrize("trained", [False, True])
def test_every_length_and_altered_byte_is_noticed(trained, tmp_path, monkeypatch):
    """Each byte of the files in it, that is: what a zip holds beside them, such as the time, decides nothing."""
    get(tmp_path / "a") if trained else half(tmp_path / "a", monkeypatch)
    file, bad = packed(tmp_path / "a"), tmp_path / "carried.zip"
    good = file.read_bytes()
    for length in (0, 1, len(good) // 2, len(good) - 22, len(good) - 1):
        bad.write_bytes(good[:length])
        refused(bad, tmp_path / "b", r"carried\.zip is ")
    for content in holds(tmp_path / "a").values():
        start = good.index(content)
        for place in (start, start + len(content) // 2, start + len(content) - 1):
            bad.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            refused(bad, tmp_path / "b", r"carried\.zip is ")


def test_files_of_two_denoisers_are_refused(tmp_path):
    """Each sound, but the weights are not of the recipe."""
    other = recipe(size={"depth": 4, "channels": 4}, images_seen=8)
    get(tmp_path / "a")
    get(tmp_path / "a", other)
    files = {name: (folder_of(tmp_path / "a") / name).read_bytes() for name in TRAINED}
    files["weights.safetensors"] = (tmp_path / "a" / identity(other) / "weights.safetensors").read_bytes()
    zipped(tmp_path / "carried.zip", files.items())
    refused(tmp_path / "carried.zip", tmp_path / "b", ALTERED + "its weights are of another network")
    files["recipe.json"] = json.dumps({"recipe": recipe().settings()}).encode()
    zipped(tmp_path / "carried.zip", files.items())
    refused(tmp_path / "carried.zip", tmp_path / "b", ALTERED + "it is not of the recipe")


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, ["store", *map(str, arguments)])


def test_pack_and_unpack_from_the_command_line(tmp_path, monkeypatch):
    half(tmp_path / "a", monkeypatch)
    get(tmp_path / "a", recipe("other", images_seen=8))
    (tmp_path / "a" / "jobs").mkdir()
    (tmp_path / "a" / "notes.txt").touch()
    other = identity(recipe("other", images_seen=8))
    result = run("pack", "--store", tmp_path / "a", "--to", tmp_path / "c")
    assert result.output.splitlines() == [f"{other}  trained", f"{NAME}  56 of 160 images"]
    result = run("pack", "--store", tmp_path / "a", "--to", tmp_path / "d", "--only", "tiny")
    assert result.exit_code == 0 and [file.name for file in (tmp_path / "d").iterdir()] == [f"{NAME}.zip"]
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"")
    result = run("unpack", bad, *sorted((tmp_path / "c").iterdir()), tmp_path / "none.zip", "--store", tmp_path / "b")
    assert result.exit_code == 1 and result.stderr == "gahb: 2 of 4 were not unpacked\n"
    assert f"{bad} FAILED: bad.zip is no denoiser" in result.stdout and f"{NAME}  56 of 160" in result.stdout
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted([other, NAME])


def test_damaged_ones_are_left_out(tmp_path, monkeypatch):
    half(tmp_path / "a", monkeypatch)
    (checkpoint,) = (tmp_path / "a").rglob(HALF_TRAINED[0])
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    get(tmp_path / "a", recipe("foreign", images_seen=8))
    strange = tmp_path / "a" / "strange-0123456789"
    strange.mkdir()
    (strange / "checkpoint.safetensors").write_bytes(half(tmp_path / "b", monkeypatch))
    with pytest.warns(UserWarning, match="left out") as said:
        assert [one.name.partition("-")[0] for one in pack(tmp_path / "c", store=tmp_path / "a")] == ["foreign"]
    assert sorted(str(one.message).partition(" ")[0] for one in said) == [strange.name, NAME]


def test_nothing_to_pack(tmp_path):
    result = run("pack", "--store", tmp_path / "a", "--to", tmp_path / "c", "--only", "cats")
    sentence = f"there is no denoiser whose name begins with cats in {tmp_path / 'a'}; give another store or name"
    assert result.exit_code == 1 and result.stderr == f"gahb: {sentence}\n"
    assert not (tmp_path / "c").exists()
