// Strided views: their checks, and which of them may share memory.
// Knows nothing of masks or of what a matrix is for.
#include "dropgemm/matrix.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>

namespace dropgemm {
namespace {

constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

std::string size_text(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

std::uint64_t magnitude(std::int64_t x) {
  return x < 0 ? 0 - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
}

// |last index * stride * element bytes| is at most half of int64's range, so that the sum over
// both dimensions and the address arithmetic on it stay within it.
bool extent_fits(std::int64_t size, std::int64_t stride, std::int64_t element_bytes) {
  if (size <= 1) return true;
  const std::uint64_t limit = static_cast<std::uint64_t>(kMaxInt64) / 4;
  return magnitude(stride) <=
         limit / static_cast<std::uint64_t>(element_bytes) / static_cast<std::uint64_t>(size - 1);
}

bool is_empty(const ConstMatrixView& m) { return m.data == nullptr || m.rows <= 0 || m.cols <= 0; }

// The bytes between the first element and the ends of a view that is not empty: [low, high).
struct ByteRange {
  std::int64_t low;
  std::int64_t high;
};
ByteRange byte_range(const ConstMatrixView& m) {
  const auto bytes = static_cast<std::int64_t>(dtype_size(m.dtype));
  const std::int64_t down = (m.rows - 1) * m.row_stride * bytes;
  const std::int64_t across = (m.cols - 1) * m.col_stride * bytes;
  return {std::min<std::int64_t>(down, 0) + std::min<std::int64_t>(across, 0),
          std::max<std::int64_t>(down, 0) + std::max<std::int64_t>(across, 0) + bytes};
}

// A view as a run of `cols` neighbouring elements in each of `rows` rows, where it is one.
struct Rows {
  bool valid;
  std::int64_t rows, cols, pitch;
};
Rows as_rows(const ConstMatrixView& m) {
  if (m.cols > 1 && m.col_stride == 1) return {true, m.rows, m.cols, m.row_stride};
  if (m.rows > 1 && m.row_stride == 1) return {true, m.cols, m.rows, m.col_stride};
  if (m.cols == 1) return {true, m.rows, 1, m.row_stride};
  if (m.rows == 1) return {true, m.cols, 1, m.col_stride};
  return {false, 0, 0, 0};
}

}  // namespace

std::size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 4;
    case DType::kFloat64:
      return 8;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
  }
  return 0;
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "an unknown dtype";
}

ConstMatrixView transposed(const ConstMatrixView& m) {
  return {m.data, m.cols, m.rows, m.col_stride, m.row_stride, m.dtype};
}

MatrixView transposed(const MatrixView& m) {
  return {m.data, m.cols, m.rows, m.col_stride, m.row_stride, m.dtype};
}

Status check_matrix(const std::string& name, const ConstMatrixView& m) {
  const auto bytes = static_cast<std::int64_t>(dtype_size(m.dtype));
  if (bytes == 0) {
    return Status::invalid_type(name, "float32, float64, bfloat16 or float16",
                                "dtype code " + std::to_string(static_cast<int>(m.dtype)));
  }
  if (m.rows < 0 || m.cols < 0) {
    return Status::invalid(name, "sizes of at least 0", size_text(m.rows, m.cols));
  }
  if (m.rows > 0 && m.cols > kMaxInt64 / bytes / m.rows) {
    return Status::invalid(name, "fewer than 2^63 bytes of elements", size_text(m.rows, m.cols));
  }
  if (m.rows == 0 || m.cols == 0) return {};
  if (!extent_fits(m.rows, m.row_stride, bytes) || !extent_fits(m.cols, m.col_stride, bytes)) {
    return Status::invalid(name, "strides that stay within the address space",
                           "sizes " + size_text(m.rows, m.cols) + " with strides " +
                               size_text(m.row_stride, m.col_stride));
  }
  if (m.data == nullptr) {
    return Status::invalid(name, "memory for " + size_text(m.rows, m.cols) + " elements",
                           "a null pointer");
  }
  const auto offset = reinterpret_cast<std::uintptr_t>(m.data) % static_cast<std::uintptr_t>(bytes);
  if (offset != 0) {
    return Status::invalid(name, "a pointer aligned to " + std::to_string(bytes) + " bytes",
                           "one that is " + std::to_string(offset) + " past a multiple");
  }
  return {};
}

Status check_output(const std::string& name, const MatrixView& m) {
  DROPGEMM_RETURN_IF_ERROR(check_matrix(name, m));
  if (m.rows == 0 || m.cols == 0) return {};
  const std::uint64_t down = m.rows > 1 ? magnitude(m.row_stride) : 0;
  const std::uint64_t across = m.cols > 1 ? magnitude(m.col_stride) : 0;
  bool collides = (m.rows > 1 && down == 0) || (m.cols > 1 && across == 0);
  if (!collides && m.rows > 1 && m.cols > 1) {
    // Two elements share memory iff i * down == j * across with 0 < i < rows, 0 < j < cols; the
    // smallest such pair is (across, down) over their gcd.
    const std::uint64_t common = std::gcd(down, across);
    collides = across / common < static_cast<std::uint64_t>(m.rows) &&
               down / common < static_cast<std::uint64_t>(m.cols);
  }
  if (!collides) return {};
  return Status::invalid(name, "elements that do not share memory",
                         "sizes " + size_text(m.rows, m.cols) + " with strides " +
                             size_text(m.row_stride, m.col_stride));
}

bool may_overlap(const ConstMatrixView& x, const ConstMatrixView& y) {
  if (is_empty(x) || is_empty(y)) return false;
  // From x's first element to y's, in bytes; modulo 2^64 the difference of any two addresses.
  const auto offset = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(y.data) -
                                                reinterpret_cast<std::uintptr_t>(x.data));
  const ByteRange xs = byte_range(x);
  const ByteRange ys = byte_range(y);
  if (offset >= xs.high - ys.low || offset <= xs.low - ys.high) return false;

  Rows a = as_rows(x);
  Rows b = as_rows(y);
  const auto bytes = static_cast<std::int64_t>(dtype_size(x.dtype));
  if (!a.valid || !b.valid || x.dtype != y.dtype || offset % bytes != 0) return true;
  if (a.rows == 1) a.pitch = b.pitch;  // the pitch of a single row says nothing
  if (b.rows == 1) b.pitch = a.pitch;
  const std::int64_t pitch = a.pitch;
  if (pitch != b.pitch || a.cols > pitch || b.cols > pitch) return true;
  // Element (i, j) of x is element (k, l) of y iff (i - k) * pitch + (j - l) == distance, and
  // |j - l| < pitch leaves two ways to write the distance.
  const std::int64_t distance = offset / bytes;
  const std::int64_t across = (distance % pitch + pitch) % pitch;
  const std::int64_t down = (distance - across) / pitch;
  const auto meets = [&](std::int64_t rows_apart, std::int64_t cols_apart) {
    return -b.rows < rows_apart && rows_apart < a.rows && -b.cols < cols_apart &&
           cols_apart < a.cols;
  };
  return meets(down, across) || meets(down + 1, across - pitch);
}

}  // namespace dropgemm
