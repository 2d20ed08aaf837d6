#include "tune/state.hpp"

#include "support/harness.hpp"

namespace nf4test {
namespace {

using namespace nf4bench;
using Outcome = Trial::Outcome;

Measured gemm_of(int64_t m, std::vector<Trial> trials) {
  Problem problem;
  problem.m = m;
  problem.n = 1024;
  problem.k = 8192;
  return {problem, std::move(trials)};
}

const Measured kFirst = gemm_of(1, {{{"gemm.a", "warps=4 ring=2"}, Outcome::timed, false, true, 12.5},
                                    {{"gemm.b", ""}, Outcome::timed, true, false, 13},
                                    {{"gemm.c", ""}, Outcome::failed, false, false, 0}});
const Measured kSecond = gemm_of(16, {{{"gemm.a", "warps=4 ring=2"}, Outcome::timed, false, true, 20.125},
                                      {{"gemm.b", ""}, Outcome::dropped, true, false, 2000}});

// What opening the file for another run says against it; "" if nothing.
std::string refusal(const std::string& path, const char* device, const char* commit) {
  try {
    TuneState(path, device, commit);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

std::vector<Measured> reread(const std::string& path) { return TuneState(path, "device", "commit").measured(); }

}  // namespace

TEST_CASE("tune state: what was appended is read again") {
  const Directory directory;
  const std::string path = directory / "state";
  TuneState state(path, "device", "commit");
  CHECK(state.measured().empty());
  Measured named = kFirst;
  named.problem.layer = "a.layer";  // shapes are remembered, not where they come from
  state.append(named);
  state.append(kSecond);
  CHECK(state.measured() == std::vector{kFirst, kSecond});
  CHECK(reread(path) == std::vector{kFirst, kSecond});
  CHECK(state.has(named.problem));
  named.problem.dtype = NF4_F16;
  CHECK_FALSE(state.has(named.problem));
}

TEST_CASE("tune state: a file cut anywhere goes on after its last whole problem") {
  const Directory directory;
  const std::string path = directory / "state";
  {
    TuneState state(path, "device", "commit");
    state.append(kFirst);
    state.append(kSecond);
  }
  const std::string whole = read_file(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    write_file(path, whole.substr(0, size));
    TuneState state(path, "device", "commit");
    const std::vector<Measured> kept = state.measured();
    if (kept.size() == 2) FAIL("a problem that was cut counts");
    if (kept.size() == 1 && kept[0] != kFirst) FAIL("the first problem is another");
    if (kept.empty()) state.append(kFirst);
    state.append(kSecond);
    CHECK(read_file(path) == whole);
  }
}

TEST_CASE("tune state: measurements of another device or commit, and other files, are refused and kept") {
  const Directory directory;
  const std::string path = directory / "state";
  TuneState(path, "device", "commit").append(kFirst);
  const std::string before = read_file(path);
  CHECK(refusal(path, "other", "commit").find("holds no measurements of this device") != std::string::npos);
  CHECK(refusal(path, "device", "other").find("commit other") != std::string::npos);
  CHECK(read_file(path) == before);
  write_file(path, before + "gemm,bf16,1\n" + before);
  CHECK(refusal(path, "device", "commit").find("cannot read 'gemm,bf16,1'") != std::string::npos);
}

}  // namespace nf4test
