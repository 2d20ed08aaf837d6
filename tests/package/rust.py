"""Holds the declarations of the Rust crate nf4-sys to nf4.h, by the C compiler: they are written as C, with the names
rust_..., and compared with the header's. No Rust compiler is needed.

    python3 rust.py CC path/to/include path/to/nf4-sys

Compared are functions with all of their types, structs with the type, place and size of each field, initial values and
constants; each of the header must be there. What the C compiler says names what differs.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

compiler, include, crate = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
header = re.sub(r"/\*.*?\*/", "", (include / "nf4" / "nf4.h").read_text(encoding="ascii"), flags=re.DOTALL)
rust = re.sub(r"//.*", "", (crate / "src" / "ffi.rs").read_text(encoding="ascii"))

TYPES = {"i32": "int32_t", "i64": "int64_t", "u8": "uint8_t", "u32": "uint32_t", "usize": "size_t", "f32": "float",
         "c_char": "char", "c_void": "void"}  # fmt: skip
STRUCT_TAGS = ("CUstream_st", "nf4_handle")  # C knows these by their tags alone


def declaration(rust_type, name):
    """`name` declared in C as of this Rust type."""
    rust_type = rust_type.strip()
    array = re.fullmatch(r"\[(.*); (\d+)\]", rust_type)
    if array:
        return declaration(array[1], f"{name}[{array[2]}]")
    pointer = re.fullmatch(r"\*(const|mut) (.*)", rust_type)
    if pointer:
        qualifier = "const " if pointer[1] == "const" else ""
        return f"{qualifier}{declaration(pointer[2], f'*{name}')}"
    if rust_type in STRUCT_TAGS:
        return f"struct {rust_type} {name}"
    return f"{TYPES.get(rust_type, rust_type)} {name}"


def pairs(text):
    """[(name, type or value)] of a list of fields or parameters."""
    return re.findall(r"(\w+): ((?:\[.*?\]|[^,\[])+?)\s*(?:,|$)", text.replace("pub ", ""))


def c_value(value):
    return re.sub(r"null(_mut)?\(\)", "NULL", re.sub(r"size_of::<(.*)>\(\)", r"sizeof(\1)", value))


program = ["#include <nf4/nf4.h>", "#include <stdio.h>", "#include <string.h>"]
tests = []
found = set()

for name, rust_type in re.findall(r"pub type (\w+) = (.*?);", rust):
    # A typedef may be repeated if it is the same.
    program.append(f"typedef {declaration(rust_type, name)};")
    found.add(name)

for attributes, name, body in re.findall(r"((?:#\[[^\n]*\]\n)*)pub struct (\w+) \{(.*?)\n\}", rust, re.DOTALL):
    if "#[repr(C)]" not in attributes:
        sys.exit(f"{name} is not repr(C)")
    found.add(name)
    if name in STRUCT_TAGS:
        continue
    fields = pairs(body)
    program.append(f"typedef struct {{ {' '.join(declaration(t, f) + ';' for f, t in fields)} }} rust_{name};")
    program.append(f'_Static_assert(sizeof(rust_{name}) == sizeof({name}), "size of {name}");')
    for field, _ in fields:
        ours, theirs = f"(({name}*)0)->{field}", f"((rust_{name}*)0)->{field}"
        program.append(f'_Static_assert(offsetof(rust_{name}, {field}) == offsetof({name}, {field}), '
                       f'"place of {name}.{field}");')  # fmt: skip
        program.append(f'_Static_assert(__builtin_types_compatible_p(__typeof__({ours}), __typeof__({theirs})), '
                       f'"type of {name}.{field}");')  # fmt: skip

for name, rust_type, value in re.findall(r"pub const (\w+): (\w+) =\s+(.*?);\n", rust, re.DOTALL):
    found.add(name)
    if "{" not in value:
        program.append(f'_Static_assert({name} == {value}, "{name}");')
        continue
    fields = pairs(value[value.index("{") + 1 : value.rindex("}")])
    values = ", ".join(f".{field} = {c_value(v)}" for field, v in fields)
    program.append(f"static const {rust_type} rust_{name} = {{{values}}}, c_{name} = {name};")
    tests.append(f'  if (memcmp(&rust_{name}, &c_{name}, sizeof c_{name}) != 0) return puts("{name} differs"), 1;')

for name, parameters, result in re.findall(r"pub fn (\w+)\((.*?)\) -> (.*?);", rust, re.DOTALL):
    found.add(name)
    arguments = ", ".join(declaration(t, p) for p, t in pairs(parameters)) or "void"
    program.append(f"{declaration(result, f'{name}({arguments})')};")

expected = set(re.findall(r"\b(nf4_\w+)\(", header)) | set(re.findall(r"\b(NF4_\w+) = ", header))
expected |= set(re.findall(r"\} (nf4_\w+);", header))
expected |= set(re.findall(r"^typedef .*?\b(nf4_\w+);", header, re.MULTILINE))
macros = set(re.findall(r"^#define (NF4_\w+)", header, re.MULTILINE))
expected |= {name for name in macros if not re.match(r"NF4_(API|NF4_H|VERSION.*)$", name)}
missing = sorted(expected - found)
if missing or len(expected) < 60:
    sys.exit(f"ffi.rs lacks {', '.join(missing)}" if missing else "nf4.h could not be read")

version = re.search(r'NF4_VERSION_STRING "(.*)"', header)[1]
if f'\nversion = "{version}"' not in (crate / "Cargo.toml").read_text(encoding="ascii"):
    sys.exit(f"Cargo.toml has another version than nf4.h, {version}")

program += ["int main(void) {", *tests, "  return 0;", "}"]
with tempfile.TemporaryDirectory() as folder:
    binary = pathlib.Path(folder) / "rust"
    command = [compiler, "-std=gnu11", "-Werror", f"-I{include}", "-x", "c", "-", "-o", binary]
    if subprocess.run(command, input="\n".join(program), text=True).returncode != 0:
        sys.exit(1)
    # The functions are declared and not called, so the program needs no library.
    sys.exit(subprocess.run([binary]).returncode)
