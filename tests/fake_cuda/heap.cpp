#include "heap.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> blocks{0};
std::atomic<long> left{0};  // until one fails; 0: none ever does
std::atomic<bool> has_failed{false};

}  // namespace

long heap::live() { return blocks; }

void heap::fail_allocation(long number) {
  left = number;
  has_failed = false;
}

bool heap::failed() { return has_failed; }

void* operator new(std::size_t size) {
  if (has_failed || (left > 0 && --left == 0)) {
    has_failed = true;
    throw std::bad_alloc();
  }
  void* const block = std::malloc(size > 0 ? size : 1);
  if (block == nullptr) throw std::bad_alloc();
  ++blocks;
  return block;
}
void* operator new[](std::size_t size) { return operator new(size); }

void operator delete(void* block) noexcept {
  if (block != nullptr) --blocks;
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept { operator delete(block); }
void operator delete[](void* block) noexcept { operator delete(block); }
void operator delete[](void* block, std::size_t) noexcept { operator delete(block); }
