// What the benchmarks work on: arrays of random numbers, and masks of the dropout methods.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dropgemm/context.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm::bench {

// The dtypes and the methods of dropout, by name; a row or tile pattern has a period, the others a
// keep rate.
[[nodiscard]] const std::vector<std::string>& dtype_names();
[[nodiscard]] DType dtype_of_name(const std::string& name);
[[nodiscard]] const std::vector<std::string>& methods();
[[nodiscard]] bool has_period(const std::string& method);

// A matrix of its own, row-major, uniform in [-1, 1): so many numbers, again and again.
constexpr std::int64_t kPeriodOfValues = 4099;  // a prime: no two rows alike
class Matrix {
 public:
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols);

  [[nodiscard]] const MatrixView& view() const { return view_; }
  [[nodiscard]] std::int64_t bytes() const;

 private:
  std::vector<double> memory_;  // aligned for every dtype
  MatrixView view_;
};

// How a mask [rows, cols] comes about.
struct MaskRecipe {
  std::string method;
  std::int64_t rows = 0, cols = 0;
  double keep = 0.5;             // of bernoulli, gyro and block
  std::int64_t period = 2;       // of row and tile
  std::int64_t group_rows = 0;   // of block; 0: one group
  std::int64_t block_cols = 32;  // of block; height and width of a tile
  std::int64_t site = 0;
};

// A mask and its bits.
class Mask {
 public:
  explicit Mask(const MaskRecipe& recipe);

  // Fills the bits, or those of a copy elsewhere, where the context's backend reaches them.
  [[nodiscard]] Status draw(const Context& ctx) { return draw(ctx, bits_.data()); }
  [[nodiscard]] Status draw(const Context& ctx, std::uint32_t* bits) const;

  [[nodiscard]] const TileMaskView& view() const { return view_; }
  [[nodiscard]] double keep_rate() const;  // of elements, as drawn
  [[nodiscard]] std::int64_t tiles() const;
  [[nodiscard]] std::int64_t bytes() const;

 private:
  MaskRecipe recipe_;
  std::vector<std::uint32_t> bits_;
  TileMaskView view_;
};

}  // namespace dropgemm::bench
