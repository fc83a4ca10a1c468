"""Sphinx settings of ``make docs``: the API from the docstrings, executed notebooks, formulas as MathML."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import gahb

project = "gahb"
release = gahb.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]
templates_path = ["templates"]
exclude_patterns = ["templates"]
html_theme = "furo"
html_math_renderer = "mathml"
html_copy_source = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings state types, with shapes and units
numpydoc_show_class_members = False
nitpick_ignore_regex = [("py:.*", r"(?!gahb).*")]  # other libraries have no pages here

nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_ipywidgets_js = {}  # a widget needs a kernel: its picture is shown, or nothing if it has none, as a finished bar
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", 85)]
myst_enable_extensions = ["dollarmath"]


def setup(app: Sphinx) -> None:
    """Add formulas that browsers show without a script, and links to the names that ``gahb`` itself exports."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("missing-reference", find_exported)


def visit_math(translator: nodes.NodeVisitor, node: nodes.Element) -> None:
    """Write a formula as MathML, with its equation number in brackets."""
    formula = re.sub(r"\\tag\{(.*?)\}", r"\\qquad(\1)", node.astext())
    translator.body.append(tex2mathml(formula, as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def find_exported(
    app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Element
) -> nodes.Element | None:
    """Resolve ``gahb.psnr``, which is described on the page of its module, ``gahb.metrics``."""
    exported = getattr(gahb, node["reftarget"].removeprefix("gahb."), None)
    if not callable(exported):
        return None
    target = f"{exported.__module__}.{exported.__qualname__}"
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)
