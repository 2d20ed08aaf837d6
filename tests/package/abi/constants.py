"""Writes a C program that prints what a compiler copies from the header into a client: every constant of it, and the
size and the fields' offsets of every struct.

    python3 constants.py path/to/nf4.h >constants.c
"""

import re
import sys

header = re.sub(r"/\*.*?\*/", "", open(sys.argv[1], encoding="ascii").read(), flags=re.DOTALL)
constants = re.findall(r"\b(NF4_\w+) = ", header)
constants += [name for name in re.findall(r"^#define (NF4_\w+) \(?-?\d", header, re.MULTILINE)
              if not name.startswith("NF4_VERSION")]
print("#include <nf4/nf4.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {")
for name in constants:
    print(f'  printf("{name} = %d\\n", (int){name});')
for struct, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", header, re.DOTALL):
    print(f'  printf("sizeof({struct}) = %zu\\n", sizeof({struct}));')
    for field in re.findall(r"(\w+)(?:\[\d+\])?;", body):
        print(f'  printf("{struct}.{field} at %zu\\n", offsetof({struct}, {field}));')
print("  return 0;\n}")
