"""Mutation testing: small changes that nobody chose, one at a time, each of which some test should see.

    python3 tests/mutants.py PART [--count N] [--seed N] [--minutes N] [--only REGEX] [--again FILE]

PART is one of those in PARTS below. The mutants are universalmutator's (from PyPI, `mutate` beside this Python or in
the path); `count` of them are drawn with `seed`. Each is built in a copy of the commit that is checked out, in
build/mutants, with no more than what its tests need, and the tests run in order until one fails, those that are named
after its file first. A mutant that does not build, or whose objects are the same but for the code of a GPU, is no
mutant; one that makes a test take more than five times as much of a processor's time is killed. It ends with a score,
and writes those that survived, as patches, to build/mutants/PART.survivors. --again takes its mutants from such a file.

Python parts need numpy, and for the plug-in torch and bitsandbytes; they take the library of the host backend that
NF4_LIBRARY names, or build it. Launchers need nvcc. A test that is skipped without any mutant sees none, so that a run
does not begin; one that is skipped because of a mutant sees it."""

import argparse
import ast
import filecmp
import importlib
import multiprocessing
import os
import pathlib
import random
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "mutants"
ADDRESSES = 16 << 30  # bytes that a process may map: a mutant may ask for any amount

LAUNCHERS = "|".join(["kernels/.*/.*[.]cu", "kernels/gemm/(pair_launch|operand_maps)[.]cuh", "kernels/gemm/group[.]hpp",
                      "kernels/gemm/unpack_cublas[.]cpp", "kernels/device/(launch|tensor_map)[.]cuh",
                      "src/device_cuda[.]cpp"])  # fmt: skip
SLOW = ["gemm: all pairs*", "gemm_group: what is selected*", "ring: *", "pair_stream_layout: *"]
ON_HOST = ["~[.]", "~[gpu]"]
SKIPPED = 77

# With these, and headers that are compiled once, GCC takes an eighth of the time; tests take hardly longer.
QUICK = ["-DCMAKE_CXX_FLAGS_RELEASE=-O1", "-DCMAKE_CUDA_FLAGS_RELEASE=-O1", "-DCMAKE_CXX_STANDARD_LIBRARIES=-lfmt"]
HOST = ["host-only", *QUICK]
# PTX alone: no kernel runs.
FAKE = ["default", *QUICK, "-DCMAKE_CUDA_ARCHITECTURES=75-virtual", "-DNF4_BUILD_BENCH=OFF"]


class Part:
    """files: a regular expression of paths; target and tests: what is built and run, in order; tree: the copy; build:
    where in it. own: which tests run before the others, if they are named after the file. imports: modules that tests of
    Python find imported, since that takes longer than most of them."""

    tree = FOLDER

    def __init__(self, files, configure, target, tests, own=None, imports=()):
        self.files, self.configure, self.target, self.imports = files, ["--preset", *configure], target, imports
        self.build = f"build/{configure[0]}"
        self.tests = [[word.format(build=self.build) for word in test] for test in tests]
        self.own = own
        self.names = set()  # that tests of `own` begin with
        self.limits = {}  # of each test the seconds that it may take with a mutant: of a processor, and by the clock

    def tests_of(self, path):
        """Those that are named after the file first, of Python then those that name it or its folder most often."""
        stem = path.stem.strip("_")
        names = re.compile(rf"\b({path.stem}|{path.parent.name})\b")
        tests = sorted(self.tests, key=lambda test: (not any(stem in word for word in test),
                                                     -len(names.findall(self.source_of(test)))))  # fmt: skip
        return [self.own_tests(stem), *tests] if stem in self.names else tests

    def source_of(self, test):
        return (self.tree / f"tests/python/{test[3]}.py").read_text() if test[0] == sys.executable else ""

    def own_tests(self, stem):
        return [*self.tests[0][:2], *self.own, f"{stem}: *"]


def python_tests(names):
    return [[sys.executable, "-m", "support", f"test_{name}", "--failfast"] for name in names]


def catch_tests(program, *selections):
    return [[f"{{build}}/tests/{program}", "--abort", *selection] for selection in selections]


PARTS = {
    "python": Part("src/python/nf4/(_a.*|_handle|_library|__.*__|checkpoint/(?!loader).*)[.]py", HOST, "nf4",
        python_tests(["arguments", "handle", "plugin", "checkpoint_folders", "checkpoint", "checkpoint_output",
                      "package"])),
    "plugin": Part("src/python/nf4/(_bitsandbytes/.*|_generate/.*|_transformers/.*|_tensors|operators|plugin|checkpoint/loader)[.]py",
        [*HOST, "-DNF4_BUILD_PYTHON=ON"], "nf4_python",
        python_tests(["plugin", "linear", "bitsandbytes", "operators", "symbols", "gradient", "inductor",
                      "generate", "experts", "vllm", "checkpoint_transformers", "package"]),
        imports=["torch._inductor.compile_fx", "transformers", "bitsandbytes"]),
    "host": Part(r"src/(?!python|device_cuda).*[.][ch]pp|kernels/.*[.]hpp", HOST, "nf4_tests",
        catch_tests("nf4_tests", [*ON_HOST, *(f"~{test}" for test in SLOW)], [",".join(SLOW)]),
        own=[*ON_HOST, "~gemm: all pairs*"]),
    "launchers": Part(LAUNCHERS, FAKE, "nf4_fake_cuda_tests", [
        *catch_tests("fake_cuda/nf4_fake_cuda_tests", ["~[.]", "arguments: *"]),
        ["ctest", "--test-dir", "{build}", "--stop-on-failure", "-R", "fake CUDA: "]]),
    "bench": Part(r"bench/check[.][ch]pp", HOST, "nf4_bench_tests",
        catch_tests("bench/nf4_bench_tests", ["check: *"], ["~[.]", "~check: *"])),
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


def code(path, text):
    """What a source says, without comments, documentation, annotations that are never evaluated, and blanks, as far as
    that is easily told."""
    if path.suffix != ".py":
        return "".join(re.sub(r"//.*", "", text).split())
    tree = ast.parse(text)
    unread = "from __future__ import annotations" in text
    for node in ast.walk(tree):
        # Annotations are never evaluated then.
        for name in ("annotation", "returns") if unread else ():
            if hasattr(node, name):
                setattr(node, name, None)
        # Documentation, and what is left where it was.
        if isinstance(getattr(node, "body", None), list):
            node.body = [line for line in node.body if not isinstance(line, ast.Pass) and not (
                isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
    return ast.dump(tree)


def built_anew(part):
    """Files of the build that a mutant changed, and for each what it was."""
    clean = part.tree / "clean"
    for folder, _, names in os.walk(clean):
        for was in (pathlib.Path(folder, name) for name in names):
            file = part.tree / part.build / was.relative_to(clean)
            if not file.exists() or file.stat().st_mtime_ns != was.stat().st_mtime_ns:
                yield file, was


def host_code(file):
    """An object without the code of a GPU."""
    with tempfile.NamedTemporaryFile() as out:
        without = ["--remove-section=.nv_fatbin", "--remove-relocations=.nvFatBinSegment"]  # which refers to it
        subprocess.run(["objcopy", *without, file, out.name], check=True)
        return pathlib.Path(out.name).read_bytes()


def compile_headers(part):
    """Those of the standard library and fmt, once for all sources: they take most of a compiler's time."""
    sources = [source.read_text() for folder in ("src", "kernels", "bench", "tests")
               for source in (part.tree / folder).rglob("*.[ch]pp")]  # fmt: skip
    names = re.findall(r"^#include <(?:[a-z_]+|fmt/\w+[.]h)>\n", "".join(sources), re.MULTILINE)
    headers = part.tree / "headers.hpp"
    headers.write_text("".join(sorted(set(names))))
    (part.tree / "headers.hpp.gch").mkdir()
    for name, options in {"library": ["-fPIC", "-D_FORTIFY_SOURCE=2"], "program": []}.items():
        run(part, ["g++", "-O1", "-std=c++20", *options, "-x", "c++-header", headers,
                   "-o", f"headers.hpp.gch/{name}"])  # fmt: skip


def prepare(part):
    compile_headers(part)
    # A compiler takes one such header: where that is this one, CMake's of Catch2 is none that it warns of.
    flags = f"-DCMAKE_CXX_FLAGS=-UFMT_HEADER_ONLY -Wno-error=invalid-pch -include {part.tree}/headers.hpp"
    make = ["cmake", "--build", part.build, "--target", part.target]
    if not run(part, ["cmake", *part.configure, flags]) or not run(part, make):
        sys.exit("the tree does not build")


def says_the_same(path, original, text):
    try:
        return code(path, text) == code(path, original)
    except SyntaxError:
        return True


def seen_by_own(part, path):
    """What the tests that are named after a header say of a mutant of it, if they see it: their source alone is compiled,
    and linked with the objects of all others as they were, where a build would compile nearly everything."""
    if path.suffix != ".hpp" or path.stem not in part.names:
        return ""
    commands = subprocess.run(["ninja", "-C", part.build, "-t", "commands", part.target], cwd=part.tree,
                              capture_output=True, text=True).stdout.splitlines()  # fmt: skip
    own = re.compile(rf" -o tests/\S*/{path.stem}[.]cpp[.]o ")
    compiling = [command for command in commands if own.search(command)]
    for command in [*compiling, commands[-1]]:
        if subprocess.run(command, shell=True, cwd=part.tree / part.build, capture_output=True).returncode:
            return "no mutant"
    return result(part, part.own_tests(path.stem), part.limits[tuple(part.tests[0])])


def is_mutant(part, path):
    """Builds it; whether it is another program than that without it."""
    if path.suffix == ".py":
        return True
    return run(part, ["cmake", "--build", part.build, "--target", part.target]) and any(
        file.suffix == ".o" and not filecmp.cmp(file, was, False) and host_code(file) != host_code(was)
        for file, was in built_anew(part))  # fmt: skip


def result(part, test, limits=(resource.RLIM_INFINITY, None)):
    """What the test says of the tree: "killed", "skipped", "too slow", or nothing."""
    environment = dict(os.environ, NF4_LIBRARY=os.environ.get("NF4_LIBRARY", f"{part.tree}/{part.build}/src/libnf4.so"),
                       PYTHONPATH=str(part.tree / "src/python"), OMP_NUM_THREADS="1", NF4_HAVE_CUDA="0",
                       PYTHONDONTWRITEBYTECODE="1")  # fmt: skip
    if test[0] == sys.executable:
        process = multiprocessing.get_context("fork").Process(
            target=run_module, args=(part, test[2:], environment, limits[0])
        )
        process.start()
        process.join(limits[1])
        status = process.exitcode
    else:
        process = subprocess.Popen(test, cwd=part.tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=environment, start_new_session=True,
                                   preexec_fn=lambda: limit_time(limits[0]))  # fmt: skip
        try:
            status = process.wait(limits[1])
        except subprocess.TimeoutExpired:
            status = None
    if status is None:
        os.killpg(process.pid, signal.SIGKILL)
        (process.join if test[0] == sys.executable else process.wait)()
        return "too slow"
    outcomes = {0: "", SKIPPED: "skipped", -signal.SIGXCPU: "too slow"}
    return outcomes.get(status, "killed")


def limit_time(seconds):
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def run_module(part, arguments, environment, seconds):
    """python3 -m with these arguments in this process, in the folder of the tests of Python."""
    os.setsid()
    limit_time(seconds)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    folder = part.tree / "tests/python"
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[:1] = [str(folder), environment["PYTHONPATH"]]
    sys.argv = arguments
    sys.dont_write_bytecode = True
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def measure_limits(part):
    for test in part.tests:
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        if said := result(part, test):
            sys.exit(f"{' '.join(test)}: {said} without any mutant")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        # Others may use the machine: the clock is for what waits forever.
        part.limits[tuple(test)] = int(10 + 5 * seconds), 60 + 20 * (time.monotonic() - begun)
    if part.own:
        listed = subprocess.run([part.tests[0][0], *part.own, "--list-test-names-only"], cwd=part.tree,
                                capture_output=True, text=True).stdout  # fmt: skip
        part.names = {name.split(": ")[0] for name in listed.splitlines()}


def fate(part, path, original, text):
    if says_the_same(path, original, text):
        return "no mutant"
    if part.own and (said := seen_by_own(part, path)):
        return said
    if not is_mutant(part, path):
        return "no mutant"
    for test in part.tests_of(path):
        if said := result(part, test, part.limits.get(tuple(test), max(part.limits.values()))):
            return said
    return "survived"


def difference(part, path, text):
    return subprocess.run(["diff", "-u", f"--label=a/{path}", f"--label=b/{path}", part.tree / path, "-"], input=text,
                          capture_output=True, text=True).stdout  # fmt: skip


def drawn(part, arguments):
    """(path, text) of mutants, in the order of the draw."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [pathlib.Path(name) for name in names
             if re.fullmatch(part.files, name) and re.search(arguments.only, name)]  # fmt: skip
    mutants = [mutant for path in paths for mutant in mutants_of(part, path)]
    random.Random(arguments.seed).shuffle(mutants)
    print(f"{len(mutants)} mutants of {len(paths)} files", flush=True)
    return mutants


def from_patches(part, file):
    """(path, text) of mutants that were written as patches."""
    mutants = []
    for patch in re.split(r"^(?=--- a/)", file.read_text(), flags=re.MULTILINE)[1:]:
        path = pathlib.Path(patch.splitlines()[0].removeprefix("--- a/"))
        patched = subprocess.run(["patch", "--output=-", "--reject-file=-", part.tree / path], input=patch,
                                 capture_output=True, text=True)  # fmt: skip
        if patched.returncode:
            print(f"no longer fits: {path}\n{patch}", flush=True)
        else:
            mutants.append((path, patched.stdout))
    return mutants


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int, default=100, help="mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60, help="begins none after so many (default: %(default)s)")
    parser.add_argument("--only", default="", help="files whose path matches")
    parser.add_argument("--again", type=pathlib.Path, help="the mutants of these patches, instead of a draw")
    arguments = parser.parse_args()
    part = PARTS[arguments.part]
    part.tree = FOLDER / arguments.part
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests send it, and a job in the background ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, resource.RLIM_INFINITY))

    copy_tree(part)
    mutants = from_patches(part, arguments.again) if arguments.again else drawn(part, arguments)
    if "NF4_LIBRARY" not in os.environ:
        prepare(part)
    os.environ["OMP_NUM_THREADS"] = "1"  # which torch reads when it is imported
    for name in part.imports:
        importlib.import_module(name)
    measure_limits(part)
    if (part.tree / part.build).exists():
        run(part, ["cp", "-a", part.build, "clean"])

    begun = time.monotonic()
    counts = dict.fromkeys(["killed", "too slow", "survived", "no mutant"], 0)
    survivors = FOLDER / f"{arguments.part}.survivors"
    survivors.write_text("")
    for path, text in mutants:
        spent = time.monotonic() - begun
        if sum(counts.values()) - counts["no mutant"] == arguments.count or spent > 60 * arguments.minutes:
            break
        file = part.tree / path
        original, times = file.read_text(), file.stat()
        file.write_text(text)
        outcome = fate(part, path, original, text).replace("skipped", "killed")
        # Everything as it was, so that the next mutant's build has nothing to do but that.
        file.write_text(original)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        for changed, was in built_anew(part):
            shutil.copy2(was, changed)
        counts[outcome] += 1
        if outcome == "survived":
            with open(survivors, "a") as out:
                out.write(difference(part, path, text) + "\n")
        print(f"{outcome}: {path}, {time.monotonic() - begun - spent:.0f} s", flush=True)
    killed = counts["killed"] + counts["too slow"]
    tried = killed + counts["survived"]
    print(f"{arguments.part}: {killed} of {tried} killed ({100 * killed / max(tried, 1):.1f}%), {counts['too slow']} "
          f"of them by time, {counts['no mutant']} were none, {time.monotonic() - begun:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
