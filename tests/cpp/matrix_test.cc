// Strided views: checks and overlap, the latter against a brute-force list of addresses.
#include "dropgemm/matrix.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <limits>
#include <set>
#include <string>
#include <vector>

namespace dropgemm {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

MatrixView strided(float* data, std::int64_t rows, std::int64_t cols, std::int64_t row_stride,
                   std::int64_t col_stride) {
  return {data, rows, cols, row_stride, col_stride, DType::kFloat32};
}

std::multiset<const float*> addresses(const MatrixView& m) {
  std::multiset<const float*> all;
  for (std::int64_t i = 0; i < m.rows; ++i) {
    for (std::int64_t j = 0; j < m.cols; ++j) {
      all.insert(static_cast<const float*>(m.data) + i * m.row_stride + j * m.col_stride);
    }
  }
  return all;
}

bool share_an_element(const MatrixView& x, const MatrixView& y) {
  const auto of_x = addresses(x);
  for (const float* address : addresses(y)) {
    if (of_x.count(address) != 0) return true;
  }
  return false;
}

TEST(Matrix, DTypes) {
  EXPECT_EQ(dtype_size(DType::kFloat32), 4U);
  EXPECT_EQ(dtype_size(DType::kFloat64), 8U);
  EXPECT_EQ(dtype_size(static_cast<DType>(9)), 0U);
  EXPECT_STREQ(dtype_name(DType::kFloat32), "float32");
  EXPECT_STREQ(dtype_name(DType::kFloat64), "float64");
  EXPECT_STREQ(dtype_name(static_cast<DType>(9)), "an unknown dtype");
}

TEST(Matrix, TransposedSwapsSizesAndStrides) {
  std::vector<double> data(12);
  const ConstMatrixView m = matrix_view(data.data(), 3, 4);
  const ConstMatrixView t = transposed(m);
  EXPECT_EQ(t.rows, 4);
  EXPECT_EQ(t.cols, 3);
  EXPECT_EQ(t.row_stride, 1);
  EXPECT_EQ(t.col_stride, 4);
  EXPECT_EQ(t.data, m.data);
  EXPECT_EQ(t.dtype, DType::kFloat64);
}

TEST(Matrix, AcceptsWhatMemoryAllows) {
  std::vector<float> data(64);
  EXPECT_TRUE(check_matrix("a", strided(data.data(), 4, 8, 8, 1)).ok());
  EXPECT_TRUE(check_matrix("a", strided(data.data(), 4, 8, 0, 1)).ok());
  EXPECT_TRUE(check_matrix("a", strided(data.data() + 63, 4, 8, -8, -1)).ok());
  EXPECT_TRUE(check_matrix("a", strided(nullptr, 0, 8, 8, 1)).ok());
  EXPECT_TRUE(check_matrix("a", strided(nullptr, 8, 0, 0, 1)).ok());
  EXPECT_TRUE(check_matrix("a", strided(data.data(), 1, 1, kHuge, kHuge)).ok());
}

TEST(Matrix, ChecksNameTheOperandAndWhatCame) {
  std::vector<float> data(64);
  const auto message = [](const ConstMatrixView& m) { return check_matrix("a", m).message(); };
  EXPECT_EQ(message(strided(data.data(), -1, 8, 8, 1)),
            "a: expected sizes of at least 0, got [-1, 8]");
  EXPECT_EQ(message(strided(data.data(), 2, -8, 8, 1)),
            "a: expected sizes of at least 0, got [2, -8]");
  EXPECT_EQ(message(strided(nullptr, 2, 3, 3, 1)),
            "a: expected memory for [2, 3] elements, got a null pointer");
  EXPECT_EQ(
      message(strided(data.data(), kHuge, 2, 0, 0)),
      "a: expected fewer than 2^63 bytes of elements, got [" + std::to_string(kHuge) + ", 2]");
  EXPECT_NE(message(strided(data.data(), 3, 2, kHuge / 2, 1)).find("within the address space"),
            std::string::npos);
  EXPECT_NE(message(strided(data.data(), 3, 2, std::numeric_limits<std::int64_t>::min(), 1))
                .find("within the address space"),
            std::string::npos);
  ConstMatrixView odd = strided(data.data(), 2, 2, 2, 1);
  odd.data = reinterpret_cast<const char*>(data.data()) + 2;
  EXPECT_EQ(message(odd),
            "a: expected a pointer aligned to 4 bytes, got one that is 2 past a "
            "multiple");
  ConstMatrixView unknown = strided(data.data(), 2, 2, 2, 1);
  unknown.dtype = static_cast<DType>(9);
  const Status status = check_matrix("a", unknown);
  EXPECT_EQ(status.code(), StatusCode::kInvalidType);
  EXPECT_EQ(status.message(),
            "a: expected float32, float64, bfloat16 or float16, got dtype code 9");
}

TEST(Matrix, OutputsMustNotFoldOntoThemselves) {
  std::vector<float> data(4096);
  float* const middle = data.data() + 2048;
  int refused = 0, taken = 0;
  for (std::int64_t rows = 1; rows <= 4; ++rows) {
    for (std::int64_t cols = 1; cols <= 4; ++cols) {
      for (std::int64_t row_stride = -7; row_stride <= 7; ++row_stride) {
        for (std::int64_t col_stride = -7; col_stride <= 7; ++col_stride) {
          const MatrixView m = strided(middle, rows, cols, row_stride, col_stride);
          const auto all = addresses(m);
          const bool distinct = std::set<const float*>(all.begin(), all.end()).size() == all.size();
          const Status status = check_output("out", m);
          ASSERT_EQ(status.ok(), distinct) << rows << "x" << cols << " strides " << row_stride
                                           << ", " << col_stride << ": " << status.message();
          ++(distinct ? taken : refused);
        }
      }
    }
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(taken, 100);
  EXPECT_EQ(check_output("out", strided(middle, 3, 4, 0, 1)).message(),
            "out: expected elements that do not share memory, got sizes [3, 4] with strides "
            "[0, 1]");
  EXPECT_FALSE(check_output("out", strided(nullptr, 3, 4, 4, 1)).ok());
  EXPECT_TRUE(check_output("out", strided(nullptr, 0, 4, 0, 0)).ok());
}

// Exact for slices of one row-major parent, whichever of the two is turned.
TEST(Matrix, OverlapOfSlicesIsExact) {
  constexpr std::int64_t kPitch = 6, kRows = 5;
  std::vector<float> data(static_cast<std::size_t>(kPitch * kRows));
  int apart = 0, together = 0;
  const auto slice = [&](std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t cols) {
    return strided(data.data() + row * kPitch + col, rows, cols, kPitch, 1);
  };
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t col = 0; col < kPitch; ++col) {
      for (std::int64_t rows = 1; row + rows <= kRows; rows += 2) {
        for (std::int64_t cols = 1; col + cols <= kPitch; ++cols) {
          const MatrixView y = slice(row, col, rows, cols);
          for (const MatrixView& x : {slice(1, 2, 3, 2), slice(0, 0, 5, 3), slice(2, 0, 1, 6),
                                      slice(0, 5, 4, 1), slice(0, 0, 5, 6)}) {
            const bool expected = share_an_element(x, y);
            ASSERT_EQ(may_overlap(x, y), expected)
                << row << " " << col << " " << rows << "x" << cols;
            ASSERT_EQ(may_overlap(y, x), expected);
            ASSERT_EQ(may_overlap(transposed(x), y), expected);
            ASSERT_EQ(may_overlap(transposed(x), transposed(y)), expected);
            ++(expected ? together : apart);
          }
        }
      }
    }
  }
  EXPECT_GT(apart, 100);
  EXPECT_GT(together, 100);
}

// Any strides: never says "apart" of two views that share an element.
TEST(Matrix, OverlapIsNeverMissed) {
  std::vector<float> data(256);
  float* const middle = data.data() + 128;
  std::uint32_t state = 1;
  const auto below = [&](std::uint32_t n) {
    state = state * 1664525U + 1013904223U;
    return static_cast<std::int64_t>((state >> 8) % n);
  };
  int shared = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    const auto draw = [&] {
      return strided(middle + below(40) - 20, below(5), below(5), below(13) - 6, below(13) - 6);
    };
    const MatrixView x = draw();
    const MatrixView y = draw();
    if (!share_an_element(x, y)) continue;
    ++shared;
    ASSERT_TRUE(may_overlap(x, y))
        << x.rows << "x" << x.cols << " strides " << x.row_stride << ", " << x.col_stride << " and "
        << y.rows << "x" << y.cols << " strides " << y.row_stride << ", " << y.col_stride;
  }
  EXPECT_GT(shared, 1000);
}

TEST(Matrix, OverlapOfOtherKinds) {
  std::vector<float> data(64), other(64);
  const MatrixView whole = matrix_view(data.data(), 8, 8);
  EXPECT_FALSE(may_overlap(whole, matrix_view(other.data(), 8, 8)));
  EXPECT_FALSE(may_overlap(whole, ConstMatrixView()));
  EXPECT_FALSE(may_overlap(whole, matrix_view(data.data(), 0, 8)));
  EXPECT_FALSE(may_overlap(matrix_view(data.data(), 4, 8), matrix_view(data.data() + 32, 4, 8)));
  // Other dtypes meet byte by byte: 8 bytes before the start of the second half.
  const MatrixView doubles = {data.data() + 30, 1, 1, 1, 1, DType::kFloat64};
  EXPECT_FALSE(may_overlap(doubles, matrix_view(data.data() + 32, 4, 8)));
  EXPECT_TRUE(may_overlap(doubles, matrix_view(data.data() + 31, 1, 1)));
}

}  // namespace
}  // namespace dropgemm
