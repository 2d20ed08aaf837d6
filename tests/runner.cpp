// What is asked of tests/main.cpp, together with tests/CMakeLists.txt, which runs it.
#include "catch.hpp"

// Shell, CMake, ctest and Catch2 each have characters of their own; to none of them may a name mean another.
TEST_CASE(
    "runner: a name; with, all [gpu] that \"is\" \\special\\ *somewhere* to ~somebody, $so ${or} @so@ (%d <&> 'it')") {
  CHECK(Catch::getResultCapture().getCurrentTestName().size() > 100);
}

TEST_CASE("runner: a test that asserts nothing has failed", "[.]") {}
