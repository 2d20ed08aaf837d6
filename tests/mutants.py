"""Mutation testing: small changes that nobody chose, one at a time, each of which some test should see.

    python3 tests/mutants.py PART [--count N] [--seed N] [--minutes N] [--only REGEX]

PART is one of those in PARTS below. The mutants are universalmutator's (from PyPI, `mutate` beside this Python or in
the path); `count` of them are drawn with `seed`. Each is built in a copy of the commit that is checked out, in
build/mutants, with no more than what its tests need, and the tests run in order until one fails. A mutant that does
not build, or that builds to the same program, is no mutant. It ends with a score, and writes those that survived, as
patches, to build/mutants/PART.survivors.

Python parts need numpy, and for the plug-in torch and bitsandbytes; launchers need nvcc."""

import argparse
import ast
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "mutants"

LAUNCHERS = "|".join(["kernels/.*/.*[.]cu", "kernels/gemm/(pair_launch|operand_maps)[.]cuh", "kernels/gemm/group[.]hpp",
                      "kernels/gemm/unpack_cublas[.]cpp", "kernels/device/(launch|tensor_map)[.]cuh"])  # fmt: skip
SLOW = ["~gemm: all pairs*", "~gemm: many rows*", "~gemm: the same bits*", "~ring: *"]

HOST = ["-B", "build", "--preset", "host-only"]
# PTX alone: ptxas takes most of the time, and no kernel runs.
FAKE = ["-B", "build", "--preset", "default", "-DCMAKE_CUDA_ARCHITECTURES=75-virtual", "-DNF4_BUILD_BENCH=OFF"]


class Part:
    """files: a regular expression of paths; target and tests: what is built and run, in order; tree: the copy."""

    tree = FOLDER

    def __init__(self, files, configure, target, tests, timeout=120):
        self.files, self.configure, self.target, self.tests, self.timeout = files, configure, target, tests, timeout


def python_tests(names):
    return [[sys.executable, "-m", "support", f"test_{name}"] for name in names]


PARTS = {
    "python": Part("src/python/nf4/(_a.*|_handle|_library|__.*__|checkpoint/(?!loader).*)[.]py", HOST, "nf4",
        python_tests(["arguments", "handle", "plugin", "package", "checkpoint_folders", "checkpoint",
                      "checkpoint_output"])),
    "plugin": Part("src/python/nf4/(_bitsandbytes/.*|_generate/.*|_tensors|operators|plugin|checkpoint/loader)[.]py",
        HOST, "nf4",
        python_tests(["plugin", "package", "bitsandbytes", "operators", "symbols", "linear", "inductor", "generate",
                      "checkpoint_transformers"])),
    "host": Part(r"src/(?!python).*[.][ch]pp|kernels/.*[.]hpp", HOST, "nf4_tests", [
        ["build/tests/nf4_tests", "~[.]", "~[gpu]", *SLOW], ["build/tests/nf4_tests", "~[.]", "~[gpu]"]], 400),
    "launchers": Part(LAUNCHERS, FAKE, "nf4_fake_cuda_tests", [
        ["build/tests/fake_cuda/nf4_fake_cuda_tests", "~[.]", "arguments: *"],
        ["ctest", "--test-dir", "build", "-R", "fake CUDA: ", "--stop-on-failure"]]),
    "bench": Part(r"bench/check[.][ch]pp", HOST, "nf4_bench_tests", [
        ["build/tests/bench/nf4_bench_tests", "*check*"], ["build/tests/bench/nf4_bench_tests", "~[.]"]], 300),
}  # fmt: skip


def run(part, command):
    return subprocess.run(command, cwd=part.tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def copy_tree(part):
    shutil.rmtree(part.tree, ignore_errors=True)
    part.tree.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "x"], cwd=part.tree, input=archive, check=True)


def host_lines(text):
    """Numbers of the lines that the host's compiler alone is for: without functions of the device."""
    lines, device, depth = [], False, 0
    for number, line in enumerate(text.splitlines(), 1):
        if depth == 0 and re.search(r"__(global|device)__", line):
            device = True
            while lines and lines[-1] == number - 1 and text.splitlines()[number - 2].startswith("template"):
                lines.pop()
                number -= 1
        if device:
            depth += line.count("{") - line.count("}")
            if depth == 0 and re.search(r"[};]\s*$", line):
                device = False
        else:
            lines.append(number)
    return lines


def mutants_of(part, path):
    """(path, text) of every mutant of a file."""
    language = "python" if path.suffix == ".py" else "cpp"
    program = pathlib.Path(sys.executable).with_name("mutate")
    with tempfile.TemporaryDirectory() as folder:
        lines = pathlib.Path(folder, "lines")
        lines.write_text("\n".join(map(str, host_lines((part.tree / path).read_text()))))
        output = pathlib.Path(folder, "mutants")
        output.mkdir()
        command = [program if program.exists() else "mutate", part.tree / path, language, "--noCheck",
                   "--mutantDir", output, "--lines", lines]  # fmt: skip
        subprocess.run(list(map(str, command)), cwd=folder, stdout=subprocess.DEVNULL, check=True)
        return sorted({(path, mutant.read_text()) for mutant in output.iterdir()})


def program(part, path):
    """What a mutant becomes: two that have it in common are the same."""
    if path.suffix == ".py":
        tree = ast.parse((part.tree / path).read_text())
        for node in ast.walk(tree):
            # Documentation, and what is left where it was.
            if isinstance(getattr(node, "body", None), list):
                node.body = [line for line in node.body if not isinstance(line, ast.Pass) and not (
                    isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
        return ast.dump(tree)
    binary = next(part.tree.glob(f"build/tests/**/{part.target}"))
    return hashlib.sha256(binary.read_bytes()).hexdigest()


def build(part, path):
    """What is built of the tree as it is, or None if it does not build."""
    try:
        return program(part, path) if run(part, ["cmake", "--build", "build", "--target", part.target]) else None
    except SyntaxError:
        return None


def killer(part):
    """The last word of the first test that fails, or takes too long; "" if none does."""
    environment = dict(os.environ, NF4_LIBRARY=str(part.tree / "build/src/libnf4.so"),
                       PYTHONPATH=str(part.tree / "src/python"), OMP_NUM_THREADS="1", NF4_HAVE_CUDA="0",
                       PYTHONDONTWRITEBYTECODE="1")  # fmt: skip
    for test in part.tests:
        cwd = part.tree / "tests/python" if test[0] == sys.executable else part.tree
        process = subprocess.Popen(test, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=environment, start_new_session=True)  # fmt: skip
        try:
            code = process.wait(part.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            code = process.wait()
        if code not in (0, 77):  # 77: skipped
            return test[-1]
    return ""


def difference(part, path, text):
    return subprocess.run(["diff", "-u", f"--label=a/{path}", f"--label=b/{path}", part.tree / path, "-"], input=text,
                          capture_output=True, text=True).stdout  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int, default=100, help="mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60, help="begins none after so many (default: %(default)s)")
    parser.add_argument("--only", default="", help="files whose path matches")
    arguments = parser.parse_args()
    part = PARTS[arguments.part]
    part.tree = FOLDER / arguments.part
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests send it, and a job in the background ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    copy_tree(part)
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [pathlib.Path(name) for name in names
             if re.fullmatch(part.files, name) and re.search(arguments.only, name)]  # fmt: skip
    everything = [mutant for path in paths for mutant in mutants_of(part, path)]
    random.Random(arguments.seed).shuffle(everything)
    print(f"{len(everything)} mutants of {len(paths)} files", flush=True)
    make = ["cmake", "--build", "build", "--target", part.target]
    if not run(part, ["cmake", *part.configure]) or not run(part, make):
        sys.exit("the tree does not build")
    if failed := killer(part):
        sys.exit(f"{failed} fails without any mutant")

    unchanged = None if paths[0].suffix == ".py" else program(part, paths[0])
    begun = time.monotonic()
    counts = {"killed": 0, "survived": 0, "no mutant": 0}
    survivors = FOLDER / f"{arguments.part}.survivors"
    survivors.write_text("")
    for path, text in everything:
        spent = time.monotonic() - begun
        if counts["killed"] + counts["survived"] == arguments.count or spent > 60 * arguments.minutes:
            break
        original = (part.tree / path).read_text()
        before = program(part, path) if path.suffix == ".py" else unchanged
        (part.tree / path).write_text(text)
        after = build(part, path)
        if after is None or after == before:
            outcome = "no mutant"
        else:
            outcome = "killed" if killer(part) else "survived"
        (part.tree / path).write_text(original)
        counts[outcome] += 1
        if outcome == "survived":
            with open(survivors, "a") as file:
                file.write(difference(part, path, text) + "\n")
        print(f"{outcome}: {path}", flush=True)
    tried = counts["killed"] + counts["survived"]
    print(f"{arguments.part}: {counts['killed']} of {tried} killed ({100 * counts['killed'] / max(tried, 1):.1f}%), "
          f"{counts['no mutant']} were none, {time.monotonic() - begun:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
