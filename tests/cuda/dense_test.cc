// What is handed to a library of dense products: which ones, and how they lie.
#include "cuda/dense.h"

#include "cuda/emulator_api.h"
#include "gemm_paths.h"

namespace dropgemm::testing {
namespace {

class Dense : public ::testing::Test {
 protected:
  void SetUp() override { cuda::emulator::machine().has_dense_library = true; }
  void TearDown() override { cuda::emulator::machine().has_dense_library = false; }

  template <class T>
  void check(const GemmCase& c, bool by_library) {
    const std::int32_t before = cuda::emulator::machine().dense_calls;
    Context ctx;
    ctx.backend = cuda::backend();
    check_against_reference<T>(ctx, c);
    EXPECT_EQ(cuda::emulator::machine().dense_calls, before + (by_library ? 1 : 0)) << c.text();
  }
};

TEST_F(Dense, EveryLayout) {
  for (int variant = 0; variant < 16; ++variant) {
    GemmCase c;
    c.m = 37, c.n = 21, c.k = 50, c.scale = 1.5, c.seed = 1 + static_cast<std::uint64_t>(variant);
    c.trans_a = (variant & 1) != 0, c.trans_b = (variant & 2) != 0;
    c.layout = static_cast<Layout>(variant / 4);
    const bool by_library = c.layout != Layout::kSpread;  // D's elements lie apart
    check<float>(c, by_library);
    check<double>(c, by_library);
    check<BFloat16>(c, by_library);
    check<Float16>(c, by_library);
    c.a_tile = {1, 1}, c.b_tile = {1, 1};
    check<float>(c, by_library);
  }
}

TEST_F(Dense, OnlyWhatIsDenseAndPlain) {
  GemmCase c;
  c.m = 64, c.n = 64, c.k = 64;
  check<float>(c, true);
  GemmCase other = c;
  other.bias = true;
  check<float>(other, false);
  other = c, other.activation = Activation::kRelu;
  check<float>(other, false);
  other = c, other.out_scale = 2;
  check<float>(other, false);
  other = c, other.d_tile = {1, 1};
  check<float>(other, false);
  other = c, other.a_tile = {32, 32};
  check<float>(other, false);
  other = c, other.k = 0;
  check<float>(other, false);
}

}  // namespace
}  // namespace dropgemm::testing
