// Running as an older device: what it takes away, and what it refuses.
#include "older_device.hpp"

#include "status.hpp"
#include "support/harness.hpp"

namespace nf4test {
namespace {

nf4::Device h200() {
  nf4::Device device{0, 90, 132, "H200"};
  device.architecture = 90;
  device.shared_memory = 227 * 1024;
  device.resident_clusters = {132, 66, 33, 16};
  return device;
}

std::string refusal(const nf4::Device& device, const char* text) {
  try {
    nf4::as_older_device(device, text);
  } catch (const nf4::Error& error) {
    return error.message;
  }
  return "";
}

}  // namespace

TEST_CASE("older_device: has the variants, shared memory and clusters of that compute capability") {
  struct Older {
    const char* text;
    int capability, kib;
  };
  for (const Older& older : {Older{"7.5", 75, 64}, Older{"8.0", 80, 163}, Older{"8.6", 86, 99}, Older{"8.9", 89, 99}}) {
    CAPTURE(older.text);
    const nf4::Device device = nf4::as_older_device(h200(), older.text);
    CHECK(device.compute_capability == older.capability);
    CHECK(device.architecture == older.capability);
    CHECK(device.shared_memory == older.kib * 1024);
    CHECK(device.resident_clusters == std::array{132, 0, 0, 0});
    CHECK(device.multiprocessors == 132);
    CHECK(device.name == std::string("H200 as ") + older.text);  // no row of a table for an H200 is for it
  }
}

TEST_CASE("older_device: as itself it is what it was") {
  const nf4::Device device = nf4::as_older_device(h200(), "9.0");
  CHECK(device.name == "H200");
  CHECK(device.shared_memory == 227 * 1024);
  CHECK(device.resident_clusters == h200().resident_clusters);
}

TEST_CASE("older_device: never has more than the device") {
  nf4::Device consumer{0, 120, 170, "RTX 5090"};
  consumer.architecture = 75;  // PTX
  consumer.shared_memory = 99 * 1024;
  const nf4::Device device = nf4::as_older_device(consumer, "9.0");
  CHECK(device.architecture == 75);
  CHECK(device.shared_memory == 99 * 1024);
}

TEST_CASE("older_device: refuses what is none, too old or newer than the device") {
  // The last two are 86 in the lowest 32 bits.
  for (const char* text : {"8", "86", "8.", ".6", "8.6.1", "8.66", "a.b", "8.6 ", " 8.6", "-8.6", "8.-6", "7.0", "10.0",
                           "-429496721.0", "429496738.2"}) {
    CAPTURE(text);
    CHECK(refusal(h200(), text).find("expected one from 7.5 to 9.0, which H200 has") != std::string::npos);
  }
}

}  // namespace nf4test
