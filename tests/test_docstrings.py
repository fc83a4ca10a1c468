"""The docstrings of all public names, numpydoc's way: a summary, every parameter, what is returned, what is raised."""

import ast
import importlib
import inspect
import re
import textwrap

import pytest

NAMES = "optimal bases thresholding metrics statistics sampling jacobian released explorer shipping carry survey"
MODULES = [importlib.import_module(f"gahb.{name}".rstrip(".")) for name in ("", "datasets", *NAMES.split())]


def public(module):
    """Functions and classes that a module exports, or defines if it has no list of exports."""
    names = getattr(module, "__all__", None)
    own = [x for key, x in vars(module).items() if (key in names if names else not key.startswith("_"))]
    return [x for x in own if callable(x) and (names or getattr(x, "__module__", "") == module.__name__)]


OBJECTS = {f"{x.__module__}.{x.__qualname__}": x for module in MODULES for x in public(module)}


def sections(doc):
    """Text of each section by its title; what stands before the first one is under the empty title."""
    parts = re.split(r"^(\w+)\n-+$", "\n" + doc, flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[0::2], strict=True))


def entries(section):
    """Names before the colons of a section, in order."""
    heads = re.findall(r"^\*{0,2}(\w.*?)(?: :.*)?$", section, re.MULTILINE)
    return [name for head in heads for name in head.split(", ")]


def written(x):
    """Globals and syntax tree of what is behind a name: the function, or what runs when the class is called."""
    own = [vars(x).get("__init__"), vars(x).get("__post_init__")] if inspect.isclass(x) else [inspect.unwrap(x)]
    own = [function for function in own if function and function.__code__.co_filename != "<string>"]
    trees = [ast.parse(textwrap.dedent(inspect.getsource(function))) for function in own]
    return [(function.__globals__, list(ast.walk(tree))) for function, tree in zip(own, trees, strict=True)]


def can_raise(x, seen=()):
    """Whether its source, or that of a function of gahb that it names, holds a raise or one of the checks."""
    called = []
    for known, nodes in written(x):
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        if "_checks" in names or any(isinstance(node, ast.Raise) for node in nodes):
            return True
        called += [known[name] for name in names if str(getattr(known.get(name), "__module__", "")).startswith("gahb.")]
    return any(can_raise(y, (x, *seen)) for y in called if y not in (x, *seen))


def gives(x):
    """Whether a function returns or yields a value."""
    return any(isinstance(node, ast.Return | ast.Yield) and node.value for _, nodes in written(x) for node in nodes)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_docstring_says_what_goes_in_what_comes_out_and_what_goes_wrong(name):
    x = OBJECTS[name]
    doc = sections(inspect.getdoc(x))
    assert re.match(r"\n?\S[^\n]{0,118}\.(\n\n|\n?$)", doc[""])
    listed = doc.get("Parameters", doc.get("Attributes", "") if inspect.isclass(x) else "")
    assert entries(listed) == list(inspect.signature(x).parameters)
    assert inspect.isclass(x) or gives(x) == bool((doc.get("Returns", "") + doc.get("Yields", "")).strip())
    assert not can_raise(x) or doc.get("Raises", "").strip()
