// Scratch memory: an arena that lays arrays out one after another, and the grow-only buffer a
// thread keeps for callers that bring none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dropgemm::cpu {

struct Memory {
  void* data = nullptr;
  std::size_t bytes = 0;
};

// Lays arrays out at 64-byte boundaries. Those that no longer fit are null and measured all the
// same, so the function that lays out and the one that says how much is needed are one.
class Arena {
 public:
  explicit Arena(Memory memory)
      : base_(static_cast<std::byte*>(memory.data)), capacity_(memory.bytes) {}

  template <class T>
  T* take(std::int64_t count) {
    const std::size_t at = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return fits() ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  [[nodiscard]] std::size_t bytes() const { return used_; }
  [[nodiscard]] bool fits() const { return used_ <= capacity_; }

 private:
  std::byte* base_;
  std::size_t capacity_;
  std::size_t used_ = 0;
};

// This thread's buffer, grown to `bytes` where it is smaller; of 0 bytes when memory ran out. Kept
// until the thread ends, since fresh pages cost more than the product they serve.
[[nodiscard]] Memory thread_workspace(std::size_t bytes);

}  // namespace dropgemm::cpu
