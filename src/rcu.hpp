// Read-copy-update: one object that many threads read while another replaces it whole. Nobody waits for anybody:
// readers count themselves in and out, and an object that was replaced is freed as soon as none of them can hold it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace nf4 {

template <class T>
class Rcu {
 public:
  // What a reader finds stays alive as long as its Reader does.
  class Reader {
   public:
    explicit Reader(const Rcu& rcu) : count_(rcu.readers_[rcu.entrance_]) {
      ++count_;
      object_ = rcu.current_;
    }
    ~Reader() { --count_; }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    const T& operator*() const { return *object_; }
    const T* operator->() const { return object_; }

   private:
    std::atomic<int>& count_;
    const T* object_;
  };

  explicit Rcu(std::unique_ptr<const T> first = nullptr) : current_(first.release()) {}
  ~Rcu() { delete current_.load(); }
  Rcu(const Rcu&) = delete;
  Rcu& operator=(const Rcu&) = delete;

  Reader read() const { return Reader(*this); }

  void replace(std::unique_ptr<const T> next) {
    const std::lock_guard lock(mutex_);
    replaced_.emplace_back();  // all that may fail
    replaced_.back().object.reset(current_.exchange(next.release()));
    // Who reads what was just replaced has been counted already, at one of the two entrances. The closed one empties,
    // however many come; then they change places. So each is empty at some time.
    const size_t closed = 1 - entrance_;
    if (note_if_empty(closed)) {
      entrance_ = closed;
      note_if_empty(1 - closed);
    }
    std::erase_if(replaced_, [](const Replaced& old) { return old.left[0] && old.left[1]; });
  }

 private:
  struct Replaced {
    std::unique_ptr<const T> object;
    std::array<bool, 2> left{};  // by entrance: all have left who may have come in before it was replaced
  };

  bool note_if_empty(size_t entrance) {
    if (readers_[entrance] != 0) return false;
    for (Replaced& old : replaced_) old.left[entrance] = true;
    return true;
  }

  std::atomic<const T*> current_;
  std::atomic<size_t> entrance_{0};  // that is open
  mutable std::array<std::atomic<int>, 2> readers_{};
  std::mutex mutex_;
  std::vector<Replaced> replaced_;
};

}  // namespace nf4
