"""Reports of tests: the text of a page, its data, and pages with hostile names."""

import json
import shutil
from html.parser import HTMLParser

HOSTILE = "<script>window.broken=1</script>&\"'"
"""A class name that would run if it was not escaped."""


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts = []
        self.parts = []
        self.attributes = []
        self._open = None

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag == "script":
            self.scripts.append([dict(attrs), ""])
        self._open = tag

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1][1] += data
        elif self._open != "style":
            self.parts.append(data)


class Page:
    """A report: its text, its scripts, its attributes, and the data in it."""

    def __init__(self, path):
        self.html = path.read_text(encoding="utf-8")
        parser = _Text()
        parser.feed(self.html)
        self.text = " ".join(" ".join(parser.parts).split())
        self.scripts, self.attributes = parser.scripts, parser.attributes
        self.data = json.loads(self.scripts[0][1])


def hostile_copy(dataset, folder):
    """Copy a data folder in COCO format, with hostile names of a class and of an image file."""
    shutil.copytree(dataset, folder)
    for file in folder.glob("instances_*.json"):
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = HOSTILE
        image = content["images"][0]
        name = "<b>" + image["file_name"].rpartition("/")[2]
        (folder / "images" / image["file_name"]).rename(folder / "images" / name)
        image["file_name"] = name
        file.write_text(json.dumps(content))
    return folder
