"""What a row of the table of faults is made of: photographs, a training, and what a fault leads to."""

import importlib
import re
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_photographs import picture
from test_store import recipe

from gahb.companion.cli import main
from gahb.training.loop import train

GOOD = ["1.png", "2.png", "3.png", "m.png", "x.png", "y.png"]
ASKED = {"size": 12, "N": 2, "test_size": 1}
PIXELS = np.stack([picture(seed, 16, 16, 1)[..., 0] for seed in range(6)])


@cache
def undisturbed():
    return train(recipe().images, recipe(), progress=False).state_dict()


def assert_undisturbed(net):
    assert net.state_dict().keys() == undisturbed().keys()
    assert all(torch.equal(value, undisturbed()[key]) for key, value in net.state_dict().items())


# --- What a row expects -----------------------------------------------------------------------------------------------


def refused(kind, sentence):
    """An error of this kind whose sentence is this one."""

    def check(provoke, folder):
        with pytest.raises(kind, match=sentence):
            provoke(folder)

    return check


def goes_on(outcome, warning=None):
    """What the fault leads to; with a warning, or without any."""

    def check(provoke, folder):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert provoke(folder) == outcome
        assert len(said) == (warning is not None), [str(one.message) for one in said]
        assert warning is None or re.search(warning, str(said[0].message)), str(said[0].message)

    return check


def told(status, sentence):
    """The exit status of a command, and one sentence on stderr that begins with the program's name."""

    def check(provoke, folder):
        result = CliRunner(env={"GAHB_STORE": str(folder)}).invoke(main, provoke(folder))
        assert result.exit_code == status, result.output
        assert re.search(sentence, result.stderr), result.stderr
        assert status != 1 or result.stderr.startswith("gahb: ")
        assert "Traceback" not in result.output

    return check


def elsewhere(node):
    """A heavy fault: another test provokes it, and must be there."""

    def check(provoke, folder):
        module, _, name = node.partition("::")
        assert callable(getattr(importlib.import_module(module), name, None)), f"there is no test {node}"

    return check
