// What mask generation refuses, and the sentence that it says.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "dropgemm/mask.h"

namespace dropgemm {
namespace {

class MaskCheck : public testing::Test {
 protected:
  MaskCheck() : bits_(64, 0xA5A5A5A5U) {
    bernoulli_.mask = {bits_.data(), 8, 64, 1, 1};
    gyro_.mask = {bits_.data(), 8, 64, 1, 1};
  }
  // The message of a refusal, which must leave the bits as they were.
  template <class Args>
  std::string refusal(const Args& args) {
    const Status status = run(args);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    for (const std::uint32_t word : bits_) EXPECT_EQ(word, 0xA5A5A5A5U);
    return status.message();
  }
  static Status run(const BernoulliMaskArgs& args) { return bernoulli_mask({}, args); }
  static Status run(const GyroMaskArgs& args) { return gyro_mask({}, args); }

  // What both kinds refuse alike.
  template <class Args>
  void check_common(const Args& good) {
    const double nan = std::nan("");
    for (const double p : {-0.1, 1.5, nan, std::numeric_limits<double>::infinity()}) {
      Args bad = good;
      bad.p = p;
      EXPECT_EQ(refusal(bad), "p: expected a dropout rate in [0, 1], got " + std::to_string(p));
    }
    Args bad = good;
    bad.site = -1;
    EXPECT_EQ(refusal(bad), "site: expected a number in [0, 4294967295], got -1");
    bad.site = kMaxSite + 1;
    EXPECT_EQ(refusal(bad), "site: expected a number in [0, 4294967295], got 4294967296");
    bad = good;
    bad.step.value = -1;
    EXPECT_EQ(refusal(bad), "step: expected a number in [0, 4294967295], got -1");
    bad.step.value = kMaxStep + 1;
    EXPECT_EQ(refusal(bad), "step: expected a number in [0, 4294967295], got 4294967296");
    bad = good;
    bad.mask.rows = -8;
    EXPECT_EQ(refusal(bad), "mask: expected sizes of at least 0, got -8 x 64");
    bad = good;
    bad.mask.tile_cols = 0;
    EXPECT_EQ(refusal(bad), "mask: expected tiles of at least 1 x 1, got 1 x 0");
    bad = good;
    bad.mask.bits = nullptr;
    EXPECT_EQ(refusal(bad), "mask: expected 8 x 2 words of bits, got a null pointer");
    bad = good;
    bad.mask.cols = std::numeric_limits<std::int64_t>::max();
    EXPECT_NE(refusal(bad).find("mask: expected "), std::string::npos);
    bad = good;
    bad.mask.rows = bad.mask.tile_rows = 1;
    bad.mask.cols = kMaxDraws + 1;
    EXPECT_EQ(refusal(bad),
              "mask: expected at most 2^34 draws (columns of tiles rounded up to 4), got 1 x "
              "17179869185 tiles");
  }

  std::vector<std::uint32_t> bits_;
  BernoulliMaskArgs bernoulli_;
  GyroMaskArgs gyro_;
};

TEST_F(MaskCheck, BernoulliArguments) {
  check_common(bernoulli_);
  BernoulliMaskArgs bad = bernoulli_;
  bad.call = -1;
  EXPECT_EQ(refusal(bad), "call: expected a number in [0, 268435455], got -1");
  bad.call = kMaxCall + 1;
  EXPECT_EQ(refusal(bad), "call: expected a number in [0, 268435455], got 268435456");
  // 2^32 rows of one tile spend a block each: within 2^34 draws; one more row is not.
  bad = bernoulli_;
  bad.mask.rows = (std::int64_t{1} << 32) + 1;
  bad.mask.cols = 1;
  EXPECT_EQ(refusal(bad),
            "mask: expected at most 2^34 draws (columns of tiles rounded up to 4), got "
            "4294967297 x 1 tiles");
  // Rows before the first count, too.
  bad = bernoulli_;
  bad.first_row = kMaxDraws / 64;
  EXPECT_EQ(refusal(bad),
            "mask: expected at most 2^34 draws (columns of tiles rounded up to 4), got "
            "268435464 x 64 tiles");
  bad.first_row = -1;
  EXPECT_EQ(refusal(bad), "first_row: expected a number in [0, 17179869184], got -1");
  bad.first_row = 6;
  bad.mask.tile_rows = 4;
  EXPECT_EQ(refusal(bad),
            "first_row: expected a multiple of the 4 rows of the mask's tiles, got 6");
  EXPECT_TRUE(run(bernoulli_).ok());
}

TEST_F(MaskCheck, GyroArguments) {
  check_common(gyro_);
  GyroMaskArgs bad = gyro_;
  bad.rows_per_sample = 0;
  EXPECT_EQ(refusal(bad), "rows_per_sample: expected at least 1, got 0");
  bad.rows_per_sample = 3;
  EXPECT_EQ(refusal(bad), "mask.rows: expected a multiple of rows_per_sample = 3, got 8");
  bad = gyro_;
  bad.draw = static_cast<Draw>(5);
  EXPECT_EQ(refusal(bad), "draw: expected bernoulli or exact, got code 5");
  bad = gyro_;
  bad.schedule.subnets = 0;
  EXPECT_EQ(refusal(bad), "subnets: expected a number in [1, 2^31), got 0");
  bad = gyro_;
  bad.mask.rows = (kMaxBatch + 1) * 2;
  bad.mask.tile_rows = bad.mask.rows;
  EXPECT_EQ(refusal(bad), "batch: expected a number in [0, 4294967295], got 8589934592");
  EXPECT_TRUE(run(gyro_).ok());
}

TEST_F(MaskCheck, GyroPartsLieInTheBatch) {
  gyro_.part = {-1, 16};
  EXPECT_EQ(refusal(gyro_), "part.first: expected a number in [0, 4294967295], got -1");
  gyro_.part = {8, kMaxBatch + 1};
  EXPECT_EQ(refusal(gyro_), "part.batch: expected a number in [0, 4294967295], got 4294967296");
  gyro_.part = {9, 16};
  EXPECT_EQ(refusal(gyro_),
            "part.batch: expected at least the 17 samples that the mask ends with, got 16");
  gyro_.part = {1, 0};  // a batch of the mask's samples begins with them
  EXPECT_EQ(refusal(gyro_),
            "part.batch: expected at least the 9 samples that the mask ends with, got 0");
  // Groups of six begin in another rank: tiles of two straddle none.
  gyro_.schedule.tile_rows = gyro_.mask.tile_rows = 6;
  gyro_.part = {8, 16};
  EXPECT_EQ(refusal(gyro_),
            "mask.tile_rows: expected 1 rows of a sample times 1 or the 2 samples of a group of 6 "
            "that divide it and part.first 8, got 6");
  gyro_.mask.tile_rows = 2;
  EXPECT_TRUE(run(gyro_).ok());
}

TEST_F(MaskCheck, GyroTileRowsAreAGroupOrASample) {
  gyro_.schedule.tile_rows = 2;
  gyro_.rows_per_sample = 2;  // four samples, groups of two, four rows each
  for (const std::int64_t tile_rows : {1, 3, 5, 6, 8}) {
    gyro_.mask.tile_rows = tile_rows;
    EXPECT_EQ(refusal(gyro_),
              "mask.tile_rows: expected 2 rows of a sample times 1 or the 2 samples of a group, "
              "got " +
                  std::to_string(tile_rows));
  }
  for (const std::int64_t tile_rows : {2, 4}) {
    gyro_.mask.tile_rows = tile_rows;
    EXPECT_TRUE(run(gyro_).ok()) << tile_rows;
  }
  // A group may be larger than the batch.
  gyro_.schedule.tile_rows = 128;
  gyro_.mask.tile_rows = 256;
  EXPECT_TRUE(run(gyro_).ok());
  // A step on a device cannot be looked at: any tile is memory-safe.
  const std::int64_t step = 3;
  GyroMaskArgs args = gyro_;
  args.step.device = &step;
  for (const std::int64_t tile_rows : {1, 3, 5, 100}) {
    args.mask.tile_rows = tile_rows;
    EXPECT_TRUE(run(args).ok());
  }
}

TEST_F(MaskCheck, SubnetBitsArguments) {
  const auto message = [&](double p, Draw draw, std::int64_t site, std::int64_t subnet,
                           std::int64_t tiles, std::uint32_t* bits) {
    const Status status = subnet_bits(p, draw, 0, site, subnet, tiles, bits);
    return status.message();
  };
  std::uint32_t* const bits = bits_.data();
  EXPECT_EQ(message(2, Draw::kExact, 0, 0, 4, bits),
            "p: expected a dropout rate in [0, 1], got 2.000000");
  EXPECT_EQ(message(0.5, static_cast<Draw>(-1), 0, 0, 4, bits),
            "draw: expected bernoulli or exact, got code -1");
  EXPECT_EQ(message(0.5, Draw::kExact, -2, 0, 4, bits),
            "site: expected a number in [0, 4294967295], got -2");
  EXPECT_EQ(message(0.5, Draw::kExact, 0, -2, 4, bits),
            "subnet: expected a number in [0, 4294967295], got -2");
  EXPECT_EQ(message(0.5, Draw::kExact, 0, 0, -4, bits),
            "feature_tiles: expected a number in [0, 17179869184], got -4");
  EXPECT_EQ(message(0.5, Draw::kExact, 0, 0, 40, nullptr),
            "bits: expected 2 words, got a null pointer");
  EXPECT_EQ(message(0.5, Draw::kExact, 0, 0, 0, nullptr), "");
}

}  // namespace
}  // namespace dropgemm
