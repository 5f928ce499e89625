// Where layout.h and kernel_sm90.h say that shared memory and registers hold the elements of a tile
// is where CUTLASS's mainloop has them. Host code alone, compiled by nvcc for CuTe's sake.
#include <gtest/gtest.h>

#include "cuda/kernel_sm90_core.cuh"

namespace dropgemm::cuda {
namespace {

template <class E_, Major kA, Major kB, Sm90Shape kOwnShape>
struct KernelCase {
  using E = E_;
  using Core = sm90::Core<E, kA, kB, kOwnShape>;
  static constexpr Major kMajorA = kA, kMajorB = kB;
};

template <class Case>
class CuteTest : public ::testing::Test {};

constexpr Major kDepth = Major::kDepth, kLine = Major::kLine;
constexpr Sm90Shape kSquare = Sm90Shape::kSquare, kWide = Sm90Shape::kWide,
                    kPair = Sm90Shape::kPair;

// float16 is laid out as bfloat16 is.
using Cases = ::testing::Types<
    KernelCase<BFloat16, kDepth, kDepth, kSquare>, KernelCase<BFloat16, kDepth, kDepth, kWide>,
    KernelCase<BFloat16, kDepth, kDepth, kPair>, KernelCase<BFloat16, kDepth, kLine, kSquare>,
    KernelCase<BFloat16, kDepth, kLine, kWide>, KernelCase<BFloat16, kDepth, kLine, kPair>,
    KernelCase<BFloat16, kLine, kLine, kSquare>, KernelCase<BFloat16, kLine, kLine, kWide>,
    KernelCase<BFloat16, kLine, kLine, kPair>, KernelCase<float, kDepth, kDepth, kSquare>,
    KernelCase<float, kDepth, kDepth, kWide>>;
TYPED_TEST_SUITE(CuteTest, Cases);

template <class Layout>
void expect_same_places(const Layout& cute_layout, const Sm90Operand& operand) {
  const auto places = cute::as_position_independent_swizzle_layout(cute_layout);
  const bool depth_major = operand.major == Major::kDepth;
  const TileLayout& layout = operand.layout;
  const int lines = depth_major ? layout.rows : layout.contiguous;
  const int depth = depth_major ? layout.contiguous : layout.rows;
  for (int stage = 0; stage < 2; ++stage) {
    for (int line = 0; line < lines; ++line) {
      for (int k = 0; k < depth; ++k) {
        const int at = depth_major ? layout.offset(k, line) : layout.offset(line, k);
        ASSERT_EQ(static_cast<int>(places(line, k, stage)), stage * lines * depth + at)
            << "line " << line << " k " << k;
      }
    }
  }
}

TYPED_TEST(CuteTest, SharedMemoryIsReadWhereBoxesAreWritten) {
  using Core = typename TypeParam::Core;
  constexpr auto kBytes = static_cast<std::int32_t>(sizeof(typename TypeParam::E));
  const Sm90Tile tile = Core::kTile;
  expect_same_places(typename Core::Mainloop::SmemLayoutA{},
                     sm90_a(tile, TypeParam::kMajorA, kBytes));
  expect_same_places(typename Core::Mainloop::SmemLayoutB{},
                     sm90_b(tile, TypeParam::kMajorB, kBytes));
}

TYPED_TEST(CuteTest, ThreadsHoldTheSumsThatTheyStore) {
  using Core = typename TypeParam::Core;
  using namespace cute;
  typename Core::TiledMma mma;
  const auto tile = make_identity_tensor(take<0, 2>(typename Core::BlockShape{}));
  for (int thread = 0; thread < kSm90Group * kSm90Consumers; ++thread) {
    const auto held = mma.get_slice(thread).partition_C(tile);
    const int group = thread / kSm90Group, own = thread % kSm90Group;
    ASSERT_EQ(static_cast<int>(size(held)), Core::kM * Core::kN / 256);
    for (int m = 0; m < Core::kM / 128; ++m) {
      for (int col = 0; col < Core::kN; col += 8) {
        for (int i = 0; i < 4; ++i) {
          const auto at = held(make_coord(i % 2, i / 2, col / 8), m, 0);
          ASSERT_EQ(static_cast<int>(get<0>(at)),
                    sm90_first_row(m, group) + sm90_thread_row(own) + 8 * (i / 2));
          ASSERT_EQ(static_cast<int>(get<1>(at)), col + sm90_thread_col(own) + i % 2);
        }
      }
    }
  }
}

}  // namespace
}  // namespace dropgemm::cuda
