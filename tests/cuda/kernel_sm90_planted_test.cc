// Mistakes of the Hopper kernel that a GPU would answer by a hang, or by wrong sums now and then,
// planted, and noticed by the emulator.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/emulator_sm90.h"
#include "kernel_sm90_fixture.h"

namespace dropgemm::cuda {
namespace {

struct Planted {
  sm90::Fault fault;
  const char* name;
  bool alone;  // seen in a block that shares nothing, too
};

class PlantedTest : public ::testing::TestWithParam<Planted> {
 protected:
  void TearDown() override { sm90::planted_fault() = sm90::Fault::kNone; }

  // Whether a product of several items for each cluster went wrong, with a fault or without.
  static bool goes_wrong(sm90::Fault fault, Sm90Shape shape, bool adds) {
    Fixture<BFloat16> f(config_of(DType::kBFloat16, Major::kDepth, Major::kDepth, shape),
                        Sizes{520, 520, 640});
    std::vector<float> staging(f.d.size(), 0.0F);
    if (adds) f.product.staging = {staging.data(), f.d_stride()};
    sm90::planted_fault() = fault;
    const Status status = f.run();
    sm90::planted_fault() = sm90::Fault::kNone;
    if (!status.ok()) return true;
    for (int m = 0; m < f.product.m; m += 3) {
      for (int n = 0; n < f.product.n; n += 5) {
        const float got = adds ? staging.data()[m * f.d_stride() + n] : f.d_at(m, n);
        // Sums of a few ones are whole numbers, exact in bfloat16.
        if (!(got == (f.keeps(m, n) ? f.sum(m, n) : 0.0F))) return true;
      }
    }
    return false;
  }
};

TEST_P(PlantedTest, IsNoticed) {
  const auto [fault, name, alone] = GetParam();
  for (const bool adds : {false, true}) {
    EXPECT_TRUE(goes_wrong(fault, Sm90Shape::kPair, adds)) << adds;
    EXPECT_EQ(goes_wrong(fault, Sm90Shape::kSquare, adds), alone) << adds;
    EXPECT_FALSE(goes_wrong(sm90::Fault::kNone, Sm90Shape::kPair, adds)) << adds;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Every, PlantedTest,
    ::testing::Values(Planted{sm90::Fault::kFence, "NoFence", true},
                      Planted{sm90::Fault::kStoreWait, "NoWaitForStores", true},
                      Planted{sm90::Fault::kGroupBarrier, "NoBarrierOfAGroup", true},
                      Planted{sm90::Fault::kFullWait, "NoWaitForBytes", true},
                      Planted{sm90::Fault::kEmptyWait, "NoWaitForReaders", true},
                      Planted{sm90::Fault::kPeerRelease, "NoWordToThePeer", false},
                      Planted{sm90::Fault::kMulticast, "NoBytesForThePeer", false},
                      Planted{sm90::Fault::kBytes, "ABoxNotExpected", true},
                      Planted{sm90::Fault::kClusterStart, "NoCommonStart", true},
                      Planted{sm90::Fault::kClusterEnd, "NoCommonEnd", false}),
    [](const auto& planted) { return std::string(planted.param.name); });

}  // namespace
}  // namespace dropgemm::cuda
