"""Files that are whole or absent, held against safetensors' own reader, real full disks and altered bytes."""

import errno
import os
import random
import stat
import warnings

import pytest
import safetensors.torch
import torch
from helpers import full_disk
from safetensors import SafetensorError

from gahb._util import files
from gahb._util.files import read_tensors, remove_leftovers, write_atomically, write_tensors, write_text

TENSORS = {
    "floats": torch.arange(6.0).reshape(2, 3),
    "zero-dim": torch.tensor(3.5),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "half zero-dim": torch.tensor(2.0, dtype=torch.bfloat16),
    "strided": torch.arange(24.0).reshape(1, 4, 3, 2).to(memory_format=torch.channels_last),
    "none": torch.zeros(0, 3),
}
ABOUT = {"name": "Gesicht ä", "rows": [{"loss": 0.1}], "seen": 3}


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_tensors_come_back_and_others_can_read_them(tmp_path):
    path = tmp_path / "Ordner mit Leerzeichen é" / "t.safetensors"
    write_tensors(path, TENSORS, ABOUT)
    tensors, about = read_tensors(path)
    theirs = safetensors.torch.load_file(path)
    assert about == ABOUT
    assert tensors.keys() == theirs.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
        assert tensors[key].dtype == value.dtype and torch.equal(tensors[key], value)
        assert torch.equal(theirs[key], value)
    assert names(path.parent) == ["t.safetensors"]


def test_same_content_same_bytes(tmp_path):
    write_tensors(tmp_path / "a", TENSORS, ABOUT)
    write_tensors(tmp_path / "b", dict(reversed(TENSORS.items())), dict(reversed(ABOUT.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_absent_file_is_none_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_tensors(tmp_path / "no") is None
        assert read_tensors(tmp_path) is None
        assert read_tensors(tmp_path / "no" / "no") is None


def assert_set_aside(path, damaged):
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match=r"t in store is damaged \(.+\); set aside as t.damaged"):
        assert read_tensors(path) is None
    assert names(path.parent) == ["t.damaged"]
    assert path.with_name("t.damaged").read_bytes() == damaged


def test_every_altered_byte_and_every_length_is_noticed(tmp_path):
    path = tmp_path / "store" / "t"
    tensors = {"a": torch.arange(5.0), "b": torch.ones(2, dtype=torch.uint8)}
    write_tensors(path, tensors, {"x": 1})
    good, draw = path.read_bytes(), random.Random(0)
    for length in (0, 1, 7, 8, 9, len(good) // 2, len(good) - 1):
        assert_set_aside(path, good[:length])
    assert_set_aside(path, good + b"\0")
    assert_set_aside(path, bytes(len(good)))
    padding = {place for place in range(8, len(good)) if good[place : place + 1] == b" "}
    for place in range(len(good)):
        altered = bytearray(good)
        altered[place] ^= 1 << draw.randrange(8)
        if place in padding:  # spaces of JSON carry nothing: the file is refused, or it is what it was
            path.write_bytes(altered)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read_tensors(path)
            assert found is None or (found[1] == {"x": 1} and torch.equal(found[0]["a"], tensors["a"]))
        else:
            assert_set_aside(path, bytes(altered))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_what_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, number):
    """safetensors reports a file without read permission as missing."""
    write_tensors(tmp_path / "t", TENSORS, ABOUT)

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    def gone(*args, **kwargs):
        raise FileNotFoundError("No such file or directory")

    said = rf"t cannot be read now \({os.strerror(number)}\); change its permissions, or try again"
    with monkeypatch.context() as now:
        now.setattr(files.Path, "open", refuse)
        now.setattr(files, "safe_open", gone)
        with pytest.raises(OSError, match=said) as found:
            read_tensors(tmp_path / "t")
    assert found.value.errno == number and names(tmp_path) == ["t"]
    assert read_tensors(tmp_path / "t")[1] == ABOUT


def test_a_file_that_goes_away_meanwhile_is_absent(tmp_path, monkeypatch):
    write_tensors(tmp_path / "t", TENSORS, ABOUT)
    monkeypatch.setattr(files.Path, "is_file", lambda path: True)
    assert read_tensors(tmp_path / "u") is None


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    former = os.umask(0o027)
    try:
        write_tensors(tmp_path / "t", TENSORS, ABOUT)
        write_text(tmp_path / "u", "")
    finally:
        os.umask(former)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "tu"] == [0o640, 0o640]


def test_damaged_file_in_a_read_only_folder(tmp_path, monkeypatch):
    (tmp_path / "t").write_bytes(b"")

    def refuse(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.Path, "replace", refuse)
    with pytest.warns(UserWarning, match="not used; it could not be set aside: Read-only file system"):
        assert read_tensors(tmp_path / "t") is None


@pytest.mark.parametrize("room", [0, 100, 4096, 30_000])
def test_full_disk_leaves_what_was_there(tmp_path, room):
    path = tmp_path / "t"
    write_tensors(path, TENSORS, ABOUT)
    before = path.read_bytes()
    with full_disk(room), pytest.raises(OSError, match=r"t could not be written in .*Free some space.* is intact"):
        write_tensors(path, {"big": torch.zeros(100_000)}, ABOUT)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["t"]
    with full_disk(room), pytest.raises(OSError, match=r"text\.csv could not be written"):
        write_text(tmp_path / "text.csv", "x" * 100_000)
    assert names(tmp_path) == ["t"]


STAGES = {"save_file": (files, "save_file"), "fsync": (files.os, "fsync"), "rename": (files.Path, "replace")}
NO_SPACE = (OSError(errno.ENOSPC, "No space left on device"), SafetensorError("while serializing: No space left"))


@pytest.mark.parametrize("error", NO_SPACE)
@pytest.mark.parametrize("place", STAGES)
def test_failure_at_each_stage(place, error, tmp_path, monkeypatch):
    path = tmp_path / "t"
    write_text(path, "before")

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*STAGES[place], fail)
        with pytest.raises(OSError, match=r"No space left.*what was there before is intact"):
            write_tensors(path, TENSORS, ABOUT)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["t"]


def test_other_errors_pass_and_leave_nothing(tmp_path):
    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "t", interrupted)
    assert names(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"t could not be written in .*file.* give another folder"):
        write_text(tmp_path / "file" / "t", "x")
    with pytest.raises(OSError, match=r"t could not be written in .*file"):
        write_text(tmp_path / "file" / "deeper" / "t", "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    order, sync, replace = [], os.fsync, files.Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda number: (order.append("flush"), sync(number)))
    monkeypatch.setattr(files.Path, "replace", lambda a, b: (order.append("rename"), replace(a, b))[1])
    write_text(tmp_path / "t", "é\n")
    assert order == ["flush", "rename"]
    assert (tmp_path / "t").read_bytes() == "é\n".encode()


def test_leftovers_of_the_dead_are_removed_and_nothing_else(tmp_path):
    for name in (".t.1234abcd.tmp", ".weights.safetensors.00000000.tmp", ".lock", "t.tmp", "t"):
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".lock", "t", "t.tmp"]
