// Lays a call's arrays out in one piece of device memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dropgemm::cuda {

// At 256-byte boundaries, as the tensor memory accelerator and wide loads like them. Over a null
// base it only measures, so the function that lays out and the one that says how much is needed are
// the same. Bases are aligned to 64 bytes, the ends of which bytes() has room for.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {
    if (base_ != nullptr)
      base_ += (kAlignment - reinterpret_cast<std::uintptr_t>(base) % kAlignment) % kAlignment;
  }

  template <class T>
  T* take(std::int64_t count) {
    const std::size_t at = used_;
    used_ +=
        (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  [[nodiscard]] std::size_t bytes() const {
    return used_ == 0 ? 0 : used_ + (kAlignment - kLeastAlignment);
  }

 private:
  static constexpr std::size_t kAlignment = 256, kLeastAlignment = 64;
  char* base_;
  std::size_t used_ = 0;
};

}  // namespace dropgemm::cuda
