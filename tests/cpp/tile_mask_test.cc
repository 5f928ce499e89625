// Tile masks: bit order, edges, transposition, checks.
#include "dropgemm/tile_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace dropgemm {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

TileMaskView view(const std::vector<std::uint32_t>& bits, std::int64_t rows, std::int64_t cols,
                  std::int64_t tile_rows, std::int64_t tile_cols) {
  TileMaskView mask;
  mask.bits = bits.data();
  mask.rows = rows;
  mask.cols = cols;
  mask.tile_rows = tile_rows;
  mask.tile_cols = tile_cols;
  return mask;
}

TEST(TileMask, SizesRoundUp) {
  EXPECT_EQ(ceil_div(0, 3), 0);
  EXPECT_EQ(ceil_div(1, 3), 1);
  EXPECT_EQ(ceil_div(3, 3), 1);
  EXPECT_EQ(ceil_div(4, 3), 2);
  EXPECT_EQ(ceil_div(kHuge, 1), kHuge);
  EXPECT_EQ(ceil_div(kHuge, kHuge), 1);
  EXPECT_EQ(mask_row_words(0, 1), 0);
  EXPECT_EQ(mask_row_words(1, 1), 1);
  EXPECT_EQ(mask_row_words(32, 1), 1);
  EXPECT_EQ(mask_row_words(33, 1), 2);
  EXPECT_EQ(mask_row_words(1024, 32), 1);
  EXPECT_EQ(mask_row_words(1025, 32), 2);
  EXPECT_EQ(mask_words(129, 1025, 128, 32), 4);
  EXPECT_EQ(mask_words(0, 1025, 128, 32), 0);
}

TEST(TileMask, BitsAreLeastSignificantFirst) {
  // 2 x 40 tiles, two words a row.
  std::vector<std::uint32_t> bits = {1U, 1U << 7, 1U << 31, 0U};
  const TileMaskView mask = view(bits, 6, 200, 3, 5);
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 40; ++j) {
      const bool expected = i == 0 ? (j == 0 || j == 39) : j == 31;
      EXPECT_EQ(tile_kept(mask, i, j), expected) << i << ", " << j;
    }
  }
  EXPECT_TRUE(element_kept(mask, 2, 4));
  EXPECT_FALSE(element_kept(mask, 2, 5));
  EXPECT_FALSE(element_kept(mask, 3, 4));
  EXPECT_TRUE(element_kept(mask, 0, 199));
  EXPECT_TRUE(element_kept(mask, 5, 155));
  EXPECT_FALSE(element_kept(mask, 5, 160));
}

TEST(TileMask, TransposedIsTheSameBitsReadTheOtherWay) {
  constexpr std::int64_t kRows = 7, kCols = 173, kTileRows = 3, kTileCols = 4;  // ragged edges
  std::vector<std::uint32_t> bits(
      static_cast<std::size_t>(mask_words(kRows, kCols, kTileRows, kTileCols)));
  std::uint32_t state = 12345;
  for (std::uint32_t& word : bits) word = state = state * 1664525U + 1013904223U;
  const TileMaskView mask = view(bits, kRows, kCols, kTileRows, kTileCols);
  const TileMaskView turned = transposed(mask);
  EXPECT_EQ(turned.rows, kCols);
  EXPECT_EQ(turned.cols, kRows);
  EXPECT_EQ(turned.tile_rows, kTileCols);
  EXPECT_EQ(turned.tile_cols, kTileRows);
  EXPECT_TRUE(turned.transposed);
  EXPECT_EQ(turned.bits, mask.bits);
  int kept = 0;
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < kCols; ++j) {
      kept += element_kept(mask, i, j) ? 1 : 0;
      ASSERT_EQ(element_kept(turned, j, i), element_kept(mask, i, j)) << i << ", " << j;
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, kRows * kCols);
  const TileMaskView back = transposed(turned);
  EXPECT_FALSE(back.transposed);
  EXPECT_EQ(back.rows, kRows);
  EXPECT_EQ(back.tile_cols, kTileCols);
}

TEST(TileMask, ChecksNameTheMaskAndWhatCame) {
  const std::vector<std::uint32_t> bits(8);
  const TileMaskView good = view(bits, 4, 64, 1, 1);
  EXPECT_TRUE(check_tile_mask("a_mask", good).ok());
  EXPECT_TRUE(check_tile_mask("a_mask", transposed(good)).ok());
  const auto message = [](const TileMaskView& mask) {
    const Status status = check_tile_mask("a_mask", mask);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    return status.message();
  };
  TileMaskView bad = good;
  bad.rows = -1;
  EXPECT_EQ(message(bad), "a_mask: expected sizes of at least 0, got -1 x 64");
  bad = good;
  bad.cols = -7;
  EXPECT_EQ(message(bad), "a_mask: expected sizes of at least 0, got 4 x -7");
  bad = good;
  bad.tile_rows = 0;
  EXPECT_EQ(message(bad), "a_mask: expected tiles of at least 1 x 1, got 0 x 1");
  bad = good;
  bad.tile_cols = -2;
  EXPECT_EQ(message(bad), "a_mask: expected tiles of at least 1 x 1, got 1 x -2");
  bad = good;
  bad.bits = nullptr;
  EXPECT_EQ(message(bad), "a_mask: expected 4 x 2 words of bits, got a null pointer");
  bad.bits = reinterpret_cast<const std::uint32_t*>(reinterpret_cast<const char*>(bits.data()) + 1);
  EXPECT_EQ(message(bad),
            "a_mask: expected bits aligned to 4 bytes, got a pointer 1 past a multiple");
  bad.bits = nullptr;
  // As a 64 x 4 array whose bits lie transposed: still 4 rows of 2 words.
  EXPECT_EQ(message(transposed(bad)), "a_mask: expected 4 x 2 words of bits, got a null pointer");
  for (const double hint : {-0.5, 1.5, std::nan(""), std::numeric_limits<double>::infinity()}) {
    bad = good;
    bad.keep_hint = hint;
    EXPECT_EQ(message(bad),
              "a_mask.keep_hint: expected a rate in [0, 1], got " + std::to_string(hint));
  }
  bad = view(bits, kHuge, kHuge, 1, 1);
  EXPECT_NE(message(bad).find("a_mask: expected fewer than 2^63 bits"), std::string::npos);
  EXPECT_NE(message(transposed(bad)).find("fewer than 2^63 bits"), std::string::npos);
}

TEST(TileMask, EmptyMasksNeedNoBits) {
  TileMaskView mask;
  EXPECT_TRUE(check_tile_mask("mask", mask).ok());
  mask.rows = 5;
  EXPECT_TRUE(check_tile_mask("mask", mask).ok());
  EXPECT_TRUE(check_tile_mask("mask", transposed(mask)).ok());
}

TEST(TileMask, HugeTilesAreOneTile) {
  const std::vector<std::uint32_t> bits = {1U};
  const TileMaskView mask = view(bits, 5, 9, kHuge, kHuge);
  EXPECT_TRUE(check_tile_mask("mask", mask).ok());
  EXPECT_TRUE(element_kept(mask, 4, 8));
}

}  // namespace
}  // namespace dropgemm
