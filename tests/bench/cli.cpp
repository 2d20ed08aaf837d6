#include <cstdlib>
#include <string>

#include "support/harness.hpp"

namespace nf4test {
namespace {

struct Outcome {
  int status;
  std::string output;
};

// Runs nf4-bench in `directory`.
Outcome bench(const Directory& directory, const std::string& arguments, const std::string& device = "host") {
  const std::string command =
      "cd '" + (directory / "") + "' && '" NF4_BENCH "' " + arguments + " --device " + device + " >out 2>&1";
  const int status = std::system(command.c_str());
  return {WEXITSTATUS(status), read_file(directory / "out")};
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

TEST_CASE("nf4-bench tune: what its rows could not tell apart is refused") {
  const Directory directory;
  for (const char* option : {"--nested", "--hot", "--pending"}) {
    CAPTURE(option);
    const Outcome outcome = bench(directory, kTiny + " " + option);
    CHECK(outcome.status == 2);
    CHECK(holds(outcome.output, "tune: rows are by cold, constant weights with fp32 scales"));
  }
  const Outcome absmax = bench(directory, kTiny + " --op pack_absmax");
  CHECK(absmax.status == 2);
  CHECK(holds(absmax.output, "tune: expected --op gemm, unpack or pack"));
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
  CHECK(holds(straddling.output, "--shape 1+2,64: expected parts of a multiple of 128 weights"));
}

TEST_CASE("nf4-bench: what there is no time for is told") {
  const Directory directory;
  const Outcome sweep = bench(directory, "--shape 8,64 --m 1,2,3 --limit 0 --csv out.csv");
  CAPTURE(sweep.output);
  CHECK(sweep.status == 0);
  const std::string told = "5 problems were not measured, for lack of time; the first is gemm, N=8 K=64, M=1,";
  CHECK(holds(sweep.output, told));
  CHECK(holds(read_file(directory / "out.csv"), "\n# " + told));

  const Outcome tune = bench(directory, kTiny + " --limit 0 --table table");
  CHECK(tune.status == 1);
  CHECK(holds(tune.output, "8 problems are left; the same command goes on with them"));
  CHECK(read_file(directory / "table").empty());
  CHECK(bench(directory, kTiny + " --table table").status == 0);
}

}  // namespace nf4test
