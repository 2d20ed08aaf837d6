#include "status.hpp"

#include <stdexcept>
#include <string>
#include <thread>

#include "support/harness.hpp"
#include "text/formatted.hpp"

namespace nf4test {

TEST_CASE("status: status values are pinned, and have names") {
  struct Case {
    nf4_status_t status;
    int value;
    const char* name;
  };
  const Case cases[] = {
      {NF4_SUCCESS, 0, "NF4_SUCCESS"},
      {NF4_ERROR_INVALID_ARGUMENT, 1, "NF4_ERROR_INVALID_ARGUMENT"},
      {NF4_ERROR_MISALIGNED, 2, "NF4_ERROR_MISALIGNED"},
      {NF4_ERROR_UNSUPPORTED, 3, "NF4_ERROR_UNSUPPORTED"},
      {NF4_ERROR_UNKNOWN_VARIANT, 4, "NF4_ERROR_UNKNOWN_VARIANT"},
      {NF4_ERROR_STRUCT_SIZE, 5, "NF4_ERROR_STRUCT_SIZE"},
      {NF4_ERROR_WORKSPACE, 6, "NF4_ERROR_WORKSPACE"},
      {NF4_ERROR_WRONG_DEVICE, 7, "NF4_ERROR_WRONG_DEVICE"},
      {NF4_ERROR_NO_DEVICE, 8, "NF4_ERROR_NO_DEVICE"},
      {NF4_ERROR_CUDA, 9, "NF4_ERROR_CUDA"},
      {NF4_ERROR_OUT_OF_MEMORY, 10, "NF4_ERROR_OUT_OF_MEMORY"},
      {NF4_ERROR_IO, 11, "NF4_ERROR_IO"},
      {NF4_ERROR_PARSE, 12, "NF4_ERROR_PARSE"},
      {NF4_ERROR_INTERNAL, 13, "NF4_ERROR_INTERNAL"},
  };
  for (const Case& c : cases) {
    CHECK(c.status == c.value);
    CHECK(std::string(nf4_status_string(c.value)) == c.name);
  }
  for (const nf4_status_t unknown : {-1, 14, INT32_MIN, INT32_MAX}) {
    CHECK(std::string(nf4_status_string(unknown)) == "unknown nf4_status_t");
  }
}

TEST_CASE("status: the library's version is the header's") {
  CHECK(nf4_version() == NF4_VERSION);
  CHECK(nf4_version_string() == std::string(NF4_VERSION_STRING));
  CHECK(NF4_VERSION_STRING == nf4::formatted("{}.{}.{}", NF4_VERSION_MAJOR, NF4_VERSION_MINOR, NF4_VERSION_PATCH));
  CHECK(NF4_VERSION_STRING == std::string(NF4_PROJECT_VERSION));
}

TEST_CASE("status: the last error message is each thread's own") {
  REQUIRE(nf4_codebook(nullptr) == NF4_ERROR_INVALID_ARGUMENT);
  std::string fresh = "not asked";
  std::string own;
  std::thread([&] {
    fresh = nf4_last_error_message();
    nf4_create(nullptr, NF4_HOST_DEVICE);
    own = nf4_last_error_message();
  }).join();
  CHECK(fresh.empty());
  CHECK(own == "handle is null");
  CHECK(std::string(nf4_last_error_message()) == "values is null");
}

TEST_CASE("status: the last error message stays until the next failure, and is replaced whole") {
  REQUIRE(nf4::report(NF4_ERROR_IO, "a long message that the next one must not show the end of") == NF4_ERROR_IO);
  float values[16];
  REQUIRE(nf4_codebook(values) == NF4_SUCCESS);
  CHECK(std::string(nf4_last_error_message()) == "a long message that the next one must not show the end of");
  REQUIRE(nf4::report(NF4_ERROR_IO, "short") == NF4_ERROR_IO);
  CHECK(std::string(nf4_last_error_message()) == "short");
}

TEST_CASE("status: a message too long is cut") {
  const std::string name(100000, 'v');
  nf4::report(NF4_ERROR_UNKNOWN_VARIANT, name.c_str());
  const std::string message = nf4_last_error_message();
  CHECK(message.size() > 500);
  CHECK(message == name.substr(0, message.size()));
}

TEST_CASE("status: exceptions become statuses") {
  check_failed(nf4::guarded([] { nf4::fail(NF4_ERROR_PARSE, "line {}", 7); }), NF4_ERROR_PARSE, "line 7");
  check_failed(nf4::guarded([] { throw std::bad_alloc(); }), NF4_ERROR_OUT_OF_MEMORY, "memory");
  check_failed(nf4::guarded([] { throw std::runtime_error("what it says"); }), NF4_ERROR_INTERNAL, "what it says");
  CHECK(nf4::guarded([] {}) == NF4_SUCCESS);
}

}  // namespace nf4test
