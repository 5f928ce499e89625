// Every way through the CUDA backend on a chip of sm_80.
#include <random>

#include "cuda/emulator_api.h"
#include "gemm_paths.h"

namespace dropgemm::testing {
namespace {

const cuda::Device& device() {
  const cuda::Device* found = nullptr;
  EXPECT_TRUE(cuda::find_device(0, &found).ok());
  return *found;
}

TEST(GemmSm80, EveryPath) {
  for (const PathCase& path : path_cases()) {
    check_path<BFloat16>(device(), "sm80", path);
    check_path<float>(device(), "sm80", path);
  }
}

TEST(GemmSm80, CompactedSumsAreSpread) {
  for (const PathCase& path : compact_cases()) {
    check_path<BFloat16>(device(), "sm80", path);
    check_path<float>(device(), "sm80", path);
    check_path<double>(device(), "sm80", path);
  }
}

TEST(GemmSm80, EveryLayoutOfOperands) {
  for (int variant = 0; variant < 4; ++variant) {
    PathCase path;
    path.config = "pruned rows";
    GemmCase& c = path.product;
    c.m = 136, c.n = 72, c.k = 104, c.trans_a = (variant & 1) != 0, c.trans_b = (variant & 2) != 0;
    c.a_tile = c.trans_a ? TileSize{32, 64} : TileSize{64, 32};
    check_path<Float16>(device(), "sm80", path);
  }
}

// What is printed is the whole decision.
TEST(GemmSm80, ConfigsArePrinted) {
  GemmCase c;
  c.m = 8192, c.n = 4096, c.k = 4096, c.trans_b = true, c.a_tile = c.d_tile = {1024, 64};
  EXPECT_EQ(
      config_of<BFloat16>(device(), c),
      "sm80 bfloat16 pruned rows 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors kk");
  c.keep = 0.99;
  EXPECT_EQ(
      config_of<BFloat16>(device(), c),
      "sm80 bfloat16 select whole 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors kk "
      "copies a");
  EXPECT_EQ(config_of<double>(device(), c),
            "simt float64 select whole 64x64x32 granules 32x32x32 stages 1 cluster 1x1 majors kk "
            "copies a");
  GemmCase w;
  w.m = w.n = 4096, w.k = 8192, w.trans_a = true, w.a_tile = w.b_tile = {1024, 64};
  EXPECT_EQ(
      config_of<BFloat16>(device(), w),
      "sm80 bfloat16 pruned depth 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors ll");
  w.deterministic = true;
  EXPECT_EQ(
      config_of<BFloat16>(device(), w),
      "sm80 bfloat16 pruned depth 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors ll "
      "turns 8");
  w.deterministic = false;
  w.a_tile = w.b_tile = {64, 64};  // too many sums to add up
  EXPECT_EQ(
      config_of<BFloat16>(device(), w),
      "sm80 bfloat16 select whole 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors ll "
      "copies a b");
}

// Tiles that may be anything, of sizes that units of 32 and 128 divide or do not.
TEST(GemmSm80, AnyAdmission) {
  std::mt19937_64 random(17);
  const auto pick = [&](std::int64_t limit) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit));
  };
  const std::int64_t sizes[] = {32, 64, 96, 128, 256, 1000, 1000, 8, 1};
  const auto tile = [&]() -> TileSize {
    if (pick(3) == 0) return {};
    return {sizes[pick(9)], sizes[pick(9)]};
  };
  Context ctx;
  ctx.backend = cuda::backend();
  for (int i = 0; i < 80; ++i) {
    GemmCase c;
    c.m = 1 + pick(270), c.n = 1 + pick(270), c.k = 1 + pick(200), c.seed = 5000 + i;
    c.trans_a = pick(2) != 0, c.trans_b = pick(2) != 0, c.transposed_masks = pick(2) != 0;
    c.a_tile = tile(), c.b_tile = tile(), c.d_tile = tile();
    c.layout = pick(3) == 0 ? Layout::kColMajor : Layout::kRowMajor;
    c.keep = std::vector<double>{0.1, 0.5, 0.9, 1.0}[static_cast<std::size_t>(pick(4))];
    c.bias = pick(2) != 0, c.aux_out = pick(4) == 0, c.a_sum = pick(4) == 0;
    c.undefined_fill = pick(4) == 0, c.deterministic = pick(2) != 0;
    switch (pick(3)) {
      case 0:
        check_against_reference<float>(ctx, c);
        break;
      case 1:
        check_against_reference<BFloat16>(ctx, c);
        break;
      default:
        check_against_reference<Float16>(ctx, c);
    }
  }
}

}  // namespace
}  // namespace dropgemm::testing
