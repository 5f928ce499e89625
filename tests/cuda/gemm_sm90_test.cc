// Every way through the CUDA backend on a chip of sm_90, whose kernel the emulator stands for.
#include "cuda/emulator_api.h"
#include "gemm_paths.h"

namespace dropgemm::testing {
namespace {

class GemmSm90 : public ::testing::Test {
 protected:
  // Before anybody asks, since devices are read once.
  static void SetUpTestSuite() { cuda::emulator::machine().archs = {90}; }
};

TEST_F(GemmSm90, EveryPath) {
  const cuda::Device* device = nullptr;
  ASSERT_TRUE(cuda::find_device(0, &device).ok());
  ASSERT_EQ(device->arch, 90);
  for (PathCase path : path_cases()) {
    check_path<BFloat16>(*device, "sm90", path);
    path.product.seed = 2;
    check_path<Float16>(*device, "sm90", path);
  }
}

TEST_F(GemmSm90, CompactedSumsAreSpread) {
  const cuda::Device* device = nullptr;
  ASSERT_TRUE(cuda::find_device(0, &device).ok());
  for (const PathCase& path : compact_cases()) check_path<BFloat16>(*device, "sm90", path);
}

// tf32 wants operands that are contiguous along K, and takes the other kernel for others.
TEST_F(GemmSm90, Tf32) {
  const cuda::Device* device = nullptr;
  ASSERT_TRUE(cuda::find_device(0, &device).ok());
  PathCase path;
  path.config = "pruned rows";
  GemmCase& c = path.product;
  c.m = 136, c.n = 72, c.k = 104, c.trans_b = true, c.a_tile = {64, 32};
  c.precision = Precision::kMedium, c.rounds = false, c.operand_error = 1.0 / 2048;
  Context ctx;
  ctx.backend = cuda::backend();
  check_against_reference<float>(ctx, c);
  c.trans_b = false;
  check_against_reference<float>(ctx, c);
}

}  // namespace
}  // namespace dropgemm::testing
