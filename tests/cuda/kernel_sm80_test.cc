// The sm_80 kernel by itself: shared memory without conflicts, and the mistakes that the emulator
// must notice, planted.
#include "cuda/kernel_sm80.cuh"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {
namespace {

struct WithoutWait : InOrder {
  template <int kPending>
  static void wait() {}
};
struct WaitsForTooFew : InOrder {
  template <int kPending>
  static void wait() {
    cp_async_wait<kPending + 1>();
  }
};
struct WithoutBarrier : InOrder {
  static void barrier() {}
};

// 128 x 128 sums over a depth of ten stages, the number of wrong ones among them.
template <class Order>
int wrong_sums() {
  constexpr std::int32_t kSteps = 10, kDepth = 32 * kSteps;
  std::vector<float> a(128 * kDepth), b(128 * kDepth), d(128 * 128, -1);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i * 7 % 5), b[i] = static_cast<float>(i * 3 % 4);
  }
  std::vector<std::int32_t> ids(kSteps);
  for (std::int32_t i = 0; i < kSteps; ++i) ids[static_cast<std::size_t>(i)] = i;
  const WorkItem item = {0, 0, 0, kSteps};
  const std::int32_t one = 1;
  Product<float> p;
  p.a = {a.data(), kDepth, 1};
  p.b = {b.data(), kDepth, 1};
  p.m = p.n = 128, p.k = kDepth;
  p.lists = {ids.data(), ids.data(), ids.data(), &item, &one};
  p.epilogue.d = {d.data(), 128, 1};
  using Kernel = Sm80Kernel<float, Major::kDepth, Major::kDepth, Order>;
  EXPECT_TRUE(launch<Kernel>(1, sm80_shared<float>(), nullptr, p).ok());
  int wrong = 0;
  for (std::size_t i = 0; i < 128; ++i) {
    for (std::size_t j = 0; j < 128; ++j) {
      float sum = 0;
      for (std::size_t k = 0; k < kDepth; ++k) sum += a[i * kDepth + k] * b[j * kDepth + k];
      wrong += d[i * 128 + j] == sum ? 0 : 1;
    }
  }
  return wrong;
}

TEST(KernelSm80, AMissingWaitOrBarrierIsNoticed) {
  EXPECT_EQ(wrong_sums<InOrder>(), 0);
  EXPECT_GT(wrong_sums<WithoutWait>(), 0);
  EXPECT_GT(wrong_sums<WaitsForTooFew>(), 0);
  EXPECT_GT(wrong_sums<WithoutBarrier>(), 0);
}

// The chunks of a tile fill shared memory without gaps, and the eight that are read together lie in
// different banks.
template <class E, Major kMajor>
void check_chunks() {
  using Tile = Sm80Tile<E, kMajor>;
  std::set<std::int32_t> offsets;
  const std::int32_t rows = Tile::kChunks / Tile::kRowChunks;
  for (std::int32_t row = 0; row < rows; ++row) {
    for (std::int32_t chunk = 0; chunk < Tile::kRowChunks; ++chunk) {
      offsets.insert(Tile::offset(row, chunk));
    }
  }
  EXPECT_EQ(offsets.size(), static_cast<std::size_t>(Tile::kChunks));
  EXPECT_EQ(*offsets.rbegin(), 16 * (Tile::kChunks - 1));
  for (std::int32_t row = 0; row < rows; row += 8) {
    for (std::int32_t chunk = 0; chunk < Tile::kRowChunks; ++chunk) {
      std::set<std::int32_t> banks;
      for (std::int32_t i = 0; i < 8; ++i) banks.insert(Tile::offset(row + i, chunk) % 128);
      EXPECT_EQ(banks.size(), 8U) << "row " << row << ", chunk " << chunk;
    }
  }
}

TEST(KernelSm80, ChunksOfATileMeetAllBanks) {
  check_chunks<BFloat16, Major::kDepth>();
  check_chunks<BFloat16, Major::kLine>();
  check_chunks<float, Major::kDepth>();
}

}  // namespace
}  // namespace dropgemm::cuda
