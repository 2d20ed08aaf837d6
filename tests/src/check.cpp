// How structs of the caller's grow: by one that did.
#include "check.hpp"

#include <array>
#include <cstring>

#include "support/harness.hpp"

namespace nf4test {
namespace {

// As today's header has it.
struct Grown {
  size_t struct_size;
  int64_t first;
  int64_t second;  // since a later release
  int64_t third;   // since one later still
};

// As older headers have it, with what happens to lie behind.
struct First {
  size_t struct_size = 16;
  int64_t first = 1;
  int64_t behind[2] = {-1, -1};
};
struct Second {
  size_t struct_size = 24;
  int64_t first = 1, second = 2;
  int64_t behind = -1;
};

template <class Old>
const Grown* as_grown(const Old& old) {
  static_assert(sizeof(Old) == sizeof(Grown));
  return reinterpret_cast<const Grown*>(&old);
}

}  // namespace
}  // namespace nf4test

template <>
inline constexpr std::array nf4::kStructSizes<nf4test::Grown> = {size_t{16}, size_t{24}, sizeof(nf4test::Grown)};

namespace nf4test {

TEST_CASE("check: of an older struct what it has is read, the rest is 0") {
  const First first;
  const Grown of_first = nf4::read_struct("options", as_grown(first));
  CHECK((of_first.first == 1 && of_first.second == 0 && of_first.third == 0));
  const Second second;
  const Grown of_second = nf4::read_struct("options", as_grown(second));
  CHECK((of_second.first == 1 && of_second.second == 2 && of_second.third == 0));
  const Grown today{sizeof(Grown), 1, 2, 3};
  const Grown of_today = nf4::read_struct("options", &today);
  CHECK((of_today.first == 1 && of_today.second == 2 && of_today.third == 3));
}

TEST_CASE("check: nothing is read behind an older struct") {
  const auto old = std::make_unique<unsigned char[]>(16);  // AddressSanitizer watches its end
  const size_t size = 16;
  std::memcpy(old.get(), &size, sizeof size);
  CHECK(nf4::read_struct("options", reinterpret_cast<const Grown*>(old.get())).third == 0);
}

TEST_CASE("check: of an older struct no more is written than it has") {
  First first;
  nf4::write_struct(reinterpret_cast<Grown*>(&first), Grown{0, 10, 20, 30});
  CHECK((first.struct_size == 16 && first.first == 10 && first.behind[0] == -1 && first.behind[1] == -1));
  Second second;
  nf4::write_struct(reinterpret_cast<Grown*>(&second), Grown{0, 10, 20, 30});
  CHECK((second.struct_size == 24 && second.first == 10 && second.second == 20 && second.behind == -1));
  Grown today{sizeof(Grown), 0, 0, 0};
  nf4::write_struct(&today, Grown{0, 10, 20, 30});
  CHECK((today.struct_size == sizeof(Grown) && today.first == 10 && today.second == 20 && today.third == 30));
}

TEST_CASE("check: older structs in an array are as far apart as they are large") {
  struct Older {
    size_t struct_size = 16;
    int64_t first;
  };
  const std::array<Older, 3> older = {{{16, 1}, {16, 2}, {16, 3}}};
  const auto* array = reinterpret_cast<const Grown*>(older.data());
  for (size_t i = 0; i < older.size(); ++i) {
    const Grown element = nf4::read_element("product", array, i);
    CHECK((element.first == older[i].first && element.second == 0));
  }
  const std::array<Older, 2> mixed = {{{16, 1}, {24, 2}}};
  const auto status = nf4::guarded([&] { nf4::read_element("product", reinterpret_cast<const Grown*>(&mixed), 1); });
  check_failed(status, NF4_ERROR_STRUCT_SIZE, "product->struct_size is 24; version ");
}

TEST_CASE("check: a size that no release had is refused, and those that some had are named") {
  for (const size_t size : {size_t{0}, size_t{8}, size_t{15}, size_t{17}, size_t{31}, size_t{33}, SIZE_MAX}) {
    const Grown other{size, 0, 0, 0};
    check_failed(nf4::guarded([&] { nf4::read_struct("options", &other); }), NF4_ERROR_STRUCT_SIZE,
                 "options->struct_size is " + std::to_string(size) + "; version ");
    CHECK(holds(nf4_last_error_message(), " of libnf4 expects 16 or 24 or 32"));
  }
  check_failed(nf4::guarded([&] { nf4::read_struct<Grown>("options", nullptr); }), NF4_ERROR_INVALID_ARGUMENT,
               "options is null");
}

}  // namespace nf4test
