#include "tuning.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "registry.hpp"
#include "status.hpp"
#include "support/arena.hpp"
#include "support/harness.hpp"
#include "text/formatted.hpp"

namespace nf4test {
namespace {

using nf4::TuningRow;

const std::string kHead = "nf4-tuning 1\n# device,op,dtype,m,n,k,blocksize,variant,config,microseconds\n";

// A table with every kind of field, spelled as it is saved.
const std::string kTable = kHead +
                           "host,gemm,bf16,1,*,*,64,gemm.host,,12.5\n"
                           "sm_90,gemm,f16,2-16,4096,0-14336,32-4096,gemm.host,,\n"
                           "NVIDIA H200,unpack,f32,*,1-1099511627776,7,*,unpack.host,,0.001\n"
                           "*,pack,*,*,*,*,128,pack.host,,3e-05\n"
                           "*,pack_absmax,*,*,1,*,256,pack_absmax.host,,1000000000000\n"
                           "*,unpack_absmax,*,*,5-,*,*,unpack_absmax.host,,\n";

std::string reformatted(const std::string& text) { return nf4::format_tuning(*nf4::parse_tuning(text, "test")); }

nf4_status_t parse(const std::string& text) {
  return nf4::guarded([&] { nf4::parse_tuning(text, "table"); });
}

std::string selected_line(nf4_handle_t handle, int64_t m, int64_t n, nf4_dtype_t dtype = NF4_BF16,
                          int32_t blocksize = 64) {
  nf4_problem_t problem = NF4_PROBLEM_INIT;
  problem.m = m;
  problem.n = n;
  problem.k = 128;
  problem.dtype = dtype;
  problem.blocksize = blocksize;
  nf4_selection_t selection{};
  selection.struct_size = sizeof selection;
  REQUIRE(nf4_select(handle, &problem, nullptr, &selection) == NF4_SUCCESS);
  return selection.reason;
}

// What looks on while files are written to the disk, by their paths.
std::function<void(const std::string&)> on_fsync;

const std::string kDefault = "default: the first variant that can run this";

std::string line(int number) { return "line " + std::to_string(number) + " of the tuning table"; }

}  // namespace

TEST_CASE("tuning: a table is saved as it was read") {
  CHECK(reformatted(kTable) == kTable);
  CHECK(reformatted("nf4-tuning 1\n") == kHead);
}

TEST_CASE("tuning: what may be spelled otherwise") {
  const std::string row = "*,pack,*,*,8,*,*,pack.host,,\n";
  CHECK(reformatted("nf4-tuning 1\r\n*,pack,*,*,8,*,*,pack.host,,\r\n") == kHead + row);
  CHECK(reformatted("nf4-tuning 1\n\n# words\n*,pack,*,*,8,*,*,pack.host,,") == kHead + row);
  CHECK(reformatted("nf4-tuning 1\n*,pack,*,*,8-8,*,*,pack.host,,\n") == kHead + row);
  CHECK(reformatted("nf4-tuning 1\n*,pack,*,0-,8,*,*,pack.host,,\n") == kHead + row);
  CHECK(reformatted("nf4-tuning 1\n*,pack,*,5-9223372036854775807,8,*,*,pack.host,,\n") ==
        kHead + "*,pack,*,5-,8,*,*,pack.host,,\n");
  CHECK(reformatted("nf4-tuning 1\n*,pack,*,0-9223372036854775807,8,*,*,pack.host,,\n") == kHead + row);
}

TEST_CASE("tuning: each malformed field is told with its line") {
  struct Case {
    const char* row;
    const char* message;
    nf4_status_t status = NF4_ERROR_PARSE;
  };
  const Case cases[] = {
      {"x", "expected 10 fields: device,op,"},
      {"*,gemm,*,*,*,*,*,gemm.host,", "expected 10 fields"},
      {"*,gemm,*,*,*,*,*,gemm.host,,,", "experts is ''; expected *, a number"},
      {"*,gemm_experts,*,*,*,*,*,gemm_experts.host,,,x", "experts is 'x'"},
      {"*,gemm,*,*,*,*,*,gemm.host,,,*,", "expected 10 fields"},
      {",gemm,*,*,*,*,*,gemm.host,,", "device is empty"},
      {"sm_90a,gemm,*,*,*,*,*,gemm.host,,", "device is 'sm_90a'; expected sm_ and a number"},
      {"sm_-1,gemm,*,*,*,*,*,gemm.host,,", "device is 'sm_-1'"},
      {"sm_0,gemm,*,*,*,*,*,gemm.host,,", "device is 'sm_0'"},
      {"sm_*,gemm,*,*,*,*,*,gemm.host,,", "device is 'sm_*'"},
      {"sm_89-80,gemm,*,*,*,*,*,gemm.host,,",
       "device is 'sm_89-80'; expected sm_ and a number or a range, sm_90 or sm_80-89"},
      {"*,gemv,*,*,*,*,*,gemm.host,,", "op is 'gemv'; expected pack, unpack, gemm"},
      {"*,,*,*,*,*,*,gemm.host,,", "op is ''"},
      {"*,gemm,u8,*,*,*,*,gemm.host,,", "dtype is 'u8'; expected f32, f16, bf16 or *"},
      {"*,gemm,,*,*,*,*,gemm.host,,", "dtype is ''"},
      {"*,gemm,*,x,*,*,*,gemm.host,,", "m is 'x'; expected *, a number, low-high, or low-"},
      {"*,gemm,*,*,-1,*,*,gemm.host,,", "n is '-1'"},
      {"*,gemm,*,*,+1,*,*,gemm.host,,", "n is '+1'"},
      {"*,gemm,*,*,*,16-2,*,gemm.host,,", "k is '16-2'"},
      {"*,gemm,*,*,*,-,*,gemm.host,,", "k is '-'"},
      {"*,gemm,*,*,*,2--,*,gemm.host,,", "k is '2--'"},
      {"*,gemm,*,*,*,-64,*,gemm.host,,", "k is '-64'"},
      {"*,gemm,*,*,*,1-2-3,*,gemm.host,,", "k is '1-2-3'"},
      {"*,gemm,*,*,*,1- 2,*,gemm.host,,", "k is '1- 2'"},
      {"*,gemm,*,*,*,*,9223372036854775808,gemm.host,,", "blocksize is '9223372036854775808'"},
      {"*,gemm,*,*,*,*,,gemm.host,,", "blocksize is ''"},
      {"*,gemm,*,*,*,*,*,pack.host,,", "pack.host is no variant of gemm"},
      {"*,gemm,*,*,*,*,*,gemm.host,warps=3,", "config is 'warps=3', which gemm.host has not; its first is ''"},
      {"*,gemm,*,*,*,*,*,gemm.host,plan,", "config is 'plan', and gemm.host has no plan; its first config is ''"},
      {"*,gemm,*,*,*,*,*,*,,", "config is '', and variant *; only 'plan' goes with it"},
      {"*,gemm,*,*,*,*,*,*,warps=8,", "config is 'warps=8', and variant *; only 'plan' goes with it"},
      {"*,gemm,*,*,*,*,*,gemm.host,,fast", "microseconds is 'fast'; expected a positive number"},
      {"*,gemm,*,*,*,*,*,gemm.host,,0", "microseconds is '0'"},
      {"*,gemm,*,*,*,*,*,gemm.host,,-1", "microseconds is '-1'"},
      {"*,gemm,*,*,*,*,*,gemm.host,,nan", "microseconds is 'nan'"},
      {"*,gemm,*,*,*,*,*,gemm.host,,inf", "microseconds is 'inf'"},
      {"*,gemm,*,*,*,*,*,gemm.host,,1 ", "microseconds is '1 '"},
      {"*,gemm,*,*,*,*,*,gemm.nonsense,,", "variant is 'gemm.nonsense'; there are pack.host",
       NF4_ERROR_UNKNOWN_VARIANT},
      {"*,gemm,*,*,*,*,*,,,", "variant is ''", NF4_ERROR_UNKNOWN_VARIANT},
  };
  for (const Case& c : cases) {
    CAPTURE(c.row);
    const std::string valid = "*,gemm,*,*,*,*,*,gemm.host,,\n";
    check_failed(parse(kHead + valid + c.row + "\n" + valid), c.status, std::string("table, line 4: ") + c.message);
  }
}

#if NF4_HAVE_CUDA
TEST_CASE("tuning: a row may leave the config to the variant's plan") {
  const std::string rows =
      "sm_90,gemm,*,33-64,*,*,64-,*,plan,\n"
      "sm_90,gemm,*,65-,*,*,*,gemm.scaled_wgmma,plan,69.91\n"
      "sm_90,gemm,*,*,*,*,*,gemm.scaled_wgmma,rows=192 cols=128 cluster=2,\n";
  const auto table = nf4::parse_tuning("nf4-tuning 1\n" + rows, "test");
  CHECK(table->rows.at(0).variant == nullptr);
  CHECK_FALSE(table->rows.at(1).config);
  CHECK(table->rows.at(2).config);
  CHECK(nf4::format_tuning(*table) == kHead + rows);
  check_failed(parse(kHead + "*,gemm,*,*,*,*,*,gemm.scaled_wgmma,plans,\n"), NF4_ERROR_PARSE,
               "table, line 3: config is 'plans', which gemm.scaled_wgmma has not");
}
#endif

TEST_CASE("tuning: the first line says what the file is") {
  for (const char* text :
       {"", "\n", "nf4-tuning 2\n", "nf4-tuning 1 \n", " nf4-tuning 1\n", "\xef\xbb\xbfnf4-tuning 1\n"}) {
    CAPTURE(text);
    check_failed(parse(text), NF4_ERROR_PARSE, "table, line 1: ");
  }
}

TEST_CASE("tuning: of a file that is no table messages show nothing") {
  check_failed(parse("root:secret\n"), NF4_ERROR_PARSE, "table, line 1: it is not 'nf4-tuning 1'");
  CHECK_FALSE(holds(nf4_last_error_message(), "secret"));
}

TEST_CASE("tuning: messages show no bytes that a terminal would act on") {
  parse("nf4-tuning 1\n*,\x1b[2J\x07,*,*,*,*,*,gemm.host,,\n");
  const std::string message = nf4_last_error_message();
  CHECK(message.find("op is '?[2J?'") != std::string::npos);
}

TEST_CASE("tuning: a table cut anywhere is read up to the cut, or refused with the line of the cut") {
  for (size_t size = 0; size <= kTable.size(); ++size) {
    const std::string text = kTable.substr(0, size);
    const auto newlines = std::count(text.begin(), text.end(), '\n');
    CAPTURE(text);
    std::unique_ptr<nf4::TuningTable> table;
    const nf4_status_t status = nf4::guarded([&] { table = nf4::parse_tuning(text, "table"); });
    if (status == NF4_SUCCESS) {
      const auto complete = std::max<std::ptrdiff_t>(0, newlines - 2);
      const auto rows = static_cast<std::ptrdiff_t>(table->rows.size());
      INFO(rows << " rows of " << complete << " complete lines");
      CHECK((rows == complete || rows == complete + 1));
    } else {
      const std::string message = nf4_last_error_message();
      if (message.find("table, line " + std::to_string(newlines + 1) + ": ") != 0) FAIL(message);
      if (status != NF4_ERROR_PARSE && status != NF4_ERROR_UNKNOWN_VARIANT) FAIL(nf4_status_string(status));
    }
  }
}

TEST_CASE("tuning: a damaged table is refused, or means the same once saved") {
  std::mt19937 random(5);
  const auto below = [&](size_t limit) { return std::uniform_int_distribution<size_t>(0, limit - 1)(random); };
  const std::string likely = "*,-\n\r#0159esm_fx.\0\xff";
  int read = 0;
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = kTable;
    for (size_t i = 0; i <= below(3); ++i) {
      // Mostly past the first line, which any change of makes the whole file refused.
      const size_t at = below(8) == 0 ? below(text.size()) : 13 + below(text.size() - 13);
      const char byte = below(2) == 0 ? likely[below(likely.size())] : static_cast<char>(below(256));
      const size_t action = below(3);
      if (action == 0) text[at] = byte;
      if (action == 1) text.insert(at, 1, byte);
      if (action == 2) text.erase(at, 1 + below(8));
    }
    CAPTURE(round, text);
    std::string saved;
    const nf4_status_t status = nf4::guarded([&] { saved = reformatted(text); });
    if (status == NF4_SUCCESS) {
      ++read;
      if (reformatted(saved) != saved) FAIL("saved as " << saved);
    } else {
      ++refused;
      if (status != NF4_ERROR_PARSE && status != NF4_ERROR_UNKNOWN_VARIANT) FAIL(nf4_status_string(status));
    }
  }
  CHECK(read > 1000);  // else one of the two was not tried
  CHECK(refused > 1000);
}

TEST_CASE("tuning: a row matches by every one of its fields") {
  const auto table = nf4::parse_tuning("nf4-tuning 1\nsm_90,gemm,f16,2-16,10-20,30-40,64-128,gemm.host,,\n", "test");
  const TuningRow& row = table->rows.at(0);
  const nf4::Device h200{0, 90, 132, "NVIDIA H200"};
  const nf4::Problem inside{nf4::Op::gemm, nf4::Dtype::f16, 2, 10, 30, 64, nf4::Dtype::f32, 16, false};
  CHECK(row.matches(inside));
  nf4::Problem upper = inside;
  upper.m = 16, upper.n = 20, upper.k = 40, upper.blocksize = 128;
  CHECK(row.matches(upper));

  using Mutation = void (*)(nf4::Problem&);
  const Mutation mutations[] = {
      [](nf4::Problem& p) { p.op = nf4::Op::unpack; },
      [](nf4::Problem& p) { p.dtype = nf4::Dtype::bf16; },
      [](nf4::Problem& p) { p.m = 1; },
      [](nf4::Problem& p) { p.m = 17; },
      [](nf4::Problem& p) { p.n = 9; },
      [](nf4::Problem& p) { p.n = 21; },
      [](nf4::Problem& p) { p.k = 29; },
      [](nf4::Problem& p) { p.k = 41; },
      [](nf4::Problem& p) { p.blocksize = 32; },
      [](nf4::Problem& p) { p.blocksize = 256; },
  };
  for (size_t i = 0; i < std::size(mutations); ++i) {
    CAPTURE(i);
    nf4::Problem outside = inside;
    mutations[i](outside);
    CHECK_FALSE(row.matches(outside));
  }
  CHECK(row.matches(h200));
  CHECK_FALSE(row.matches({0, 89, 132, "NVIDIA H200"}));
}

TEST_CASE("tuning: a row may be for a number of experts") {
  const std::string rows = "*,gemm_experts,*,8-,*,*,*,gemm_experts.host,,,33-128\n*,gemm,*,*,*,*,*,gemm.host,,\n";
  const auto table = nf4::parse_tuning("nf4-tuning 1\n" + rows, "test");
  nf4::Problem problem{nf4::Op::gemm_experts, nf4::Dtype::f16, 8, 10, 30, 64, nf4::Dtype::f32, 16, false, 33, 8};
  CHECK(table->rows.at(0).matches(problem));
  problem.experts = 128;
  CHECK(table->rows.at(0).matches(problem));
  problem.experts = 129;
  CHECK_FALSE(table->rows.at(0).matches(problem));
  problem.experts = 32;
  CHECK_FALSE(table->rows.at(0).matches(problem));
  CHECK(reformatted("nf4-tuning 1\n" + rows) == kHead + rows);
  CHECK(reformatted("nf4-tuning 1\n*,gemm,*,*,*,*,*,gemm.host,,,*\n") == kHead + "*,gemm,*,*,*,*,*,gemm.host,,\n");
}

TEST_CASE("tuning: a row's device is a name, an architecture, or any") {
  struct Case {
    const char* device;
    bool h200, h100, host;
  };
  const Case cases[] = {
      {"*", true, true, true},       {"sm_90", true, true, false},    {"NVIDIA H200", true, false, false},
      {"host", false, false, true},  {"NVIDIA", false, false, false}, {"sm_9", false, false, false},
      {"sm_80-", true, true, false}, {"sm_80-90", true, true, false}, {"sm_80-89", false, false, false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.device);
    const auto table =
        nf4::parse_tuning(std::string("nf4-tuning 1\n") + c.device + ",pack,*,*,*,*,*,pack.host,,\n", "test");
    CHECK(table->rows.at(0).matches({0, 90, 132, "NVIDIA H200"}) == c.h200);
    CHECK(table->rows.at(0).matches({0, 90, 132, "NVIDIA H100"}) == c.h100);
    CHECK(table->rows.at(0).matches({NF4_HOST_DEVICE, 0, 2, "host"}) == c.host);
  }
}

TEST_CASE("tuning: the index of a device holds the rows that can match there, in order") {
  const char* devices[] = {"*", "host", "sm_90", "NVIDIA H200"};
  const char* dtypes[] = {"*", "f32", "f16", "bf16"};
  const char* ops[] = {"pack", "unpack", "gemm"};
  std::mt19937 random(7);
  const auto below = [&](int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random); };
  std::string text = kHead;
  for (int i = 0; i < 400; ++i) {
    const std::string op = ops[below(3)];
    const int m = below(3) == 0 ? 0 : below(1 << below(14));
    const int n = below(64);
    text += nf4::formatted("{},{},{},{},{}-{},*,*,{}.host,,\n", devices[below(4)], op, dtypes[below(4)],
                           m == 0 ? "*" : nf4::formatted("{}-{}", m, m + below(2 * m)), n, n + below(32), op);
  }
  for (const nf4::Device& device : {nf4::Device{0, 90, 132, "NVIDIA H200"}, nf4::Device{0, 90, 132, "NVIDIA H100"},
                                    nf4::Device{0, 80, 108, "NVIDIA A100"}, nf4::Device{-1, 0, 2, "host"}}) {
    CAPTURE(device.name);
    const nf4::TuningIndex index(nf4::parse_tuning(text, "test"), device);
    REQUIRE(index.table().rows.size() == 400);
    for (int i = 0; i < 300; ++i) {
      const nf4::Problem problem{static_cast<nf4::Op>(below(3)),
                                 static_cast<nf4::Dtype>(below(3)),
                                 below(1 << below(15)),
                                 below(72),
                                 64,
                                 64,
                                 nf4::Dtype::f32,
                                 16,
                                 false};
      std::vector<int> expected;
      std::vector<int> found;
      for (const TuningRow& row : index.table().rows) {
        if (row.matches(device) && row.matches(problem)) expected.push_back(row.line);
      }
      for (const TuningRow* row : index.near(problem)) {
        if (row->matches(problem)) found.push_back(row->line);
      }
      if (found != expected) FAIL(nf4::name_of(problem.op) << " m=" << problem.m << " n=" << problem.n);
    }
  }
}

TEST_CASE("tuning: the first row that matches decides; without one, the default") {
  const Directory directory;
  const std::string path = directory / "table";
  write_file(path,
             "nf4-tuning 1\n"
             "sm_90,gemm,*,*,*,*,*,gemm.host,,\n"
             "*,gemm,f16,*,*,*,*,gemm.host,,\n"
             "host,gemm,*,1,100-200,*,64,gemm.host,,\n"
             "host,gemm,*,1-8,*,*,64,gemm.host,,\n");
  const Backend backend(NF4_HOST_DEVICE);
  REQUIRE(nf4_tuning_load(backend.handle(), path.c_str()) == NF4_SUCCESS);
  CHECK(selected_line(backend.handle(), 1, 100, NF4_F16) == line(3));
  CHECK(selected_line(backend.handle(), 1, 100) == line(4));
  CHECK(selected_line(backend.handle(), 1, 200) == line(4));
  CHECK(selected_line(backend.handle(), 1, 99) == line(5));
  CHECK(selected_line(backend.handle(), 2, 150) == line(5));
  CHECK(selected_line(backend.handle(), 8, 150) == line(5));
  CHECK(selected_line(backend.handle(), 9, 150) == kDefault);
  CHECK(selected_line(backend.handle(), 1, 150, NF4_BF16, 128) == kDefault);

  REQUIRE(nf4_tuning_reset(backend.handle()) == NF4_SUCCESS);
  CHECK(selected_line(backend.handle(), 1, 100) == kDefault);
}

TEST_CASE("tuning: what cannot be loaded leaves the table in use") {
  const Directory directory;
  const std::string good = directory / "good";
  write_file(good, "nf4-tuning 1\nhost,gemm,*,*,*,*,*,gemm.host,,\n");
  const Backend backend(NF4_HOST_DEVICE);
  REQUIRE(nf4_tuning_load(backend.handle(), good.c_str()) == NF4_SUCCESS);

  const std::string parse = directory / "parse";
  write_file(parse, "nf4-tuning 1\n\n\nhost,gemm\n");
  check_failed(nf4_tuning_load(backend.handle(), parse.c_str()), NF4_ERROR_PARSE, parse + ", line 4: ");
  const std::string unknown = directory / "unknown";
  write_file(unknown, "nf4-tuning 1\nhost,gemm,*,*,*,*,*,gemm.nonsense,,\n");
  check_failed(nf4_tuning_load(backend.handle(), unknown.c_str()), NF4_ERROR_UNKNOWN_VARIANT, unknown + ", line 2: ");
  const std::string missing = directory / "missing";
  check_failed(nf4_tuning_load(backend.handle(), missing.c_str()), NF4_ERROR_IO, missing);
  const std::string folder = directory / "";
  check_failed(nf4_tuning_load(backend.handle(), folder.c_str()), NF4_ERROR_IO, folder);
  check_failed(nf4_tuning_load(backend.handle(), "/dev/zero"), NF4_ERROR_IO, "'/dev/zero': it is a device; expected a");
  const std::string pipe = directory / "pipe";  // nobody ever writes to it
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  check_failed(nf4_tuning_load(backend.handle(), pipe.c_str()), NF4_ERROR_IO, pipe + "': it is a pipe; expected a");

  CHECK(selected_line(backend.handle(), 1, 1) == line(2));
}

TEST_CASE("tuning: the largest file") {
  const Directory directory;
  const std::string path = directory / "table";
  const Backend backend(NF4_HOST_DEVICE);
  std::string text = "nf4-tuning 1\n#";
  text.resize(size_t{16} << 20, '.');
  write_file(path, text);
  CHECK(nf4_tuning_load(backend.handle(), path.c_str()) == NF4_SUCCESS);
  write_file(path, text + '.');
  check_failed(nf4_tuning_load(backend.handle(), path.c_str()), NF4_ERROR_PARSE, "larger than 16777216 bytes");
}

TEST_CASE("tuning: saving writes the table in use, and nothing else") {
  const Directory directory;
  const std::string path = directory / "table";
  write_file(path, kTable);
  const Backend backend(NF4_HOST_DEVICE);
  REQUIRE(nf4_tuning_load(backend.handle(), path.c_str()) == NF4_SUCCESS);
  const std::string saved = directory / "saved";
  REQUIRE(nf4_tuning_save(backend.handle(), saved.c_str()) == NF4_SUCCESS);
  CHECK(read_file(saved) == kTable);
  CHECK(directory.files() == 2);
}

TEST_CASE("tuning: a file is replaced whole: who reads the old one reads on") {
  const Directory directory;
  const std::string path = directory / "table";
  write_file(path, "the old contents");
  std::ifstream reader(path);
  const Backend backend(NF4_HOST_DEVICE);
  REQUIRE(nf4_tuning_save(backend.handle(), path.c_str()) == NF4_SUCCESS);
  CHECK(std::string(std::istreambuf_iterator<char>(reader), {}) == "the old contents");
  CHECK(read_file(path) == nf4::format_tuning(*nf4::builtin_tuning()));
}

TEST_CASE("tuning: a file keeps its mode, a new one has that of any new file") {
  const Directory directory;
  const std::string path = directory / "table";
  const Backend backend(NF4_HOST_DEVICE);
  const auto mode_of = [](const std::string& file) {
    struct stat status;
    REQUIRE(stat(file.c_str(), &status) == 0);
    return status.st_mode & 07777;
  };
  for (const mode_t mode : {0600, 0640, 0444, 0666, 0755}) {
    CAPTURE(mode);
    write_file(path, "old");
    REQUIRE(chmod(path.c_str(), mode) == 0);
    REQUIRE(nf4_tuning_save(backend.handle(), path.c_str()) == NF4_SUCCESS);
    CHECK(mode_of(path) == mode);
    CHECK(read_file(path) == nf4::format_tuning(*nf4::builtin_tuning()));
    std::filesystem::remove(path);
  }
  const mode_t before = umask(027);
  const nf4_status_t status = nf4_tuning_save(backend.handle(), path.c_str());
  umask(before);
  CHECK(status == NF4_SUCCESS);
  CHECK(mode_of(path) == 0640);
}

TEST_CASE("tuning: a symbolic link stays one, and the file that it leads to is written") {
  const Directory directory;
  const Backend backend(NF4_HOST_DEVICE);
  const std::string expected = nf4::format_tuning(*nf4::builtin_tuning());
  std::filesystem::create_directory(directory / "folder");
  const std::string file = directory / "folder/table";
  const std::string link = directory / "link";
  const std::string link_to_link = directory / "link to link";
  std::filesystem::create_symlink("folder/table", link);
  std::filesystem::create_symlink(link, link_to_link);
  SECTION("a file that is there") { write_file(file, "old"); }
  SECTION("a file that is not there yet") {}
  REQUIRE(nf4_tuning_save(backend.handle(), link_to_link.c_str()) == NF4_SUCCESS);
  CHECK(std::filesystem::is_symlink(link_to_link));
  CHECK(std::filesystem::is_symlink(link));
  CHECK_FALSE(std::filesystem::is_symlink(file));
  CHECK(read_file(file) == expected);
  CHECK(directory.files() == 3);

  std::filesystem::remove(link);
  std::filesystem::create_symlink(link_to_link, link);
  check_failed(nf4_tuning_save(backend.handle(), link.c_str()), NF4_ERROR_IO,
               "'" + link + "': " + std::strerror(ELOOP));
}

TEST_CASE("tuning: a table is on the disk before it has the file's name, and its name before the call returns") {
  const Directory directory;
  const std::string path = directory / "table";
  write_file(path, "old");
  const Backend backend(NF4_HOST_DEVICE);
  const std::string expected = nf4::format_tuning(*nf4::builtin_tuning());
  std::vector<std::string> synced;
  on_fsync = [&](const std::string& what) {
    const bool folder = std::filesystem::is_directory(what);
    synced.push_back((folder ? "folder" : read_file(what)) + ", then '" + read_file(path) + "'");
  };
  const nf4_status_t status = nf4_tuning_save(backend.handle(), path.c_str());
  on_fsync = nullptr;
  CHECK(status == NF4_SUCCESS);
  CHECK(synced == std::vector<std::string>{expected + ", then 'old'", "folder, then '" + expected + "'"});
}

TEST_CASE("tuning: what cannot be saved leaves the file as it was") {
  const Directory directory;
  const Backend backend(NF4_HOST_DEVICE);
  SECTION("a pipe in its place") {
    const std::string path = directory / "pipe";
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    check_failed(nf4_tuning_save(backend.handle(), path.c_str()), NF4_ERROR_IO, path + "': it is a pipe");
    CHECK(std::filesystem::is_fifo(path));
    CHECK(directory.files() == 1);
  }
  SECTION("no such directory") {
    const std::string path = directory / "none/table";
    check_failed(nf4_tuning_save(backend.handle(), path.c_str()), NF4_ERROR_IO, path);
  }
  SECTION("a file where its directory should be") {
    write_file(directory / "file", "");
    const std::string path = directory / "file/table";
    check_failed(nf4_tuning_save(backend.handle(), path.c_str()), NF4_ERROR_IO,
                 "cannot write '" + path + "': " + std::strerror(ENOTDIR));
  }
  SECTION("a directory in its place") {
    const std::string path = directory / "folder";
    std::filesystem::create_directory(path);
    check_failed(nf4_tuning_save(backend.handle(), path.c_str()), NF4_ERROR_IO, path);
    CHECK(std::filesystem::is_directory(path));
    CHECK(directory.files() == 1);
  }
  SECTION("no room for it") {
    const std::string path = directory / "table";
    write_file(path, "old");
    // A limit on the size of files acts as a full disk does, but by a signal unless that is ignored.
    rlimit before;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit tight{10, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const nf4_status_t status = nf4_tuning_save(backend.handle(), path.c_str());
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    check_failed(status, NF4_ERROR_IO, path);
    CHECK(read_file(path) == "old");
    CHECK(directory.files() == 1);
  }
}

TEST_CASE("tuning: tables are replaced while others compute") {
  const Directory directory;
  const std::string path = directory / "table";
  std::string rows = "nf4-tuning 1\nhost,gemm,*,*,*,*,*,gemm.host,,\n";
  for (int i = 0; i < 100; ++i) rows += "host,gemm,bf16,*,*,*,*,gemm.host,,\n";  // a table that takes a while to index
  write_file(path, rows);
  const Backend backend(NF4_HOST_DEVICE);
  const uint8_t codes = 0xff;  // 1, 1
  const float absmax = 2.0f;
  const float x[] = {3.0f, 4.0f};
  nf4_weight_t weight = NF4_WEIGHT_INIT;
  weight.rows = 1;
  weight.cols = 2;
  weight.codes = &codes;
  weight.absmax = &absmax;

  std::atomic<bool> done{false};
  std::atomic<int> calls{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const nf4_problem_t problem = NF4_PROBLEM_INIT;
      nf4_selection_t selection{};
      selection.struct_size = sizeof selection;
      while (!done) {
        float y = 0.0f;
        const bool ran = nf4_gemv(backend.handle(), &y, x, NF4_F32, &weight, nullptr, nullptr, nullptr) == NF4_SUCCESS;
        const bool told = nf4_select(backend.handle(), &problem, nullptr, &selection) == NF4_SUCCESS;
        const std::string reason = selection.reason;
        if (!ran || y != 14.0f || !told || (reason != line(2) && reason != kDefault)) ++wrong;
        ++calls;
      }
    });
  }
  for (int round = 0; round < 200 || calls < 1000; ++round) {
    CHECK(nf4_tuning_load(backend.handle(), path.c_str()) == NF4_SUCCESS);
    CHECK(nf4_tuning_reset(backend.handle()) == NF4_SUCCESS);
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

}  // namespace nf4test

// In place of libc's.
extern "C" int fsync(int descriptor) {
  if (nf4test::on_fsync) {
    nf4test::on_fsync(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor)));
  }
  return static_cast<int>(syscall(SYS_fsync, descriptor));
}
