// The activations of the epilogue, and their derivatives, digit by digit.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(All, GemmTest, ::testing::ValuesIn(other_implementations()), name_of);

constexpr long double kSqrtTwoOverPi = 0.797884560802865355879892L, kCubic = 0.044715L;

// P(X < z) without the cancellation of 1 + erf.
long double normal(long double z) { return std::erfc(-z / std::sqrt(2.0L)) / 2; }
// (1 + tanh u) / 2 likewise.
long double logistic(long double u) { return 1 / (1 + std::exp(-2 * u)); }

// What an activation and its derivative are made of at z: act(z) = z * share.
struct Parts {
  long double share, slope_of_share;
  long double exponent;  // share is made of e^-exponent, for z < 0 nothing else
};
Parts parts(Activation act, long double z) {
  if (act == Activation::kGeluErf) {
    return {normal(z), std::exp(-z * z / 2) * kSqrtTwoOverPi / 2, z * z / 2};
  }
  const long double u = kSqrtTwoOverPi * (z + kCubic * z * z * z);
  return {logistic(u), 2 * logistic(u) * logistic(-u) * kSqrtTwoOverPi * (1 + 3 * kCubic * z * z),
          2 * std::abs(u)};
}

// Each of many z on its way through a product of depth 1. An exponential passes on the roundings
// of its exponent, one or two eps of that; a few roundings of the result follow.
template <class T>
void check_digits(const Context& ctx, Activation act) {
  const std::int64_t count = 4003;
  Array<T> one(1, 1, Layout::kRowMajor), z(1, count, Layout::kRowMajor), d = z, gradient = z;
  one.at(0, 0) = 1;
  z.fill([](auto, auto j) { return (static_cast<double>(j) - 2001.3) / 250; });  // [-8, 8]
  GemmArgs args;
  args.a = one.view(), args.b = z.view(), args.d = d.view(), args.activation = act;
  ASSERT_TRUE(gemm(ctx, args).ok());
  Array<T> ones = z;
  ones.fill([](auto, auto) { return 1; });
  args.b = ones.view(), args.d = gradient.view(), args.activation = Activation::kNone;
  args.grad_aux = z.view(), args.grad_activation = act;
  ASSERT_TRUE(gemm(ctx, args).ok());

  const long double eps = std::numeric_limits<T>::epsilon();
  long double worst = 0;
  std::string where;
  const auto compare = [&](const char* what, long double at, long double got, long double want,
                           long double bound) {
    const long double ratio = std::abs(got - want) / bound;
    if (ratio <= worst) return;
    worst = ratio;
    where = std::string(what) + " at " + std::to_string(static_cast<double>(at));
  };
  for (std::int64_t j = 0; j < count; ++j) {
    const long double at = z.at(0, j);
    const Parts p = parts(act, at);
    compare("value", at, d.at(0, j), at * p.share,
            std::abs(at) * p.share * eps * (4 + 2 * p.exponent * (1 - p.share)));
    compare("slope", at, gradient.at(0, j), p.share + at * p.slope_of_share,
            (p.share + std::abs(at) * p.slope_of_share) * eps * (4 + 2 * p.exponent));
  }
  EXPECT_LE(worst, 1.0L) << where << " (error / bound)";
}

TEST_P(GemmTest, DigitsOfActivations) {
  for (auto act : {Activation::kGeluErf, Activation::kGeluTanh}) {
    SCOPED_TRACE(static_cast<int>(act));
    check_digits<float>(ctx_, act);
    check_digits<double>(ctx_, act);
  }
}

// Derivatives far out are their limits, 0 and 1. At NaN GELU's is NaN; ReLU's selects, and keeps.
template <class T>
void check_far_slopes(const Context& ctx, Activation act) {
  const T infinity = std::numeric_limits<T>::infinity(), most = std::numeric_limits<T>::max();
  const std::vector<T> far = {infinity, most, 50, 40, -40, -50, -most, -infinity};
  const auto count = static_cast<std::int64_t>(far.size()) + 1;
  Array<T> one(1, 1, Layout::kRowMajor), ones(1, count, Layout::kRowMajor);
  Array<T> z = ones, slopes = ones;
  one.at(0, 0) = 1;
  ones.fill([](auto, auto) { return 1; });
  for (std::int64_t j = 0; j + 1 < count; ++j) z.at(0, j) = far[static_cast<std::size_t>(j)];
  z.at(0, count - 1) = std::numeric_limits<T>::quiet_NaN();
  GemmArgs args;
  args.a = one.view(), args.b = ones.view(), args.d = slopes.view();
  args.grad_aux = z.view(), args.grad_activation = act;
  ASSERT_TRUE(gemm(ctx, args).ok());
  for (std::int64_t j = 0; j + 1 < count; ++j) {
    EXPECT_EQ(slopes.at(0, j), T(z.at(0, j) > 0 ? 1 : 0)) << "at " << z.at(0, j);
  }
  EXPECT_EQ(std::isnan(slopes.at(0, count - 1)), act != Activation::kRelu);
}

class FarOutTest : public GemmTest {};
INSTANTIATE_TEST_SUITE_P(All, FarOutTest, ::testing::ValuesIn(implementations()), name_of);

TEST_P(FarOutTest, SlopesOfActivations) {
  for (auto act : {Activation::kRelu, Activation::kGeluErf, Activation::kGeluTanh}) {
    SCOPED_TRACE(static_cast<int>(act));
    check_far_slopes<float>(ctx_, act);
    check_far_slopes<double>(ctx_, act);
  }
}

// What is dropped is 0, not -0, whatever the sign of the factors: the same bits whoever writes it.
TEST_P(GemmTest, NegativeFactorsLeaveNoSignOnWhatIsDropped) {
  for (const TileSize& tile : {TileSize{64, 1}, {64, 1, 3, 1}, {64, 24}, {32, 32}, {1, 1}}) {
    Array<float> a(64, 400, Layout::kRowMajor), b(400, 96, Layout::kRowMajor);
    Array<float> d(64, 96, Layout::kRowMajor);
    std::mt19937_64 random(9);
    for (Array<float>* x : {&a, &b}) x->fill([](auto, auto) { return 1; });
    d.fill([](auto, auto) { return -1; });
    const Mask mask(64, 96, tile, 0.5, false, random);
    GemmArgs args;
    args.a = a.view(), args.b = b.view(), args.d = d.view(), args.d_mask = mask.view();
    args.scale = -2;
    ASSERT_TRUE(gemm(ctx_, args).ok());
    for (std::int64_t i = 0; i < 64; ++i) {
      for (std::int64_t j = 0; j < 96; ++j) {
        if (element_kept(*mask.view(), i, j)) continue;
        ASSERT_FALSE(std::signbit(d.at(i, j))) << i << ", " << j;
        ASSERT_EQ(d.at(i, j), 0.0F) << i << ", " << j;
      }
    }
  }
}

}  // namespace
}  // namespace dropgemm::testing
