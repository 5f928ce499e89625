// sgd() on every backend: against the reference within the rounding of its operations, what it
// leaves alone, and what it refuses.
#include "dropgemm/sgd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "dropgemm/backend.h"
#include "every_backend.h"

namespace dropgemm {
namespace {

// Three arrays in memory that reaches further on both sides.
template <class T>
struct Arrays {
  static constexpr std::int64_t kRoom = 40;
  explicit Arrays(std::int64_t size, std::int64_t offset = 0) : begin(kRoom + offset) {
    std::mt19937 random(static_cast<unsigned>(size + offset));
    std::normal_distribution<double> normal;
    for (std::vector<T>* array : {&w, &g, &v}) {
      for (std::int64_t i = 0; i < size + 2 * kRoom; ++i) {
        array->push_back(static_cast<T>(normal(random)));
      }
    }
  }
  void bind(SgdArgs* args, std::int64_t size) {
    args->w = w.data() + begin;
    args->g = g.data() + begin;
    args->v = args->momentum != 0.0 ? v.data() + begin : nullptr;
    args->size = size;
    args->dtype = dtype_of<T>::value;
  }
  std::int64_t begin;
  std::vector<T> w, g, v;
};

std::vector<SgdArgs> every_option() {
  std::vector<SgdArgs> all;
  for (const double momentum : {0.0, 0.9}) {
    for (const double decay : {0.0, 0.01}) {
      for (int flags = 0; flags < 8; ++flags) {
        SgdArgs args;
        args.lr = 0.05;
        args.momentum = momentum;
        args.weight_decay = decay;
        args.maximize = (flags & 1) != 0;
        args.nesterov = (flags & 2) != 0;
        args.first = (flags & 4) != 0;
        args.dampening = (flags & 2) != 0 ? 0.0 : 0.25;
        all.push_back(args);
      }
    }
  }
  return all;
}

class SgdTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_TRUE(find_tested(GetParam(), &ctx_.backend).ok()); }

  // Each element of w and v is off the reference's, which works in float64, by at most the rounding
  // of the factors and operations that lead to it: eps / 2 of every partial result, of which there
  // are at most 12, and none of them is larger than the sum of the terms' magnitudes.
  template <class T>
  void check(SgdArgs args, std::int64_t size, std::int64_t offset) {
    Arrays<T> ours(size, offset), theirs(size, offset);
    const Arrays<T> before(size, offset);
    Context reference;
    ASSERT_TRUE(find_backend("reference", &reference.backend).ok());
    theirs.bind(&args, size);
    ASSERT_TRUE(sgd(reference, args).ok());
    ours.bind(&args, size);
    ASSERT_TRUE(sgd(ctx_, args).ok());

    const double eps = std::numeric_limits<T>::epsilon();
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(ours.w.size()); ++i) {
      const auto k = static_cast<std::size_t>(i);
      ASSERT_EQ(ours.g[k], before.g[k]);
      if (i < ours.begin || i >= ours.begin + size) {
        ASSERT_EQ(ours.w[k], before.w[k]) << "outside, at " << i;
        ASSERT_EQ(ours.v[k], before.v[k]) << "outside, at " << i;
        continue;
      }
      const double slope =
          std::abs(double(before.g[k])) + args.weight_decay * std::abs(double(before.w[k]));
      const double velocity = args.momentum * std::abs(double(before.v[k])) + slope;
      const double moved = args.lr * (slope + (1 + args.momentum) * velocity);
      ASSERT_NEAR(ours.v[k], theirs.v[k], 6 * eps * velocity) << "v[" << i - ours.begin << "]";
      ASSERT_NEAR(ours.w[k], theirs.w[k], 6 * eps * (std::abs(double(before.w[k])) + moved))
          << "w[" << i - ours.begin << "]";
    }
  }
  Context ctx_;
};

TEST_P(SgdTest, EveryOptionIsTheReferences) {
  for (const SgdArgs& args : every_option()) {
    check<float>(args, 1000, 0);
    check<double>(args, 1000, 0);
  }
}

TEST_P(SgdTest, EverySizeAndAlignment) {
  SgdArgs args;
  args.lr = 0.1;
  for (const double momentum : {0.0, 0.9}) {
    args.momentum = momentum;
    for (const std::int64_t size : {0, 1, 2, 15, 16, 17, 31, 33, 64, 100}) {
      for (std::int64_t offset = 0; offset < 17; ++offset) {
        check<float>(args, size, offset);
        check<double>(args, size, offset);
      }
    }
  }
}

TEST_P(SgdTest, ThreadsChangeNoBit) {
  constexpr std::int64_t kSize = 100003;
  SgdArgs args;
  args.lr = 0.1;
  args.momentum = 0.9;
  Arrays<float> one(kSize, 3), three(kSize, 3);
  ctx_.num_threads = 1;
  one.bind(&args, kSize);
  ASSERT_TRUE(sgd(ctx_, args).ok());
  ctx_.num_threads = 3;
  three.bind(&args, kSize);
  ASSERT_TRUE(sgd(ctx_, args).ok());
  EXPECT_EQ(one.w, three.w);
  EXPECT_EQ(one.v, three.v);
  check<float>(args, kSize, 3);
}

// A gradient of 0 moves nothing, whatever w is; lines of zeros between others.
TEST_P(SgdTest, WhereTheGradientIsZeroNothingMoves) {
  constexpr std::int64_t kSize = 4096;
  SgdArgs args;
  args.lr = 0.1;
  Arrays<float> arrays(kSize);
  float* w = arrays.w.data() + arrays.begin;
  float* g = arrays.g.data() + arrays.begin;
  for (std::int64_t i = 0; i < kSize; ++i) {
    if (i / 48 % 2 == 0) g[i] = i % 3 == 0 ? -0.0F : 0.0F;
    if (i % 7 == 0) w[i] = i % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : -0.0F;
    if (i % 11 == 0) w[i] = std::numeric_limits<float>::infinity();
  }
  const std::vector<float> before = arrays.w;
  arrays.bind(&args, kSize);
  ASSERT_TRUE(sgd(ctx_, args).ok());
  for (std::int64_t i = 0; i < kSize; ++i) {
    const float* was = before.data() + arrays.begin + i;
    if (g[i] == 0.0F) {
      EXPECT_TRUE(std::isnan(*was) ? std::isnan(w[i]) : w[i] == *was) << i;
    } else if (std::isfinite(*was)) {
      EXPECT_NE(w[i], *was) << i;
    }
  }
}

TEST_P(SgdTest, WhatIsNotFiniteSpreads) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> w(32, 1.0F), g(32, 0.0F);
  SgdArgs args;
  args.w = w.data();
  args.g = g.data();
  args.size = 32;
  args.lr = 1.0;
  g[5] = nan;
  ASSERT_TRUE(sgd(ctx_, args).ok());
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_EQ(std::isnan(w[i]), i == 5);
  args.lr = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(sgd(ctx_, args).ok());
  for (const float value : w) EXPECT_TRUE(std::isnan(value));
}

INSTANTIATE_TEST_SUITE_P(Backends, SgdTest, testing::ValuesIn(every_backend()),
                         [](const auto& each) { return each.param; });

class SgdCheck : public testing::Test {
 protected:
  SgdCheck() {
    args_.w = w_;
    args_.g = g_;
    args_.size = 8;
    args_.lr = 1.0;
  }
  std::string refusal(StatusCode code = StatusCode::kInvalidArgument) {
    const Status status = sgd({}, args_);
    EXPECT_EQ(status.code(), code);
    for (const float value : w_) EXPECT_EQ(value, 1.0F);
    return status.message();
  }
  float w_[8] = {1, 1, 1, 1, 1, 1, 1, 1}, g_[8] = {}, v_[8] = {};
  SgdArgs args_;
};

TEST_F(SgdCheck, MissingArrays) {
  args_.g = nullptr;
  EXPECT_EQ(refusal(), "g: expected memory for [1, 8] elements, got a null pointer");
  args_.g = g_;
  args_.w = nullptr;
  EXPECT_EQ(refusal(), "w: expected memory for [1, 8] elements, got a null pointer");
  args_.size = 0;
  args_.g = nullptr;
  EXPECT_TRUE(sgd({}, args_).ok()) << "no elements, no memory";
}

TEST_F(SgdCheck, MomentumAndItsArrayComeTogether) {
  args_.momentum = 0.5;
  const std::string expected = "v: expected an array where momentum is not 0, and none where it is";
  EXPECT_EQ(refusal(), expected + " 0, got none with momentum 0.500000");
  args_.momentum = 0.0;
  args_.v = v_;
  EXPECT_EQ(refusal(), expected + " 0, got one with momentum 0.000000");
}

TEST_F(SgdCheck, Overlaps) {
  args_.g = w_ + 7;
  EXPECT_EQ(refusal(), "w: expected memory of its own, got an overlap with g");
  args_.g = g_;
  args_.momentum = 0.5;
  args_.v = w_ + 1;
  EXPECT_EQ(refusal(), "w: expected memory of its own, got an overlap with v");
  args_.v = g_;
  EXPECT_EQ(refusal(), "v: expected memory of its own, got an overlap with g");
}

TEST_F(SgdCheck, SizesAndDtypes) {
  args_.size = -1;
  EXPECT_EQ(refusal(), "w: expected sizes of at least 0, got [1, -1]");
  args_.size = 8;
  args_.dtype = static_cast<DType>(9);
  EXPECT_EQ(refusal(StatusCode::kInvalidType),
            "w: expected float32 or float64, got an unknown dtype");
}

}  // namespace
}  // namespace dropgemm
