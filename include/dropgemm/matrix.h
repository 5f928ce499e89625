// Non-owning views of 2-D strided arrays. Strides are in elements and may be any
// value an input's memory allows (0 broadcasts); an output must not overlap itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "dropgemm/bfloat16.h"
#include "dropgemm/float16.h"
#include "dropgemm/status.h"

namespace dropgemm {

enum class DType : std::int32_t { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

[[nodiscard]] std::size_t dtype_size(DType dtype);  // in bytes
[[nodiscard]] const char* dtype_name(DType dtype);  // "float32"

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct dtype_of<BFloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct dtype_of<Float16> {
  static constexpr DType value = DType::kFloat16;
};

struct MatrixView {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
  DType dtype = DType::kFloat32;
};

struct ConstMatrixView {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
  DType dtype = DType::kFloat32;

  ConstMatrixView() = default;
  ConstMatrixView(const void* data_, std::int64_t rows_, std::int64_t cols_,
                  std::int64_t row_stride_, std::int64_t col_stride_, DType dtype_)
      : data(data_), rows(rows_), cols(cols_), row_stride(row_stride_), col_stride(col_stride_),
        dtype(dtype_) {}
  ConstMatrixView(const MatrixView& m)  // NOLINT(google-explicit-constructor): like const T*
      : data(m.data), rows(m.rows), cols(m.cols), row_stride(m.row_stride),
        col_stride(m.col_stride), dtype(m.dtype) {}

  // Absent operands (an addend nobody asked for) have no data and no elements.
  [[nodiscard]] bool present() const { return data != nullptr; }
};

// Row-major views of contiguous memory.
template <class T>
MatrixView matrix_view(T* data, std::int64_t rows, std::int64_t cols) {
  return {data, rows, cols, cols, 1, dtype_of<T>::value};
}
template <class T>
ConstMatrixView matrix_view(const T* data, std::int64_t rows, std::int64_t cols) {
  return {data, rows, cols, cols, 1, dtype_of<T>::value};
}

// The transposed view of the same memory.
[[nodiscard]] ConstMatrixView transposed(const ConstMatrixView& m);
[[nodiscard]] MatrixView transposed(const MatrixView& m);

// Errors: kInvalidArgument for a negative size, a null pointer with elements behind it, a
// pointer that is not a multiple of the element size, sizes whose product overflows int64.
[[nodiscard]] Status check_matrix(const std::string& name, const ConstMatrixView& m);

// As check_matrix, and: no two elements of the view may share memory.
[[nodiscard]] Status check_output(const std::string& name, const MatrixView& m);

// True when the two views may share an element. Exact for views of one row-major parent
// (column slices of the same array do not overlap); otherwise compares address ranges.
[[nodiscard]] bool may_overlap(const ConstMatrixView& x, const ConstMatrixView& y);

}  // namespace dropgemm
