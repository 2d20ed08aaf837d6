// Where results go. Each text is written at once, and a write that fails (a full disk, a closed pipe) throws
// std::runtime_error that names the place and the cause.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "formatted.hpp"

namespace nf4bench {

// Makes sure that 0, 1 and 2 are open, since a file opened later would take the place of one that is not. Throws where
// stdout is closed. A pipe that is closed later is an error of the write, and no signal.
void check_standard_streams();

void write_stdout(std::string_view text);

// Prints to stdout.
template <typename... T>
void say(fmt::format_string<T...> format, T&&... args) {
  write_stdout(nf4::formatted(format, std::forward<T>(args)...));
}

// A file that is written from its beginning, or at its end.
class OutputFile {
 public:
  enum class Mode { truncate, append, create_new };

  OutputFile() = default;
  // Opens `path`; "" is no file. Messages name it as `name`.
  explicit OutputFile(const std::string& path, Mode mode = Mode::truncate) : OutputFile(path, mode, path) {}
  OutputFile(const std::string& path, Mode mode, std::string name);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  explicit operator bool() const { return file_ >= 0; }
  // Does nothing where there is no file.
  void write(std::string_view text) const;
  // Closes the file, and throws if what was written did not reach it.
  void close();

 private:
  std::string name_;
  int file_ = -1;
};

// Throws if `path` could not be written, and leaves it as it is; "" is no file.
void check_writable(const std::string& path);

// Writes all of `path`: a regular file whole or not at all, through symbolic links and with the permissions that it
// has; anything else as it stands.
void replace_file(const std::string& path, std::string_view text);

}  // namespace nf4bench
