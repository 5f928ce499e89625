// The finishing kernel.
#pragma once

#include "cuda/finish.h"

namespace dropgemm::cuda {

// Rows of D, kVector columns a thread.
template <class E>
DROPGEMM_DEVICE void finish_vectors(const typename FinishKernel<E>::Params& p, const Block& block) {
  using Sum = typename Number<E>::Sum;
  constexpr std::int32_t kVector = Epilogue<E>::kVector;
  const auto factors = p.epilogue.factors();
  for (std::int32_t row = block.index; row < p.m; row += block.count) {
    for (std::int32_t col = block.thread * kVector; col < p.n;
         col += FinishKernel<E>::kThreads * kVector) {
      const auto sum = [&](std::int32_t i) {
        return p.staging.data != nullptr ? p.staging.data[row * p.staging.row_stride + col + i]
                                         : Sum(0);
      };
      if (col + kVector <= p.n) {
        Sum values[kVector];
        DROPGEMM_UNROLL
        for (std::int32_t i = 0; i < kVector; ++i) values[i] = sum(i);
        p.epilogue.store(factors, values, Epilogue<E>::kKeepsAll, row, col);
        continue;
      }
      for (std::int32_t i = 0; col + i < p.n; ++i) {
        p.epilogue.store(factors, sum(i), row, col + i);
      }
    }
  }
}

template <class E>
DROPGEMM_DEVICE void FinishKernel<E>::run(const Params& p, const Block& block) {
  using Sum = typename Number<E>::Sum;
  if (p.epilogue.vectors) return finish_vectors<E>(p, block);
  const auto factors = p.epilogue.factors();
  const bool by_rows = p.epilogue.d.col_stride == 1 || p.epilogue.d.row_stride != 1;
  const std::int32_t outer_count = by_rows ? p.m : p.n, inner_count = by_rows ? p.n : p.m;
  for (std::int32_t outer = block.index; outer < outer_count; outer += block.count) {
    for (std::int32_t inner = block.thread; inner < inner_count; inner += kThreads) {
      const std::int32_t row = by_rows ? outer : inner, col = by_rows ? inner : outer;
      const Sum sum =
          p.staging.data != nullptr ? p.staging.data[row * p.staging.row_stride + col] : Sum(0);
      p.epilogue.store(factors, sum, row, col);
    }
  }
}

}  // namespace dropgemm::cuda
