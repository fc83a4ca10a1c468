"""``tools/gpu.py``: its halves hold every network and notebook, and its archives every file."""

import fnmatch
import sys
import tarfile

import pytest

from gahb.companion import reproduce, scales
from gahb.training.store import project

sys.path.insert(0, str(project() / "tools"))
import gpu


@pytest.mark.parametrize("scale", scales.SCALES)
def test_each_network_has_one_stage_before_the_notebooks_that_use_it(scale):
    for name in scales.names(scales.get(scale)):
        stages = [half for half, stages in gpu.STAGES.items() for networks, _ in stages
                  if any(fnmatch.fnmatch(name, f"{pattern}*") for pattern in networks)]  # fmt: skip
        assert stages, name
    notebooks = [name for stages in gpu.STAGES.values() for _, chosen in stages for name in chosen]
    assert sorted(notebooks) == [path.name[:2] for path in reproduce.notebooks()][: len(notebooks)]


def test_archives_hold_every_file_and_none_is_larger_than_the_limit(tmp_path):
    files = []
    for index, size in enumerate((5_000, 4_000, 6_000, 1, 20_000)):
        (tmp_path / str(index)).write_bytes(bytes([index]) * size)
        files.append((tmp_path / str(index), f"figures/{index}"))
    archives = gpu.pack(files, tmp_path, "half", limit=13_500)
    assert [path.name for path in archives] == ["half-1.tar", "half-2.tar", "half-3.tar"]
    names = []
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                source = tmp_path / member.name.removeprefix("figures/")
                assert archive.extractfile(member).read() == source.read_bytes()
                names.append(member.name)
    assert sorted(names) == [name for _, name in files]
    assert gpu.pack([], tmp_path, "none") == []
