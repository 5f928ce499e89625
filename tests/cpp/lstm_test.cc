// lstm_cell() and its gradient: every instruction set against the reference within the rounding of
// its operations, tails and large arguments among them; the same bits for every number of threads;
// and what is refused.
#include "dropgemm/lstm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

// Rows of a matrix with room between and behind them that nothing may touch.
template <class T>
class Rows {
 public:
  Rows(std::int64_t rows, std::int64_t cols)
      : rows_(rows), cols_(cols), data_(static_cast<std::size_t>(rows * (cols + kRoom)), T(kMark)) {
  }
  MatrixView view() { return {data_.data(), rows_, cols_, cols_ + kRoom, 1, dtype_of<T>::value}; }
  T& at(std::int64_t i, std::int64_t j) {
    return data_[static_cast<std::size_t>(i * (cols_ + kRoom) + j)];
  }
  template <class Value>
  void fill(const Value& value) {
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < cols_; ++j) at(i, j) = T(value());
    }
  }
  bool room_is_intact() {
    bool intact = true;
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = cols_; j < cols_ + kRoom; ++j) {
        intact &= static_cast<float>(at(i, j)) == kMark;
      }
    }
    return intact;
  }
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t cols() const { return cols_; }

 private:
  static constexpr std::int64_t kRoom = 5;
  static constexpr float kMark = 77;
  std::int64_t rows_, cols_;
  std::vector<T> data_;
};

template <class T>
struct Step {
  Step(std::int64_t rows, std::int64_t units, std::uint64_t seed)
      : sums(rows, 4 * units), gates(rows, 4 * units), d_gates(rows, 4 * units),
        c_before(rows, units), c(rows, units), h(rows, units), d_h(rows, units), d_c(rows, units) {
    // From what functions have straight lines for to where they are flat.
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    const double spread[] = {1e-4, 0.3, 3, 40, 1000};
    const auto value = [&] { return spread[random() % 5] * normal(random); };
    sums.fill(value);
    const auto small = [&] { return normal(random); };
    for (Rows<T>* x : {&c_before, &d_h, &d_c}) x->fill(small);
  }
  Status run(const Context& ctx) {
    LstmCellArgs forward{sums.view(), c_before.view(), gates.view(), c.view(), h.view()};
    Status status = lstm_cell(ctx, forward);
    if (!status.ok()) return status;
    return lstm_cell_grad(
        ctx, {gates.view(), c_before.view(), c.view(), d_h.view(), d_c.view(), d_gates.view()});
  }
  Rows<T> sums, gates, d_gates, c_before, c, h, d_h, d_c;
};

class LstmTest : public GemmTest {
 protected:
  // The functions are good to 8 eps of their result, every operation to eps of its own; no sum here
  // has terms larger than the gradients, cells and ones that go in, and none passes more than 16
  // operations. What the gradient starts from differs by a rounding already: its factors 1 - x^2
  // and x (1 - x) by as much of 1.
  template <class T>
  void check(std::int64_t rows, std::int64_t units, std::uint64_t seed) {
    Step<T> ours(rows, units, seed), theirs(rows, units, seed);
    Context reference;
    ASSERT_TRUE(find_backend("reference", &reference.backend).ok());
    ASSERT_TRUE(theirs.run(reference).ok());
    const Status status = ours.run(ctx_);
    ASSERT_TRUE(status.ok()) << status.message();
    const double eps = 32 * kEpsilon<Sum<T>> + 4 * kEpsilon<T>;
    const auto compare = [&](Rows<T>& got, Rows<T>& want, const char* name) {
      EXPECT_TRUE(got.room_is_intact()) << name;
      for (std::int64_t i = 0; i < got.rows(); ++i) {
        for (std::int64_t j = 0; j < got.cols(); ++j) {
          const double scale = 1 +
                               std::abs(static_cast<double>(ours.c_before.at(i, j % units))) *
                                   (1 + std::abs(static_cast<double>(ours.d_h.at(i, j % units)))) +
                               5 * std::abs(static_cast<double>(want.at(i, j))) +
                               5 * std::abs(static_cast<double>(ours.d_h.at(i, j % units)));
          ASSERT_NEAR(static_cast<double>(got.at(i, j)), static_cast<double>(want.at(i, j)),
                      eps * scale)
              << name << " " << i << " " << j;
        }
      }
    };
    compare(ours.gates, theirs.gates, "gates");
    compare(ours.c, theirs.c, "c");
    compare(ours.h, theirs.h, "h");
    compare(ours.d_c, theirs.d_c, "d_c");
    compare(ours.d_gates, theirs.d_gates, "d_gates");
  }
};
INSTANTIATE_TEST_SUITE_P(All, LstmTest, ::testing::ValuesIn(cpu_implementations()), name_of);

TEST_P(LstmTest, MatchesTheReference) {
  for (const std::int64_t units : {1, 3, 8, 15, 16, 17, 40, 200}) {
    for (const std::int64_t rows : {1, 5}) {
      check<float>(rows, units, 7);
      check<double>(rows, units, 8);
      check<BFloat16>(rows, units, 9);
    }
  }
}

// tanh of something small keeps its digits, and NaN stays NaN.
TEST_P(LstmTest, SmallCandidatesAndNan) {
  constexpr std::int64_t kUnits = 40;
  Step<float> step(2, kUnits, 1);
  for (std::int64_t j = 0; j < kUnits; ++j) {
    step.sums.at(0, 2 * kUnits + j) = std::pow(0.5F, static_cast<float>(j + 1));
    step.sums.at(1, 2 * kUnits + j) = std::numeric_limits<float>::quiet_NaN();
  }
  ASSERT_TRUE(step.run(ctx_).ok());
  for (std::int64_t j = 0; j < kUnits; ++j) {
    const double expected = std::tanh(std::pow(0.5, static_cast<double>(j + 1)));
    EXPECT_NEAR(step.gates.at(0, 2 * kUnits + j), expected, 8 * kEpsilon<float> * expected) << j;
    EXPECT_TRUE(std::isnan(step.gates.at(1, 2 * kUnits + j)));
    EXPECT_TRUE(std::isnan(step.h.at(1, j)));
  }
}

TEST_P(LstmTest, BitsDoNotDependOnThreads) {
  Step<float> one(12, 700, 3);
  ctx_.num_threads = 1;
  ASSERT_TRUE(one.run(ctx_).ok());
  for (const int threads : {2, 3}) {
    Step<float> other(12, 700, 3);
    ctx_.num_threads = threads;
    ASSERT_TRUE(other.run(ctx_).ok());
    for (auto of :
         {&Step<float>::gates, &Step<float>::d_gates, &Step<float>::h, &Step<float>::d_c}) {
      for (std::int64_t i = 0; i < 12; ++i) {
        EXPECT_EQ(std::memcmp(&(one.*of).at(i, 0), &(other.*of).at(i, 0),
                              sizeof(float) * static_cast<std::size_t>((one.*of).cols())),
                  0);
      }
    }
  }
}

// ---- what is refused ----------------------------------------------------------------------------

class LstmArguments : public ::testing::Test {
 protected:
  static std::string refusal(const LstmCellArgs& args) { return lstm_cell({}, args).message(); }
  LstmCellArgs args() {
    return {step_.sums.view(), step_.c_before.view(), step_.gates.view(), step_.c.view(),
            step_.h.view()};
  }
  Step<float> step_{2, 8, 1};
};

TEST_F(LstmArguments, Shapes) {
  LstmCellArgs wrong = args();
  wrong.sums.cols = 31;
  EXPECT_EQ(refusal(wrong), "sums: expected shape [2, 32], got [2, 31]");
  wrong = args();
  wrong.h.rows = 1;
  EXPECT_EQ(refusal(wrong), "h: expected shape [2, 8], got [1, 8]");
  wrong = args();
  wrong.c_before.col_stride = 2;
  EXPECT_EQ(refusal(wrong), "c_before: expected columns side by side, got a stride of 2");
}

TEST_F(LstmArguments, Overlaps) {
  LstmCellArgs wrong = args();
  wrong.h = wrong.c;
  EXPECT_EQ(refusal(wrong), "c: expected memory of its own, got an overlap with h");
}

TEST_F(LstmArguments, Dtypes) {
  LstmCellArgs wrong = args();
  Rows<double> sums(2, 32);
  wrong.sums = sums.view();
  EXPECT_EQ(lstm_cell({}, wrong).code(), StatusCode::kInvalidType);
  wrong.c.dtype = DType::kFloat16;
  EXPECT_EQ(refusal(wrong), "c: expected float32, float64 or bfloat16, got float16");
}

TEST_F(LstmArguments, ABackendWithoutIt) {
  for (const std::string& name : cuda_backends()) {
    Context ctx;
    ASSERT_TRUE(find_tested(name, &ctx.backend).ok());
    const Status status = lstm_cell(ctx, args());
    EXPECT_EQ(status.code(), StatusCode::kUnsupported);
    EXPECT_EQ(status.message(),
              std::string("lstm_cell: expected the cpu backend, got ") + ctx.backend->name);
  }
}

}  // namespace
}  // namespace dropgemm::testing
