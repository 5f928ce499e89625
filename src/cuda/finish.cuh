// The finishing kernel.
#pragma once

#include "cuda/finish.h"

namespace dropgemm::cuda {

template <class E>
DROPGEMM_DEVICE void FinishKernel<E>::run(const Params& p, const Block& block) {
  using Sum = typename Number<E>::Sum;
  const auto factors = p.epilogue.factors();
  const bool by_rows = p.epilogue.d.col_stride == 1 || p.epilogue.d.row_stride != 1;
  const std::int32_t outer_count = by_rows ? p.m : p.n, inner_count = by_rows ? p.n : p.m;
  for (std::int32_t outer = block.index; outer < outer_count; outer += block.count) {
    for (std::int32_t inner = block.thread; inner < inner_count; inner += kThreads) {
      const std::int32_t row = by_rows ? outer : inner, col = by_rows ? inner : outer;
      const std::int32_t i = p.row_position != nullptr ? p.row_position[row] : row;
      const std::int32_t j = p.col_position != nullptr ? p.col_position[col] : col;
      const bool summed = p.staging.data != nullptr && i >= 0 && j >= 0;
      p.epilogue.store(factors, summed ? p.staging.data[i * p.staging.row_stride + j] : Sum(0), row,
                       col);
    }
  }
}

}  // namespace dropgemm::cuda
