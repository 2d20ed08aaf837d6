"""Holds cmake/conda/recipe.yaml in the sources argv[1] to the version argv[2] and to options that the project has. With
rattler-build's Python package, py-rattler-build, it is rendered too, with CUDA and without."""

import pathlib
import re
import sys

sources, version = pathlib.Path(sys.argv[1]), sys.argv[2]
path = sources / "cmake/conda/recipe.yaml"
recipe = path.read_text()

said = re.search(r'^  version: "(.*)"$', recipe, re.MULTILINE)[1]
assert said == version, f"recipe.yaml is of {said}; expected {version}"
assert (path.parent / re.search(r"^  path: (.*)$", recipe, re.MULTILINE)[1] / "CMakeLists.txt").exists()
cmake = "".join(file.read_text() for file in (sources / "CMakeLists.txt", *(sources / "cmake").glob("*.cmake")))
options = set(re.findall(r"NF4_[A-Z_]+", recipe))
unknown = {name for name in options if not re.search(rf"(option|set)\({name} ", cmake)}
assert options and not unknown, f"the project has no option {unknown}"

try:
    import rattler_build
except ImportError:
    print("not rendered: no py-rattler-build")
    sys.exit()
for cuda in ("None", "13.0"):
    variants = rattler_build.VariantConfig.from_yaml(
        f'cuda_compiler_version: ["{cuda}"]\ncuda_compiler: [cuda-nvcc]\nc_stdlib: [sysroot]\nc_stdlib_version: ["2.28"]\n'
    )
    outputs = [one.recipe.to_dict() for one in rattler_build.Stage0Recipe.from_file(str(path)).render(variants)]
    assert [output["package"]["name"] for output in outputs] == ["libnf4", "nf4"], outputs
    for output in outputs:
        assert output["package"]["version"] == version, output
        with_cuda = any("cuda-nvcc" in str(package) for package in output["requirements"]["build"])
        assert with_cuda == (cuda != "None"), output
