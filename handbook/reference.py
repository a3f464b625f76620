"""The pages of the reference, as Markdown: one for each face, and one for the command line."""

from collections.abc import Iterator
from typing import Any

from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from handbook.public_names import ROOT, PublicName, public_names
from postnms.cli.app import app

FOLDER = "reference"
ALONE = "    options: {members: false, show_root_heading: false, show_root_toc_entry: false}"
"""Options of mkdocstrings that show the docstring of a package and nothing else."""


def reference_pages() -> dict[str, str]:
    """Return the text of each page by its path under the documents, in the order of the menu."""
    names = public_names()
    pages = {f"{FOLDER}/index.md": _overview(names)}
    pages[f"{FOLDER}/cli.md"] = "\n".join(_command_line())
    return pages | {f"{FOLDER}/{face}.md": _page(face, names[face]) for face in names}


def _overview(names: dict[str, list[PublicName]]) -> str:
    lines = [
        "# Reference",
        "",
        "What is public: the [command line](cli.md), the names of `postnms`, and those of its "
        "folders in this table. Everything else may move.",
        "",
        "| import from | names |",
        "|---|---|",
    ]
    for face, exported in names.items():
        links = ", ".join(f"[`{name.name}`][{name.where}]" for name in exported)
        lines.append(f"| [`{face}`]({face}.md) | {links} |")
    return "\n".join(lines) + "\n"


def _page(face: str, exported: list[PublicName]) -> str:
    """Return the page of a face: a table of all names, and those documented here in full."""
    about = "The names at the top of the library." if face == ROOT else f"::: {face}\n"
    if face != ROOT:
        about += (
            "    options: {members: false, show_root_heading: false, show_root_toc_entry: false}"
        )
    lines = [f"# `{face}`", "", about, "", "| name | what it is |", "|---|---|"]
    for name in exported:
        summary = name.summary.replace("``", "`").replace("|", "\\|")
        lines.append(f"| [`{name.name}`][{name.where}] | {summary} |")
    for name in exported:
        if name.page == face:
            lines += ["", f"::: {name.where}"]
    return "\n".join(lines) + "\n"


def verbs(
    command: Any = None, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield ``(words, command)`` for every verb of the command line, those of groups too.

    The commands are those of typer, or of click in earlier versions of it.
    """
    command = command or get_command(app)
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from verbs(inner, (*words, name))
    else:
        yield words, command


def _command_line() -> Iterator[str]:
    """Yield the lines of the page of all verbs, from the parser itself."""
    yield "# Command line\n"
    yield "Every verb has `--help`. A mistake is one line, and the exit status is 2."
    for words, command in verbs():
        context = command.context_class(command, info_name=command.name)
        arguments = [p for p in command.params if isinstance(p, TyperArgument)]
        options = [p for p in command.params if isinstance(p, TyperOption) and not p.hidden]
        usage = [*words, *(_metavar(argument) for argument in arguments)]
        yield f"\n## `postnms {' '.join(words)}`\n\n{_paragraphs(command.help)}\n"
        yield f"```\npostnms {' '.join(usage)} [OPTIONS]\n```\n"
        yield "| argument, option | |\n|---|---|"
        for argument in arguments:
            yield f"| `{_metavar(argument)}` | {_cell(argument.help or '')} |"
        for option in options:
            left, right = option.get_help_record(context) or ("", "")
            yield f"| `{left}` | {_cell(right)} |"


def _metavar(argument: TyperArgument) -> str:
    if argument.metavar:
        return argument.metavar
    return str(argument.name).upper() + ("..." if argument.nargs < 0 else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("[", "\\[")


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))
