#!/usr/bin/env python3
"""Every relative link of every Markdown file leads to a file of the tree, and to a heading if it names one."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(text: str) -> set[str]:
    """The names by which headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub(lambda code: code[0].strip("`"), text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main() -> None:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT,
                            check=True, capture_output=True, text=True).stdout  # fmt: skip
    links = 0
    broken = []
    for path in (ROOT / name for name in listed.splitlines()):
        if not path.exists():
            continue
        for target in LINK.findall(CODE.sub("", path.read_text())):
            if re.match(r"\w+:", target):
                continue
            links += 1
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    if broken or not links:
        sys.exit("\n".join(broken) or "no link was found")
    print(f"{links} links lead to something")


main()
