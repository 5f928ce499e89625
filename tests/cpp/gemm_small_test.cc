// Products with a small dimension, which the cpu backend's kernels read where they lie: every
// instruction set against the reference, poisoned; and the same bits for every number of threads.
// The cuda backend has no such kernels, but edges of its own.
#include <cstring>
#include <random>

#include "cpu/direct.h"
#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

class SmallGemmTest : public GemmTest {
 protected:
  // In every type; of the cuda backend, in one after the other.
  void check_small(const GemmCase& c) {
    if (!is_cuda()) return check(c);
    ++checked_;
    if (checked_ % 4 == 0) return check_medium(c);
    if (checked_ % 4 == 1) return check_against_reference<BFloat16>(ctx_, c);
    if (checked_ % 4 == 2) return check_against_reference<Float16>(ctx_, c);
    check_against_reference<double>(ctx_, c);
  }
};
INSTANTIATE_TEST_SUITE_P(All, SmallGemmTest, ::testing::ValuesIn(other_implementations()), name_of);

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}
  std::int64_t below(std::int64_t limit) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(limit));
  }
  bool one_in(std::int64_t n) { return below(n) == 0; }
  double keep() {
    constexpr double kRates[] = {0.0, 0.2, 0.5, 0.5, 0.9, 1.0};
    return kRates[below(6)];
  }
  // What may accompany any product.
  void dress(GemmCase* c) {
    c->keep = keep();
    c->bias = one_in(2), c->addend = one_in(4), c->aux_out = one_in(4), c->a_sum = one_in(4);
    c->undefined_fill = one_in(6), c->transposed_masks = one_in(3);
    c->activation = static_cast<Activation>(below(4) * below(2));
    c->grad = static_cast<Activation>(below(4) * below(2));
    c->scale = one_in(3) ? 1.75 : 1.0, c->out_scale = one_in(3) ? -0.5 : 1.0;
    c->seed = random_();
  }

 private:
  std::mt19937_64 random_;
};

// Every M, N and K up to 70, any tiles, any layout.
TEST_P(SmallGemmTest, AnyShapesAndTiles) {
  Draw draw(21);
  const std::int64_t sizes[] = {1, 2, 3, 8, 16, 24, 32, 64, 100};
  auto tile = [&]() -> TileSize {
    if (draw.one_in(2)) return {};
    return {sizes[draw.below(9)], sizes[draw.below(9)]};
  };
  for (int i = 0; i < 300; ++i) {
    GemmCase c;
    c.m = 1 + draw.below(70), c.n = 1 + draw.below(70), c.k = 1 + draw.below(70);
    c.trans_a = draw.one_in(2), c.trans_b = draw.one_in(2);
    c.layout = static_cast<Layout>(draw.below(4));
    c.a_tile = tile(), c.b_tile = tile(), c.d_tile = tile();
    draw.dress(&c);
    check_small(c);
  }
}

// One of M, N and K is small, under one pattern for the whole of it: blocks, single elements,
// steps.
TEST_P(SmallGemmTest, OnePatternForASmallDimension) {
  Draw draw(22);
  const std::int64_t widths[] = {1, 5, 8, 32, 48};
  for (int i = 0; i < 80; ++i) {
    GemmCase c;
    std::int64_t* const extents[] = {&c.m, &c.n, &c.k};
    for (std::int64_t* extent : extents) *extent = 80 + draw.below(120);
    *extents[draw.below(3)] = 1 + draw.below(40);
    c.trans_a = draw.one_in(2), c.trans_b = draw.one_in(2);
    c.layout = static_cast<Layout>(draw.below(3));
    // Whole rows and columns of each array, the depth of A and B alike or not.
    const std::int64_t m = widths[draw.below(5)], n = widths[draw.below(5)],
                       k = widths[draw.below(5)];
    const auto along = [&](std::int64_t rows, std::int64_t cols, std::int64_t r, std::int64_t q) {
      TileSize tile = draw.one_in(2) ? TileSize{rows, q} : TileSize{r, cols};
      if (draw.one_in(3)) tile.period = 1 + draw.below(5), tile.offset = draw.below(tile.period);
      return draw.one_in(3) ? TileSize{} : tile;
    };
    c.a_tile = c.trans_a ? along(c.k, c.m, k, m) : along(c.m, c.k, m, k);
    c.b_tile = c.trans_b ? along(c.n, c.k, n, k) : along(c.k, c.n, k, n);
    c.d_tile = along(c.m, c.n, m, n);
    draw.dress(&c);
    check_small(c);
  }
}

// Units that the pruned path takes: row groups before a narrow output, tiles of weights before few
// rows.
TEST_P(SmallGemmTest, Units) {
  Draw draw(23);
  for (int i = 0; i < 40; ++i) {
    GemmCase c;
    c.m = draw.one_in(2) ? 1 + draw.below(64) : 200 + draw.below(200);
    c.n = c.m > 64 && draw.one_in(2) ? 1 + draw.below(32) : 100 + draw.below(300);
    c.k = c.m > 64 && c.n > 32 ? 1 + draw.below(64) : 150 + draw.below(300);
    c.trans_a = draw.one_in(3), c.trans_b = draw.one_in(2);
    const std::int64_t rows = draw.one_in(2) ? 128 : 16;
    if (!draw.one_in(3)) c.a_tile = c.trans_a ? TileSize{32, rows} : TileSize{rows, 32};
    if (draw.one_in(2)) c.b_tile = {32, 32};
    if (draw.one_in(2)) c.d_tile = {rows, 32};
    draw.dress(&c);
    check_small(c);
  }
}

// More depth than one pass takes, of either operand.
TEST_P(SmallGemmTest, Deep) {
  Draw draw(24);
  for (const std::int64_t k : {129, 1000, 2049, 5000}) {
    for (int variant = 0; variant < 4; ++variant) {
      GemmCase c;
      c.m = 9 + variant, c.n = 75, c.k = k;
      if (variant >= 2) std::swap(c.m, c.n);
      c.trans_a = variant == 3, c.trans_b = (variant & 1) != 0;
      draw.dress(&c);
      c.a_tile = c.trans_a ? TileSize{32, c.m} : TileSize{c.m, 32};
      check_small(c);
      c.a_tile = {};
      check_small(c);
    }
  }
}

// Only what no lane of the result needs is read beside what is kept, and nothing outside an array:
// its last row ends where the memory does (gemm_case.h), in every width of the kernels.
TEST_P(SmallGemmTest, RowsEndWhereTheMemoryDoes) {
  for (std::int64_t n = 1; n <= 100; ++n) {
    GemmCase c;
    c.m = 3, c.n = n, c.k = 17, c.seed = static_cast<std::uint64_t>(n);
    check_small(c);
    c.b_tile = {17, 1};
    check_small(c);
  }
}

class SmallGemmThreadsTest : public GemmTest {};
INSTANTIATE_TEST_SUITE_P(All, SmallGemmThreadsTest, ::testing::ValuesIn(cpu_implementations()),
                         name_of);

TEST_P(SmallGemmThreadsTest, SameBitsForEveryNumberOfThreads) {
  std::mt19937_64 random(25);
  std::uniform_real_distribution<float> uniform(-1, 1);
  struct Shape {
    std::int64_t m, n, k;
    bool trans_a, trans_b;
  };
  // The three products of a layer at a small batch, and before a narrow output.
  const Shape shapes[] = {{24, 700, 900, false, true},  {24, 900, 700, false, false},
                          {700, 900, 24, true, false},  {900, 10, 700, false, true},
                          {900, 700, 10, false, false}, {10, 900, 700, true, false}};
  for (const Shape& s : shapes) {
    Array<float> a(s.trans_a ? s.k : s.m, s.trans_a ? s.m : s.k, Layout::kRowMajor);
    Array<float> b(s.trans_b ? s.n : s.k, s.trans_b ? s.k : s.n, Layout::kRowMajor);
    a.fill([&](auto, auto) { return uniform(random); });
    b.fill([&](auto, auto) { return uniform(random); });
    Array<float> one(s.m, s.n, Layout::kRowMajor), many = one;
    GemmArgs args;
    args.a = a.view(), args.b = b.view(), args.trans_a = s.trans_a, args.trans_b = s.trans_b;
    EXPECT_TRUE(cpu::has_small_dimension(args)) << s.m << " x " << s.n << " x " << s.k;
    ctx_.num_threads = 1;
    args.d = one.view();
    ASSERT_TRUE(gemm(ctx_, args).ok());
    for (const int threads : {2, 3, 7}) {
      ctx_.num_threads = threads;
      args.d = many.view();
      ASSERT_TRUE(gemm(ctx_, args).ok());
      EXPECT_EQ(0, std::memcmp(&one.at(0, 0), &many.at(0, 0),
                               sizeof(float) * static_cast<std::size_t>(s.m * s.n)))
          << threads << " threads, " << s.m << " x " << s.n << " x " << s.k;
    }
  }
}

}  // namespace
}  // namespace dropgemm::testing
