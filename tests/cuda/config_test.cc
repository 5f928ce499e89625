// Configs: whatever the shapes and the masks, what is chosen is legal, and says what it is.
#include "cuda/config.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/kernel_sm90.h"
#include "cuda/plan.h"

namespace dropgemm::cuda {
namespace {

Device chip(std::int32_t arch) {
  Device device;
  device.arch = arch;
  device.multiprocessors = arch == 90 ? 132 : 108;
  return device;
}

enum class Kind { kForward, kInputGradient, kWeightGradient };

// A layer's product: shapes, and tiles of the masks of inputs, outputs and weight (0: none).
struct Layer {
  std::int64_t batch, inputs, outputs;
  std::int64_t tile_rows = 0, tile_cols = 0;
  bool masks_inputs = false, masks_outputs = false, masks_weight = false;
  double keep = 0.5;
  DType dtype = DType::kBFloat16;
  Precision precision = Precision::kHighest;
  std::int64_t offset = 0;  // of the inputs' memory, in bytes
};

// The arguments of a product, whose memory nobody reads.
class Product {
 public:
  Product(const Layer& layer, Kind kind) {
    const std::int64_t rows = layer.tile_rows, cols = layer.tile_cols;
    x_mask_ = mask(layer.batch, layer.inputs, rows, cols, layer.keep);
    y_mask_ = mask(layer.batch, layer.outputs, rows, cols, layer.keep);
    w_mask_ = mask(layer.outputs, layer.inputs, rows, cols, layer.keep);
    MatrixView x = view(layer.batch, layer.inputs, layer.dtype);
    x.data = static_cast<char*>(x.data) + layer.offset;
    const MatrixView y = view(layer.batch, layer.outputs, layer.dtype);
    const MatrixView w = view(layer.outputs, layer.inputs, layer.dtype);
    const TileMaskView* const x_mask = layer.masks_inputs ? &x_mask_ : nullptr;
    const TileMaskView* const y_mask = layer.masks_outputs ? &y_mask_ : nullptr;
    const TileMaskView* const w_mask = layer.masks_weight ? &w_mask_ : nullptr;
    if (kind == Kind::kForward) set(x, w, y, x_mask, w_mask, y_mask);
    if (kind == Kind::kInputGradient) set(y, w, x, y_mask, w_mask, x_mask);
    if (kind == Kind::kWeightGradient) set(y, x, w, y_mask, x_mask, w_mask);
    args_.trans_b = kind == Kind::kForward;
    args_.trans_a = kind == Kind::kWeightGradient;
    args_.precision = layer.precision;
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  [[nodiscard]] const GemmArgs& args() const { return args_; }

 private:
  static TileMaskView mask(std::int64_t rows, std::int64_t cols, std::int64_t tile_rows,
                           std::int64_t tile_cols, double keep) {
    static const std::uint32_t nobody_reads_this = 0;
    TileMaskView made;
    made.bits = &nobody_reads_this;
    made.rows = rows;
    made.cols = cols;
    made.tile_rows = tile_rows > 0 ? tile_rows : 1;
    made.tile_cols = tile_cols > 0 ? tile_cols : 1;
    made.keep_hint = keep;
    return made;
  }
  static MatrixView view(std::int64_t rows, std::int64_t cols, DType dtype) {
    alignas(256) static char nobody_reads_this[256];
    return {nobody_reads_this, rows, cols, cols, 1, dtype};
  }
  void set(const MatrixView& a, const MatrixView& b, const MatrixView& d,
           const TileMaskView* a_mask, const TileMaskView* b_mask, const TileMaskView* d_mask) {
    args_.a = a;
    args_.b = b;
    args_.d = d;
    args_.a_mask = a_mask;
    args_.b_mask = b_mask;
    args_.d_mask = d_mask;
  }

  TileMaskView x_mask_, y_mask_, w_mask_;
  GemmArgs args_;
};

std::string chosen(std::int32_t arch, const Layer& layer, Kind kind) {
  const Product product(layer, kind);
  return to_string(make_config(chip(arch), product.args()));
}

bool consists_of(std::int64_t unit, std::int64_t extent, std::int64_t granule) {
  return unit >= extent || unit % granule == 0;
}

void expect_legal(const Device& device, const GemmArgs& args) {
  const GemmConfig c = make_config(device, args);
  const GemmPlan plan = admit(args).plan;
  const GemmShape shape = gemm_shape(args);
  SCOPED_TRACE(to_string(c) + ", a product " + std::to_string(shape.m) + "x" +
               std::to_string(shape.n) + "x" + std::to_string(shape.k) + ", " + to_string(plan));
  ASSERT_GT(c.stages, 0);
  ASSERT_EQ(c.tile_m % (c.granule_m * c.cluster_m), 0);
  ASSERT_EQ(c.tile_n % (c.granule_n * c.cluster_n), 0);
  ASSERT_EQ(c.tile_k % c.granule_k, 0);
  if (c.path == GemmPath::kPruned) {
    EXPECT_TRUE(consists_of(plan.unit_m, shape.m, c.granule_m));
    EXPECT_TRUE(consists_of(plan.unit_n, shape.n, c.granule_n));
    EXPECT_TRUE(consists_of(plan.unit_k, shape.k, c.granule_k));
  } else {
    EXPECT_EQ(c.lists, Lists::kWhole);
  }
  if (c.lists == Lists::kPairs) {
    EXPECT_LE(c.tile_m, 128);
    EXPECT_LE(c.tile_n, 128);
  }
  if (c.family != Family::kSm80 && c.family != Family::kSm90) return;
  // Whatever cannot be loaded as it lies is copied first.
  EXPECT_TRUE(c.copies_a || reinterpret_cast<std::uintptr_t>(args.a.data) % 16 == 0);
  EXPECT_TRUE(c.copies_a || args.a.row_stride * dtype_size(args.a.dtype) % 16 == 0);
  EXPECT_TRUE(c.copies_b || args.b.row_stride * dtype_size(args.b.dtype) % 16 == 0);
  if (c.family != Family::kSm90) return;
  EXPECT_EQ(device.arch, 90);
  bool known = false;
  for (const Sm90Shape each : {Sm90Shape::kSquare, Sm90Shape::kWide, Sm90Shape::kPair}) {
    const Sm90Tile tile = sm90_tile(each, c.a_major);
    known |= has_sm90_kernel(c.dtype, c.a_major, c.b_major, each) && tile.tile_m == c.tile_m &&
             tile.tile_n == c.tile_n && tile.granule_m == c.granule_m &&
             tile.granule_n == c.granule_n && tile.granule_k == c.granule_k;
  }
  EXPECT_TRUE(known);
}

TEST(ConfigTest, EveryShapeAndKindOfMaskGivesALegalConfig) {
  const std::vector<std::vector<std::int64_t>> tiles = {
      {0, 0}, {1, 1}, {32, 32}, {64, 32}, {128, 32}, {96, 48}, {128, 128}, {1024, 64}, {16384, 1}};
  std::int64_t on_hopper = 0;
  for (const std::int64_t batch : {1, 33, 256, 8192}) {
    for (const std::int64_t inputs : {1, 10, 784, 4096}) {
      for (const std::int64_t outputs : {10, 1000, 2048}) {
        for (const auto& tile : tiles) {
          for (int masks = 0; masks < 8; ++masks) {
            for (const DType dtype :
                 {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16}) {
              Layer layer{batch, inputs, outputs, tile[0], tile[1]};
              layer.masks_inputs = (masks & 1) != 0;
              layer.masks_outputs = (masks & 2) != 0;
              layer.masks_weight = (masks & 4) != 0;
              layer.dtype = dtype;
              layer.precision = masks % 2 == 0 ? Precision::kMedium : Precision::kHighest;
              for (const Kind kind :
                   {Kind::kForward, Kind::kInputGradient, Kind::kWeightGradient}) {
                const Product product(layer, kind);
                for (const std::int32_t arch : {80, 90, 100}) {
                  expect_legal(chip(arch), product.args());
                }
                on_hopper += make_config(chip(90), product.args()).family == Family::kSm90 ? 1 : 0;
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(on_hopper, 1000);
}

TEST(ConfigTest, SaysWhatItIs) {
  const Layer large{8192, 4096, 4096, 1024, 64, true, true};
  EXPECT_EQ(
      chosen(90, large, Kind::kForward),
      "sm90 bfloat16 pruned rows 256x256x64 granules 128x64x64 stages 4 cluster 1x2 majors kk");
  EXPECT_EQ(
      chosen(90, large, Kind::kInputGradient),
      "sm90 bfloat16 pruned rows 256x256x64 granules 128x64x64 stages 4 cluster 1x2 majors kl");
  EXPECT_EQ(
      chosen(90, large, Kind::kWeightGradient),
      "sm90 bfloat16 pruned depth 256x256x64 granules 64x64x64 stages 3 cluster 1x2 majors ll");
  EXPECT_EQ(
      chosen(80, large, Kind::kForward),
      "sm80 bfloat16 pruned rows 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors kk");
}

TEST(ConfigTest, GroupsOf128RowsTakeTilesOf128Rows) {
  const Layer layer{8192, 4096, 4096, 128, 32, true, true};
  EXPECT_EQ(
      chosen(90, layer, Kind::kForward),
      "sm90 bfloat16 pruned rows 128x256x64 granules 64x32x32 stages 4 cluster 1x1 majors kk");
}

TEST(ConfigTest, SmallProductsTakeTheTilesThatLeaveNobodyIdle) {
  const Layer layer{256, 1024, 1024, 128, 32, true, true};
  EXPECT_EQ(
      chosen(90, layer, Kind::kForward),
      "sm90 bfloat16 pruned rows 128x128x64 granules 64x32x32 stages 6 cluster 1x1 majors kk");
}

TEST(ConfigTest, Tf32TakesHopperWhereBothOperandsAreContiguousAlongDepth) {
  Layer layer{8192, 4096, 4096, 128, 32, true, true};
  layer.dtype = DType::kFloat32;
  layer.precision = Precision::kMedium;
  EXPECT_EQ(chosen(90, layer, Kind::kForward).substr(0, 4), "sm90");
  EXPECT_EQ(chosen(90, layer, Kind::kInputGradient),
            "sm80 float32 pruned rows 128x128x32 granules 32x32x32 stages 3 cluster 1x1 majors kl "
            "not sm90: majors");
  EXPECT_EQ(chosen(80, layer, Kind::kInputGradient).find("not"), std::string::npos);
  layer.precision = Precision::kHighest;
  EXPECT_EQ(chosen(90, layer, Kind::kForward).substr(0, 4), "simt");
}

TEST(ConfigTest, OtherChipsNeverTakeHopper) {
  const Layer layer{8192, 4096, 4096, 1024, 64, true, true};
  for (const std::int32_t arch : {80, 86, 89, 100, 120}) {
    EXPECT_EQ(chosen(arch, layer, Kind::kForward).substr(0, 4), "sm80") << arch;
  }
}

TEST(ConfigTest, WhatLiesOddlyIsCopied) {
  Layer layer{256, 1024, 1024, 128, 32, true, true};
  layer.offset = 2;
  const std::string config = chosen(90, layer, Kind::kForward);
  EXPECT_NE(config.find("sm90"), std::string::npos) << config;
  EXPECT_NE(config.find("copies a"), std::string::npos) << config;
}

}  // namespace
}  // namespace dropgemm::cuda
