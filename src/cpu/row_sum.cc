// sum over k of op(A) . Ma, one value a row of op(A): the bias gradient of a weight gradient's
// call. Sums in float64; no sum that anyone reads has a dropped element in it.
#include <algorithm>

#include "cpu/isa.h"
#include "cpu/product.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int64_t kRows = 128;  // of op(A), summed together by one thread

template <class F>
void sum_tile(const typename F::Storage* a, std::int64_t row_stride, std::int64_t depth_stride,
              std::int64_t rows, std::int64_t depth, double* sums) {
  if (row_stride == 1) {
    kernels<F>().add_lines(a, depth_stride, depth, rows, sums);
    return;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += static_cast<double>(a[i * row_stride + k * depth_stride]);
    }
    sums[i] += sum;
  }
}

}  // namespace

template <class F>
void sum_rows_of_a(const GemmArgs& args) {
  const GemmShape s = gemm_shape(args);
  const AxisMask mask = a_axis_mask(args);
  const std::int64_t row_stride = args.trans_a ? args.a.col_stride : args.a.row_stride;
  const std::int64_t depth_stride = args.trans_a ? args.a.row_stride : args.a.col_stride;
  // Rows that are kept or dropped whole are summed all together, contiguous ones as fast as they
  // are read; the sums of dropped rows are thrown away.
  const bool whole_rows = mask.mask == nullptr || mask.second_tile() >= s.k;
  const std::int64_t tile_m = whole_rows ? s.m : mask.first_tile();
  const std::int64_t tile_k = whole_rows ? s.k : mask.second_tile();
  typedef typename F::Storage S;
  const auto* a = static_cast<const S*>(args.a.data);
  auto* out = static_cast<S*>(args.a_sum);

#pragma omp for schedule(static) nowait
  for (std::int64_t block = 0; block < (s.m + kRows - 1) / kRows; ++block) {
    const std::int64_t begin = block * kRows, end = std::min(s.m, begin + kRows);
    double sums[kRows] = {};
    for (std::int64_t k = 0; k < s.k;) {
      const std::int64_t next_k = std::min(s.k, (k / tile_k + 1) * tile_k);
      for (std::int64_t m = begin; m < end;) {
        const std::int64_t next_m = std::min(end, (m / tile_m + 1) * tile_m);
        if (whole_rows || mask.kept(m, k)) {
          sum_tile<F>(a + m * row_stride + k * depth_stride, row_stride, depth_stride, next_m - m,
                      next_k - k, sums + (m - begin));
        }
        m = next_m;
      }
      k = next_k;
    }
    for (std::int64_t m = begin; m < end; ++m) {
      const bool kept = !whole_rows || s.k == 0 || mask.kept(m, 0);
      out[m] = kept ? static_cast<S>(sums[m - begin]) : S(0);
    }
  }
}

#define DROPGEMM_INSTANTIATE(F) template void sum_rows_of_a<F>(const GemmArgs&);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
