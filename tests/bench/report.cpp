#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "report/csv.hpp"
#include "report/json.hpp"
#include "report/output.hpp"
#include "report/table.hpp"
#include "report/units.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;
namespace fs = std::filesystem;

Row row_of(const char* contender, double microseconds, bool is_peer = false) {
  Row row;
  row.problem.n = 32;
  row.problem.k = 64;
  row.contender = contender;
  row.is_peer = is_peer;
  row.median = microseconds;
  row.bytes = 1e6;
  return row;
}

const Context kContext{{{"device", "a \"device\""}, {"commit", "test"}}, {1e12, 2e12, 3e12}, {"peer + cuBLAS"}};

std::string failure_of(const std::function<void()>& body) {
  try {
    body();
    return "";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("report: the figures of a row, and speed-ups over the peers that did the same") {
  const auto lines = lines_of(kContext, {row_of("selected", 2), row_of("peer + cuBLAS", 5, true), row_of("wrong", 0)});
  CHECK(lines[0].speedups == std::vector<double>{2.5});
  CHECK(lines[1].speedups == std::vector<double>{0});
  CHECK(lines[2].speedups == std::vector<double>{0});
  CHECK(std::abs(lines[0].fraction - 0.5) < 1e-12);  // 1 MB in 2 us is half of 1 TB/s
  CHECK(holds(csv_head(kContext), "# device: a \"device\"\n"));
  CHECK(holds(csv_head(kContext), ",status,speedup_over_peer_cuBLAS,note\n"));
  CHECK(holds(csv_line(lines[0]), "gemm,\"selected\",\"\",0,,bf16,64,0,1,32,64,0,1,0,ids,2.000,"));
  CHECK(holds(csv_line(lines[0]), ",ok,2.500,\"\"\n"));
  CHECK(holds(table_of(kContext, lines), "  x peer + cuBLAS\n"));
  CHECK(holds(table_of(kContext, lines), " 50.0%"));
  CHECK(holds(table_of(kContext, lines), " 2.50\n"));
}

TEST_CASE("report: JSON is one object a line, whatever the texts and figures are") {
  Row odd = row_of("sel\"ected\n", 2);
  odd.check.worst = std::numeric_limits<double>::infinity();
  odd.check.relative_error = NAN;
  odd.check.what = "caf\xe9";  // no UTF-8
  const auto lines = lines_of(kContext, {odd, row_of("peer + cuBLAS", 4, true)});
  Problem missed;
  missed.n = missed.k = 8;
  std::istringstream text(json_head(kContext) + json_line(kContext, lines[0]) + json_line(kContext, lines[1]) +
                          json_not_measured({missed}));
  std::vector<nlohmann::json> objects;
  for (std::string line; std::getline(text, line);) objects.push_back(nlohmann::json::parse(line));
  REQUIRE(objects.size() == 4);
  CHECK(objects[0]["context"]["device"] == "a \"device\"");
  CHECK(objects[0]["context"]["ceilings"]["write"] == 2e12);
  CHECK(objects[1]["contender"] == "sel\"ected\n");
  CHECK(objects[1]["error_over_bound"].is_null());
  CHECK(objects[1]["relative_error"].is_null());
  CHECK(objects[1]["note"] == "caf\xef\xbf\xbd");
  CHECK(objects[1]["speedup_over"]["peer + cuBLAS"] == 2);
  CHECK(objects[2]["peer"] == true);
  CHECK(objects[2]["speedup_over"].empty());
  CHECK(objects[3]["not_measured"][0] == describe(missed));
}

TEST_CASE("units: three digits of the unit that suits") {
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1024) == "1.00 KiB");
  CHECK(bytes_text(14155776) == "13.5 MiB");
  CHECK(bytes_text(int64_t{3} << 40) == "3.00 TiB");
  CHECK(bytes_text(int64_t{2048} << 40) == "2048 TiB");
  CHECK(time_text(0.5) == "0.50 us");
  CHECK(time_text(999) == "999 us");
  CHECK(time_text(1514) == "1.51 ms");
  CHECK(time_text(2.4e6) == "2.40 s");
}

TEST_CASE("output: a file that cannot be written is an error with its name and the cause") {
  const Directory directory;
  CHECK(failure_of([] { OutputFile("/dev/full").write("x"); }) == "cannot write /dev/full: No space left on device");
  CHECK(failure_of([] { replace_file("/dev/full", "x"); }) == "cannot write /dev/full: No space left on device");
  CHECK(fs::is_character_file("/dev/full"));
  const std::string missing = directory / "missing/file";
  for (const auto& [path, cause] :
       {std::pair(missing, "No such file or directory"), std::pair(directory / "", "Is a directory")}) {
    CAPTURE(path);
    CHECK(failure_of([&] { check_writable(path); }) == "cannot write " + path + ": " + cause);
    CHECK(failure_of([&] { OutputFile file(path); }) == "cannot write " + path + ": " + cause);
  }
  check_writable(directory / "new");
  CHECK(directory.files() == 0);
  OutputFile nowhere;
  nowhere.write("x");
  nowhere.close();
}

TEST_CASE("output: a file is replaced whole, through links, with its permissions") {
  const Directory directory;
  const std::string path = directory / "file";
  replace_file(path, "first");
  CHECK(read_file(path) == "first");
  chmod(path.c_str(), 0600);
  fs::create_symlink("file", directory / "link");
  fs::create_symlink("elsewhere", directory / "dangling");
  check_writable(directory / "link");
  replace_file(directory / "link", "second");
  replace_file(directory / "dangling", "third");
  CHECK(fs::is_symlink(directory / "link"));
  CHECK(fs::is_symlink(directory / "dangling"));
  CHECK(read_file(path) == "second");
  CHECK(read_file(directory / "elsewhere") == "third");
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(directory.files() == 4);  // no part is left
}

}  // namespace nf4test
