"""Holds that ctest's entries for a test program are its tests: each once, by its exact name.

discovered.py CTEST BUILD_FOLDER PROGRAM CATCH2_VERSION"""

import collections
import json
import subprocess
import sys


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout  # Catch2 2 exits with the number of tests


ctest, build, program, catch2 = sys.argv[1:]
names_only = ["--list-test-names-only"] if catch2.startswith("2.") else ["--list-tests", "--verbosity", "quiet"]
listed = collections.Counter(output(program, "*", *names_only).splitlines())

discovered = collections.Counter()
for entry in json.loads(output(ctest, "--test-dir", build, "--show-only=json-v1"))["tests"]:
    match entry.get("command"):
        case [path, "--exact", name] if path == program:
            discovered[name] += 1

for name in (listed - discovered).elements():
    print(f"a test without an entry: {name!r}")
for name in (discovered - listed).elements():
    print(f"an entry without a test: {name!r}")
print(f"{listed.total()} tests, {discovered.total()} entries")
sys.exit(not listed or listed != discovered)
