// What is handed to a library of dense products: which ones, and how they lie.
#include "cuda/dense.h"

#include "cuda/emulator_api.h"
#include "gemm_paths.h"

namespace dropgemm::testing {
namespace {

class Dense : public ::testing::Test {
 protected:
  void SetUp() override { set_library(true, true); }
  void TearDown() override { set_library(false, false); }
  static void set_library(bool plain, bool epilogues) {
    cuda::emulator::machine().has_dense_library = plain;
    cuda::emulator::machine().has_dense_epilogues = epilogues;
  }

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

TEST_F(Dense, AddendAndBiasWhereRowsAreContiguous) {
  for (int variant = 0; variant < 48; ++variant) {
    GemmCase c;
    c.m = 37, c.n = 21, c.k = 50, c.scale = -0.5, c.seed = 1 + static_cast<std::uint64_t>(variant);
    c.trans_a = (variant & 1) != 0, c.trans_b = (variant & 2) != 0;
    c.layout = static_cast<Layout>(variant / 4 % 4);
    c.bias = variant < 32, c.addend = variant >= 16;
    // Arrays of the host lie at whole 16 bytes; see BiasAtOddPlaces for others.
    const bool by_rows = c.layout == Layout::kRowMajor || c.layout == Layout::kPadded;
    check<float>(c, by_rows);
    check<BFloat16>(c, by_rows);
    check<double>(c, by_rows);
  }
  GemmCase c;
  c.m = 64, c.n = 64, c.k = 64, c.bias = true;
  set_library(true, false);
  check<BFloat16>(c, false);
}

TEST_F(Dense, BiasAtOddPlacesStaysHere) {
  const auto family = [](std::int64_t offset, std::int64_t stride) {
    alignas(16) static const char memory[64] = {};
    GemmArgs args;
    MatrixView x;
    x = {const_cast<char*>(memory), 64, 64, 64, 1, DType::kBFloat16};
    args.a = x, args.b = x, args.d = x;
    args.bias = memory + offset, args.bias_stride = stride;
    return cuda::make_config(cuda::Device(), args).family;
  };
  EXPECT_EQ(family(0, 1), cuda::Family::kLibrary);
  EXPECT_NE(family(2, 1), cuda::Family::kLibrary);
  EXPECT_NE(family(0, 2), cuda::Family::kLibrary);
}

TEST_F(Dense, OnlyWhatIsDenseAndWithoutActivation) {
  GemmCase c;
  c.m = 64, c.n = 64, c.k = 64;
  check<float>(c, true);
  GemmCase other = c;
  other.activation = Activation::kRelu;
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
