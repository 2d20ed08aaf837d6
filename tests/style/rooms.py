"""Holds the rule of kernels/README.md: who may include whom, and that includes name the room.

    python3 rooms.py ROOT
"""

import pathlib
import re
import sys

OPERATIONS = {"gemm", "pack", "unpack"}
MAY_INCLUDE = {
    "format": {"format"},
    "": {"", "format"},  # the contract with src/
    "device": {"device", "format"},
    **{room: {room, "", "device", "format"} for room in OPERATIONS},
}

root = pathlib.Path(sys.argv[1])
kernels = root / "kernels"
faults = []
sources = sorted(p for p in kernels.rglob("*") if p.suffix in {".hpp", ".cuh", ".cu", ".cpp"})
for path in sources:
    name = path.relative_to(kernels).as_posix()
    room = "/".join(path.relative_to(kernels).parts[:-1])
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', text)
        if not match:
            continue
        included = match[1]
        where = f"kernels/{name}:{line}: includes {included}; "
        if not (kernels / included).is_file():
            faults.append(where + "expected a path from kernels/ on, of a file there")
        elif "/".join(included.split("/")[:-1]) not in MAY_INCLUDE.get(room, ()):
            faults.append(where + f"expected no file of that room in {room or 'the contract'}")
        elif path.suffix == ".hpp" and included.endswith(".cuh"):
            faults.append(where + "expected a .hpp, since a .hpp is plain C++")
for path in sorted((root / "src").rglob("*.[ch]pp")) + sorted((root / "tests" / "kernels").rglob("*.[ch]pp")):
    for included in re.findall(r'#include "([^"]+\.cuh)"', path.read_text(encoding="utf-8")):
        faults.append(f"{path.relative_to(root)}: includes {included}; expected a .hpp")

for fault in faults:
    print(fault)
print(f"{len(sources)} files of kernels/, {len(faults)} faults")
sys.exit(bool(faults) or not sources)
