#include "file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <random>

#include "status.hpp"

namespace nf4 {
namespace {

[[noreturn]] void fail_io(const char* action, std::string_view path) {
  fail(NF4_ERROR_IO, "{} '{}': {}", action, path, std::strerror(errno));
}

const char* kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "a folder";
    case S_IFIFO:
      return "a pipe";
    case S_IFSOCK:
      return "a socket";
    default:
      return "a device";
  }
}

void check_regular(const char* action, std::string_view path, const struct stat& status) {
  if (S_ISREG(status.st_mode)) return;
  fail(NF4_ERROR_IO, "{} '{}': it is {}; expected a regular file", action, path, kind_of(status.st_mode));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  // False if the file system tells only now that something was not written.
  bool close() {
    const int number = number_;
    number_ = -1;
    return number < 0 || ::close(number) == 0;
  }

 private:
  int number_;
};

// Calls transfer(), which returns what read() and write() do, until no signal interrupts it.
template <class Transfer>
ssize_t uninterrupted(const Transfer& transfer) {
  ssize_t count;
  do {
    count = transfer();
  } while (count < 0 && errno == EINTR);
  return count;
}

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = uninterrupted([&] { return write(descriptor, text.data(), text.size()); });
    if (count < 0) return false;
    text.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// Where the symbolic links at `path` lead, be there a file or not.
std::filesystem::path target_of(const char* path) {
  constexpr int kMostLinks = 40;  // Linux's own limit
  std::filesystem::path target = path;
  std::error_code none;
  for (int links = 0; std::filesystem::is_symlink(target, none); ++links) {
    const std::filesystem::path link = std::filesystem::read_symlink(target, none);
    if (none || links == kMostLinks) {
      errno = none ? none.value() : ELOOP;
      fail_io("cannot write", path);
    }
    target = target.parent_path() / link;
  }
  return target;
}

// A new file beside `target`, which is removed unless it gets the name of `target`.
class Replacement {
 public:
  Replacement(const char* path, const std::filesystem::path& target, mode_t mode) : target_(target) {
    std::random_device random;
    do {
      name_ = formatted("{}.{:08x}", target.native(), random());
      descriptor_.emplace(open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    } while (!*descriptor_ && errno == EEXIST);
    if (!*descriptor_) fail_io("cannot create a file beside", path);
  }
  ~Replacement() {
    if (!name_.empty()) std::remove(name_.c_str());
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  int descriptor() const { return descriptor_->get(); }

  bool take_the_place() {
    if (!descriptor_->close() || std::rename(name_.c_str(), target_.c_str()) != 0) return false;
    name_.clear();
    // Until its folder is written, a crash may bring the old file back: whole, so that a failure here changes nothing.
    const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : ".";
    if (const Descriptor opened(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); opened) fsync(opened.get());
    return true;
  }

 private:
  std::filesystem::path target_;
  std::string name_;
  std::optional<Descriptor> descriptor_;
};

// Gives a file the owner and the mode of the one that it replaces. Only a privileged process can give files away: where
// it cannot, the file stays its own.
bool become(int descriptor, const struct stat& old) {
  [[maybe_unused]] const bool given = fchown(descriptor, old.st_uid, old.st_gid) == 0;
  return fchmod(descriptor, old.st_mode & 0777) == 0;
}

}  // namespace

std::string read_file(const char* path, size_t limit) {
  // A pipe without a writer would keep open() waiting, and a terminal would become the process's own.
  const Descriptor file(open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status;
  if (!file || fstat(file.get(), &status) != 0) fail_io("cannot open", path);
  check_regular("cannot read", path, status);
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t count = uninterrupted([&] { return read(file.get(), buffer.data(), buffer.size()); });
    if (count < 0) fail_io("cannot read", path);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(count));
    if (text.size() > limit) fail(NF4_ERROR_PARSE, "'{}' is larger than {} bytes", path, limit);
  }
}

void replace_file(const char* path, std::string_view text) {
  const std::filesystem::path target = target_of(path);
  struct stat old;
  const bool exists = stat(target.c_str(), &old) == 0;
  if (!exists && errno != ENOENT) fail_io("cannot write", path);
  if (exists) check_regular("cannot write", path, old);
  // A new file's mode is the process's umask's to decide; what replaces another never has more than that one.
  Replacement file(path, target, exists ? old.st_mode & 0666 : 0666);
  const bool written = write_all(file.descriptor(), text) && (!exists || become(file.descriptor(), old)) &&
                       fsync(file.descriptor()) == 0 && file.take_the_place();
  if (!written) fail_io("cannot write", path);
}

}  // namespace nf4
