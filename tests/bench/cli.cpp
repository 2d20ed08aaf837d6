#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "checkpoint.hpp"
#include "formatted.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

struct Outcome {
  int status;
  std::string output;
};

// Runs a shell command in `directory`, with the program as $bench.
Outcome shell(const Directory& directory, const std::string& command) {
  write_file(directory / "command", "bench='" NF4_BENCH "'\n" + command + "\n");
  const int status = std::system(("cd '" + (directory / "") + "' && bash ./command >out 2>&1").c_str());
  return {WEXITSTATUS(status), read_file(directory / "out")};
}

// Runs nf4-bench in `directory`.
Outcome bench(const Directory& directory, const std::string& arguments, const std::string& device = "host") {
  return shell(directory, "\"$bench\" " + arguments + " --device " + device);
}

// Holds that these arguments are refused, in one line that holds `part`, before anything is measured.
void check_refused(const std::string& arguments, const std::string& part) {
  const Directory directory;
  const Outcome outcome = shell(directory, "\"$bench\" " + arguments);
  CAPTURE(arguments, part, outcome.output);
  CHECK(outcome.status == 2);
  CHECK(holds(outcome.output, "nf4-bench: "));
  CHECK(holds(outcome.output, part));
  CHECK_FALSE(holds(outcome.output, "ceilings"));
  CHECK_FALSE(holds(outcome.output, " us "));
  CHECK(std::count(outcome.output.begin(), outcome.output.end(), '\n') == 1);
}

const std::string kTiny = "tune --shape 8,64 --shape 24,96 --m 1,3 --commit test";

}  // namespace

TEST_CASE("nf4-bench tune: writes a table that the library loads, and goes on where it was cut short") {
  const Directory directory;
  const Outcome first = bench(directory, kTiny + " --table table --builtin builtin");
  CAPTURE(first.output);
  REQUIRE(first.status == 0);
  const std::string table = read_file(directory / "table");
  CHECK(holds(table, "nf4-tuning 1\n# host, commit test, by nf4-bench tune\n"));
  CHECK(holds(table, "\nhost,gemm,*,*,*,*,*,gemm.host,,"));
  CHECK(holds(table, "\nhost,unpack,*,*,*,*,*,unpack.host,,"));
  CHECK(holds(table, "\nhost,pack,*,*,*,*,*,pack.host,,"));
  CHECK(read_file(directory / "builtin") == table);  // the host has no kin that it would be for
  nf4_handle_t handle = nullptr;
  REQUIRE(nf4_create(&handle, NF4_HOST_DEVICE) == NF4_SUCCESS);
  CHECK(nf4_tuning_load(handle, (directory / "table").c_str()) == NF4_SUCCESS);
  nf4_destroy(handle);

  // The last problem is measured again, no other.
  const std::string state = read_file(directory / "nf4-tune.csv");
  write_file(directory / "nf4-tune.csv", state.substr(0, state.size() - 3));
  const Outcome second = bench(directory, kTiny + " --table again");
  CHECK(second.status == 0);
  CHECK(second.output.find("pack, N=24 K=96, bf16, blocksize 64: ") == 0);
  CHECK(read_file(directory / "nf4-tune.csv").substr(0, state.rfind("pack,")) == state.substr(0, state.rfind("pack,")));
  const Outcome third = bench(directory, kTiny + " --table again");
  CHECK(third.output.find("\n  gain") == 0);
}

#if NF4_HAVE_CUDA
TEST_CASE("nf4-bench tune: every variant of a GPU is right, and the table selects what was meant", "[gpu]") {
  REQUIRE_GPU();
  const Directory directory;
  const Outcome outcome =
      bench(directory, "tune --shape 1024,2048 --shape 4096,1024 --m 1,3,16,200 --table table", "0");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(holds(read_file(directory / "table"), "\n*,gemm,"));
}
#endif

TEST_CASE("nf4-bench tune: measurements of another commit are refused") {
  const Directory directory;
  REQUIRE(bench(directory, kTiny).status == 0);
  const Outcome other = bench(directory, "tune --shape 8,64 --m 1 --commit other");
  CHECK(other.status == 2);
  CHECK(holds(other.output, "holds no measurements of this device and commit"));
}

TEST_CASE("nf4-bench: the full sweep measures what is selected, on every kind of problem") {
  const Directory directory;
  const Outcome outcome = bench(directory, "--sweep full --shape 8,64 --m 1,3 --csv out.csv");
  REQUIRE(outcome.status == 0);
  const std::string csv = read_file(directory / "out.csv");
  for (const char* part :
       {"gemm,\"selected\",\"gemm.host\",0,,bf16,64,0,1,8,64,", ",bf16,64,0,3,8,64,", ",f16,64,0,3,8,64,",
        ",bf16,32,0,16,8,64,", ",bf16,128,0,256,8,64,", ",bf16,4096,0,1,8,64,", ",bf16,64,1,16,8,64,",
        ",f32,64,0,16,8,64,", "unpack,\"selected\",\"unpack.host\",0,,f16,64,0,1,8,64,",
        "pack,\"selected\",\"pack.host\",0,,bf16,64,0,1,8,64,"}) {
    CAPTURE(part, csv);
    CHECK(holds(csv, part));
  }
}

TEST_CASE("nf4-bench: products of the same x, together and one by one") {
  const Directory directory;
  for (const char* nested : {"", " --nested"}) {
    const Outcome outcome =
        bench(directory, std::string("--op gemm --shape 256+512,64 --m 1,3 --csv out.csv") + nested);
    CAPTURE(outcome.output);
    CHECK(outcome.status == 0);
    CHECK(holds(outcome.output, "gemm, N=256+512 K=64, M=3, bf16, blocksize 64"));
    CHECK(holds(read_file(directory / "out.csv"), "gemm,\"selected\",\"gemm.host\",0,"));
    CHECK(holds(read_file(directory / "out.csv"), "gemm,\"one by one\",\"gemm.host\",0,"));
  }
  const Outcome straddling = bench(directory, "--op gemm --shape 1+2,64 --blocksize 128");
  CHECK(straddling.status == 2);
  CHECK(holds(straddling.output, "--shape is 1+2,64; expected parts of a multiple of 128 weights"));
}

TEST_CASE("nf4-bench: products with routed experts") {
  const Directory directory;
  const Outcome outcome =
      bench(directory, "--op gemm_experts --experts 4 --top-k 2 --skew 10 --shape 24,64 --m 1,5 --csv out.csv");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(holds(outcome.output, "gemm_experts, N=24 K=64, M=5, top 2 of 4 experts, skew 1, bf16, blocksize 64"));
  CHECK(holds(read_file(directory / "out.csv"),
              "gemm_experts,\"gemm_experts.host\",\"\",0,,bf16,64,0,5,24,64,4,2,1,ids,"));
  for (const std::string form : {"sorted", "rows"}) {
    const Outcome sorted =
        bench(directory, "--op gemm_experts --experts 4 --top-k 2 --shape 24,64 --m 5 --csv out.csv --routing " + form);
    CAPTURE(sorted.output);
    CHECK(sorted.status == 0);
    CHECK(holds(sorted.output, "top 2 of 4 experts, by " + form + ", bf16"));
    CHECK(holds(read_file(directory / "out.csv"), "5,24,64,4,2,0," + form + ","));
  }
  const auto refused = [&](const std::string& arguments, const std::string& message) {
    const Outcome refusal = bench(directory, "--op gemm_experts --shape 24,64 " + arguments);
    CAPTURE(refusal.output);
    CHECK(refusal.status == 2);
    CHECK(holds(refusal.output, message));
  };
  refused("", "--op is gemm_experts; expected --experts with it");
  refused("--experts 4 --routing order", "--routing is order; expected ids, sorted or rows");
  refused("--experts 4 --top-k 5", "--top-k is 5; expected --experts (4) at most");
  refused("--experts 4 --blocksize 1024", "--shape is 24,64; expected experts of a multiple of 1024 weights");
}

TEST_CASE("nf4-bench: transposed products") {
  const Directory directory;
  const Outcome outcome = bench(directory, "--op gemm_transposed --shape 24,64 --m 1,5 --nested --csv out.csv");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(holds(outcome.output, "gemm_transposed, N=24 K=64, M=5, bf16, blocksize 64, nested"));
  CHECK(holds(read_file(directory / "out.csv"), "gemm_transposed,\"gemm_transposed.host\",\"\",0,,bf16,64,1,5,24,64,"));
}

TEST_CASE("nf4-bench: what there is no time for is told") {
  const Directory directory;
  const Outcome sweep = bench(directory, "--shape 8,64 --m 1,2,3 --limit 0 --csv out.csv");
  CAPTURE(sweep.output);
  CHECK(sweep.status == 0);
  const std::string told = "5 problems were not measured, for lack of time; the first is gemm, N=8 K=64, M=1,";
  CHECK(holds(sweep.output, told));
  CHECK(holds(read_file(directory / "out.csv"), "\n# " + told));

  const Outcome held_out = bench(directory, "--op gemm --model heldout --limit 0");
  CHECK(holds(held_out.output,
              "20 problems were not measured, for lack of time; the first is gemm mistral24b.q, N=4096 K=5120,"));

  const Outcome regret = bench(directory, "regret --model heldout --limit 0");
  CHECK(regret.status == 0);
  CHECK(holds(regret.output,
              "120 problems were not measured, for lack of time; the first is gemm mistral24b.q, N=4096 K=5120, M=1,"));

  const Outcome tune = bench(directory, kTiny + " --limit 0 --table table");
  CHECK(tune.status == 1);
  CHECK(holds(tune.output, "8 problems are left; the same command goes on with them"));
  CHECK(read_file(directory / "table").empty());
  CHECK(bench(directory, kTiny + " --table table").status == 0);
}

TEST_CASE("nf4-bench: help and versions") {
  const Directory directory;
  for (const char* command : {"", "sweep", "tune", "regret", "model", "variants"}) {
    CAPTURE(command);
    const Outcome help = shell(directory, std::string("\"$bench\" ") + command + " --help");
    CHECK(help.status == 0);
    CHECK(holds(help.output, "--device N|host"));
    CHECK(holds(help.output, "--as X.Y"));
    CHECK(holds(help.output, std::string("Usage: nf4-bench ") + (*command ? command : "sweep")));
    CHECK(holds(help.output, "--csv") ==
          (!*command || std::string(command) == "sweep" || std::string(command) == "regret"));
  }
  const Outcome version = shell(directory, "\"$bench\" --version");
  CHECK(version.status == 0);
  CHECK(version.output.compare(0, 10, "nf4-bench ") == 0);
  CHECK(holds(version.output,
              nf4::formatted("{}.{}.{}, commit ", NF4_VERSION_MAJOR, NF4_VERSION_MINOR, NF4_VERSION_PATCH)));
}

TEST_CASE("nf4-bench: an option or a value that a command does not take is refused at once") {
  check_refused("tune --csv x", "tune takes no --csv");
  for (const char* option : {"--nested", "--hot", "--pending", "--json x", "--peer x"}) {
    check_refused(std::string("tune ") + option, std::string("tune takes no ") + std::string(option).substr(0, 6));
  }
  for (const char* option :
       {"--variant x", "--hot", "--pending", "--peer x", "--cublas x", "--sweep full", "--groups"}) {
    check_refused(std::string("regret ") + option, "regret takes no " + std::string(option).substr(0, 5));
  }
  check_refused("model x --m 4", "model takes no --m");
  check_refused("model x --limit 4", "model takes no --limit");
  check_refused("model x y", "model takes no y");
  check_refused("model", "path is required");
  check_refused("variants --csv x", "variants takes no --csv");
  check_refused("variants --m 4", "--m requires --shape");
  check_refused("--state x", "sweep takes no --state");
  check_refused("--m 4 tune", "sweep takes no tune");
  check_refused("tunee", "the command is tunee; expected sweep, tune, regret, model or variants");
  check_refused("--bogus", "sweep takes no --bogus");
  check_refused("--csv", "--csv");
  check_refused("--m 0", "--m is 0; expected a number from 1 to 65535");
  check_refused("--m=1,x", "--m is x; expected a number");
  check_refused("--op=gemv",
                "--op is gemv; expected gemm, unpack, pack, pack_absmax, unpack_absmax, gemm_experts, gemm_transposed");
  check_refused("tune --op pack_absmax", "--op is pack_absmax; expected gemm, unpack, pack");
  check_refused("--dtype f8", "--dtype is f8; expected f32, f16, bf16");
  check_refused("--blocksize 48", "--blocksize is 48; expected a power of two from 32 to 4096");
  check_refused("--model gpt", "--model is gpt; expected llama, qwen, gemma, all or heldout");
  check_refused("--shape 8", "--shape is 8; expected N,K");
  check_refused("--shape 0,8", "--shape is 0; expected a number from 1 to 2147483648");
  check_refused("--shape 2147483648+2147483648,2147483648", "; expected 2^40 weights at most");
  check_refused("--sweep half", "--sweep is half; expected full");
  check_refused("--limit -1", "--limit");
  check_refused("--device 1000", "--device is 1000; there is no such CUDA device");
}

TEST_CASE("nf4-bench: what cannot be done is refused before anything is measured") {
  const std::string host = " --device host";
  check_refused("--variant gemm.none" + host,
                "--variant is gemm.none; expected selected, gemm.host, unpack.host, pack.host");
  check_refused("tune --variant gemm.none" + host, "--variant is gemm.none; expected gemm.host, ");
  check_refused("tune --variant selected" + host, "--variant is selected; expected gemm.host, ");
  check_refused("model x --variant gemm.none" + host, "--variant is gemm.none; expected selected, ");
  check_refused("--peer /nonexistent.so" + host,
                "--peer is /nonexistent.so; expected none on the host, where it cannot run");
  check_refused("--shape 1+2,64 --blocksize 128 --op gemm" + host, "expected parts of a multiple of 128 weights");
  check_refused("--op unpack --shape 64+64,64" + host, "none of the variants supports any of the problems");
  check_refused("--csv none/x" + host, "cannot write none/x: No such file or directory");
  check_refused("--json ." + host, "cannot write .: Is a directory");
  check_refused("tune --table none/x" + host, "cannot write none/x: No such file or directory");
  check_refused("tune --builtin ." + host, "cannot write .: Is a directory");
  check_refused("tune --state none/x" + host, "cannot write none/x: No such file or directory");
  check_refused("tune --state /dev/full" + host, "/dev/full is no regular file");
  check_refused("regret --op unpack --shape 64+64,64" + host, "none of the variants supports any of the problems");
  check_refused("regret --op gemm_experts --shape 8,64" + host, "--op is gemm_experts; expected --experts with it");
  check_refused("regret --csv none/x" + host, "cannot write none/x: No such file or directory");
  check_refused("regret --json ." + host, "cannot write .: Is a directory");
  check_refused("model none" + host, "cannot open none");
  check_refused("model ." + host, ". has neither model.safetensors nor model.safetensors.index.json");
  check_refused("model /dev/full" + host, "/dev/full is no regular file");
}

TEST_CASE("nf4-bench: a run that is refused leaves the files of the last one") {
  const Directory directory;
  write_file(directory / "out.csv", "before");
  CHECK(bench(directory, "--csv out.csv --json none/x").status == 2);
  CHECK(bench(directory, "--csv out.csv --variant gemm.none").status == 2);
  CHECK(bench(directory, "regret --csv out.csv --json none/x").status == 2);
  CHECK(bench(directory, "regret --csv out.csv --op unpack --shape 64+64,64").status == 2);
  CHECK(read_file(directory / "out.csv") == "before");
}

TEST_CASE("nf4-bench: full disks and closed outputs are told, with status 2") {
  const Directory directory;
  const std::string sweep = "\"$bench\" --shape 8,64 --op gemm --limit 0 --device host ";
  const std::string tune = "\"$bench\" tune --shape 8,64 --op gemm --m 1 --device host ";
  const std::string no_space = "No space left on device";
  for (const auto& [command, said] :
       {std::pair(sweep + ">/dev/full", "cannot write stdout: " + no_space),
        std::pair(sweep + ">&-", std::string("cannot write stdout: Bad file descriptor")),
        std::pair(sweep + "| true; exit ${PIPESTATUS[0]}", std::string("cannot write stdout: Broken pipe")),
        std::pair(sweep + "--csv /dev/full", "cannot write /dev/full: " + no_space),
        std::pair(sweep + "--json /dev/full", "cannot write /dev/full: " + no_space),
        std::pair(tune + ">/dev/full", "cannot write stdout: " + no_space),
        std::pair(tune + "--table /dev/full", "cannot write /dev/full: " + no_space),
        std::pair(tune + "--builtin /dev/full", "cannot write /dev/full: " + no_space),
        std::pair("(trap '' XFSZ; ulimit -f 0; " + tune + " --state new) 2>&1 | cat; exit ${PIPESTATUS[0]}",
                  std::string("cannot write new: File too large")),
        std::pair(std::string("\"$bench\" variants --device host >/dev/full"), "cannot write stdout: " + no_space),
        std::pair(std::string("\"$bench\" --help >/dev/full"), "cannot write stdout: " + no_space)}) {
    const Outcome outcome = shell(directory, command);
    CAPTURE(command, outcome.output);
    CHECK(outcome.status == 2);
    CHECK(holds(outcome.output, "nf4-bench: " + said + "\n"));
    CHECK(std::filesystem::is_character_file("/dev/full"));
  }
}

TEST_CASE("nf4-bench: no file takes the place of a stream that is closed") {
  const Directory directory;
  const Outcome outcome =
      shell(directory, "\"$bench\" --shape 8,64 --op gemm --limit 0 --device host --csv out.csv <&- 2>&-");
  CHECK(outcome.status == 0);
  CHECK(holds(read_file(directory / "out.csv"), ",status,"));
}

TEST_CASE("nf4-bench: values after an equals sign, lists, and the last of a value that is given twice") {
  const Directory directory;
  const Outcome outcome =
      bench(directory, "sweep --op=gemm --shape=8,64 --shape 16,64 --m 7 --m=1,3 --csv=out.csv --json=out.json --hot");
  CAPTURE(outcome.output);
  REQUIRE(outcome.status == 0);
  const std::string csv = read_file(directory / "out.csv");
  for (const char* part : {",1,8,64,", ",3,8,64,", ",1,16,64,", ",3,16,64,"}) CHECK(holds(csv, part));
  CHECK_FALSE(holds(csv, ",7,8,64,"));

  std::istringstream lines(read_file(directory / "out.json"));
  std::vector<nlohmann::json> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(nlohmann::json::parse(line));
  REQUIRE(objects.size() == 1 + 4 * 2);
  CHECK(objects[0]["context"]["device"] == "host");
  for (size_t i = 1; i < objects.size(); ++i) {
    CHECK(objects[i]["ok"] == true);
    CHECK(objects[i]["median_us"] > 0);
  }
}

TEST_CASE("nf4-bench regret: every operation; what is selected alone is the best") {
  const Directory directory;
  const Outcome outcome = bench(directory,
                                "regret --op gemm,unpack,pack,pack_absmax,unpack_absmax,gemm_experts,gemm_transposed "
                                "--shape 8,64 --experts 2 --top-k 2 --m 1,3 --nested --csv out.csv --json out.json");
  CAPTURE(outcome.output);
  REQUIRE(outcome.status == 0);
  for (const char* op : {"gemm M=1", "gemm M=3", "unpack", "pack", "pack_absmax", "unpack_absmax",
                         "gemm_experts M=3, top 2 of 2 experts", "gemm_transposed M=3"}) {
    CAPTURE(op);
    CHECK(holds(outcome.output, std::string("\n") + op + ", "));
  }
  CHECK(holds(outcome.output, " 1  1.000  1.000  8x64  "));
  CHECK(holds(outcome.output,
              "\nThe worst: 1.000, gemm, N=8 K=64, M=1, bf16, blocksize 64, nested: selected gemm.host, "));
  CHECK(holds(read_file(directory / "out.csv"), "gemm,\"selected\",\"gemm.host\",0,,bf16,64,1,3,8,64,"));
  CHECK(holds(read_file(directory / "out.json"), R"("contender":"selected","config":"unpack.host")"));
}

#if NF4_HAVE_CUDA
TEST_CASE("nf4-bench regret: on a GPU, of what every variant is right", "[gpu]") {
  REQUIRE_GPU();
  const Directory directory;
  const Outcome outcome = bench(directory, "regret --shape 1024,2048 --m 1,16,200", "0");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(holds(outcome.output, "\nThe worst: "));
  const Outcome by_default = bench(directory, "regret --limit 0", "0");
  CHECK(holds(by_default.output,
              "120 problems were not measured, for lack of time; the first is gemm mistral24b.q, N=4096 K=5120, M=1,"));
}
#endif

TEST_CASE("nf4-bench regret: on the host one layer by default") {
  const Directory directory;
  const Outcome outcome = bench(directory, "regret --limit 0");
  CHECK(outcome.status == 0);
  CHECK(
      holds(outcome.output, "6 problems were not measured, for lack of time; the first is gemm, N=1024 K=4096, M=1,"));
  CHECK(bench(directory, "regret --shape 8,64 --csv out.csv").status == 0);
  const std::string csv = read_file(directory / "out.csv");
  for (const int m : {1, 8, 48, 100, 256, 1024}) {
    CAPTURE(csv, m);
    CHECK(holds(csv, nf4::formatted("gemm,\"selected\",\"gemm.host\",0,,bf16,64,0,{},8,64,", m)));
  }
}

TEST_CASE("nf4-bench variants: lists them, and what they can run") {
  const Directory directory;
  const Outcome all = bench(directory, "variants");
  CHECK(all.status == 0);
  CHECK(holds(all.output, "gemm\n  gemm.host, exact: "));
  CHECK(holds(all.output, "    configs: none\n"));
  CHECK_FALSE(holds(all.output, "can run it"));
  const Outcome judged = bench(directory, "variants --op gemm,pack --shape 8,64 --m 3 --nested");
  CHECK(judged.status == 0);
  CHECK(holds(judged.output, "gemm, N=8 K=64, M=3, bf16, blocksize 64, nested: gemm.host (default"));
  CHECK(holds(judged.output, "pack, N=8 K=64, bf16, blocksize 64: pack.host (default"));
  CHECK(holds(judged.output, "    can run it\n"));
  CHECK_FALSE(holds(judged.output, "unpack.host"));
}

#if NF4_HAVE_CUDA
TEST_CASE("nf4-bench variants: on a GPU, why a variant cannot run a problem", "[gpu]") {
  REQUIRE_GPU();
  const Directory directory;
  const Outcome outcome = bench(directory, "variants --op gemm --shape 64,64 --m 200", "0");
  CHECK(outcome.status == 0);
  CHECK(holds(outcome.output, "    can run it\n"));
  CHECK(holds(outcome.output, "    cannot run it: "));
}
#endif

TEST_CASE("nf4-bench model: a folder of shards, layers across them, experts, and what is packed") {
  const Directory directory;
  const std::vector<Part> plain = packed_parts("model.layers.0.q.weight", {64, 64}, false);
  const std::vector<Part> nested = packed_parts("model.layers.1.q.weight", {64, 64}, true);
  std::vector<Part> shards[2] = {{dense_part("model.layers.0.k.weight", {64, 64}), dense_part("norm", {64}),
                                  dense_part("model.layers.0.experts.up", {2, 64, 64})},
                                 {dense_part("model.layers.1.k.weight", {64, 64})}};
  for (size_t i = 0; i < plain.size(); ++i) shards[i % 2].push_back(plain[i]);
  for (size_t i = 0; i < nested.size(); ++i) shards[i % 2].push_back(nested[i]);
  for (Part& part : packed_parts("model.layers.1.experts.up", {2, 64, 64}, false)) shards[1].push_back(part);
  std::string map;
  for (int i = 0; i < 2; ++i) {
    write_file(directory / nf4::formatted("shard{}.safetensors", i), safetensors_of(shards[i]));
    for (const Part& part : shards[i])
      map += nf4::formatted(R"({}"{}":"shard{}.safetensors")", map.empty() ? "" : ",", part.name, i);
  }
  write_file(directory / "model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
  const Outcome outcome = bench(directory, "model . --variant selected");
  CAPTURE(outcome.output);
  REQUIRE(outcome.status == 0);
  const auto has_line = [&](const std::string& name, const std::string& rest) {
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
      if (line.compare(0, name.size() + 1, name + " ") == 0 && holds(line, rest)) return true;
    }
    return false;
  };
  const auto has_packing = [&](const std::string& name, const std::string& count, const std::string& form,
                               const std::string& sizes) {
    return has_line(name, nf4::formatted(" {} {:>11} {}", count, form, sizes));
  };
  CHECK(has_packing("64 x 64", "x2", "f32", "  32.0 KiB   4.50 KiB   6.14 KiB "));
  CHECK(has_packing("64 x 64", "x1", "nf4 f32", "  16.0 KiB   2.25 KiB          - "));
  CHECK(has_packing("64 x 64", "x1", "nested f32", "  16.0 KiB          -   3.07 KiB "));
  CHECK(has_packing("2 x 64 x 64", "x1", "f32", "  32.0 KiB   4.50 KiB   5.13 KiB "));
  CHECK(has_packing("2 x 64 x 64", "x1", "nf4 f32", "  32.0 KiB   4.50 KiB          - "));
  CHECK(has_packing("all", "x6", "", "   128 KiB          -          - "));
  // Two dense matrices and two packed ones are multiplied; experts, and all, are unpacked.
  CHECK(has_line("gemm M=1", "selected                            4 "));
  CHECK(has_line("gemm M=8", "selected                            4 "));
  CHECK(has_line("unpack", "selected                            6 "));
  CHECK(has_line("pack", "selected                            3 "));
  CHECK_FALSE(holds(outcome.output, "model.layers"));
  const Outcome details = bench(directory, "model . --details");
  CHECK(holds(details.output, "\nmodel.layers.*.k.weight, 64 x 64 "));
  CHECK(holds(details.output, "gemm.host"));
}

TEST_CASE("nf4-bench model: many shapes fit into a screen") {
  const Directory directory;
  std::vector<Part> parts;
  for (int64_t i = 0; i < 20; ++i) parts.push_back(dense_part(nf4::formatted("w{}", i), {64, 64 + 32 * i}));
  write_file(directory / "file", safetensors_of(parts));
  const Outcome outcome = bench(directory, "model file");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(std::count(outcome.output.begin(), outcome.output.end(), '\n') <= 20);
  CHECK(holds(outcome.output, "\n13 others "));
  CHECK(holds(outcome.output, "x20 "));
  const bool compared = holds(outcome.output, "OpenBLAS dense");
  CHECK(holds(outcome.output, compared ? "1.00x" : "without dense products: "));
  std::istringstream lines(outcome.output);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 110);
}

#if !NF4_SANITIZED
TEST_CASE("nf4-bench: wrong results are told, each way of being wrong, with status 1") {
  const Directory directory;
  const std::string wrong = "export LD_PRELOAD='" NF4_WRONG_LIBRARY "'; ";
  const Outcome sweep =
      shell(directory, wrong +
                           "\"$bench\" --op gemm,unpack,pack,pack_absmax,unpack_absmax,gemm_experts,gemm_transposed "
                           "--experts 2 --top-k 2 --shape 8,64 --csv out.csv --json out.json --hot --device host");
  CAPTURE(sweep.output);
  CHECK(sweep.status == 1);
  CHECK(holds(sweep.output, "FAILED: 1 of 8 outputs are outside the bound; output 0 is "));
  CHECK(holds(sweep.output, "FAILED: 1 of 16 outputs are outside the bound; output 0 is "));
  CHECK(holds(sweep.output, "FAILED: 1 of 64 outputs are outside the bound; output 0 is "));
  CHECK(holds(sweep.output, "FAILED: 1 of 512 elements differ from fp32 arithmetic"));
  CHECK(holds(sweep.output, "FAILED: 2 of 512 codes differ"));
  CHECK(holds(sweep.output, "FAILED: 1 values differ from the host backend's"));
  CHECK(holds(sweep.output, "FAILED: 8 of 8 scales differ"));
  CHECK(holds(sweep.output, "14 results are wrong"));
  CHECK(holds(read_file(directory / "out.csv"), ",FAILED,"));
  CHECK(holds(read_file(directory / "out.csv"), "\"2 of 512 codes differ\"\n"));
  CHECK(holds(read_file(directory / "out.json"), R"("ok":false,"note":"2 of 512 codes differ")"));

  const Outcome regret = shell(directory, wrong + "\"$bench\" regret --shape 8,64 --m 1 --device host");
  CAPTURE(regret.output);
  CHECK(regret.status == 1);
  CHECK(holds(regret.output, "FAILED: 1 of 8 outputs are outside the bound"));
  CHECK(holds(regret.output, "1 results are wrong"));
  CHECK_FALSE(holds(regret.output, "over that of the best"));

  const std::string tuning = wrong + "\"$bench\" tune --op gemm --shape 8,64 --m 1 --table table --device host";
  const Outcome tune = shell(directory, tuning);
  CAPTURE(tune.output);
  CHECK(tune.status == 1);
  CHECK(holds(tune.output, "FAILED: gemm, N=8 K=64, M=1, bf16, blocksize 64, gemm.host : 1 of 8 outputs"));
  CHECK_FALSE(holds(read_file(directory / "table"), "gemm.host"));
  CHECK(shell(directory, tuning + " --state new 2>&-").status == 1);

  Part w = dense_part("w", {64, 64});
  w.dtype = "BF16";
  w.shape = {64, 128};
  write_file(directory / "model", safetensors_of({w}));
  const Outcome model = shell(directory, wrong + "\"$bench\" model model --variant selected --device host");
  CAPTURE(model.output);
  CHECK(model.status == 1);
  CHECK(holds(model.output, "FAILED: 1 of 64 outputs are outside the bound"));
  CHECK(holds(model.output, "4 results are wrong"));
}

TEST_CASE(
    "nf4-bench regret: a poor selection is told with what would have been better, whatever is wrong or cannot run") {
  const Directory directory;
  const std::string choosing = "export LD_PRELOAD='" NF4_CHOOSING_LIBRARY "'; ";
  const auto run = [&](const std::string& m) {
    return shell(directory, choosing + "\"$bench\" regret --shape 8,64 --json out.json --device host --m " + m);
  };
  // What is in the file below the run's own line: what is selected, what beats it, what is wrong.
  const auto results = [&] {
    std::istringstream lines(read_file(directory / "out.json"));
    std::string line;
    std::getline(lines, line);
    std::vector<nlohmann::json> out;
    while (std::getline(lines, line)) out.push_back(nlohmann::json::parse(line));
    return out;
  };
  const auto is = [](const nlohmann::json& result, int m, const char* contender, const char* config) {
    return result["m"] == m && result["contender"] == contender && result["config"] == config;
  };
  const auto worst_of = [](const Outcome& outcome) {
    const std::string said = "\nThe worst: ";
    const size_t at = outcome.output.find(said);
    REQUIRE(at != std::string::npos);
    return std::stod(outcome.output.substr(at + said.size()));
  };

  const Outcome poor = run("1,3");
  CAPTURE(poor.output);
  CHECK(poor.status == 0);
  CHECK(worst_of(poor) > 1.5);  // a nap of 5 ms over a small product
  CHECK(holds(poor.output, " 1  1.000  1.000  8x64   gemm.host         gemm.host\n"));
  CHECK(holds(poor.output, "  8x64   gemm.slow naps=1  gemm.host\n"));
  CHECK(holds(poor.output, ", gemm, N=8 K=64, M=3, bf16, blocksize 64: selected gemm.slow naps=1, "));
  CHECK(holds(poor.output, " us; best gemm.host, "));
  std::vector<nlohmann::json> told = results();
  REQUIRE(told.size() == 3);
  CHECK(is(told[0], 1, "selected", "gemm.host"));
  CHECK(is(told[1], 3, "selected", "gemm.slow naps=1"));
  CHECK(is(told[2], 3, "gemm.host", ""));
  CHECK(told[1]["p5_us"] < told[1]["p95_us"]);  // a glance would be one launch

  const Outcome wrong = run("5");
  CAPTURE(wrong.output);
  CHECK(wrong.status == 1);
  CHECK(worst_of(wrong) > 5);  // one of 20 ms
  told = results();
  REQUIRE(told.size() == 3);  // the other config is faster than the selected one, and far behind
  CHECK(is(told[0], 5, "selected", "gemm.slow naps=4"));
  CHECK(is(told[1], 5, "gemm.host", ""));
  CHECK(is(told[2], 5, "gemm.wrong", ""));
  CHECK(holds(wrong.output, "FAILED: 1 of 40 outputs are outside the bound"));
  CHECK(holds(wrong.output, "  8x64   gemm.slow naps=4  gemm.host\n"));
  CHECK(holds(wrong.output, "1 results are wrong"));
}
#endif

}  // namespace nf4test
