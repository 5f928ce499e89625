// What gemm() refuses, and the sentence that it says. Nothing is written then.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "dropgemm/backend.h"
#include "dropgemm/gemm.h"

namespace dropgemm {
namespace {

constexpr std::int64_t kM = 4, kN = 6, kK = 8;

class GemmCheck : public testing::Test {
 protected:
  GemmCheck() : a_(kM * kK, 1.0F), b_(kK * kN, 1.0F), d_(kM * kN, kPoison), other_(64, 1.0F) {
    args_.a = matrix_view(const_cast<const float*>(a_.data()), kM, kK);
    args_.b = matrix_view(const_cast<const float*>(b_.data()), kK, kN);
    args_.d = matrix_view(d_.data(), kM, kN);
    mask_.bits = bits_;
  }
  // The message of a refusal, the same from all three functions, which must leave D as it was.
  std::string refusal(StatusCode code = StatusCode::kInvalidArgument) {
    const Status status = gemm(ctx_, args_);
    EXPECT_EQ(status.code(), code);
    std::size_t bytes = 0;
    GemmPlan plan;
    EXPECT_EQ(gemm_workspace_bytes(ctx_, args_, &bytes).message(), status.message());
    EXPECT_EQ(gemm_plan(ctx_, args_, &plan).message(), status.message());
    for (const float value : d_) EXPECT_EQ(value, kPoison);
    return status.message();
  }
  // A mask of ones for an array of this shape.
  const TileMaskView* mask(std::int64_t rows, std::int64_t cols) {
    mask_.rows = rows, mask_.cols = cols;
    return &mask_;
  }

  static constexpr float kPoison = -77.0F;
  static constexpr std::uint32_t bits_[8] = {~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U, ~0U};
  std::vector<float> a_, b_, d_, other_;
  TileMaskView mask_;
  Context ctx_;
  GemmArgs args_;
};

TEST_F(GemmCheck, TheGoodCaseRuns) {
  ASSERT_TRUE(gemm(ctx_, args_).ok());
  EXPECT_EQ(d_[0], kK);
}

TEST_F(GemmCheck, Shapes) {
  args_.b.rows = kK - 1;
  EXPECT_EQ(refusal(), "b: expected shape [8, 6], got [7, 6]");
  args_.b.rows = kK, args_.trans_b = true;
  EXPECT_EQ(refusal(), "b: expected shape [8, 8], got [8, 6]");
  args_.trans_b = false, args_.d.cols = kN - 1;
  EXPECT_EQ(refusal(), "out: expected shape [4, 6], got [4, 5]");
  args_.d.cols = kN, args_.a.rows = -1;
  EXPECT_EQ(refusal(), "a: expected sizes of at least 0, got [-1, 8]");
  args_.a.rows = kM;
  const MatrixView small = matrix_view(other_.data(), 2, 2);
  args_.addend = small;
  EXPECT_EQ(refusal(), "addend: expected shape [4, 6], got [2, 2]");
  args_.addend = {}, args_.aux_out = small;
  EXPECT_EQ(refusal(), "aux_out: expected shape [4, 6], got [2, 2]");
  args_.aux_out = {}, args_.grad_aux = small;
  EXPECT_EQ(refusal(), "grad_aux: expected shape [4, 6], got [2, 2]");
}

TEST_F(GemmCheck, SizesThatAreTooLarge) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 31;
  args_.a = {a_.data(), kM, kHuge, 0, 0, DType::kFloat32};  // broadcast: no memory needed
  args_.b = {b_.data(), kHuge, kN, 0, 1, DType::kFloat32};
  EXPECT_EQ(refusal(), "gemm: expected M, N and K below 2^31 - 4096, got M=4, N=6, K=2147483648");
  args_.a.rows = args_.a.cols = std::numeric_limits<std::int64_t>::max() / 4;
  EXPECT_NE(refusal().find("a: expected fewer than 2^63 bytes of elements"), std::string::npos);
}

TEST_F(GemmCheck, DTypes) {
  std::vector<double> doubles(64);
  const MatrixView of_doubles = matrix_view(doubles.data(), kM, kN);
  args_.b = matrix_view(const_cast<const double*>(doubles.data()), kK, kN);
  EXPECT_EQ(refusal(StatusCode::kInvalidType), "b: expected float32 as a has, got float64");
  args_.b = matrix_view(const_cast<const float*>(b_.data()), kK, kN);
  const MatrixView good = args_.d;
  args_.d = of_doubles;
  EXPECT_EQ(refusal(StatusCode::kInvalidType), "out: expected float32 as a has, got float64");
  args_.d = good, args_.addend = of_doubles;
  EXPECT_EQ(refusal(StatusCode::kInvalidType), "addend: expected float32 as a has, got float64");
  args_.addend = {}, args_.aux_out = of_doubles;
  EXPECT_EQ(refusal(StatusCode::kInvalidType), "aux_out: expected float32 as a has, got float64");
  args_.aux_out = {}, args_.grad_aux = of_doubles;
  EXPECT_EQ(refusal(StatusCode::kInvalidType), "grad_aux: expected float32 as a has, got float64");
  args_.grad_aux = {}, args_.a.dtype = static_cast<DType>(5);
  EXPECT_EQ(refusal(StatusCode::kInvalidType),
            "a: expected float32, float64, bfloat16 or float16, got dtype code 5");
}

TEST_F(GemmCheck, PointersAndStrides) {
  args_.a.data = nullptr;
  EXPECT_EQ(refusal(), "a: expected memory for [4, 8] elements, got a null pointer");
  args_.a.data = reinterpret_cast<const char*>(a_.data()) + 1;
  EXPECT_EQ(refusal(),
            "a: expected a pointer aligned to 4 bytes, got one that is 1 past a multiple");
  args_.a.data = a_.data(), args_.bias = reinterpret_cast<const char*>(other_.data()) + 2;
  EXPECT_EQ(refusal(),
            "bias: expected a pointer aligned to 4 bytes, got one that is 2 past a multiple");
  args_.bias = nullptr;
  args_.scale_device =
      reinterpret_cast<const float*>(reinterpret_cast<const char*>(other_.data()) + 3);
  EXPECT_EQ(
      refusal(),
      "scale_device: expected a pointer aligned to 4 bytes, got one that is 3 past a multiple");
  std::swap(args_.scale_device, args_.out_scale_device);
  EXPECT_EQ(refusal().rfind("out_scale_device: expected a pointer aligned", 0), 0U);
  args_.out_scale_device = nullptr,
  args_.a.row_stride = std::numeric_limits<std::int64_t>::max() / 2;
  EXPECT_NE(refusal().find("a: expected strides that stay within the address space"),
            std::string::npos);
  args_.a.row_stride = kK, args_.d.row_stride = 0;
  EXPECT_EQ(refusal(),
            "out: expected elements that do not share memory, got sizes [4, 6] with strides "
            "[0, 1]");
}

TEST_F(GemmCheck, OverlapOfInputAndOutput) {
  std::vector<float> shared(256, kPoison);
  const auto at = [&](std::int64_t offset) { return shared.data() + offset; };
  args_.d = matrix_view(at(0), kM, kN);
  const auto message = [&](const char* name) {
    EXPECT_EQ(refusal(),
              std::string("out: expected memory of its own, got an overlap with ") + name);
  };
  args_.a.data = at(kM * kN - 1);
  message("a");
  args_.a.data = a_.data(), args_.b.data = at(0);
  message("b");
  args_.b.data = b_.data(), args_.bias = at(5);
  message("bias");
  args_.bias = nullptr, args_.addend = matrix_view(at(0), kM, kN);
  message("addend");
  args_.addend = {}, args_.grad_aux = matrix_view(at(3), kM, kN);
  message("grad_aux");
  args_.grad_aux = {}, args_.aux_out = matrix_view(at(3), kM, kN);
  EXPECT_EQ(refusal(), "aux_out: expected memory of its own, got an overlap with out");
  args_.aux_out = {}, args_.a_sum = at(2);
  EXPECT_EQ(refusal(), "a_sum: expected memory of its own, got an overlap with out");
  args_.a_sum = a_.data();
  EXPECT_EQ(refusal(), "a_sum: expected memory of its own, got an overlap with a");
  args_.a_sum = nullptr, args_.scale_device = at(1);
  message("scale_device");
  args_.scale_device = nullptr, args_.out_scale_device = at(kM * kN - 1);
  message("out_scale_device");
  args_.out_scale_device = nullptr, args_.d_mask = mask(kM, kN);
  mask_.bits = reinterpret_cast<const std::uint32_t*>(at(kM * kN - 2));
  message("out_mask");
  mask_ = {}, mask_.transposed = true;
  args_.a_mask = mask(kM, kK), args_.d_mask = nullptr;
  mask_.bits = reinterpret_cast<const std::uint32_t*>(at(kM * kN - 1));
  message("a_mask");
  args_.a_mask = nullptr;
  // Beside each other is not upon each other.
  args_.a_sum = at(kM * kN);
  EXPECT_TRUE(gemm(ctx_, args_).ok());
}

TEST_F(GemmCheck, Masks) {
  args_.a_mask = mask(kK, kM);
  EXPECT_EQ(refusal(), "a_mask: expected shape [4, 8] as a has, as passed, got [8, 4]");
  args_.a_mask = nullptr, args_.b_mask = mask(kK, kN + 1);
  EXPECT_EQ(refusal(), "b_mask: expected shape [8, 6] as b has, as passed, got [8, 7]");
  args_.b_mask = nullptr, args_.d_mask = mask(kM - 1, kN);
  EXPECT_EQ(refusal(), "out_mask: expected shape [4, 6] as out has, as passed, got [3, 6]");
  mask(kM, kN), mask_.tile_cols = 0;
  EXPECT_EQ(refusal(), "out_mask: expected tiles of at least 1 x 1, got 1 x 0");
  mask_.tile_cols = 1, mask_.bits = nullptr;
  EXPECT_EQ(refusal(), "out_mask: expected 4 x 1 words of bits, got a null pointer");
  mask_.bits = bits_, mask_.keep_hint = std::nan("");
  EXPECT_EQ(refusal().rfind("out_mask.keep_hint: expected a rate in [0, 1], got ", 0), 0U);
}

TEST_F(GemmCheck, Activations) {
  args_.activation = static_cast<Activation>(4);
  EXPECT_EQ(refusal(), "activation: expected none, relu, gelu (erf) or gelu (tanh), got 4");
  args_.activation = Activation::kNone, args_.grad_activation = static_cast<Activation>(-1);
  EXPECT_EQ(refusal(), "grad_activation: expected none, relu, gelu (erf) or gelu (tanh), got -1");
  args_.grad_activation = Activation::kNone, args_.precision = static_cast<Precision>(2);
  EXPECT_EQ(refusal(), "precision: expected highest or medium, got 2");
}

TEST_F(GemmCheck, Contexts) {
  ctx_.num_threads = -2;
  EXPECT_EQ(refusal(), "ctx.num_threads: expected at least 0, got -2");
  ctx_.num_threads = 0;
  alignas(64) unsigned char memory[128];
  ctx_.workspace = memory + 8, ctx_.workspace_bytes = 64;
  EXPECT_EQ(refusal(),
            "ctx.workspace: expected memory aligned to 64 bytes, got a pointer 8 past a multiple");
  ASSERT_TRUE(find_backend("cpu", &ctx_.backend).ok());
  ctx_.workspace = nullptr;
  std::size_t needed = 0;
  ASSERT_TRUE(gemm_workspace_bytes(ctx_, args_, &needed).ok());
  ctx_.workspace = memory, ctx_.workspace_bytes = 64;
  const Status status = gemm(ctx_, args_);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "ctx.workspace: expected " + std::to_string(needed) + " bytes, got 64");
  for (const float value : d_) EXPECT_EQ(value, kPoison);
}

}  // namespace
}  // namespace dropgemm
