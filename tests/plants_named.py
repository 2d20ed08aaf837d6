"""Whether each fault of tests/plants.sh that names a test names one that there is, without planting any.

    python3 plants_named.py CTEST BUILD_FOLDER FAULT..."""

import json
import pathlib
import re
import subprocess
import sys

ctest, build, *faults = sys.argv[1:]
listed = subprocess.run([ctest, "--test-dir", build, "--show-only=json-v1"], stdout=subprocess.PIPE, check=True).stdout
tests = [entry["name"] for entry in json.loads(listed)["tests"]]

named = wrong = 0
for fault in map(pathlib.Path, faults):
    for name in re.findall("^test: (.*)", fault.read_text(), re.MULTILINE):
        named += 1
        pattern = name if fault.parent.name == "host" else re.escape(name)  # ctest takes a regular expression
        if sum(re.fullmatch(pattern, test) is not None for test in tests) != 1:
            print(f"{fault}: no test, or several: {name!r}")
            wrong += 1
print(f"{len(faults)} faults, {named} name a test, {wrong} of them not one")
sys.exit(wrong or not named)
