// Admission of the cpu backend: which path a product's shapes, tiles and hints choose, as printed.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "dropgemm/backend.h"
#include "dropgemm/gemm.h"

namespace dropgemm {
namespace {

struct Tile {
  std::int64_t rows = 0, cols = 0;  // 0: no mask
};

// The plan of a layer's product; a mask's bits are not looked at, so they are all ones.
std::string timed(std::int64_t m, std::int64_t n, std::int64_t k, Tile a_tile, Tile b_tile,
                  Tile d_tile, bool trans_a = false, bool trans_b = false, double keep = 0.5) {
  static float memory = 0;
  static const std::vector<std::uint32_t> bits(1 << 16, ~0U);
  GemmArgs args;
  args.trans_a = trans_a, args.trans_b = trans_b;
  // Broadcast inputs need no memory, and nobody writes D.
  args.a = {&memory, trans_a ? k : m, trans_a ? m : k, 0, 0, DType::kFloat32};
  args.b = {&memory, trans_b ? n : k, trans_b ? k : n, 0, 0, DType::kFloat32};
  args.d = {const_cast<float*>(&memory) + 1, m, n, n, 1, DType::kFloat32};
  TileMaskView masks[3];
  const auto mask = [&](int which, Tile tile, std::int64_t rows, std::int64_t cols) {
    if (tile.rows == 0) return static_cast<const TileMaskView*>(nullptr);
    masks[which] = {bits.data(), rows, cols, tile.rows, tile.cols, keep};
    return static_cast<const TileMaskView*>(&masks[which]);
  };
  args.a_mask = mask(0, a_tile, args.a.rows, args.a.cols);
  args.b_mask = mask(1, b_tile, args.b.rows, args.b.cols);
  args.d_mask = mask(2, d_tile, m, n);
  Context ctx;
  EXPECT_TRUE(find_backend("cpu", &ctx.backend).ok());
  GemmPlan result;
  const Status status = gemm_plan(ctx, args, &result);
  return status.ok() ? to_string(result) : status.message();
}
// Without the time that is expected, the last word.
std::string plan(std::int64_t m, std::int64_t n, std::int64_t k, Tile a_tile, Tile b_tile,
                 Tile d_tile, bool trans_a = false, bool trans_b = false, double keep = 0.5) {
  const std::string text = timed(m, n, k, a_tile, b_tile, d_tile, trans_a, trans_b, keep);
  return text.substr(0, text.find(" time "));
}

TEST(Plan, NothingToMultiply) {
  EXPECT_EQ(plan(0, 64, 64, {}, {}, {}), "none units 0x64x64 work 0.000");
  EXPECT_EQ(plan(64, 0, 64, {1, 1}, {}, {}), "none units 1x0x1 work 0.000");
  EXPECT_EQ(plan(64, 64, 0, {}, {}, {8, 32}), "none units 8x32x0 work 0.000");
}

TEST(Plan, Dense) { EXPECT_EQ(plan(100, 64, 30, {}, {}, {}), "dense units 100x64x30 work 1.000"); }

// Blocks are skipped at any keep rate; a hint of 1 is no hint.
TEST(Plan, BlocksAlwaysPay) {
  const Tile rows{128, 32};
  for (const double keep : {1.0, 0.97, 0.9}) {
    EXPECT_EQ(plan(1024, 512, 256, rows, {}, {}, false, true, keep).substr(0, 26),
              "pruned units 128x512x32 wo");
  }
  EXPECT_EQ(timed(1024, 512, 256, rows, {}, {}, false, true, 0.9),
            "pruned units 128x512x32 work 0.900 time 0.920");
  EXPECT_EQ(timed(1024, 512, 256, rows, {}, rows, false, true, 0.9),
            "pruned units 128x32x32 work 0.810 time 0.830");
  // But not where the hint says that next to nothing is dropped.
  EXPECT_EQ(timed(1024, 512, 256, rows, {}, {}, false, true, 0.999),
            "select units 128x512x32 work 1.000 time 1.059");
}

// Single features of the whole batch: columns of D that lie irregularly are dear where K is small,
// lanes of B that do where M is; rows are not.
TEST(Plan, SingleFeaturesPayBelowBreakEven) {
  const Tile feature{128, 1};
  EXPECT_EQ(timed(128, 512, 256, feature, {}, {}, false, true, 0.98),
            "compact units 128x512x1 work 0.980 time 1.000");
  EXPECT_EQ(timed(128, 512, 256, {}, {}, feature, false, false, 0.95),
            "select units 128x1x256 work 1.000 time 1.039");
  EXPECT_EQ(timed(128, 512, 256, {}, {}, feature, false, false, 0.75),
            "compact units 128x1x256 work 0.750 time 1.004");
  EXPECT_EQ(timed(512, 512, 128, {}, feature, {}, true, false, 0.9),
            "select units 512x1x128 work 1.000 time 1.020");
  EXPECT_EQ(timed(512, 512, 128, feature, {}, {}, true, false, 0.9),
            "compact units 1x512x128 work 0.900 time 0.959");
}

// Row groups of a batch, in all three products of a layer.
TEST(Plan, RowGroupsArePruned) {
  EXPECT_EQ(plan(1024, 512, 256, {128, 32}, {}, {128, 32}, false, true),
            "pruned units 128x32x32 work 0.250");
  EXPECT_EQ(plan(1024, 256, 512, {128, 32}, {}, {128, 32}), "pruned units 128x32x32 work 0.250");
  EXPECT_EQ(plan(512, 256, 1024, {128, 32}, {128, 32}, {}, true),
            "pruned units 32x32x128 work 0.250");
  EXPECT_EQ(plan(1024, 512, 256, {128, 32}, {32, 32}, {128, 32}, false, true),
            "pruned units 128x32x32 work 0.125");
}

TEST(Plan, UnitsAreWhatTheTilesShare) {
  EXPECT_EQ(plan(960, 960, 960, {96, 48}, {40, 64}, {72, 96}), "pruned units 24x32x8 work 0.125");
  // A mask whose one tile spans a dimension leaves that dimension to the others.
  EXPECT_EQ(plan(960, 960, 960, {960, 48}, {40, 5000}, {72, 96}),
            "pruned units 72x96x8 work 0.125");
}

TEST(Plan, OnePatternForTheBatchIsCompacted) {
  for (const std::int64_t width : {1, 3, 32}) {
    EXPECT_EQ(plan(64, 96, 80, {64, width}, {}, {64, width}, false, true).substr(0, 8), "compact ");
    EXPECT_EQ(plan(96, 80, 64, {64, width}, {64, width}, {}, true).substr(0, 8), "compact ");
  }
  // One tile is both a row and a column of tiles.
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(plan(64, 96, 80, {kHuge, kHuge}, {80, 96}, {64, 96}),
            "compact units 64x96x80 work 0.125");
}

TEST(Plan, AnythingElseSelects) {
  EXPECT_EQ(plan(64, 96, 80, {1, 1}, {}, {}), "select units 1x96x1 work 1.000");
  EXPECT_EQ(plan(64, 96, 80, {}, {}, {16, 16}), "select units 16x16x80 work 1.000");  // N below 32
  EXPECT_EQ(plan(64, 96, 80, {4, 32}, {}, {}), "select units 4x96x32 work 1.000");    // M below 8
  EXPECT_EQ(plan(64, 96, 80, {8, 12}, {}, {}), "select units 8x96x12 work 1.000");    // K below 8
}

}  // namespace
}  // namespace dropgemm
