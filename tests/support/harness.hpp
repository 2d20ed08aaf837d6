// What tests of the C API share: a failure's status and message in one check, and what a test changes of its process
// and puts back.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>

#include "catch.hpp"
#include "nf4/nf4.h"

namespace nf4test {

inline bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Checks that a call failed as `expected` tells, with a message that holds `part`.
inline void check_failed(nf4_status_t status, nf4_status_t expected, const std::string& part) {
  const std::string message = nf4_last_error_message();
  CAPTURE(nf4_status_string(status), nf4_status_string(expected), message, part);
  CHECK(status == expected);
  CHECK(holds(message, part));
}

// Sets an environment variable, and puts back what it was.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

// An empty directory, removed with all in it.
class Directory {
 public:
  Directory() {
    std::string name = (std::filesystem::temp_directory_path() / "nf4-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot create " + name);
    path_ = name;
  }
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::ptrdiff_t files() const { return std::distance(std::filesystem::directory_iterator(path_), {}); }

 private:
  std::filesystem::path path_;
};

// What `body` writes to stderr.
template <class Body>
std::string stderr_of(const Body& body) {
  const Directory directory;
  const std::string path = directory / "stderr";
  std::fflush(stderr);
  const int before = dup(STDERR_FILENO);
  if (std::FILE* file = std::fopen(path.c_str(), "wb")) {
    dup2(fileno(file), STDERR_FILENO);
    std::fclose(file);
  }
  body();
  std::fflush(stderr);
  dup2(before, STDERR_FILENO);
  close(before);
  return read_file(path);
}

}  // namespace nf4test
