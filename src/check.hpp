// Argument checks: each fails with a status and a message that names the argument, its value, and what was expected.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "handle.hpp"
#include "nf4/nf4.h"
#include "status.hpp"
#include "variant.hpp"

namespace nf4 {

const nf4_handle& check_handle(nf4_handle_t handle);

inline void check_not_null(const char* name, const void* pointer) {
  if (pointer == nullptr) fail(NF4_ERROR_INVALID_ARGUMENT, "{} is null", name);
}

// Structs of the caller's may be those of an older release, and shorter. A struct grows at its end alone, by fields for
// which 0 means what was so before; the size that it had goes here before today's. Nothing of a caller's struct is
// read or written beyond its own size.
template <class Struct>
inline constexpr std::array kStructSizes = {sizeof(Struct)};
template <>
inline constexpr std::array kStructSizes<nf4_problem_t> = {offsetof(nf4_problem_t, experts), sizeof(nf4_problem_t)};

void check_struct_size(const char* name, size_t size, std::span<const size_t> known);

// A struct of the caller's: not null, and of a size that this version knows.
template <class Struct>
void check_struct(const char* name, const Struct* object) {
  static_assert(kStructSizes<Struct>.back() == sizeof(Struct), "the last size is today's");
  check_not_null(name, object);
  if (object->struct_size != sizeof(Struct)) check_struct_size(name, object->struct_size, kStructSizes<Struct>);
}

// What the caller's struct holds, and 0 for the fields that it lacks.
template <class Struct>
Struct read_struct(const char* name, const Struct* object) {
  check_struct(name, object);
  Struct copy{};
  std::memcpy(&copy, object, object->struct_size);
  return copy;
}

// The same for an element of an array, in which the first one's size tells how far apart all are.
template <class Struct>
Struct read_element(const char* name, const Struct* array, size_t index) {
  check_struct(name, array);
  const auto* bytes = reinterpret_cast<const unsigned char*>(array) + index * array->struct_size;
  const auto* element = reinterpret_cast<const Struct*>(bytes);
  check_struct_size(name, element->struct_size, std::array{array->struct_size});
  return read_struct(name, element);
}

// Fills the caller's struct, which has been checked, as far as it goes.
template <class Struct>
void write_struct(Struct* object, Struct value) {
  value.struct_size = object->struct_size;
  std::memcpy(object, &value, object->struct_size);
}

Op check_op(const char* name, nf4_op_t op);
Dtype check_dtype(const char* name, nf4_dtype_t dtype);    // f32, f16 or bf16
int check_blocksize(const char* name, int32_t blocksize);  // returns its log2

// A number of elements: not negative, and within kMaxElements.
void check_count(const char* name, int64_t count);

// Rows and columns of a matrix: not negative, and rows * cols, which is returned, within kMaxElements.
int64_t check_matrix(const char* rows_name, int64_t rows, const char* cols_name, int64_t cols);

// A number of experts or slots: one that int32_t holds, and not negative.
void check_int32_count(const char* name, int64_t count);

// How many slots a row of x has: one or more, and the slots are a multiple of it.
void check_top_k(const char* name, int64_t top_k, const char* slots_name, int64_t slots);

// That experts of n x k weights begin at a block each.
void check_experts_apart(int64_t n, int64_t k, const char* blocksize_name, int32_t blocksize);

void check_reserved(const char* name, int32_t reserved);

// A leading dimension: at least cols, and rows * ld within kMaxElements.
void check_leading(const char* name, int64_t ld, const char* cols_name, int64_t cols, int64_t rows);

// A data pointer: aligned to its element, and not null unless it points to no elements.
void check_data(const char* name, const void* pointer, size_t alignment, int64_t elements);

// Which data of a weight view a call reads.
enum class Reads { nothing, scales, codes_and_scales };

// A weight view in all its fields, and the pointers to what is read.
Weight check_weight(const nf4_weight_t* weight, Reads reads);

// How many blocks, and so scales, W has.
inline int64_t blocks_of(const Weight& weight) {
  const int64_t blocksize = int64_t{1} << weight.log2_blocksize;
  return (weight.rows * weight.cols + blocksize - 1) >> weight.log2_blocksize;
}

// A problem of the caller's, with its defaults filled in.
Problem check_problem(const nf4_problem_t* problem);

void check_stream(const nf4_handle& handle, nf4_stream_t stream);

// Sizes are limited so that no byte offset overflows.
inline constexpr int64_t kMaxElements = int64_t{1} << 60;

size_t size_of(Dtype dtype);
const char* name_of(Dtype dtype);
const char* name_of(Op op);

// Copies text to a char array of the caller's, cut to fit.
inline void copy_text(char* out, size_t size, std::string_view text) {
  if (size == 0) return;
  const size_t length = text.copy(out, size - 1);
  out[length] = '\0';
}
template <size_t Size>
void copy_text(char (&out)[Size], std::string_view text) {
  copy_text(out, Size, text);
}

// The largest power of two, 256 at most, that divides everything added.
class Alignment {
 public:
  Alignment& add(const void* pointer) {
    bits_ |= reinterpret_cast<uintptr_t>(pointer);
    return *this;
  }
  Alignment& add_bytes(int64_t bytes) {
    bits_ |= static_cast<uintptr_t>(bytes);
    return *this;
  }
  int value() const { return static_cast<int>(bits_ & (~bits_ + 1)); }

 private:
  uintptr_t bits_ = 256;
};

}  // namespace nf4
