"""The pages of ``make docs``: the API from the docstrings, and the executed notebooks beside it."""

import html
import pkgutil
import re
import sys
import tempfile
import warnings
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat

import gahb
from gahb._util.files import write_text
from gahb.training.store import project

WIDGET = "application/vnd.jupyter.widget-view+json"
INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gahb</title>
<style>:root {{ color-scheme: light dark }}
body {{ font-family: system-ui, sans-serif; max-width: 45em; margin: 3em auto; padding: 0 1em; line-height: 1.5 }}
</style></head>
<body><h1>gahb</h1><p>{about}</p>
<h2>Executed notebooks</h2>{notebooks}
<h2>Modules</h2>{modules}
</body></html>
"""
# No script is loaded from another server: formulas are MathML, and a dark theme stands beside the light one.
NOTEBOOK = """{% extends "index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}
<style>:root { color-scheme: light dark } main { max-width: 1120px; margin: auto }
.jp-InputArea-editor .highlight { overflow-x: auto }</style>
{{ resources.include_css("static/theme-dark.css") | replace("<style", "<style media='(prefers-color-scheme: dark)'") }}
{% endblock %}"""
# The names are those of pdoc's theme.css; the colours of code follow.
DARK_API = """:root { --pdoc-background: #212529; color-scheme: dark }
.pdoc { --text: #f7f7f7; --muted: #9d9d9d; --link: #58a6ff; --link-hover: #3989ff; --code: #333; --active: #555;
--accent: #343434; --accent2: #555; --nav-hover: rgba(0, 0, 0, 0.1); --name: #77c1ff; --def: #0cdd0c;
--annotation: #00c037 }
"""


def build(folder, runs):
    """Write the pages.

    Parameters
    ----------
    folder : str or Path
        Where they go; ``index.html`` links them all.
    runs : str or Path
        Where executed notebooks are, in a folder for each scale; there may be none.

    Returns
    -------
    list of Path
        The pages of notebooks.
    """
    folder = Path(folder)
    modules = ["gahb", *(module.name for module in pkgutil.walk_packages(gahb.__path__, "gahb."))]
    modules = [name for name in modules if "._" not in name]
    _describe(modules, folder)
    pages = []
    for path in sorted(Path(runs).glob("*/[0-9][0-9]_*.ipynb")):
        page = folder / "notebooks" / path.parent.name / f"{path.stem}.html"
        try:
            pages.append(_convert(path, page))
        except (ValueError, AttributeError, KeyError) as error:  # cut short, or no notebook
            told = " ".join(str(error).split())[:100]
            warnings.warn(f"{path.name} of {path.parent.name} is left out; run it again ({told})", stacklevel=2)
    about = html.escape(gahb.__doc__.split("\n\n")[1])
    links = [(f"{page.stem} ({page.parent.name})", page.relative_to(folder).as_posix()) for page in pages]
    notebooks = _list(links) if links else "<p>None yet: <code>make reproduce</code> makes them.</p>"
    named = _list([(name, f"{name.replace('.', '/')}.html") for name in modules])
    write_text(folder / "index.html", INDEX.format(about=about, notebooks=notebooks, modules=named))
    return pages


def broken(folder):
    """Links and images in the pages of a folder that lead nowhere, each as ``page: link``.

    Files and the places inside them are looked up; other servers are not asked.
    """
    pages = {path.resolve(): _read(path) for path in Path(folder).rglob("*.html")}
    return sorted(
        f"{path.relative_to(Path(folder).resolve()).as_posix()}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not _leads_somewhere(path, link, pages)
    )


def _describe(modules, folder):
    """The API of some modules."""
    import pdoc
    import pdoc.render
    from pygments.formatters import HtmlFormatter

    dark = DARK_API + HtmlFormatter(style="github-dark").get_style_defs(".pdoc-code")
    with tempfile.TemporaryDirectory() as templates, warnings.catch_warnings():
        (Path(templates) / "custom.css").write_text(f"@media (prefers-color-scheme: dark) {{ {dark} }}")
        pdoc.render.configure(docformat="numpy", show_source=False, template_directory=Path(templates))
        warnings.filterwarnings("ignore", "The module specification")  # pdoc finds those in __all__ by itself too
        pdoc.pdoc(*modules, output_directory=folder)


def _convert(path, page):
    """One executed notebook as HTML; where there is a widget, which needs a kernel, its picture."""
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [shown for shown in map(_without_widget, cell.outputs) if shown is not None]
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page.html.j2": NOTEBOOK})],
        template_file="page.html.j2",
        filters={"markdown2html": _markdown},
    )
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    body = re.sub(r"(</?)ns\d+:", r"\1", body)  # nbconvert writes the MathML of headings with a prefix
    write_text(page, body)
    return page


def _without_widget(output):
    """An output without its widget; None for a widget that has no picture, such as a bar that has run."""
    data = output.get("data", {})
    if data.pop(WIDGET, None) is not None and data.keys() <= {"text/plain"}:
        return None
    return output


def _markdown(text):
    """A cell's text as HTML, its formulas as MathML, which browsers show by themselves."""
    from latex2mathml.converter import convert
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=False)
    renderer.inline_math = convert
    renderer.block_math = partial(convert, display="block")
    return MarkdownWithMath(renderer=renderer).render(text)


def _list(links):
    return f"<ul>{''.join(f'<li><a href={address!r}>{html.escape(text)}</a></li>' for text, address in links)}</ul>"


class _Page(HTMLParser):
    """The links and the places of one page."""

    def __init__(self):
        super().__init__()
        self.links, self.places = set(), {"", "top"}

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.places.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.add(value)


def _read(path):
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _leads_somewhere(path, link, pages):
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target in pages:
        return not pages[target].places.isdisjoint({parts.fragment, unquote(parts.fragment)})  # in a browser's order
    return target.is_file()


def main():
    """Build ``docs`` of the project from its ``runs``; 1 if a link is broken."""
    root = project() or Path.cwd()
    try:
        pages = build(root / "docs", root / "runs")
    except OSError as error:
        print(f"the pages could not be written to {root / 'docs'}: {error}", file=sys.stderr)
        return 1
    lost = broken(root / "docs")
    print(f"docs/index.html: the API and {len(pages)} executed notebooks, {len(lost)} broken links", *lost, sep="\n")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
