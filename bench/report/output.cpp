#include "report/output.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "formatted.hpp"

namespace nf4bench {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(std::string_view path, int error) {
  throw std::runtime_error(nf4::formatted("cannot write {}: {}", path, std::strerror(error)));
}

void write_all(int file, std::string_view path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path, errno);
    text.remove_prefix(static_cast<size_t>(written));
  }
}

int flags_of(OutputFile::Mode mode) {
  switch (mode) {
    case OutputFile::Mode::truncate:
      return O_TRUNC;
    case OutputFile::Mode::append:
      return O_APPEND;
    default:
      return O_EXCL;
  }
}

// What `path` stands for, be it there or not.
fs::path behind_links(fs::path path) {
  constexpr int kMostLinks = 40;  // the kernel's own limit
  for (int i = 0; i < kMostLinks && fs::is_symlink(path); ++i) path = path.parent_path() / fs::read_symlink(path);
  return path;
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

bool replaceable(const fs::file_status& status) { return !fs::exists(status) || fs::is_regular_file(status); }

}  // namespace

void check_standard_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) >= 0) continue;
    if (stream == STDOUT_FILENO) fail("stdout", EBADF);
    if (open("/dev/null", O_RDWR) != stream) throw std::runtime_error("cannot open /dev/null");
  }
}

void write_stdout(std::string_view text) { write_all(STDOUT_FILENO, "stdout", text); }

OutputFile::OutputFile(const std::string& path, Mode mode, std::string name) : name_(std::move(name)) {
  if (path.empty()) return;
  constexpr mode_t kEverybody = 0666;  // that the umask allows
  file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags_of(mode), kEverybody);
  if (file_ < 0) fail(name_, errno);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : name_(std::move(other.name_)), file_(std::exchange(other.file_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(file_, other.file_);
  return *this;
}

OutputFile::~OutputFile() {
  if (file_ >= 0) ::close(file_);
}

void OutputFile::write(std::string_view text) const {
  if (file_ >= 0) write_all(file_, name_, text);
}

void OutputFile::close() {
  if (file_ >= 0 && ::close(std::exchange(file_, -1)) != 0) fail(name_, errno);
}

void check_writable(const std::string& path) {
  if (path.empty()) return;
  const fs::path target = behind_links(path);
  const fs::file_status status = fs::status(target);
  if (fs::is_directory(status)) fail(path, EISDIR);
  if (fs::exists(status) && access(target.c_str(), W_OK) != 0) fail(path, errno);
  if (replaceable(status) && access(folder_of(target).c_str(), W_OK | X_OK) != 0) fail(path, errno);
  if (replaceable(status) && !fs::is_directory(folder_of(target))) fail(path, ENOTDIR);
}

void replace_file(const std::string& path, std::string_view text) {
  const fs::path target = behind_links(path);
  const fs::file_status status = fs::status(target);
  if (!replaceable(status)) {
    OutputFile file(path);
    file.write(text);
    return file.close();
  }
  const std::string part = nf4::formatted("{}.{}.part", target.string(), getpid());
  OutputFile file(part, OutputFile::Mode::create_new, path);
  try {
    file.write(text);
    file.close();
    if (fs::exists(status)) fs::permissions(part, status.permissions());
    fs::rename(part, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove(part, ignored);
    throw;
  }
}

}  // namespace nf4bench
