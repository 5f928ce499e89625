// Boxes in shared memory: whatever the Hopper kernel loads or stores together must be contiguous,
// disjoint and covering, for every configuration that there is.
#include "cuda/layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/kernel_sm90.h"

namespace dropgemm::cuda {
namespace {

constexpr Sm90Shape kShapes[] = {Sm90Shape::kSquare, Sm90Shape::kWide, Sm90Shape::kPair};
constexpr DType kDTypes[] = {DType::kBFloat16, DType::kFloat16, DType::kFloat32};
constexpr Major kMajors[] = {Major::kDepth, Major::kLine};

// Calls with every kernel's tile.
template <class Check>
void for_each_kernel(const Check& check) {
  for (const DType dtype : kDTypes) {
    for (const Major a : kMajors) {
      for (const Major b : kMajors) {
        for (const Sm90Shape shape : kShapes) {
          if (!has_sm90_kernel(dtype, a, b, shape)) continue;
          SCOPED_TRACE(std::string(dtype_name(dtype)) + " majors " +
                       std::to_string(static_cast<int>(a)) + std::to_string(static_cast<int>(b)) +
                       " shape " + std::to_string(static_cast<int>(shape)));
          check(sm90_tile(shape, a), a, b, static_cast<std::int32_t>(dtype_size(dtype)));
        }
      }
    }
  }
}

// Every element has a place of its own, within the run of places that its box is copied to.
void expect_boxes_tile(const TileLayout& layout) {
  const std::int32_t count = layout.contiguous * layout.rows;
  const auto elements = static_cast<std::size_t>(count);
  const std::int32_t box_elements = layout.box_contiguous * layout.box_rows;
  ASSERT_EQ(layout.boxes() * box_elements, layout.contiguous * layout.rows);
  std::vector<int> placed(elements, 0);
  for (std::int32_t i = 0; i < layout.boxes(); ++i) {
    const Box box = layout.box(i);
    for (std::int32_t r = 0; r < layout.box_rows; ++r) {
      for (std::int32_t c = 0; c < layout.box_contiguous; ++c) {
        const std::int32_t place = layout.offset(box.contiguous + c, box.row + r);
        ASSERT_GE(place, box.offset) << "box " << i;
        ASSERT_LT(place, box.offset + box_elements) << "box " << i;
        ++placed[static_cast<std::size_t>(place)];
      }
    }
  }
  for (std::size_t place = 0; place < elements; ++place) ASSERT_EQ(placed[place], 1) << place;
}

// What cuTensorMapEncodeTiled and the swizzle demand of a box.
void expect_copies_take(const TileLayout& layout) {
  EXPECT_TRUE(layout.swizzle() == 64 || layout.swizzle() == 128) << layout.swizzle();
  EXPECT_LE(layout.box_rows, 256);
  // Rows are exchanged by address bits 7 to 9, which must begin anew with each box.
  EXPECT_EQ(layout.box_rows % 8, 0);
  for (std::int32_t i = 0; i < layout.boxes(); ++i) {
    EXPECT_EQ(layout.box(i).offset * layout.element_bytes % (8 * layout.swizzle()), 0) << i;
  }
}

TEST(LayoutTest, BoxesAreContiguousDisjointAndCovering) {
  for_each_kernel([](const Sm90Tile& tile, Major a, Major b, std::int32_t bytes) {
    for (const TileLayout& layout :
         {sm90_a(tile, a, bytes).layout, sm90_b(tile, b, bytes).layout, sm90_d_layout(tile, bytes),
          sm90_d_layout(tile, sizeof(float))}) {
      expect_boxes_tile(layout);
      expect_copies_take(layout);
    }
  });
}

TEST(LayoutTest, TilesConsistOfGranulesAndStagesFitSharedMemory) {
  for_each_kernel([](const Sm90Tile& tile, Major a, Major b, std::int32_t bytes) {
    EXPECT_EQ(tile.block_m() % tile.granule_m, 0);
    EXPECT_EQ(tile.block_n() % tile.granule_n, 0);
    EXPECT_EQ(sm90_tile_k(bytes) % tile.granule_k, 0);
    const std::int32_t stage =
        sm90_a(tile, a, bytes).layout.bytes() + sm90_b(tile, b, bytes).layout.bytes();
    const std::int32_t buffers = kSm90Consumers * tile.buffers * kStoreRows * kSwizzleBytes;
    EXPECT_LE(tile.stages * stage + buffers + 1024, 227 << 10);
    EXPECT_EQ(stage % 1024, 0);
  });
}

TEST(LayoutTest, UnitsOfAColumnMeetAllBanks) {
  for (const std::int32_t width : {32, 64}) {
    const TileLayout layout{64, 64, width, 64, 2};
    std::vector<int> met(8, 0);  // groups of 4 banks: 16 bytes each
    for (std::int32_t row = 0; row < 8; ++row) {
      ++met[static_cast<std::size_t>(layout.offset(8, row) * 2 / 16 % 8)];
    }
    for (const int rows : met) EXPECT_EQ(rows, 1) << width;
  }
}

TEST(LayoutTest, SharersLoadEqualPartsOfEveryTile) {
  for_each_kernel([](const Sm90Tile& tile, Major a, Major b, std::int32_t bytes) {
    const auto expect_parts = [](std::int32_t boxes, std::int32_t sharers) {
      std::vector<int> parts(static_cast<std::size_t>(sharers), 0);
      for (std::int32_t i = 0; i < boxes; ++i) {
        const std::int32_t part = sm90_loader(i, boxes, sharers);
        ASSERT_LT(part, sharers);
        ++parts[static_cast<std::size_t>(part)];
      }
      for (const int part : parts) EXPECT_EQ(part * sharers, boxes);
    };
    expect_parts(sm90_a(tile, a, bytes).layout.boxes(), tile.cluster_n);
    expect_parts(sm90_b(tile, b, bytes).layout.boxes(), tile.cluster_m);
  });
}

TEST(LayoutTest, ThreadsHoldEachElementOfAPartOnce) {
  constexpr std::int32_t kCols = 64;
  std::vector<int> held(kStoreRows * kCols, 0);
  for (std::int32_t thread = 0; thread < 128; ++thread) {
    for (std::int32_t col = 0; col < kCols; col += 8) {
      for (const std::int32_t half : {0, 8}) {
        for (const std::int32_t next : {0, 1}) {
          const std::int32_t row = sm90_thread_row(thread) + half;
          const std::int32_t at = row * kCols + col + sm90_thread_col(thread) + next;
          ++held[static_cast<std::size_t>(at)];
        }
      }
    }
  }
  for (const int times : held) EXPECT_EQ(times, 1);
}

TEST(LayoutTest, PaddingLiesBeforeTheArray) {
  for (const std::int32_t granule : {32, 64, 128}) {
    for (std::int32_t position = 0; position < 256; position += 32) {
      // No box of a granule reaches element 0.
      EXPECT_LE(coordinate(kPadding, granule, position) + granule - position % granule, 0);
    }
  }
}

}  // namespace
}  // namespace dropgemm::cuda
