"""What `mkdocs build` does beside: pages from the root, notebooks, links out of docs/, mathematics.

Notebooks become pages with the outputs that they were saved with. Formulas become MathML, which
browsers show without a script.
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
# Pages whose text is a file of the root.
FROM_ROOT = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
# Code is matched first, and stays as it is.
LINK = re.compile(r"(?s:```.*?```)|`[^`\n]*`|(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds a page for each notebook, and its figures."""
    for file in [each for each in files if each.src_uri.endswith(".ipynb")]:
        folder, name = posixpath.dirname(file.src_uri), posixpath.basename(file.src_uri)[:-6]
        resources = {"unique_key": name, "output_files_dir": f"{name}_files"}
        text, found = MarkdownExporter().from_filename(file.abs_src_path, resources)
        heading = re.search(r"^# (.+)", text)
        described = f"![A figure of the notebook {heading[1] if heading else name}]("
        text = text.replace("![png](", described)
        text += f'\n\n<a href="../{name}.ipynb" download>Download this notebook</a>\n'
        files.append(File.generated(config, file.src_uri[:-6] + ".md", content=text))
        for path, content in found["outputs"].items():
            files.append(File.generated(config, posixpath.join(folder, path), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Returns the text of a page, with the links that leave docs/ changed."""
    here = page.file.src_uri
    source = f"docs/{here}"
    if here in FROM_ROOT:
        source = FROM_ROOT[here]
        markdown = (ROOT / source).read_text(encoding="utf-8")

    def changed(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        if target is None or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith("docs/"):
            path = re.sub(r"\.ipynb$", ".md", path)
            target = posixpath.relpath(path, posixpath.join("docs", posixpath.dirname(here)))
            return f"{image}[{text}]({target}{anchor or ''})"
        pages = {root: name for name, root in FROM_ROOT.items()}
        if path in pages:
            return f"[{text}]({posixpath.relpath(pages[path], posixpath.dirname(here) or '.')})"
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"
        return text if text in path else f"{text} (`{path}`)"

    return LINK.sub(changed, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Returns a page's HTML, with formulas as MathML, and figures that lead to themselves."""

    def rendered(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        formula = html.unescape(match[3]).strip()
        # What is text keeps no backslash before an underscore.
        formula = re.sub(r"\\text\{[^}]*\}", lambda text: text[0].replace(r"\_", "_"), formula)
        # latex2mathml sets no space after the logarithm.
        formula = re.sub(r"\\log\s+", r"\\log\\, ", formula)
        if display == "inline":
            return convert(formula)
        # Equations beside each other stand below each other where the page is narrow.
        parts = (convert(each, display=display) for each in formula.split(r"\qquad"))
        return f'<div class="equations">{"".join(parts)}</div>'

    content = re.sub(r'<img [^>]*?src="((?!data:)[^"]+)"[^>]*>', r'<a href="\1">\g<0></a>', content)
    return FORMULA.sub(rendered, content)
