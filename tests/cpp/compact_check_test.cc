// What compaction refuses, and the sentence that it says; nothing is written then.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "dropgemm/backend.h"
#include "dropgemm/compact.h"

namespace dropgemm {
namespace {

constexpr float kUntouched = -7.0F;

// x is 4 x 6; tile rows 0 and 1 of two rows each keep 5 and 3 of their columns.
class CompactCheck : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(find_backend(GetParam(), &ctx_.backend).ok());
    mask_.bits = bits_.data();
    mask_.rows = 4;
    mask_.cols = 6;
    mask_.tile_rows = 2;
    mask_.tile_cols = 1;
    gather_.x = matrix_view(const_cast<const float*>(x_.data()), 4, 6);
    gather_.xc = matrix_view(xc_.data(), 4, 5);
    gather_.mask = mask_;
    scatter_.xc = matrix_view(const_cast<const float*>(xc_.data()), 4, 5);
    scatter_.x = matrix_view(x_.data(), 4, 6);
    scatter_.mask = mask_;
  }

  // The sentence that both directions say of the same change; where there is too little room, what
  // compact() says of the size and expand() of xc.
  template <class Change>
  std::string refusal(const Change& change, StatusCode code = StatusCode::kInvalidArgument) {
    CompactArgs gather = gather_;
    ExpandArgs scatter = scatter_;
    change(gather);
    change(scatter);
    const Status of_gather = compact(ctx_, gather), of_scatter = expand(ctx_, scatter);
    EXPECT_EQ(of_gather.code(), code);
    EXPECT_EQ(of_scatter.code(), code);
    const std::string size = "size: expected ", xc = "xc: expected a size of ";
    const bool about_room = of_gather.message().rfind(size, 0) == 0;
    const std::string same =
        about_room ? xc + of_gather.message().substr(size.size()) : of_gather.message();
    EXPECT_EQ(of_scatter.message(), same);
    for (const float value : x_) EXPECT_EQ(value, kUntouched);
    for (const float value : xc_) EXPECT_EQ(value, kUntouched);
    return of_gather.message();
  }

  Context ctx_;
  std::vector<std::uint32_t> bits_ = {0x1F, 0x0E};
  std::vector<float> x_ = std::vector<float>(64, kUntouched);
  std::vector<float> xc_ = std::vector<float>(64, kUntouched);
  TileMaskView mask_;
  CompactArgs gather_;
  ExpandArgs scatter_;
};

INSTANTIATE_TEST_SUITE_P(All, CompactCheck, testing::Values("reference", "cpu"),
                         [](const auto& each) { return std::string(each.param); });

TEST_P(CompactCheck, NothingIsLostSilently) {
  EXPECT_EQ(refusal([](auto& args) { args.xc.cols = 4; }), "size: expected at least 5, got 4");
  EXPECT_EQ(refusal([](auto& args) { args.xc.cols = 0; }), "size: expected at least 5, got 0");
  EXPECT_EQ(refusal([](auto& args) {
              args.axis = CompactAxis::kRows;
              args.xc.rows = 3;
              args.xc.cols = 6;
              args.xc.row_stride = 6;
            }),
            "size: expected at least 4, got 3");
  EXPECT_EQ(refusal([](auto& args) {
              args.axis = CompactAxis::kTiles;
              args.xc.rows = 14;
              args.xc.cols = args.xc.row_stride = 1;
            }),
            "size: expected at least 8, got 7");
  EXPECT_TRUE(compact(ctx_, gather_).ok());
  EXPECT_TRUE(expand(ctx_, scatter_).ok());
}

TEST_P(CompactCheck, BitsInThePadding) {
  const std::string message =
      "mask: expected padding bits of 0, got a 1 after the last tile of row 1 of tiles";
  bits_ = {0x1F, 0xFFFFFFFF};
  const auto widen = [](auto& args) {
    args.xc.cols = 16;
    args.xc.row_stride = 16;
  };
  EXPECT_EQ(refusal(widen), message);
  EXPECT_EQ(refusal([](auto& args) {
              args.axis = CompactAxis::kTiles;
              args.xc.rows = 64;
              args.xc.cols = args.xc.row_stride = 1;
            }),
            message);
  bits_ = {0x1F, 0x3F};
  EXPECT_EQ(refusal([](auto& args) { args.xc.cols = 5; }), "size: expected at least 6, got 5");
}

TEST_P(CompactCheck, Shapes) {
  EXPECT_EQ(refusal([](auto& args) { args.xc.rows = 3; }),
            "xc: expected [4, size], the rows of the mask, got [3, 5]");
  EXPECT_EQ(refusal([](auto& args) { args.axis = CompactAxis::kRows; }),
            "xc: expected [size, 6], the columns of the mask, got [4, 5]");
  EXPECT_EQ(refusal([](auto& args) { args.axis = CompactAxis::kTiles; }),
            "xc: expected [size * 2, 1], tiles of the mask, got [4, 5]");
  EXPECT_EQ(refusal([](auto& args) {
              args.axis = CompactAxis::kTiles;
              args.xc.rows = 17;
              args.xc.cols = args.xc.row_stride = 1;
            }),
            "xc: expected [size * 2, 1], tiles of the mask, got [17, 1]");
  EXPECT_EQ(refusal([](auto& args) { args.mask.cols = 7; }),
            "mask: expected shape [4, 6] as x has, as passed, got [4, 7]");
  EXPECT_EQ(refusal([](auto& args) { args.mask = transposed(args.mask); }),
            "mask: expected shape [4, 6] as x has, as passed, got [6, 4]");
  EXPECT_EQ(refusal([](auto& args) { args.x.rows = -4; }),
            "x: expected sizes of at least 0, got [-4, 6]");
  EXPECT_EQ(refusal([](auto& args) { args.xc.cols = std::numeric_limits<std::int64_t>::max(); }),
            "xc: expected fewer than 2^63 bytes of elements, got [4, 9223372036854775807]");
}

TEST_P(CompactCheck, Operands) {
  EXPECT_EQ(refusal([](auto& args) { args.mask.tile_cols = 0; }),
            "mask: expected tiles of at least 1 x 1, got 2 x 0");
  EXPECT_EQ(refusal([](auto& args) { args.mask.bits = nullptr; }),
            "mask: expected 2 x 1 words of bits, got a null pointer");
  EXPECT_EQ(refusal([](auto& args) { args.axis = static_cast<CompactAxis>(3); }),
            "axis: expected rows, columns or tiles, got code 3");
  EXPECT_EQ(refusal([](auto& args) { args.x.data = nullptr; }),
            "x: expected memory for [4, 6] elements, got a null pointer");
  EXPECT_EQ(refusal([](auto& args) { args.xc.dtype = DType::kFloat64; }, StatusCode::kInvalidType),
            "xc: expected float32 as x has, got float64");
  EXPECT_EQ(
      refusal([](auto& args) { args.x.dtype = static_cast<DType>(9); }, StatusCode::kInvalidType),
      "x: expected float32, float64, bfloat16 or float16, got dtype code 9");
}

TEST_P(CompactCheck, OutputsHaveMemoryOfTheirOwn) {
  gather_.xc.row_stride = 4;
  EXPECT_EQ(compact(ctx_, gather_).message(),
            "xc: expected elements that do not share memory, got sizes [4, 5] with strides [4, 1]");
  scatter_.x.row_stride = 0;
  EXPECT_EQ(expand(ctx_, scatter_).message(),
            "x: expected elements that do not share memory, got sizes [4, 6] with strides [0, 1]");
  gather_.xc = matrix_view(x_.data() + 10, 4, 5);
  EXPECT_EQ(compact(ctx_, gather_).message(),
            "xc: expected memory of its own, got an overlap with x");
  scatter_.x = matrix_view(xc_.data() + 10, 4, 6);
  EXPECT_EQ(expand(ctx_, scatter_).message(),
            "x: expected memory of its own, got an overlap with xc");
  // Bits within the output: a mask of one word, all rows and columns of it one tile.
  TileMaskView inside = mask_;
  inside.tile_rows = 4;
  inside.tile_cols = 6;
  gather_.xc = matrix_view(xc_.data(), 4, 6);
  gather_.mask = inside;
  gather_.mask.bits = reinterpret_cast<const std::uint32_t*>(xc_.data() + 3);
  EXPECT_EQ(compact(ctx_, gather_).message(),
            "xc: expected memory of its own, got an overlap with mask");
  scatter_.x = matrix_view(x_.data(), 4, 6);
  scatter_.mask = inside;
  scatter_.mask.bits = reinterpret_cast<const std::uint32_t*>(x_.data() + 3);
  EXPECT_EQ(expand(ctx_, scatter_).message(),
            "x: expected memory of its own, got an overlap with mask");
  for (const float value : x_) EXPECT_EQ(value, kUntouched);
  for (const float value : xc_) EXPECT_EQ(value, kUntouched);
}

TEST_P(CompactCheck, AnInputMayOverlapItself) {
  gather_.x.row_stride = 0;  // four times the same row
  x_[0] = 1;
  x_[1] = 2;
  ASSERT_TRUE(compact(ctx_, gather_).ok());
  EXPECT_EQ(xc_[0], 1);
  EXPECT_EQ(xc_[5], 1);
  EXPECT_EQ(xc_[10], 2);  // row 2 drops column 0
  EXPECT_EQ(xc_[13], 0);  // and keeps three
}

TEST(KeptCount, CountsElementsOfClippedTiles) {
  // Two words of 35 tiles, the last one of a single column.
  const std::vector<std::uint32_t> bits = {0x3, 0x4, 0x1, 0x0};
  TileMaskView mask;
  mask.bits = bits.data();
  mask.rows = 5;
  mask.cols = 103;
  mask.tile_rows = 3;
  mask.tile_cols = 3;
  std::int64_t least = 0, most = 0;
  ASSERT_TRUE(kept_count(mask, CompactAxis::kCols, &least, &most).ok());
  EXPECT_EQ(least, 3);
  EXPECT_EQ(most, 7);
  ASSERT_TRUE(kept_count(transposed(mask), CompactAxis::kRows, &least, &most).ok());
  EXPECT_EQ(least, 3);
  EXPECT_EQ(most, 7);
  ASSERT_TRUE(kept_count(mask, CompactAxis::kRows, &least, &most).ok());
  EXPECT_EQ(least, 0);
  EXPECT_EQ(most, 5);
  ASSERT_TRUE(kept_count(mask, CompactAxis::kTiles, &least, &most).ok());
  EXPECT_EQ(least, 4);
  EXPECT_EQ(most, 4);
}

TEST(KeptCount, SizesThatNoMemoryHolds) {
  const std::uint32_t bits = 0x3;
  TileMaskView mask;
  mask.bits = &bits;
  mask.rows = 1;
  mask.cols = std::numeric_limits<std::int64_t>::max();
  mask.tile_cols = std::int64_t{1} << 62;
  std::int64_t least = 0, most = 0;
  ASSERT_TRUE(kept_count(mask, CompactAxis::kCols, &least, &most).ok());
  EXPECT_EQ(most, mask.cols);
}

TEST(KeptCount, BadArguments) {
  TileMaskView mask;
  mask.rows = mask.cols = 3;
  std::int64_t count = 0;
  EXPECT_EQ(kept_count(mask, CompactAxis::kCols, &count, &count).message(),
            "mask: expected 3 x 1 words of bits, got a null pointer");
  mask.rows = 0;
  EXPECT_EQ(kept_count(mask, static_cast<CompactAxis>(-1), &count, &count).message(),
            "axis: expected rows, columns or tiles, got code -1");
  EXPECT_EQ(kept_count(mask, CompactAxis::kCols, nullptr, &count).message(),
            "least: expected where to write a count, got a null pointer");
  EXPECT_EQ(kept_count(mask, CompactAxis::kCols, &count, nullptr).message(),
            "most: expected where to write a count, got a null pointer");
}

}  // namespace
}  // namespace dropgemm
