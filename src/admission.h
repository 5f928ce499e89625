// Internal: what the admission rules of every backend start from.
#pragma once

#include <cstdint>
#include <numeric>

namespace dropgemm {

// Above this share of the work, but for 1, nothing is skipped whatever a model says: callers ask
// for that by a hint that no mask would have.
constexpr double kHardlyDropped = 0.995;

// What the masks that touch a dimension share; its extent where none does, or where every mask
// has one tile for the whole of it.
class Unit {
 public:
  explicit Unit(std::int64_t extent) : extent_(extent) {}
  void touch(std::int64_t tile) {
    if (tile < extent_) gcd_ = std::gcd(gcd_, tile);
  }
  [[nodiscard]] std::int64_t size() const { return gcd_ == 0 ? extent_ : gcd_; }
  [[nodiscard]] bool fits(std::int64_t granule) const { return gcd_ % granule == 0; }

 private:
  std::int64_t extent_;
  std::int64_t gcd_ = 0;
};

}  // namespace dropgemm
