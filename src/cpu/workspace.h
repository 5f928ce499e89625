// Scratch memory: an arena that lays arrays out one after another, and the grow-only buffer a
// thread keeps for callers that bring none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dropgemm::cpu {

// Lays arrays out at 64-byte boundaries. Over a null base it only measures, so the function
// that lays out and the one that says how much is needed are the same.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<std::byte*>(base)) {}

  template <class T>
  T* take(std::int64_t count) {
    const std::size_t at = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  [[nodiscard]] std::size_t bytes() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

// This thread's buffer, at least `bytes` large; null when memory ran out. Kept until the thread
// ends, since fresh pages cost more than the product they serve.
[[nodiscard]] void* thread_workspace(std::size_t bytes);

}  // namespace dropgemm::cpu
