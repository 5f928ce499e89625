// Axes whose kept positions lie one step apart, from any offset, beside axes that are irregular or
// whole: strided views to the cpu backend, which loads and stores what lies between as well.
#include <algorithm>
#include <vector>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(All, GemmTest, ::testing::ValuesIn(other_implementations()), name_of);

// One pattern for the whole batch: every period-th feature.
TileSize every(std::int64_t period, std::int64_t offset, std::int64_t batch) {
  return {batch, 1, period, offset};
}

GemmCase forward_of(std::int64_t batch, std::int64_t in, std::int64_t out) {
  GemmCase c;
  c.m = batch, c.n = out, c.k = in, c.trans_b = true, c.bias = true, c.scale = 1.5;
  c.activation = Activation::kRelu, c.aux_out = true;
  return c;
}

// The three products, dropped on either side or both. Sizes are whole panels of kept features,
// one feature more and one less; the last period may be cut anywhere.
TEST_P(GemmTest, LayerProductsOfEveryPeriod) {
  std::uint64_t seed = 2000;
  for (std::int64_t period : {2, 3, 4, 5, 6, 7, 8, 9, 17}) {
    for (std::int64_t offset : {std::int64_t{0}, period / 2, period - 1}) {
      for (int sides = 1; sides < 4; ++sides) {
        const std::int64_t batch = 19, ragged = static_cast<std::int64_t>(++seed % 5) - 2;
        const std::int64_t in = 33 * period + ragged, out = 64 * period - ragged;
        const TileSize input = (sides & 1) != 0 ? every(period, offset, batch) : TileSize{};
        const TileSize output =
            (sides & 2) != 0 ? every(period, period - 1 - offset, batch) : TileSize{};
        GemmCase forward = forward_of(batch, in, out);
        forward.a_tile = input, forward.d_tile = output, forward.seed = seed;
        check_fast(forward);

        GemmCase input_gradient;
        input_gradient.m = batch, input_gradient.n = in, input_gradient.k = out;
        input_gradient.a_tile = output, input_gradient.d_tile = input;
        input_gradient.grad = Activation::kRelu, input_gradient.seed = seed;
        check_fast(input_gradient);

        GemmCase weight_gradient;
        weight_gradient.m = out, weight_gradient.n = in, weight_gradient.k = batch;
        weight_gradient.trans_a = true, weight_gradient.a_sum = true, weight_gradient.seed = seed;
        weight_gradient.a_tile = output, weight_gradient.b_tile = input;
        check_fast(weight_gradient);
      }
    }
  }
}

// Every epilogue between columns that lie apart, in whole tiles and in ragged ones.
TEST_P(GemmTest, EpiloguesBetweenColumns) {
  std::uint64_t seed = 3000;
  for (auto act :
       {Activation::kNone, Activation::kRelu, Activation::kGeluErf, Activation::kGeluTanh}) {
    for (std::int64_t period : {2, 3, 4, 7}) {
      for (auto layout : {Layout::kRowMajor, Layout::kPadded, Layout::kColMajor, Layout::kSpread}) {
        GemmCase c = forward_of(21, 40, 65 * period + 1);
        c.d_tile = every(period, 1, 21), c.a_tile = {21, 4}, c.layout = layout, c.activation = act;
        c.addend = true, c.scale = -1.5, c.out_scale = 0.25, c.seed = ++seed;
        check(c);
        c.grad = act, c.undefined_fill = true, c.aux_out = false;
        check(c);
      }
    }
  }
}

// Columns of B dropped, D kept: what lies between owes act(addend + bias), or 0 without them.
TEST_P(GemmTest, EmptyBetweenColumns) {
  std::uint64_t seed = 3500;
  for (std::int64_t period : {2, 4, 8}) {
    for (int variant = 0; variant < 16; ++variant) {
      GemmCase c;
      c.m = 17, c.n = 64 * period + 3, c.k = 30, c.trans_b = (variant & 1) != 0;
      c.b_tile = c.trans_b ? TileSize{1, 30, period, 2 % period} : every(period, 2 % period, 30);
      c.bias = (variant & 2) != 0, c.addend = (variant & 4) != 0, c.aux_out = true;
      if ((variant & 8) != 0) c.d_tile = {17, 5};
      c.seed = ++seed;
      check_fast(c);
      c.activation = c.grad = Activation::kRelu;
      check_fast(c);
    }
  }
}

// Progressions that begin late and end early, of whole blocks too, and of one or no position.
TEST_P(GemmTest, ProgressionsWithinAnAxis) {
  std::uint64_t seed = 4000;
  for (std::int64_t width : {1, 2}) {
    for (std::int64_t period : {1, 2, 3, 8}) {
      for (const auto& [begin, end] :
           std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 5}, {37, 90}, {70, 71}, {9, 9}}) {
        const TileSize some{20, width, period, 0, begin, end};
        GemmCase forward = forward_of(20, 75, 201);
        forward.a_tile = forward.d_tile = some, forward.seed = ++seed;
        check_fast(forward);
        forward.undefined_fill = true;
        check_against_reference<double>(ctx_, forward);
        GemmCase weight_gradient;
        weight_gradient.m = 75, weight_gradient.n = 201, weight_gradient.k = 20;
        weight_gradient.trans_a = true, weight_gradient.seed = seed;
        weight_gradient.a_tile = weight_gradient.b_tile = some;
        check_fast(weight_gradient);
      }
    }
  }
}

// Sums over more depth than one pass takes come back from between the zeros.
TEST_P(GemmTest, DeepAndApart) {
  GemmCase c;
  c.m = 9, c.k = 9001, c.n = 130, c.trans_b = true, c.bias = true, c.aux_out = true;
  c.activation = Activation::kRelu;
  for (std::int64_t period : {2, 3}) {
    c.d_tile = every(period, 1, 9);
    check(c);
    c.a_tile = every(2, 1, 9);
    check_fast(c);
  }
}

// A D so large that its zeros, or all of it, go around the cache, in rows of which some begin with
// a cache line.
TEST_P(GemmTest, LargeAndApart) {
  for (const std::int64_t rows : {1100, 2100}) {
    GemmCase c;
    c.m = rows, c.n = 2050, c.k = 3, c.trans_a = true;
    c.a_tile = every(3, 2, c.k), c.b_tile = every(2, 1, c.k);
    check_fast(c);
    c.layout = Layout::kPadded, c.b_tile.period = 5, c.k = 4, c.a_tile = {};
    check_against_reference<double>(ctx_, c);
    c.layout = Layout::kRowMajor, c.b_tile = {c.k, 1}, c.n = 2048;
    check_against_reference<float>(ctx_, c);
    c.layout = Layout::kPadded, c.n = 2050;
    c.b_tile = {}, c.d_tile = {32, 32, 2, 1}, c.bias = c.aux_out = true;
    check_fast(c);
  }
}

// Tiles of the weight, each row of tiles one further: a skewed tile pattern.
TEST_P(GemmTest, WeightTiles) {
  const std::int64_t batch = 45, in = 200, out = 170;
  std::uint64_t seed = 4500;
  for (std::int64_t period : {2, 3, 4}) {
    for (std::int64_t size : {32, 64, 20}) {
      const TileSize weight{size, size, period, period - 1};
      GemmCase forward = forward_of(batch, in, out);
      forward.b_tile = weight, forward.seed = ++seed;
      check_fast(forward);
      GemmCase input_gradient;
      input_gradient.m = batch, input_gradient.n = in, input_gradient.k = out;
      input_gradient.b_tile = weight, input_gradient.grad = Activation::kGeluTanh;
      check_fast(input_gradient);
      GemmCase weight_gradient;
      weight_gradient.m = out, weight_gradient.n = in, weight_gradient.k = batch;
      weight_gradient.trans_a = weight_gradient.a_sum = true, weight_gradient.d_tile = weight;
      check_fast(weight_gradient);
    }
  }
}

// Single features drawn for the whole batch, from a few to nearly all: picked and spread by vectors
// where they lie close, one by one where not. What lies between may be empty, not dropped.
TEST_P(GemmTest, IrregularFeatures) {
  std::uint64_t seed = 4700;
  for (double keep : {0.04, 0.15, 0.5, 0.93}) {
    for (auto layout : {Layout::kRowMajor, Layout::kPadded, Layout::kColMajor}) {
      const std::int64_t batch = 37, in = 301, out = 470;
      const TileSize features{batch, 1};
      GemmCase forward = forward_of(batch, in, out);
      forward.a_tile = forward.d_tile = features;
      forward.keep = keep, forward.layout = layout, forward.seed = ++seed;
      check(forward);
      forward.activation = Activation::kGeluErf, forward.addend = true;
      forward.d_tile = {}, forward.b_tile = {1, in};
      check_against_reference<float>(ctx_, forward);

      GemmCase input_gradient;
      input_gradient.m = batch, input_gradient.n = in, input_gradient.k = out;
      input_gradient.a_tile = input_gradient.d_tile = features;
      input_gradient.grad = Activation::kGeluTanh, input_gradient.keep = keep;
      input_gradient.layout = layout, input_gradient.seed = seed;
      check(input_gradient);

      GemmCase weight_gradient;
      weight_gradient.m = out, weight_gradient.n = in, weight_gradient.k = batch;
      weight_gradient.trans_a = weight_gradient.a_sum = true, weight_gradient.keep = keep;
      weight_gradient.a_tile = weight_gradient.b_tile = features;
      weight_gradient.layout = layout, weight_gradient.seed = seed;
      check(weight_gradient);
    }
  }
}

// Regular, irregular and whole axes in any company, on any operand.
TEST_P(GemmTest, AnyProgressions) {
  std::mt19937_64 random(17);
  auto pick = [&](std::int64_t limit) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit));
  };
  const auto mask = [&](std::int64_t rows, std::int64_t cols) -> TileSize {
    const bool tall = pick(2) != 0;
    const std::int64_t width = pick(3) == 0 ? 1 + pick(5) : 1;
    TileSize tile{tall ? std::max<std::int64_t>(rows, 1) : width,
                  tall ? width : std::max<std::int64_t>(cols, 1)};
    if (pick(4) == 0) return {};
    if (pick(4) == 0) return tile;
    if (pick(8) == 0) tile = {8 * (1 + pick(4)), 32};
    tile.period = 1 + pick(9), tile.offset = pick(tile.period);
    if (pick(4) == 0) tile.begin = pick(100), tile.end = tile.begin + pick(100);
    return tile;
  };
  for (int i = 0; i < 200; ++i) {
    GemmCase c;
    c.m = pick(100), c.n = pick(250), c.k = pick(100), c.seed = 5000 + i;
    c.trans_a = pick(2) != 0, c.trans_b = pick(2) != 0;
    c.a_tile = c.trans_a ? mask(c.k, c.m) : mask(c.m, c.k);
    c.b_tile = c.trans_b ? mask(c.n, c.k) : mask(c.k, c.n);
    c.d_tile = mask(c.m, c.n);
    c.transposed_masks = pick(4) == 0;
    c.layout = static_cast<Layout>(pick(3) == 0 ? pick(4) : pick(2));
    c.bias = pick(2) != 0, c.addend = pick(4) == 0, c.aux_out = pick(3) == 0;
    c.a_sum = pick(4) == 0, c.undefined_fill = pick(4) == 0;
    c.activation = static_cast<Activation>(pick(3) == 0 ? pick(4) : pick(2));
    c.grad = static_cast<Activation>(pick(3) == 0 ? pick(4) : pick(2));
    c.scale = pick(2) != 0 ? 1.0 : 2.0, c.out_scale = pick(4) != 0 ? 1.0 : -0.5;
    ctx_.num_threads = 1 + static_cast<std::int32_t>(pick(3));
    check_fast(c);
    if (i % 4 == 0) check_against_reference<double>(ctx_, c);
  }
}

}  // namespace
}  // namespace dropgemm::testing
