// Products with a B that was packed beforehand: every instruction set against the reference, where
// B itself is NaN by then; the same bits for every number of threads; and what is refused.
#include <cstring>
#include <random>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

class PackedGemmTest : public GemmTest {};
INSTANTIATE_TEST_SUITE_P(All, PackedGemmTest, ::testing::ValuesIn(cpu_implementations()), name_of);

// Any shapes, layouts and epilogues; K == 0 among them, and depth of more than one pass.
TEST_P(PackedGemmTest, MatchesTheReference) {
  std::mt19937_64 random(31);
  const auto below = [&](std::uint64_t limit) {
    return static_cast<std::int64_t>(random() % limit);
  };
  for (int i = 0; i < 60; ++i) {
    GemmCase c;
    c.packs_b = true;
    c.m = 1 + below(70), c.n = 1 + below(150), c.k = i % 20 == 0 ? 4096 + below(300) : below(150);
    c.trans_a = below(2) == 0, c.trans_b = below(2) == 0;
    c.layout = static_cast<Layout>(below(4));
    c.bias = below(2) == 0, c.addend = below(2) == 0, c.a_sum = below(4) == 0;
    c.activation = static_cast<Activation>(below(4) * below(2));
    c.scale = below(3) == 0 ? 1.75 : 1.0;
    c.seed = random();
    check(c);
  }
}

TEST_P(PackedGemmTest, BitsDoNotDependOnThreads) {
  constexpr std::int64_t kM = 20, kN = 600, kK = 150;
  std::vector<float> a(kM * kK), b(kK * kN), one(kM * kN), d(kM * kN);
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (std::vector<float>* x : {&a, &b}) {
    for (float& value : *x) value = uniform(random);
  }
  for (const Precision precision : {Precision::kHighest, Precision::kMedium}) {
    GemmArgs args;
    args.a = matrix_view(a.data(), kM, kK);
    args.b = matrix_view(b.data(), kN, kK);
    args.trans_b = true;
    args.precision = precision;
    std::size_t bytes = 0;
    ASSERT_TRUE(gemm_packed_bytes(ctx_, args, &bytes).ok());
    for (const int threads : {1, 2, 3}) {
      Context ctx = ctx_;
      ctx.num_threads = threads;
      GuardedWorkspace packed(bytes);
      ASSERT_TRUE(gemm_pack(ctx, args, packed.data()).ok());
      args.b_packed = packed.data();
      args.d = matrix_view(threads == 1 ? one.data() : d.data(), kM, kN);
      ASSERT_TRUE(gemm(ctx, args).ok());
      args.b_packed = nullptr;
      if (threads == 1) continue;
      EXPECT_EQ(std::memcmp(one.data(), d.data(), d.size() * sizeof(float)), 0) << threads;
    }
  }
}

// ---- what is refused ----------------------------------------------------------------------------

class PackedArguments : public ::testing::Test {
 protected:
  PackedArguments() {
    args_.a = matrix_view(a_.data(), 8, 8);
    args_.b = matrix_view(b_.data(), 8, 8);
    args_.d = matrix_view(d_.data(), 8, 8);
  }
  std::vector<float> a_ = std::vector<float>(64), b_ = a_, d_ = a_;
  GemmArgs args_;
  GuardedWorkspace packed_{64};
};

TEST_F(PackedArguments, AMask) {
  const std::uint32_t bits = 1;
  TileMaskView mask;
  mask.bits = &bits;
  mask.rows = mask.cols = mask.tile_rows = mask.tile_cols = 8;
  args_.d_mask = &mask;
  args_.b_packed = packed_.data();
  EXPECT_EQ(gemm({}, args_).message(),
            "b_packed: expected a product without masks, got one with a mask");
}

TEST_F(PackedArguments, Pointers) {
  const std::string expected = ": expected a 64-byte aligned pointer, got ";
  EXPECT_EQ(gemm_pack({}, args_, nullptr).message(), "packed" + expected + "null");
  args_.b_packed = static_cast<unsigned char*>(packed_.data()) + 4;
  EXPECT_EQ(gemm({}, args_).message(), "b_packed" + expected + "one that is not");
}

TEST_F(PackedArguments, AnotherBackend) {
  for (const std::string& name : cuda_backends()) {
    Context ctx;
    ASSERT_TRUE(find_tested(name, &ctx.backend).ok());
    std::size_t bytes = 0;
    args_.b_packed = packed_.data();
    const std::string expected =
        std::string("b_packed: expected the cpu backend, got ") + ctx.backend->name;
    for (const Status& status : {gemm_packed_bytes(ctx, args_, &bytes),
                                 gemm_pack(ctx, args_, packed_.data()), gemm(ctx, args_)}) {
      EXPECT_EQ(status.code(), StatusCode::kUnsupported);
      EXPECT_EQ(status.message(), expected);
    }
  }
}

TEST_F(PackedArguments, Float16) {
  std::vector<Float16> half(64);
  args_.b = matrix_view(half.data(), 8, 8);
  std::size_t bytes = 0;
  EXPECT_EQ(gemm_packed_bytes({}, args_, &bytes).message(),
            "b: expected float32, float64 or bfloat16 on the cpu backend, got float16");
}

}  // namespace
}  // namespace dropgemm::testing
