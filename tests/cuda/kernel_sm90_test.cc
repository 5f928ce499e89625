// The Hopper kernel, run by the emulator thread by thread: lists, boxes, multicast, barriers,
// swizzles, stores. Operands are small integers, so results are exact; whatever no list names is
// NaN and must not be seen.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernel_sm90_fixture.h"

namespace dropgemm::cuda {
namespace {

// Ragged along every axis, several tiles of every shape.
constexpr Sizes kSizes = {328, 392, 200};

struct Kernel {
  DType dtype;
  Major a, b;
  Sm90Shape shape;
};

std::vector<Kernel> every_kernel() {
  std::vector<Kernel> kernels;
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    for (const Major a : {Major::kDepth, Major::kLine}) {
      for (const Major b : {Major::kDepth, Major::kLine}) {
        for (const Sm90Shape shape : {Sm90Shape::kSquare, Sm90Shape::kWide, Sm90Shape::kPair}) {
          if (has_sm90_kernel(dtype, a, b, shape)) kernels.push_back({dtype, a, b, shape});
        }
      }
    }
  }
  return kernels;
}

std::string kernel_name(const ::testing::TestParamInfo<Kernel>& info) {
  static constexpr const char* kMajors[] = {"k", "l"};
  static constexpr const char* kShapes[] = {"Square", "Wide", "Pair"};
  const Kernel& kernel = info.param;
  return std::string(dtype_name(kernel.dtype)) + "_" + kMajors[static_cast<int>(kernel.a)] +
         kMajors[static_cast<int>(kernel.b)] + "_" + kShapes[static_cast<int>(kernel.shape)];
}

class KernelSm90Test : public ::testing::TestWithParam<Kernel> {
 protected:
  // Calls test(fixture) with the parameter's kernel.
  template <class Test>
  void with_fixture(const Test& test, const Sizes& sizes = kSizes) {
    const auto [dtype, a, b, shape] = GetParam();
    const GemmConfig config = config_of(dtype, a, b, shape);
    if (dtype == DType::kBFloat16) test(Fixture<BFloat16>(config, sizes));
    if (dtype == DType::kFloat16) test(Fixture<Float16>(config, sizes));
    if (dtype == DType::kFloat32) test(Fixture<float>(config, sizes));
  }
};

TEST_P(KernelSm90Test, GathersKeptGranulesAndZeroesDroppedTiles) {
  with_fixture([](auto f) {
    const Status status = f.run();
    ASSERT_TRUE(status.ok()) << status.message();
    f.expect_d([&](int m, int n) { return f.keeps(m, n) ? f.sum(m, n) : 0.0F; });
  });
}

TEST_P(KernelSm90Test, ScalesAddsBiasAndActivatesInBoxes) {
  with_fixture([](auto f) {
    using E = std::decay_t<decltype(f.d[0])>;
    std::vector<E> bias;
    for (int n = 0; n < f.product.n; ++n) {
      bias.push_back(Number<E>::store(static_cast<float>(n % 5 - 2)));
    }
    const float factor = 2.0F;
    f.product.epilogue.bias = bias.data();
    f.product.epilogue.scale = 0.5F;
    f.product.epilogue.out_scale_device = &factor;
    f.product.epilogue.activation = Activation::kRelu;
    ASSERT_TRUE(f.run().ok());
    f.expect_d([&](int m, int n) {
      if (!f.keeps(m, n)) return 0.0F;
      return 2.0F * std::max(0.0F, 0.5F * f.sum(m, n) + static_cast<float>(n % 5 - 2));
    });
  });
}

TEST_P(KernelSm90Test, MultipliesByReluDerivativesInBoxes) {
  with_fixture([](auto f) {
    using E = std::decay_t<decltype(f.d[0])>;
    // Whatever is dropped is not read either.
    std::vector<E> below(f.d.size(), Number<E>::store(kNan));
    const auto stride = static_cast<std::size_t>(f.d_stride());
    const auto at = [&](std::size_t m, std::size_t n) { return m * stride + n; };
    const auto passes = [](int m, int n) { return (m + 2 * n) % 3 != 0; };
    for (int m = 0; m < f.product.m; ++m) {
      for (int n = 0; n < f.product.n; ++n) {
        if (f.keeps(m, n)) below[at(m, n)] = Number<E>::store(passes(m, n) ? 2.0F : 0.0F);
      }
    }
    std::vector<E> bias(static_cast<std::size_t>(f.product.n), Number<E>::store(1.0F));
    f.product.epilogue.grad_aux = {below.data(), f.d_stride(), 1};
    f.product.epilogue.grad_activation = Activation::kRelu;
    f.product.epilogue.bias = bias.data();
    f.product.epilogue.out_scale = 2.0F;
    ASSERT_TRUE(f.run().ok());
    f.expect_d([&](int m, int n) {
      return f.keeps(m, n) && passes(m, n) ? 2.0F * (f.sum(m, n) + 1.0F) : 0.0F;
    });
  });
}

TEST_P(KernelSm90Test, WritesElementsWhereTheEpilogueReads) {
  with_fixture([](auto f) {
    using E = std::decay_t<decltype(f.d[0])>;
    std::vector<E> addend(f.d.size()), aux(f.d.size(), Number<E>::store(kNan));
    for (std::size_t i = 0; i < addend.size(); ++i) {
      addend[i] = Number<E>::store(static_cast<float>(i % 3));
    }
    const std::int64_t stride = f.d_stride();
    f.product.epilogue.addend = {addend.data(), stride, 1};
    f.product.epilogue.aux_out = {aux.data(), stride, 1};
    f.product.epilogue.activation = Activation::kRelu;
    ASSERT_TRUE(f.run().ok());
    const auto z = [&](int m, int n) {
      return f.keeps(m, n) ? f.sum(m, n) + static_cast<float>((m * stride + n) % 3) : 0.0F;
    };
    f.expect_d([&](int m, int n) { return std::max(0.0F, z(m, n)); });
    for (int m = 0; m < f.product.m; ++m) {
      for (int n = 0; n < f.product.n; ++n) {
        const E stored = aux[static_cast<std::size_t>(m * stride + n)];
        ASSERT_EQ(Number<E>::load(stored), z(m, n)) << "at (" << m << ", " << n << ")";
      }
    }
  });
}

TEST_P(KernelSm90Test, AddsSumsToTheStaging) {
  with_fixture([](auto f) {
    const std::int64_t stride = f.d_stride();
    std::vector<float> staging(f.d.size(), 3.0F);
    f.product.staging = {staging.data(), stride};
    ASSERT_TRUE(f.run().ok());
    ASSERT_TRUE(f.run().ok());
    for (int m = 0; m < f.product.m; ++m) {
      for (int n = 0; n < f.product.n; ++n) {
        const float expected = 3.0F + (f.keeps(m, n) ? 2.0F * f.sum(m, n) : 0.0F);
        ASSERT_EQ(staging[static_cast<std::size_t>(m * stride + n)], expected);
      }
    }
  });
}

TEST_P(KernelSm90Test, KeptTilesWithNothingToAddOweTheirBias) {
  with_fixture(
      [](auto f) {
        using E = std::decay_t<decltype(f.d[0])>;
        for (WorkItem& item : f.items) item.k_count = std::min(item.k_count, 0);
        const std::vector<E> bias(static_cast<std::size_t>(f.product.n), Number<E>::store(5.0F));
        f.product.epilogue.bias = bias.data();
        for (const bool boxes : {true, false}) {
          std::vector<E> aux(f.d.size());
          if (!boxes) f.product.epilogue.aux_out = {aux.data(), f.d_stride(), 1};
          ASSERT_TRUE(f.run().ok());
          f.expect_d([&](int m, int n) { return f.keeps(m, n) ? 5.0F : 0.0F; });
        }
      },
      Sizes{200, 136, 64});
}

TEST_P(KernelSm90Test, LeavesDroppedTilesAloneWhereNobodyFills) {
  with_fixture(
      [](auto f) {
        f.product.epilogue.fills = false;
        ASSERT_TRUE(f.run().ok());
        for (int m = 0; m < f.product.m; ++m) {
          for (int n = 0; n < f.product.n; ++n) {
            if (f.keeps(m, n)) {
              ASSERT_EQ(f.d_at(m, n), f.sum(m, n));
            } else {
              ASSERT_TRUE(std::isnan(f.d_at(m, n)));
            }
          }
        }
      },
      Sizes{200, 296, 104});
}

TEST_P(KernelSm90Test, TakesAnyStridesOfD) {
  with_fixture(
      [](auto f) {
        using E = std::decay_t<decltype(f.d[0])>;
        std::vector<E> transposed(f.d.size(), Number<E>::store(kNan));
        f.product.epilogue.d = {transposed.data(), 1, f.product.m};
        ASSERT_TRUE(f.run().ok());
        for (int m = 0; m < f.product.m; ++m) {
          for (int n = 0; n < f.product.n; ++n) {
            const std::int32_t at = n * f.product.m + m;
            const E stored = transposed[static_cast<std::size_t>(at)];
            ASSERT_EQ(Number<E>::load(stored), f.keeps(m, n) ? f.sum(m, n) : 0.0F);
          }
        }
      },
      Sizes{72, 10, 40});
}

TEST_P(KernelSm90Test, EveryItemIsComputedOnceWhateverTheGrid) {
  with_fixture(
      [](auto f) {
        std::vector<float> staging(f.d.size(), 0.0F);
        f.product.staging = {staging.data(), f.d_stride()};
        for (const std::int32_t multiprocessors : {1, 2, 5, 64}) {
          std::fill(staging.begin(), staging.end(), 0.0F);
          ASSERT_TRUE(f.run(multiprocessors).ok());
          for (int m = 0; m < f.product.m; m += 7) {
            for (int n = 0; n < f.product.n; ++n) {
              const float expected = f.keeps(m, n) ? f.sum(m, n) : 0.0F;
              ASSERT_EQ(staging[static_cast<std::size_t>(m * f.d_stride() + n)], expected);
            }
          }
        }
      },
      Sizes{504, 392, 40});
}

INSTANTIATE_TEST_SUITE_P(Every, KernelSm90Test, ::testing::ValuesIn(every_kernel()), kernel_name);

}  // namespace
}  // namespace dropgemm::cuda
