// Products as large as Hopper's largest tiles want them, which other suites never reach on a GPU:
// every shape of tile, every way that operands lie, several items for each multiprocessor. Operands
// are small integers, so results are exact; what is dropped is NaN.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda/config.h"
#include "cuda/emulator_api.h"
#include "cuda/number.h"
#include "dropgemm/gemm.h"
#include "every_backend.h"

namespace dropgemm {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bits of tiles, some of them kept.
struct RandomMask {
  RandomMask(std::int64_t rows, std::int64_t cols, std::int64_t tile_rows, std::int64_t tile_cols,
             std::mt19937* rng)
      : bits(static_cast<std::size_t>(mask_words(rows, cols, tile_rows, tile_cols))),
        view{bits.data(), rows, cols, tile_rows, tile_cols, 0.5} {
    const std::int64_t words = mask_row_words(cols, tile_cols);
    for (std::size_t i = 0; i < bits.size(); ++i) {
      const std::int64_t left =
          ceil_div(cols, tile_cols) - static_cast<std::int64_t>(i) % words * 32;
      bits[i] = (*rng)() & (left >= 32 ? ~0U : (1U << left) - 1);
    }
  }
  RandomMask(const RandomMask&) = delete;
  RandomMask& operator=(const RandomMask&) = delete;
  [[nodiscard]] bool keeps(std::int64_t row, std::int64_t col) const {
    const std::int64_t line = row / view.tile_rows, bit = col / view.tile_cols;
    const auto word =
        static_cast<std::size_t>(line * mask_row_words(view.cols, view.tile_cols) + bit / 32);
    return (bits[word] >> (bit % 32) & 1U) != 0;
  }
  std::vector<std::uint32_t> bits;
  TileMaskView view;
};

// A matrix of -1, 0 and 1, NaN where its mask drops it.
template <class E>
struct RandomMatrix {
  RandomMatrix(std::int64_t rows, std::int64_t cols_, const RandomMask* mask, std::mt19937* rng)
      : cols(cols_), elements(static_cast<std::size_t>(rows * cols_)) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < cols; ++j) {
        const bool kept = mask == nullptr || mask->keeps(i, j);
        elements[place(i, j)] = cuda::Number<E>::store(
            kept ? static_cast<float>(static_cast<int>((*rng)() % 3) - 1) : kNan);
      }
    }
  }
  [[nodiscard]] std::size_t place(std::int64_t i, std::int64_t j) const {
    return static_cast<std::size_t>(i * cols + j);
  }
  [[nodiscard]] float at(std::int64_t i, std::int64_t j) const {
    return cuda::Number<E>::load(elements[place(i, j)]);
  }
  std::int64_t cols;
  std::vector<E> elements;
};

// Samples of a batch by features in groups of rows, as a layer has them.
struct Sizes {
  std::int64_t batch, in, out, group, block;
};

class HopperProducts : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() { cuda::emulator::machine().archs = {90}; }
  void SetUp() override { ASSERT_TRUE(find_tested(GetParam(), &ctx_.backend).ok()); }

  [[nodiscard]] bool on_gpu() const { return GetParam() == kCuda; }
  // Some more than `tiles` tiles of 256 x 256, ragged, where there are few multiprocessors or many.
  [[nodiscard]] Sizes sizes(std::int64_t group, std::int64_t block) const {
    if (on_gpu()) return {4 * 1024 + 136, 3 * 1024 + 72, 4 * 1024 + 40, group, block};
    return {1024 + 136, 384 + 72, 512 + 40, group, block};
  }

  // What the largest tiles would be called; a chip that is no Hopper takes others, and has to be as
  // right.
  void expect_config(const GemmArgs& args, const std::string& expected) const {
    cuda::Device device;
    device.arch = 90;
    device.multiprocessors = on_gpu() ? 132 : 4;
    EXPECT_EQ(cuda::to_string(cuda::make_config(device, args)).find(expected), 0U)
        << cuda::to_string(cuda::make_config(device, args));
  }

  template <class E>
  void forward(const Sizes& s, const std::string& config);
  template <class E>
  void input_gradient(const Sizes& s, const std::string& config);
  template <class E>
  void weight_gradient(const Sizes& s, const std::string& config);

  // Compares some of D with expected(i, j).
  template <class E, class Expected>
  void expect_product(const GemmArgs& args, RandomMatrix<E>* d, const Expected& expected) {
    std::fill(d->elements.begin(), d->elements.end(), cuda::Number<E>::store(kNan));
    const Status status = gemm(ctx_, args);
    ASSERT_TRUE(status.ok()) << status.message();
    const auto rows = static_cast<std::int64_t>(d->elements.size()) / d->cols;
    for (const E& element : d->elements) ASSERT_FALSE(std::isnan(cuda::Number<E>::load(element)));
    for (int i = 0; i < 4000; ++i) {
      const std::int64_t row = static_cast<std::int64_t>(rng_() % static_cast<unsigned>(rows));
      const std::int64_t col = static_cast<std::int64_t>(rng_() % static_cast<unsigned>(d->cols));
      ASSERT_EQ(d->at(row, col), expected(row, col)) << row << ", " << col;
    }
  }

  Context ctx_;
  std::mt19937 rng_{3};
};

template <class E>
MatrixView view_of(RandomMatrix<E>* m) {
  return matrix_view(m->elements.data(), static_cast<std::int64_t>(m->elements.size()) / m->cols,
                     m->cols);
}

// The sum of x(k) y(k), rounded as E is.
template <class E, class X, class Y, class Kept>
float rounded_sum(std::int64_t depth, const X& x, const Y& y, const Kept& kept) {
  float sum = 0.0F;
  for (std::int64_t k = 0; k < depth; ++k) {
    if (kept(k)) sum += x(k) * y(k);
  }
  return cuda::Number<E>::load(cuda::Number<E>::store(sum));
}

template <class E>
void HopperProducts::forward(const Sizes& s, const std::string& config) {
  const RandomMask in(s.batch, s.in, s.group, s.block, &rng_);
  const RandomMask out(s.batch, s.out, s.group, s.block, &rng_);
  RandomMatrix<E> x(s.batch, s.in, &in, &rng_), w(s.out, s.in, nullptr, &rng_);
  RandomMatrix<E> y(s.batch, s.out, nullptr, &rng_), bias(1, s.out, nullptr, &rng_);
  GemmArgs args;
  args.a = view_of(&x), args.b = view_of(&w), args.d = view_of(&y);
  args.trans_b = true;
  args.a_mask = &in.view, args.d_mask = &out.view;
  args.bias = bias.elements.data();
  args.activation = Activation::kRelu;
  args.precision = Precision::kMedium;
  expect_config(args, config);
  expect_product(args, &y, [&](std::int64_t i, std::int64_t j) {
    if (!out.keeps(i, j)) return 0.0F;
    float sum = bias.at(0, j);
    for (std::int64_t k = 0; k < s.in; ++k) sum += in.keeps(i, k) ? x.at(i, k) * w.at(j, k) : 0.0F;
    return std::max(0.0F, cuda::Number<E>::load(cuda::Number<E>::store(sum)));
  });
}

template <class E>
void HopperProducts::input_gradient(const Sizes& s, const std::string& config) {
  const RandomMask in(s.batch, s.in, s.group, s.block, &rng_);
  const RandomMask out(s.batch, s.out, s.group, s.block, &rng_);
  RandomMatrix<E> dy(s.batch, s.out, &out, &rng_), w(s.out, s.in, nullptr, &rng_);
  RandomMatrix<E> x(s.batch, s.in, &in, &rng_), dx(s.batch, s.in, nullptr, &rng_);
  GemmArgs args;
  args.a = view_of(&dy), args.b = view_of(&w), args.d = view_of(&dx);
  args.a_mask = &out.view, args.d_mask = &in.view;
  args.grad_aux = view_of(&x);
  args.grad_activation = Activation::kRelu;
  expect_config(args, config);
  expect_product(args, &dx, [&](std::int64_t i, std::int64_t j) {
    if (!in.keeps(i, j) || x.at(i, j) <= 0.0F) return 0.0F;
    return rounded_sum<E>(
        s.out, [&](auto k) { return dy.at(i, k); }, [&](auto k) { return w.at(k, j); },
        [&](auto k) { return out.keeps(i, k); });
  });
}

template <class E>
void HopperProducts::weight_gradient(const Sizes& s, const std::string& config) {
  const RandomMask in(s.batch, s.in, s.group, s.block, &rng_);
  const RandomMask out(s.batch, s.out, s.group, s.block, &rng_);
  RandomMatrix<E> dy(s.batch, s.out, &out, &rng_), x(s.batch, s.in, &in, &rng_);
  RandomMatrix<E> dw(s.out, s.in, nullptr, &rng_);
  GemmArgs args;
  args.a = view_of(&dy), args.b = view_of(&x), args.d = view_of(&dw);
  args.trans_a = true;
  args.a_mask = &out.view, args.b_mask = &in.view;
  expect_config(args, config);
  expect_product(args, &dw, [&](std::int64_t i, std::int64_t j) {
    return rounded_sum<E>(
        s.batch, [&](auto k) { return dy.at(k, i); }, [&](auto k) { return x.at(k, j); },
        [&](auto k) { return out.keeps(k, i) && in.keeps(k, j); });
  });
}

TEST_P(HopperProducts, PairsOfBlocks) {
  const Sizes s = sizes(256, 64);
  forward<BFloat16>(s, "sm90 bfloat16 pruned rows 256x256x64");
  input_gradient<BFloat16>(s, "sm90 bfloat16 pruned rows 256x256x64");
  weight_gradient<BFloat16>(s, "sm90 bfloat16 pruned depth 256x256x64");
  forward<Float16>(s, "sm90 float16 pruned rows 256x256x64");
  input_gradient<Float16>(s, "sm90 float16 pruned rows 256x256x64");
  weight_gradient<Float16>(s, "sm90 float16 pruned depth 256x256x64");
}

TEST_P(HopperProducts, WideTiles) {
  const Sizes s = sizes(512, 32);
  forward<BFloat16>(s, "sm90 bfloat16 pruned rows 128x256x64");
  input_gradient<BFloat16>(s, "sm90 bfloat16 pruned rows 128x256x64");
  weight_gradient<BFloat16>(s, "sm90 bfloat16 pruned depth 128x256x64");
  forward<Float16>(s, "sm90 float16 pruned rows 128x256x64");
  forward<float>(s, "sm90 float32 pruned rows 128x256x32");
}

TEST_P(HopperProducts, SquareTiles) {
  Sizes s = sizes(64, 32);
  s.batch = 328, s.out = 392;  // too small for more
  forward<BFloat16>(s, "sm90 bfloat16 pruned rows 128x128x64");
  input_gradient<Float16>(s, "sm90 float16 pruned rows 128x");
  forward<float>(s, "sm90 float32 pruned rows 128x");
}

INSTANTIATE_TEST_SUITE_P(Backends, HopperProducts, ::testing::ValuesIn(cuda_backends()),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace dropgemm
