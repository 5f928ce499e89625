// One product to be checked against the reference: random operands of any strides, masks, every
// dropped tile of A and B poisoned with NaN, every output poisoned first, the workspace no larger
// than asked for and between canaries, and the tolerance derived from depth and magnitude.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "dropgemm/backend.h"
#include "dropgemm/gemm.h"

namespace dropgemm::testing {

enum class Layout { kRowMajor, kPadded, kColMajor, kSpread };  // kSpread: no stride is 1

struct TileSize {
  std::int64_t rows = 0, cols = 0;  // 0: no mask
  // Where period > 0: tile (i, j) is kept iff (i + j - offset) mod period == 0 and
  // begin <= i + j < end. Otherwise tiles are drawn.
  std::int64_t period = 0, offset = 0;
  std::int64_t begin = 0, end = std::numeric_limits<std::int64_t>::max();

  [[nodiscard]] bool kept(std::int64_t i, std::int64_t j) const {
    return (i + j - offset) % period == 0 && i + j >= begin && i + j < end;
  }
};

struct GemmCase {
  std::int64_t m = 1, n = 1, k = 1;
  bool trans_a = false, trans_b = false;
  TileSize a_tile, b_tile, d_tile;  // of the arrays as passed
  double keep = 0.5;                // probability of a tile
  Layout layout = Layout::kRowMajor;
  bool bias = false, addend = false, aux_out = false, a_sum = false, transposed_masks = false;
  bool undefined_fill = false;  // dropped tiles of D may hold anything
  bool deterministic = false;
  bool packs_b = false;  // before the product, which is not shown B itself
  Activation activation = Activation::kNone;
  Activation grad = Activation::kNone;  // kNone: no grad_aux
  Precision precision = Precision::kHighest;
  bool rounds = true;        // kMedium does round operands here as the reference does
  double operand_error = 0;  // relative, of operands that are rounded otherwise
  double scale = 1.0, out_scale = 1.0;
  std::uint64_t seed = 1;

  [[nodiscard]] std::string text() const {
    auto tile = [](const TileSize& t) {
      std::string size = std::to_string(t.rows) + "x" + std::to_string(t.cols);
      if (t.period == 0) return size;
      return size + " (" + std::to_string(t.offset) + " + " + std::to_string(t.period) + " i in [" +
             std::to_string(t.begin) + ", " + std::to_string(t.end) + "))";
    };
    return "m" + std::to_string(m) + " n" + std::to_string(n) + " k" + std::to_string(k) +
           (trans_a ? " Ta" : "") + (trans_b ? " Tb" : "") + " masks a" + tile(a_tile) + " b" +
           tile(b_tile) + " d" + tile(d_tile) + " keep " + std::to_string(keep) + " layout " +
           std::to_string(static_cast<int>(layout)) + (bias ? " bias" : "") +
           (addend ? " addend" : "") + (aux_out ? " aux" : "") + (a_sum ? " a_sum" : "") +
           (undefined_fill ? " undefined fill" : "") + (deterministic ? " deterministic" : "") +
           (packs_b ? " packed b" : "") + " scales " + std::to_string(scale) + " " +
           std::to_string(out_scale) + " act " + std::to_string(static_cast<int>(activation)) +
           " grad " + std::to_string(static_cast<int>(grad)) +
           (precision == Precision::kMedium ? " medium" : "") + " seed " + std::to_string(seed);
  }
};

// The spacing of numbers of T just above 1, and the number type that T is summed in.
template <class T>
constexpr double kEpsilon = std::numeric_limits<T>::epsilon();
template <>
inline constexpr double kEpsilon<BFloat16> = 1.0 / 128;
template <>
inline constexpr double kEpsilon<Float16> = 1.0 / 1024;
template <class T>
using Sum = std::conditional_t<sizeof(T) == 2, float, T>;

template <class T>
class Array {
 public:
  Array(std::int64_t rows, std::int64_t cols, Layout layout) : rows_(rows), cols_(cols) {
    switch (layout) {
      case Layout::kRowMajor:
        row_stride_ = cols, col_stride_ = 1;
        break;
      case Layout::kPadded:
        row_stride_ = cols + 3, col_stride_ = 1;
        break;
      case Layout::kColMajor:
        row_stride_ = 1, col_stride_ = rows + 1;
        break;
      case Layout::kSpread:
        row_stride_ = 2 * cols + 1, col_stride_ = 2;
        break;
    }
    // Not an element more than the view reaches, so that a sanitizer sees every step past it.
    const std::int64_t last =
        rows * cols == 0 ? 0 : (rows - 1) * row_stride_ + (cols - 1) * col_stride_;
    data_.assign(static_cast<std::size_t>(last + 1), T(0));
  }
  T& at(std::int64_t i, std::int64_t j) {
    return data_[static_cast<std::size_t>(i * row_stride_ + j * col_stride_)];
  }
  MatrixView view() {
    return {data_.data(), rows_, cols_, row_stride_, col_stride_, dtype_of<T>::value};
  }
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t cols() const { return cols_; }
  template <class Value>
  void fill(Value value) {
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < cols_; ++j) at(i, j) = static_cast<T>(value(i, j));
    }
  }

 private:
  std::int64_t rows_, cols_, row_stride_ = 0, col_stride_ = 0;
  std::vector<T> data_;
};

// Bits of a rows x cols array's mask; null view for a tile of 0.
class Mask {
 public:
  Mask(std::int64_t rows, std::int64_t cols, TileSize tile, double keep, bool transposed,
       std::mt19937_64& random) {
    if (tile.rows == 0) return;
    view_ = std::make_unique<TileMaskView>();
    view_->rows = rows, view_->cols = cols;
    view_->tile_rows = tile.rows, view_->tile_cols = tile.cols;
    view_->keep_hint = keep;
    view_->transposed = transposed;
    const std::int64_t tall = transposed ? cols : rows, wide = transposed ? rows : cols;
    const std::int64_t tr = transposed ? tile.cols : tile.rows;
    const std::int64_t tc = transposed ? tile.rows : tile.cols;
    words_.assign(static_cast<std::size_t>(mask_words(tall, wide, tr, tc)) + 1, 0);
    std::bernoulli_distribution kept(keep);
    const std::int64_t row_words = mask_row_words(wide, tc);
    for (std::int64_t i = 0; i < ceil_div(tall, tr); ++i) {
      for (std::int64_t j = 0; j < ceil_div(wide, tc); ++j) {
        const bool drawn = kept(random);
        if (tile.period == 0 ? drawn : tile.kept(i, j))
          words_[static_cast<std::size_t>(i * row_words + j / 32)] |= 1U << (j % 32);
      }
    }
    view_->bits = words_.data();
  }
  [[nodiscard]] const TileMaskView* view() const { return view_.get(); }

 private:
  std::vector<std::uint32_t> words_;
  std::unique_ptr<TileMaskView> view_;
};

// Workspace of exactly the size that was asked for, with canaries on either side.
class GuardedWorkspace {
 public:
  explicit GuardedWorkspace(std::size_t bytes)
      : memory_(bytes + 3 * kGuard, kCanary), bytes_(bytes) {
    const auto past = reinterpret_cast<std::uintptr_t>(memory_.data()) % kGuard;
    begin_ = memory_.data() + (2 * kGuard - past);
  }
  [[nodiscard]] void* data() { return begin_; }
  [[nodiscard]] bool intact() const {
    const auto untouched = [](unsigned char byte) { return byte == kCanary; };
    return std::all_of(memory_.data(), static_cast<const unsigned char*>(begin_), untouched) &&
           std::all_of(static_cast<const unsigned char*>(begin_) + bytes_,
                       memory_.data() + memory_.size(), untouched);
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr unsigned char kCanary = 0x5A;
  std::vector<unsigned char> memory_;
  std::size_t bytes_;
  unsigned char* begin_;
};

template <class T>
void check_against_reference(const Context& ctx, const GemmCase& c) {
  SCOPED_TRACE(c.text());
  const T nan(std::numeric_limits<float>::quiet_NaN());
  std::mt19937_64 random(c.seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  auto draw = [&](std::int64_t, std::int64_t) { return uniform(random); };

  Array<T> a(c.trans_a ? c.k : c.m, c.trans_a ? c.m : c.k, c.layout);
  Array<T> b(c.trans_b ? c.n : c.k, c.trans_b ? c.k : c.n, c.layout);
  Array<T> d(c.m, c.n, c.layout), aux(c.m, c.n, c.layout), addend(c.m, c.n, c.layout);
  Array<T> below(c.m, c.n, c.layout), bias(1, c.n, c.layout), a_sum(1, c.m, Layout::kRowMajor);
  for (Array<T>* x : {&a, &b, &addend, &below, &bias}) x->fill(draw);
  const Mask ma(a.rows(), a.cols(), c.a_tile, c.keep, c.transposed_masks, random);
  const Mask mb(b.rows(), b.cols(), c.b_tile, c.keep, c.transposed_masks, random);
  const Mask md(c.m, c.n, c.d_tile, c.keep, c.transposed_masks, random);

  GemmArgs args;
  args.a = a.view(), args.b = b.view(), args.d = d.view();
  args.trans_a = c.trans_a, args.trans_b = c.trans_b;
  args.a_mask = ma.view(), args.b_mask = mb.view(), args.d_mask = md.view();
  args.scale = c.scale, args.out_scale = c.out_scale;
  args.activation = c.activation;
  if (c.undefined_fill) args.out_fill = OutFill::kUndefined;
  args.deterministic = c.deterministic;
  if (c.bias) args.bias = &bias.at(0, 0), args.bias_stride = bias.view().col_stride;
  if (c.addend) args.addend = addend.view();
  if (c.aux_out) args.aux_out = aux.view();
  if (c.grad != Activation::kNone) args.grad_aux = below.view(), args.grad_activation = c.grad;
  if (c.a_sum) args.a_sum = &a_sum.at(0, 0);

  Context reference;
  ASSERT_TRUE(find_backend("reference", &reference.backend).ok());

  // |A||B| and sum |A| of what is kept, by the reference itself.
  Array<double> abs_a(a.rows(), a.cols(), c.layout), abs_b(b.rows(), b.cols(), c.layout);
  Array<double> magnitude(c.m, c.n, Layout::kRowMajor), abs_sum(1, c.m, Layout::kRowMajor);
  abs_a.fill([&](auto i, auto j) { return std::abs(a.at(i, j)); });
  abs_b.fill([&](auto i, auto j) { return std::abs(b.at(i, j)); });
  GemmArgs absolute;
  absolute.a = abs_a.view(), absolute.b = abs_b.view(), absolute.d = magnitude.view();
  absolute.trans_a = c.trans_a, absolute.trans_b = c.trans_b;
  absolute.a_mask = ma.view(), absolute.b_mask = mb.view();
  absolute.a_sum = &abs_sum.at(0, 0);
  ASSERT_TRUE(gemm(reference, absolute).ok());

  // Poison what must not be looked at.
  a.fill([&](auto i, auto j) {
    return ma.view() != nullptr && !element_kept(*ma.view(), i, j) ? nan : a.at(i, j);
  });
  b.fill([&](auto i, auto j) {
    return mb.view() != nullptr && !element_kept(*mb.view(), i, j) ? nan : b.at(i, j);
  });

  auto run = [&](const Context& where, Array<T>& out, Array<T>& out_aux, Array<T>& out_sum) {
    for (Array<T>* x : {&out, &out_aux, &out_sum}) x->fill([&](auto, auto) { return nan; });
    args.d = out.view();
    if (c.aux_out) args.aux_out = out_aux.view();
    if (c.a_sum) args.a_sum = &out_sum.at(0, 0);
    Context context = where;
    std::size_t bytes = 0;
    ASSERT_TRUE(gemm_workspace_bytes(context, args, &bytes).ok());
    GuardedWorkspace workspace(bytes);
    if (c.seed % 4 != 0) context.workspace = workspace.data(), context.workspace_bytes = bytes;
    const Status status = gemm(context, args);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(workspace.intact()) << "written outside the " << bytes << " bytes of workspace";
  };
  Array<T> want = d, want_aux = aux, want_sum = a_sum;
  args.precision = c.rounds ? c.precision : Precision::kHighest;
  run(reference, want, want_aux, want_sum);
  args.precision = c.precision;
  std::size_t packed_bytes = 0;
  if (c.packs_b) {
    ASSERT_TRUE(gemm_packed_bytes(ctx, args, &packed_bytes).ok());
  }
  GuardedWorkspace packed(packed_bytes);
  if (c.packs_b) {
    const Status status = gemm_pack(ctx, args, packed.data());
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(packed.intact()) << "written outside the " << packed_bytes << " packed bytes";
    b.fill([&](auto, auto) { return nan; });
    args.b_packed = packed.data();
  }
  run(ctx, d, aux, a_sum);

  // Sums differ by rounding while they are made; what is stored of them once more, on either side.
  const double eps = kEpsilon<Sum<T>>;
  const double depth = 2 * eps * std::sqrt(static_cast<double>(std::max<std::int64_t>(c.k, 1)));
  const double lipschitz = 1.13;  // of GELU and its derivative's bound; 1 for the others
  double worst = 0;
  std::string where;
  auto compare = [&](const char* what, std::int64_t i, std::int64_t j, double got, double expected,
                     double bound) {
    const double error = std::abs(got - expected);
    const double ratio = std::isnan(got) || std::isnan(expected)
                             ? std::numeric_limits<double>::infinity()
                         : error == 0 ? 0.0
                                      : error / (bound + (eps + kEpsilon<T>)*std::abs(expected));
    if (ratio > worst) {
      worst = ratio;
      where = std::string(what) + "[" + std::to_string(i) + ", " + std::to_string(j) +
              "] = " + std::to_string(got) + ", expected " + std::to_string(expected);
    }
  };
  for (std::int64_t i = 0; i < c.m; ++i) {
    for (std::int64_t j = 0; j < c.n; ++j) {
      const bool dropped = md.view() != nullptr && !element_kept(*md.view(), i, j);
      if (c.undefined_fill && dropped) continue;
      const double z_bound =
          depth * (std::abs(c.scale) * static_cast<double>(magnitude.at(i, j)) +
                   (c.bias ? std::abs(static_cast<double>(bias.at(0, j))) : 0.0) +
                   (c.addend ? std::abs(static_cast<double>(addend.at(i, j))) : 0.0)) +
          2 * c.operand_error * std::abs(c.scale) * static_cast<double>(magnitude.at(i, j));
      compare("out", i, j, d.at(i, j), want.at(i, j),
              z_bound * lipschitz * lipschitz * std::abs(c.out_scale) +
                  4 * eps * std::abs(static_cast<double>(want.at(i, j))));
      if (c.aux_out) compare("aux_out", i, j, aux.at(i, j), want_aux.at(i, j), z_bound);
    }
    if (c.a_sum) {
      compare("a_sum", i, 0, a_sum.at(0, i), want_sum.at(0, i),
              depth * static_cast<double>(abs_sum.at(0, i)));
    }
  }
  EXPECT_LE(worst, 1.0) << "worst element: " << where << " (error / bound)";
}

}  // namespace dropgemm::testing
