"""The page: everything in one HTML file that asks nothing of a network.

Text of users is escaped by jinja2 in HTML, and JSON in the page has no character that could end
its element. A policy in the head of the page forbids every request.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from postnms.errors import UserError
from postnms.evaluation.metrics import show
from postnms.report.figures import intervals_of, sections_of
from postnms.report.sources import Source
from postnms.report.subjects import Subject, title_of
from postnms.report.tables import TableRow, table_of
from postnms.report.verdicts import signed, verdict_of
from postnms.structures import NMS_ROW

MARK = '<meta name="generator" content="postnms report">'
"""What a page has in its head, by which it is known."""
SCRIPTS = ("page.js", "boxes.js", "controls.js", "viewer.js", "index.js")
"""The scripts of the page, which are joined in this order."""
SHOWN_FIGURES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR100")
SHOWN_ROWS = 10
"""Number of rows of the table that are shown at first, half of it for each of several detectors."""
LISTED = 3
"""Number of images that are named at the top of the viewer on either side."""


def page_of(sources: Sequence[Source], subjects: Sequence[Subject | None], command: str) -> str:
    """Return the HTML of a report. It needs jinja2, see :func:`check_jinja`.

    Args:
        sources: the detectors.
        subjects: what was found for each of them. None: it has figures alone.
        command: the command line that makes the page.

    What UTF-8 cannot hold of a name, half of a surrogate pair, is written as its escape.
    """
    environment = _environment()
    looked = [subject for subject in subjects if subject is not None]
    table = [
        row
        for source, subject in zip(sources, subjects, strict=True)
        for row in table_of(source, subject)
    ]
    several = len(sources) > 1
    verdicts = [
        verdict_of(subject, [row for row in table if row.source == source.name],
                   source.name if several else "")
        for source, subject in zip(sources, subjects, strict=True)
    ]  # fmt: skip
    script = "\n".join(_text(name) for name in SCRIPTS)
    viewed = [subject for subject in looked if subject.cases]
    content = {
        "mark": MARK,
        "about": _about(looked),
        "title": ", ".join(source.name for source in sources),
        "verdicts": verdicts,
        "notes": list(dict.fromkeys(note for source in sources for note in source.notes)),
        "figures": SHOWN_FIGURES,
        "table": list(zip(table, intervals_of(table), _late(table, several), strict=True)),
        "several": several,
        "sections": sections_of(looked, table),
        "viewed": [_viewed(subject, number) for number, subject in enumerate(viewed)],
        "sources": sources,
        "command": command,
        "style": _text("page.css"),
        "script": script,
        "script_hash": _hash(script),
        "data": _json({"subjects": [_data(subject) for subject in viewed]}),
    }
    page = environment.get_template("page.html").render(content)
    return page.encode(errors="backslashreplace").decode()


def _late(table: Sequence[TableRow], several: bool) -> list[bool]:
    """Return which rows of the table are shown on request: those after the first of a detector."""
    seen: Counter[str] = Counter()
    late = []
    for row in table:
        seen[row.source] += 1
        late.append(seen[row.source] > (SHOWN_ROWS // 2 if several else SHOWN_ROWS))
    # A click for a row or two is not worth it.
    return late if sum(late) > 2 else [False] * len(late)


def _about(looked: Sequence[Subject]) -> str:
    """Return what the data are, empty if only figures are there."""
    if not looked:
        return ""
    truth, facts = looked[0].truth, looked[0].source.facts
    named = ", ".join(facts[name] for name in ("data", "split") if name in facts)
    objects = int(next(iter(looked[0].rows.values())).images.objects.sum())
    count = f"{len(truth.images)} images, {objects} objects, {len(truth.categories)} classes"
    return f"{named}: {count}" if named else count


def check_jinja() -> None:
    """Raise UserError that says how to install jinja2 if it is missing."""
    if find_spec("jinja2") is None:
        raise UserError("the report needs jinja2; install it with: pip install 'postnms[report]'")


def check_is_page(path: Path) -> None:
    """Raise UserError unless a file is a page that :func:`page_of` has made."""
    with path.open("rb") as file:
        if MARK.encode() not in file.read(1000):
            raise UserError(f"{path}: expected a report of postnms, got another file")


def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({"page.html": _text("page.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "signed": signed}
    return environment


def _text(name: str) -> str:
    return (files("postnms.report") / "page_files" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return the hash by which the policy of the page knows its script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(content: Any) -> str:
    """Return JSON that is safe inside a script element, whatever its texts are.

    Example:
        >>> _json("</script>")
        '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _viewed(subject: Subject, number: int) -> dict[str, Any]:
    """Return what the page says of a viewer in HTML: the images with the largest differences."""
    losses = len(subject.chosen.losses)
    groups = []
    after = None if subject.after is None else title_of(subject.after)
    lowest = "The lowest AP" if after is None else "No image differs; these have the lowest AP"
    for title, start, count in (
        (f"{after} loses most" if subject.chosen.differ else lowest, 0, losses),
        (f"{after} wins most", losses, len(subject.chosen.wins)),
    ):
        cases = [
            {"number": start + place, **_case_line(subject, subject.cases[start + place])}
            for place in range(min(LISTED, count))
        ]
        if cases:
            groups.append({"title": title, "cases": cases})
    return {
        "number": number,
        "name": subject.source.name,
        "groups": groups,
        "differ": subject.chosen.differ,
        "embedded": len(subject.cases),
        "images": len(subject.index),
    }


def _case_line(subject: Subject, case: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of the list over the viewer: AP of the image, and what has changed."""
    first = next(iter(subject.rows))
    before, found = case["ap"][first], case["found"]
    if subject.after is None:
        half, strict = found[first]
        said = f"{half} of {case['objects']} objects found at IoU 0.5, {strict} at 0.75"
        return {"name": case["name"], "before": before, "after": None, "gain": None, "said": said}
    after = case["ap"][subject.after]
    (half, strict), (half_after, strict_after) = found[first], found[subject.after]
    said = (
        f"{case['objects']} objects; found at IoU 0.5: {half} → {half_after}, "
        f"at 0.75: {strict} → {strict_after}"
    )
    gain = None if after is None or before is None else after - before
    return {"name": case["name"], "before": before, "after": after, "gain": gain, "said": said}


def _data(subject: Subject) -> dict[str, Any]:
    """Return what the scripts of the page know of a detector."""
    categories = subject.truth.content["categories"]
    return {
        "name": subject.source.name,
        "classes": [category["name"] for category in categories],
        "before": NMS_ROW if NMS_ROW in subject.rows else next(iter(subject.rows)),
        "after": subject.after,
        "rows": {
            name: {
                "title": title_of(name),
                "threshold": None if row.best is None else row.best.score,
            }
            for name, row in subject.rows.items()
        },
        "losses": len(subject.chosen.losses),
        "differ": subject.chosen.differ,
        "cases": subject.cases,
        "index": subject.index,
    }
