#include "operands.h"

#include <algorithm>
#include <array>
#include <random>

#include "dropgemm/mask.h"
#include "dropgemm/pattern.h"

namespace dropgemm::bench {
namespace {

constexpr std::array kDTypes = {DType::kFloat32, DType::kFloat64, DType::kBFloat16};
constexpr std::int64_t kCoscheduled = 8;

template <class T>
void fill(void* data, std::int64_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::array<T, kPeriodOfValues> values;
  for (T& value : values) value = static_cast<T>(uniform(random));
  T* const out = static_cast<T*>(data);
  for (std::int64_t i = 0; i < count; ++i) out[i] = values[i % values.size()];
}

TileMaskView shape_of(const MaskRecipe& recipe) {
  TileMaskView view;
  view.rows = recipe.rows;
  view.cols = recipe.cols;
  view.keep_hint =
      has_period(recipe.method) ? 1.0 / static_cast<double>(recipe.period) : recipe.keep;
  if (recipe.method == "gyro") view.tile_rows = ceil_div(recipe.rows, kCoscheduled);
  if (recipe.method == "row") view.tile_rows = recipe.rows;
  if (recipe.method == "block") {
    view.tile_rows = recipe.group_rows > 0 ? recipe.group_rows : recipe.rows;
    view.tile_cols = recipe.block_cols;
  }
  if (recipe.method == "tile") view.tile_rows = view.tile_cols = recipe.block_cols;
  return view;
}

}  // namespace

const std::vector<std::string>& dtype_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const DType dtype : kDTypes) all.emplace_back(dtype_name(dtype));
    return all;
  }();
  return names;
}

DType dtype_of_name(const std::string& name) {
  const auto& names = dtype_names();
  return kDTypes.at(std::find(names.begin(), names.end(), name) - names.begin());
}

const std::vector<std::string>& methods() {
  static const std::vector<std::string> names = {"block", "gyro", "row", "tile", "bernoulli"};
  return names;
}

bool has_period(const std::string& method) { return method == "row" || method == "tile"; }

Matrix::Matrix(DType dtype, std::int64_t rows, std::int64_t cols)
    : view_{nullptr, rows, cols, cols, 1, dtype} {
  memory_.resize(static_cast<std::size_t>(bytes()) / sizeof(double) + 1);
  view_.data = memory_.data();
  if (dtype == DType::kFloat32) fill<float>(view_.data, rows * cols);
  if (dtype == DType::kFloat64) fill<double>(view_.data, rows * cols);
  if (dtype == DType::kBFloat16) fill<BFloat16>(view_.data, rows * cols);
}

std::int64_t Matrix::bytes() const {
  return view_.rows * view_.cols * static_cast<std::int64_t>(dtype_size(view_.dtype));
}

Mask::Mask(const MaskRecipe& recipe) : recipe_(recipe), view_(shape_of(recipe)) {
  bits_.resize(static_cast<std::size_t>(
      mask_words(view_.rows, view_.cols, view_.tile_rows, view_.tile_cols)));
  view_.bits = bits_.data();
}

Status Mask::draw(const Context& ctx, std::uint32_t* bits) const {
  const MutableTileMaskView mask{bits, view_.rows, view_.cols, view_.tile_rows, view_.tile_cols};
  if (recipe_.method == "bernoulli") {
    BernoulliMaskArgs args;
    args.mask = mask;
    args.p = 1 - recipe_.keep;
    args.site = recipe_.site;
    return bernoulli_mask(ctx, args);
  }
  if (has_period(recipe_.method)) {
    PatternMaskArgs args;
    args.mask = mask;
    args.kind = recipe_.method == "row" ? PatternKind::kRow : PatternKind::kTile;
    args.pattern = {recipe_.period, recipe_.site % recipe_.period};
    return pattern_mask(ctx, args);
  }
  GyroMaskArgs args;
  args.mask = mask;
  args.p = 1 - recipe_.keep;
  args.site = recipe_.site;
  args.schedule.coscheduled = kCoscheduled;
  if (recipe_.method == "block") {
    args.schedule.tile_rows = mask.tile_rows;
    args.draw = Draw::kExact;
  }
  return gyro_mask(ctx, args);
}

double Mask::keep_rate() const {
  std::int64_t kept = 0;
  for (std::int64_t row = 0; row < view_.rows; row += view_.tile_rows) {
    for (std::int64_t col = 0; col < view_.cols; col += view_.tile_cols) {
      if (!element_kept(view_, row, col)) continue;
      kept +=
          std::min(view_.tile_rows, view_.rows - row) * std::min(view_.tile_cols, view_.cols - col);
    }
  }
  return static_cast<double>(kept) /
         static_cast<double>(std::max<std::int64_t>(1, view_.rows * view_.cols));
}

std::int64_t Mask::tiles() const {
  return ceil_div(view_.rows, view_.tile_rows) * ceil_div(view_.cols, view_.tile_cols);
}

std::int64_t Mask::bytes() const {
  return static_cast<std::int64_t>(bits_.size() * sizeof(std::uint32_t));
}

}  // namespace dropgemm::bench
