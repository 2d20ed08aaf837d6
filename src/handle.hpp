// The handle: a device, and what was decided about it when the handle was made. Immutable but for the tuning table,
// which is replaced as a whole.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "nf4/nf4.h"
#include "tuning.hpp"
#include "variant.hpp"

struct nf4_handle {
  nf4::Device device;
  std::array<const nf4::Variant*, nf4::kOps> forced{};  // by NF4_FORCE_VARIANT; null where it names none of the op
  bool log = false;                                     // NF4_LOG=1

  bool on_host() const { return device.ordinal == NF4_HOST_DEVICE; }

  const nf4::TuningIndex& tuning() const { return *current_.load(std::memory_order_acquire); }

  // Tables that were replaced live as long as the handle, since a call on another thread may still be reading one.
  void set_tuning(std::unique_ptr<nf4::TuningTable> table) {
    auto index = std::make_unique<const nf4::TuningIndex>(std::move(table), device);
    const std::lock_guard lock(mutex_);
    tables_.push_back(std::move(index));
    current_.store(tables_.back().get(), std::memory_order_release);
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<const nf4::TuningIndex>> tables_;
  std::atomic<const nf4::TuningIndex*> current_{nullptr};
};
