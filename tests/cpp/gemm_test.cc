// Every product of every backend and instruction set against the reference, poisoned.
#include "dropgemm/gemm.h"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(All, GemmTest, ::testing::ValuesIn(implementations()), name_of);

TEST_P(GemmTest, DenseShapes) {
  std::uint64_t seed = 1;
  for (std::int64_t m : {0, 1, 7, 8, 9, 33}) {
    for (std::int64_t n : {0, 1, 10, 31, 32, 33, 65}) {
      for (std::int64_t k : {0, 1, 15, 16, 17, 64}) {
        GemmCase c;
        c.m = m, c.n = n, c.k = k, c.seed = ++seed;
        c.trans_a = (seed & 1) != 0, c.trans_b = (seed & 2) != 0;
        c.layout = static_cast<Layout>(seed % 4);
        c.bias = (seed & 4) != 0, c.a_sum = (seed & 8) != 0;
        check(c);
      }
    }
  }
}

// A tile may be larger than its dimension, and no multiple of the units that another mask cuts it
// into.
TEST_P(GemmTest, OneTileOverUnitsThatDoNotDivideIt) {
  GemmCase c;
  c.m = 118, c.n = 150, c.k = 160, c.seed = 41;
  c.a_tile = {96, 96}, c.b_tile = {200, 128}, c.d_tile = {128, 96};
  for (double keep : {0.2, 0.5, 0.8}) {
    c.keep = keep, ++c.seed;
    check(c);
    GemmCase turned = c;
    turned.trans_a = turned.trans_b = true;
    turned.a_tile = {96, 96}, turned.b_tile = {128, 200};
    check(turned);
  }
}

TEST_P(GemmTest, DeepAndNarrow) {
  GemmCase c;
  c.m = 3, c.n = 5, c.k = 9001;  // more depth than one pass takes
  check(c);
  c.m = 9, c.n = 33, c.k = 5000, c.trans_a = c.trans_b = true, c.bias = true;
  c.activation = Activation::kRelu, c.aux_out = true;
  check(c);
  c = {};
  c.m = 301, c.n = 10, c.k = 70;
  check(c);
}

TEST_P(GemmTest, Transposes) {
  for (int variant = 0; variant < 16; ++variant) {
    GemmCase c;
    c.m = 45, c.n = 71, c.k = 52, c.seed = 100 + variant;
    c.trans_a = (variant & 1) != 0, c.trans_b = (variant & 2) != 0;
    c.layout = static_cast<Layout>(variant / 4);
    c.a_tile = c.trans_a ? TileSize{8, 16} : TileSize{16, 8};
    c.b_tile = c.trans_b ? TileSize{32, 8} : TileSize{8, 32};
    c.d_tile = {16, 32};
    check(c);
    c.transposed_masks = true;
    check(c);
  }
}

// The three products of a layer under block-wise masks, at every keep rate.
TEST_P(GemmTest, LayerProducts) {
  const std::int64_t batch = 300, in = 100, out = 140;
  for (double keep : {0.0, 0.3, 0.5, 1.0}) {
    for (std::int64_t rows : {64, 128, 300}) {
      GemmCase forward;
      forward.m = batch, forward.n = out, forward.k = in, forward.trans_b = true;
      forward.a_tile = {rows, 32}, forward.d_tile = {rows, 32};
      forward.keep = keep, forward.bias = true, forward.scale = 2.0;
      forward.activation = Activation::kRelu, forward.aux_out = true;
      check(forward);
      forward.b_tile = {32, 32};
      check(forward);

      GemmCase input_gradient;
      input_gradient.m = batch, input_gradient.n = in, input_gradient.k = out;
      input_gradient.a_tile = {rows, 32}, input_gradient.d_tile = {rows, 32};
      input_gradient.keep = keep, input_gradient.grad = Activation::kRelu;
      check(input_gradient);

      GemmCase weight_gradient;
      weight_gradient.m = out, weight_gradient.n = in, weight_gradient.k = batch;
      weight_gradient.trans_a = true, weight_gradient.keep = keep, weight_gradient.a_sum = true;
      weight_gradient.a_tile = {rows, 32}, weight_gradient.b_tile = {rows, 32};
      check(weight_gradient);
      weight_gradient.d_tile = {32, 32};
      check(weight_gradient);
    }
  }
}

TEST_P(GemmTest, SingleElements) {
  for (double keep : {0.0, 0.5, 1.0}) {
    for (int which = 1; which < 8; ++which) {
      GemmCase c;
      c.m = 37, c.n = 75, c.k = 70, c.keep = keep, c.seed = 40 + which;
      c.trans_a = (which & 1) != 0, c.trans_b = (which & 2) != 0;
      if ((which & 1) != 0) c.a_tile = {1, 1};
      if ((which & 2) != 0) c.b_tile = {1, 1};
      if ((which & 4) != 0) c.d_tile = {1, 1};
      c.bias = true, c.activation = Activation::kRelu, c.aux_out = true, c.a_sum = true;
      check(c);
      c.transposed_masks = true;
      check(c);
    }
  }
}

TEST_P(GemmTest, OnePatternForTheBatch) {
  for (std::int64_t width : {1, 3, 32}) {
    for (double keep : {0.0, 0.4, 1.0}) {
      GemmCase c;
      c.m = 50, c.n = 90, c.k = 80, c.keep = keep, c.trans_b = true, c.bias = true;
      c.a_tile = {50, width}, c.d_tile = {64, width}, c.seed = 9 + width;
      check(c);
      c.addend = true, c.grad = Activation::kGeluErf;
      check(c);
      GemmCase w;
      w.m = 90, w.n = 80, w.k = 50, w.keep = keep, w.trans_a = true, w.a_sum = true;
      w.a_tile = {50, width}, w.b_tile = {50, width};
      check(w);
      w.d_tile = {90, width};
      w.layout = Layout::kColMajor;
      check(w);
    }
  }
}

TEST_P(GemmTest, Epilogues) {
  for (auto act :
       {Activation::kNone, Activation::kRelu, Activation::kGeluErf, Activation::kGeluTanh}) {
    for (auto layout : {Layout::kRowMajor, Layout::kPadded, Layout::kSpread}) {
      GemmCase c;
      c.m = 40, c.n = 70, c.k = 33, c.layout = layout, c.activation = act, c.aux_out = true;
      c.bias = true, c.addend = true, c.scale = -1.5, c.out_scale = 0.25;
      c.d_tile = {8, 32};
      check(c);
      c.grad = act;
      check(c);
    }
  }
}

// Tiles of any size, related or not, on any operand.
TEST_P(GemmTest, AnyTiles) {
  std::mt19937_64 random(7);
  const std::int64_t sizes[] = {1, 2, 5, 8, 16, 24, 32, 40, 64, 128};
  auto pick = [&](std::int64_t limit) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit));
  };
  auto tile = [&]() -> TileSize {
    if (pick(3) == 0) return {};
    return {sizes[pick(10)], sizes[pick(10)]};
  };
  for (int i = 0; i < 150; ++i) {
    GemmCase c;
    c.m = pick(150), c.n = pick(150), c.k = pick(150), c.seed = 1000 + i;
    c.trans_a = pick(2) != 0, c.trans_b = pick(2) != 0, c.transposed_masks = pick(2) != 0;
    c.a_tile = tile(), c.b_tile = tile(), c.d_tile = tile();
    c.layout = static_cast<Layout>(pick(4));
    c.keep = std::vector<double>{0.0, 0.1, 0.5, 0.9, 1.0}[static_cast<std::size_t>(pick(5))];
    c.bias = pick(2) != 0, c.addend = pick(4) == 0, c.aux_out = pick(4) == 0;
    c.a_sum = pick(2) != 0, c.undefined_fill = pick(4) == 0;
    c.activation = static_cast<Activation>(pick(4));
    c.grad = static_cast<Activation>(pick(4));
    check(c);
  }
}

// Dimensions of 0 under every kind of mask: what D keeps is still act(bias), what it drops is 0.
TEST_P(GemmTest, EmptyDimensionsUnderMasks) {
  std::uint64_t seed = 300;
  for (const TileSize tile : {TileSize{1, 1}, {8, 32}, {64, 3}, {64, 128}}) {
    for (int empty = 0; empty < 8; ++empty) {
      GemmCase c;
      c.m = (empty & 1) != 0 ? 0 : 24, c.n = (empty & 2) != 0 ? 0 : 70;
      c.k = (empty & 4) != 0 ? 0 : 40, c.seed = ++seed;
      c.a_tile = c.b_tile = c.d_tile = tile;
      c.bias = c.addend = c.aux_out = c.a_sum = true, c.activation = Activation::kRelu;
      check(c);
      c.a_tile = c.b_tile = {};
      check(c);
      c.undefined_fill = true;
      check(c);
    }
  }
}

// Factors that are infinite or NaN give what the reference gives, summed over something or nothing.
TEST_P(GemmTest, InfiniteAndNaNScales) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::pair<double, double> factors[] = {
      {std::nan(""), 1.0}, {infinity, 1.0}, {1.0, infinity}, {-infinity, 0.0}, {0.0, std::nan("")}};
  Context reference;
  ASSERT_TRUE(find_backend("reference", &reference.backend).ok());
  std::mt19937_64 random(11);
  Array<float> a(48, 64, Layout::kRowMajor), b(64, 70, Layout::kRowMajor);
  a.fill([&](auto, auto) { return 1 + static_cast<float>(random() % 3); });
  b.fill([&](auto, auto) { return 1 + static_cast<float>(random() % 3); });
  for (const TileSize tile : {TileSize{}, {1, 64}, {48, 1}, {16, 32}, {1, 1}}) {
    const Mask ma(48, 64, tile, 0.5, false, random), md(48, 70, tile, 0.5, false, random);
    for (const auto& factor : factors) {
      const double scale = factor.first, out_scale = factor.second;
      Array<float> got(48, 70, Layout::kRowMajor), want = got;
      GemmArgs args;
      args.a = a.view(), args.b = b.view(), args.a_mask = ma.view(), args.d_mask = md.view();
      args.scale = scale, args.out_scale = out_scale;
      args.d = want.view();
      ASSERT_TRUE(gemm(reference, args).ok());
      args.d = got.view();
      ASSERT_TRUE(gemm(ctx_, args).ok());
      want.fill([&](auto i, auto j) {
        const float x = got.at(i, j), y = want.at(i, j);
        EXPECT_TRUE(x == y || (std::isnan(x) && std::isnan(y)))
            << "[" << i << ", " << j << "] = " << x << ", expected " << y << " of tiles "
            << tile.rows << "x" << tile.cols << ", scales " << scale << ", " << out_scale;
        return y;
      });
    }
  }
}

// Far from 0 an activation is flat or the identity, and its derivative 0 or 1; no overflow on the
// way makes NaN of it.
TEST_P(GemmTest, ActivationsFarFromZero) {
  for (auto act : {Activation::kRelu, Activation::kGeluErf, Activation::kGeluTanh}) {
    for (const float z : {1e3F, 1e13F, 1e20F, 3e38F}) {
      Array<float> a(1, 1, Layout::kRowMajor), b(1, 2, Layout::kRowMajor), d = b, below = b;
      a.at(0, 0) = 1;
      b.at(0, 0) = below.at(0, 0) = z;
      b.at(0, 1) = below.at(0, 1) = -z;
      GemmArgs args;
      args.a = a.view(), args.b = b.view(), args.d = d.view(), args.activation = act;
      ASSERT_TRUE(gemm(ctx_, args).ok());
      EXPECT_EQ(d.at(0, 0), z);
      EXPECT_EQ(d.at(0, 1), 0.0F);
      b.at(0, 0) = b.at(0, 1) = 3;
      args.activation = Activation::kNone;
      args.grad_aux = below.view(), args.grad_activation = act;
      ASSERT_TRUE(gemm(ctx_, args).ok());
      EXPECT_EQ(d.at(0, 0), 3.0F);
      EXPECT_EQ(d.at(0, 1), 0.0F);
    }
  }
}

// A vouched-for mask changes nothing where the operands do hold zeros.
TEST_P(GemmTest, DroppedAreZero) {
  std::mt19937_64 random(5);
  Array<float> a(40, 48, Layout::kRowMajor), b(48, 33, Layout::kRowMajor);
  const Mask mask(40, 48, {1, 1}, 0.5, false, random);
  a.fill([&](auto i, auto j) {
    return element_kept(*mask.view(), i, j) ? static_cast<float>((i * 7 + j) % 5) : 0.0F;
  });
  b.fill([](auto i, auto j) { return static_cast<float>((i + 3 * j) % 7); });
  Array<float> x(40, 33, Layout::kRowMajor), y(40, 33, Layout::kRowMajor);
  GemmArgs args;
  args.a = a.view(), args.b = b.view(), args.d = x.view(), args.a_mask = mask.view();
  ASSERT_TRUE(gemm(ctx_, args).ok());
  args.d = y.view(), args.dropped_are_zero = true;
  ASSERT_TRUE(gemm(ctx_, args).ok());
  x.fill([&](auto i, auto j) {
    EXPECT_EQ(x.at(i, j), y.at(i, j));
    return x.at(i, j);
  });
}

// Scales that live where the operands do.
TEST_P(GemmTest, DeviceScales) {
  const float scale = 3.0F, out_scale = 0.5F;
  Array<float> a(2, 2, Layout::kRowMajor), b(2, 2, Layout::kRowMajor), d(2, 2, Layout::kRowMajor);
  a.fill([](auto, auto) { return 1; });
  b.fill([](auto, auto) { return 2; });
  GemmArgs args;
  args.a = a.view(), args.b = b.view(), args.d = d.view();
  args.scale_device = &scale, args.out_scale_device = &out_scale, args.scale = 2.0;
  ASSERT_TRUE(gemm(ctx_, args).ok());
  EXPECT_EQ(d.at(1, 1), 4.0F * 2.0F * 3.0F * 0.5F);
}

}  // namespace
}  // namespace dropgemm::testing
