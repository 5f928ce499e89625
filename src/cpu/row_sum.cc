// sum over k of op(A) . Ma, one value a row of op(A): the bias gradient of a weight gradient's
// call. Sums in float64, tile by tile, so dropped elements are never read.
#include <algorithm>

#include "cpu/product.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int64_t kRows = 128;  // of op(A), summed together by one thread

template <class T>
void sum_tile(const T* a, std::int64_t row_stride, std::int64_t depth_stride, std::int64_t rows,
              std::int64_t depth, double* sums) {
  if (row_stride == 1) {
    for (std::int64_t k = 0; k < depth; ++k) {
      const T* line = a + k * depth_stride;
      for (std::int64_t i = 0; i < rows; ++i) sums[i] += static_cast<double>(line[i]);
    }
  } else {
    for (std::int64_t i = 0; i < rows; ++i) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += static_cast<double>(a[i * row_stride + k * depth_stride]);
      }
      sums[i] += sum;
    }
  }
}

}  // namespace

template <class T>
void sum_rows_of_a(const GemmArgs& args) {
  const GemmShape s = gemm_shape(args);
  const AxisMask mask = a_axis_mask(args);
  const std::int64_t row_stride = args.trans_a ? args.a.col_stride : args.a.row_stride;
  const std::int64_t depth_stride = args.trans_a ? args.a.row_stride : args.a.col_stride;
  const std::int64_t tile_m = mask.mask != nullptr ? mask.first_tile() : s.m;
  const std::int64_t tile_k = mask.mask != nullptr ? mask.second_tile() : s.k;
  const auto* a = static_cast<const T*>(args.a.data);
  auto* out = static_cast<T*>(args.a_sum);

#pragma omp for schedule(static) nowait
  for (std::int64_t block = 0; block < (s.m + kRows - 1) / kRows; ++block) {
    const std::int64_t begin = block * kRows, end = std::min(s.m, begin + kRows);
    double sums[kRows] = {};
    for (std::int64_t k = 0; k < s.k;) {
      const std::int64_t next_k = std::min(s.k, (k / tile_k + 1) * tile_k);
      for (std::int64_t m = begin; m < end;) {
        const std::int64_t next_m = std::min(end, (m / tile_m + 1) * tile_m);
        if (mask.kept(m, k)) {
          sum_tile(a + m * row_stride + k * depth_stride, row_stride, depth_stride, next_m - m,
                   next_k - k, sums + (m - begin));
        }
        m = next_m;
      }
      k = next_k;
    }
    for (std::int64_t m = begin; m < end; ++m) out[m] = static_cast<T>(sums[m - begin]);
  }
}

template void sum_rows_of_a<float>(const GemmArgs&);
template void sum_rows_of_a<double>(const GemmArgs&);

}  // namespace dropgemm::cpu
