"""Hooks of MkDocs: pages that are made at build time, and links that leave the documents."""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from handbook.reference import reference_pages

REPOSITORY = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)]*)?\)")
LOADS = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"'](?:https?:)?//", re.I)
"""A tag that loads something from another server."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the entry "Reference" of the menu."""
    config.extra["made"] = reference_pages()
    paths = list(config.extra["made"])
    titles = ["Overview", "Command line", *(PurePosixPath(path).stem for path in paths[2:])]
    entry = next(entry for entry in config.nav or [] if "Reference" in entry)
    entry["Reference"] = [
        path if path.endswith("index.md") else {title: path}
        for title, path in zip(titles, paths, strict=True)
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for path, text in config.extra["made"].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Name files outside of the documents instead of linking to them."""
    here = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, found[2]))
        if target.startswith("docs/") or not (REPOSITORY / target).exists():
            return found[0]  # MkDocs checks it
        return found[1] if found[1].strip("`") == target else f"{found[1]} (`{target}`)"

    return LINK.sub(link, markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse a page that loads anything from another server."""
    outside = LOADS.search(output)
    if outside:
        raise PluginError(f"{page.file.src_uri}: loads from elsewhere: {outside[0]}")
    return output
