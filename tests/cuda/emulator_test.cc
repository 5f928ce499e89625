// The emulator itself: that fibres wait as threads do, and that it shows the mistakes it is for.
#include "cuda/emulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/copy.h"
#include "cuda/device.h"
#include "every_backend.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int32_t kThreads = 96;

// Runs `kernel(block, out)` and returns what it left in `out`, one float a thread of each block.
template <class Kernel>
std::vector<float> run(const Kernel& kernel, std::int32_t blocks = 1) {
  struct Context {
    const Kernel* kernel;
    float* out;
  };
  std::vector<float> out(static_cast<std::size_t>(blocks * kThreads), -1.0F);
  const Context context = {&kernel, out.data()};
  const Status status = emulator::run(
      blocks, kThreads, 4 * kThreads * sizeof(float),
      [](const void* opaque, std::int32_t index, std::int32_t count, std::int32_t thread,
         char* shared) {
        const auto* const each = static_cast<const Context*>(opaque);
        (*each->kernel)(Block{index, count, thread, shared}, each->out + index * kThreads);
      },
      &context);
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

TEST(Emulator, BarriersOrderWhatThreadsWrite) {
  const auto out = run(
      [](const Block& block, float* mine) {
        auto* const shared = reinterpret_cast<float*>(block.shared);
        for (int round = 0; round < 3; ++round) {
          shared[block.thread] = static_cast<float>(100 * round + block.thread);
          sync_block();
          mine[block.thread] = shared[(block.thread + 41) % kThreads];
          sync_block();
        }
      },
      2);
  for (std::int32_t i = 0; i < 2 * kThreads; ++i) {
    EXPECT_EQ(out[static_cast<std::size_t>(i)], static_cast<float>(200 + (i + 41) % kThreads));
  }
}

TEST(Emulator, AMissingBarrierShows) {
  const auto out = run([](const Block& block, float* mine) {
    auto* const shared = reinterpret_cast<float*>(block.shared);
    shared[block.thread] = 1.0F;
    mine[block.thread] = shared[(block.thread + 1) % kThreads];
  });
  int stale = 0;
  for (const float value : out) stale += std::isnan(value) ? 1 : 0;
  EXPECT_GT(stale, 0);
}

TEST(Emulator, CopiesArriveWhenTheyAreWaitedFor) {
  static const std::vector<float> from(4 * kThreads, 7.0F);
  const auto copy = [](const Block& block, float* mine, bool waits) {
    auto* const shared = reinterpret_cast<float*>(block.shared) + 4 * block.thread;
    cp_async16(shared, from.data() + 4 * block.thread, block.thread % 2 == 0 ? 16 : 0);
    cp_async_commit();
    if (waits) cp_async_wait<0>();
    sync_block();
    mine[block.thread] = shared[3];
  };
  const auto waited = run([&](const Block& block, float* mine) { copy(block, mine, true); });
  const auto stale = run([&](const Block& block, float* mine) { copy(block, mine, false); });
  for (std::size_t i = 0; i < kThreads; ++i) {
    EXPECT_EQ(waited[i], i % 2 == 0 ? 7.0F : 0.0F);
    EXPECT_TRUE(std::isnan(stale[i]));
  }
}

TEST(Emulator, WarpsShareWithoutWaitingForOthers) {
  const auto out = run([](const Block& block, float* mine) {
    if (block.warp() == 1) return;
    std::int32_t sum = 0;
    for (std::int32_t i = 0; i < 32; ++i) sum += shuffle(block.thread, i);
    const std::uint32_t odd = ballot(block.thread % 2 == 1);
    mine[block.thread] = static_cast<float>(odd == 0xAAAAAAAAU ? sum : -2);
  });
  EXPECT_EQ(out[0], 31 * 32 / 2);
  EXPECT_EQ(out[40], -1);
  EXPECT_EQ(out[95], 64 * 32 + 31 * 32 / 2);
}

TEST(Emulator, BarriersThatSomeDoNotReachAreReported) {
  struct Kernel {
    static void run(const void* /*context*/, std::int32_t /*block*/, std::int32_t /*count*/,
                    std::int32_t thread, char* /*shared*/) {
      if (thread < 32) {
        sync_block();
      } else {
        for (int i = 0; i < 2; ++i) thread < 40 ? sync_warp() : sync_block();
      }
    }
  };
  const Status status = emulator::run(1, 64, 0, Kernel::run, nullptr);
  EXPECT_EQ(status.code(), StatusCode::kBackendError);
  EXPECT_NE(status.message().find("wait at barriers"), std::string::npos) << status.message();
  // What comes after it is none the worse.
  const auto out = run([](const Block& block, float* mine) {
    sync_block();
    mine[block.thread] = 1.0F;
  });
  EXPECT_EQ(out, std::vector<float>(kThreads, 1.0F));
}

TEST(Emulator, RunsAKernelThroughAllLayers) {
  std::vector<std::uint32_t> expected(64 * 4), got(64 * 4, 0xA5A5A5A5U);
  BernoulliMaskArgs args;
  args.mask = {expected.data(), 64, 100, 1, 1};
  args.seed = 3;
  Context ctx;
  ASSERT_TRUE(find_tested("reference", &ctx.backend).ok());
  ASSERT_TRUE(bernoulli_mask(ctx, args).ok());
  args.mask.bits = got.data();
  ASSERT_TRUE(find_tested(kEmulated, &ctx.backend).ok());
  const Status status = bernoulli_mask(ctx, args);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(got, expected);
}

}  // namespace
}  // namespace dropgemm::cuda
