"""Holds what every kernel takes of a multiprocessor, as ptxas reported it when the library was built, against the table
resources.csv: registers, static shared memory, stack and spills.

    python3 resources.py NVCC_VERSION TABLE OBJECT ...             compares; 77 if the table is of another nvcc
    python3 resources.py --update NVCC_VERSION TABLE OBJECT ...    writes the table anew

Beside each object lies the report that cmake/ptxas_report.sh kept.
"""

import re
import subprocess
import sys

COLUMNS = "architecture,registers,shared_bytes,stack_bytes,spill_store_bytes,spill_load_bytes,kernel"


def readable(mangled):
    """'gemv_lut<bf16, GlobalTable, 0, true>' for the name of a kernel in an unnamed namespace of nf4."""
    text = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    plain = (re.sub(r"nf4::|\(anonymous namespace\)::|^void |\(int\)", "", name) for name in text.splitlines())
    return [name.replace("(bool)1", "true").replace("(bool)0", "false").split("(")[0] for name in plain]


def read(objects):
    """Rows of the table from ptxas' reports."""
    kernels, rows = [], []
    for report in (name + ".ptxas" for name in objects):
        with open(report, encoding="utf-8") as file:
            text = file.read()
        entries = re.findall(
            r"Compiling entry function '(\w+)' for '(\w+)'.*?"
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
            r"Used (\d+) registers([^\n]*)", text, re.DOTALL)
        assert len(entries) == text.count("Compiling entry function"), f"{report}: not what ptxas -v writes"
        for kernel, architecture, stack, stores, loads, registers, rest in entries:
            shared = re.search(r"(\d+) bytes smem", rest)
            kernels.append(kernel)
            rows.append((architecture, registers, shared[1] if shared else "0", stack, stores, loads))
    names = readable(kernels)
    lines = sorted(",".join(row) + f',"{name}"' for row, name in zip(rows, names))
    assert len({(row[0], name) for row, name in zip(rows, names)}) == len(rows), "two kernels of one name"
    return sorted(lines, key=lambda line: (line.split('"')[1], line))


arguments = sys.argv[1:]
update = arguments[0] == "--update"
version, table, *objects = arguments[update:]
version_line = f"# nvcc {version}"
lines = read(objects)
if update:
    with open(table, "w", encoding="ascii") as file:
        file.write("\n".join([version_line, COLUMNS, *lines, ""]))
    sys.exit()

failed = False
for line in lines:  # what the variants promise: a codebook of 16 floats in shared memory and nothing else
    shared, kernel = re.fullmatch(r'\w+,\d+,(\d+),.*"(.*)"', line).groups()
    if kernel.startswith(("gemv_lut<", "unpack_lut<")) and shared != ("64" if "SharedTable" in kernel else "0"):
        print(f"shared memory is not that of its table: {line}")
        failed = True
with open(table, encoding="ascii") as file:
    expected_version, columns, *expected = file.read().splitlines()
assert columns == COLUMNS
if failed:
    sys.exit(1)
if expected_version != version_line:
    print(f"skipped: the table is of {expected_version[2:]}, this build by nvcc {version}")
    sys.exit(77)
for line in sorted(set(expected) - set(lines)):
    print(f"table: {line}")
for line in sorted(set(lines) - set(expected)):
    print(f"built: {line}")
spilling = [line for line in lines if line.split(",")[4:6] != ["0", "0"]]
print(f"{len(lines)} kernels and architectures, {len(spilling)} that spill")
for line in spilling:
    print(f"spills: {line}")
sys.exit(set(expected) != set(lines))
