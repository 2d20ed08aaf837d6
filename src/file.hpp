// Small files as wholes: a tuning table is read at once and replaced at once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nf4 {

// The contents of the regular file at `path`, or fails: with NF4_ERROR_IO, or with NF4_ERROR_PARSE where there are more
// than `limit` bytes of them. What is no regular file is never waited for.
std::string read_file(const char* path, size_t limit);

// Replaces the contents of the regular file at `path`, or of the one that a symbolic link there leads to, or makes it.
// A reader, and who looks after a crash, finds the old contents or the new. The file keeps its mode, and its owner as
// far as the process may give it. Fails with NF4_ERROR_IO.
void replace_file(const char* path, std::string_view text);

}  // namespace nf4
