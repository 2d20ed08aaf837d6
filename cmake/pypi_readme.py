"""README.md as PyPI shows it, for scikit-build-core. PyPI knows no file of the tree, so relative links become absolute:
those to the tree at NF4_REPOSITORY, an address below which blob/ and raw/ hold the files of a tag. Without that variable
of the environment their text alone stays, and pictures leave."""

from __future__ import annotations

import os
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!\w+:|#)(?P<target>[^)\s]+)\)")


def absolute(text: str, repository: str | None, version: str) -> str:
    def replace(link: re.Match[str]) -> str:
        if not repository:
            return "" if link["picture"] else link["text"]
        kind = "raw" if link["picture"] else "blob"
        return f"{link['picture']}[{link['text']}]({repository}/{kind}/v{version}/{link['target']})"

    return LINK.sub(replace, text)


def dynamic_metadata(field: str, settings: object = None, project: object = None) -> dict[str, str]:
    if field != "readme" or settings:
        raise ValueError(f"field is {field}, settings are {settings}; expected readme and none")
    version = re.search(r"project\(nf4 VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
    text = absolute((ROOT / "README.md").read_text(), os.environ.get("NF4_REPOSITORY"), version)
    return {"content-type": "text/markdown", "text": text}
