// The handle: a device, and what was decided about it when the handle was made. Immutable but for the tuning table,
// which is replaced as a whole.
#pragma once

#include <array>
#include <memory>
#include <utility>

#include "nf4/nf4.h"
#include "rcu.hpp"
#include "tuning.hpp"
#include "variant.hpp"

struct nf4_handle {
  nf4::Device device;
  std::array<const nf4::Variant*, nf4::kOps> forced{};  // by NF4_FORCE_VARIANT; null where it names none of the op
  bool log = false;                                     // NF4_LOG=1

  bool on_host() const { return device.ordinal == NF4_HOST_DEVICE; }

  nf4::Rcu<nf4::TuningIndex>::Reader tuning() const { return tuning_.read(); }

  void set_tuning(std::unique_ptr<nf4::TuningTable> table) {
    tuning_.replace(std::make_unique<const nf4::TuningIndex>(std::move(table), device));
  }

 private:
  nf4::Rcu<nf4::TuningIndex> tuning_;
};
