// What compaction leaves out of D: zeros where D is dropped, act(addend + bias) where D is kept
// but everything that would be summed is dropped.
#include <algorithm>

#include "cpu/product.h"

namespace dropgemm::cpu {
namespace {

Position position(const Axis& axis, std::int64_t i) {
  return axis.position != nullptr ? axis.position[i] : Position::kCompute;
}

// The epilogue over a sum of nothing, columns [begin, end) of one row.
template <class F>
void write_empty(const Product<F>& p, const Epilogue<typename F::Storage>& e,
                 const typename F::Sum* zeros, std::int64_t row, std::int64_t begin,
                 std::int64_t end) {
  for (std::int64_t n = begin; n < end; n += p.kernels->nr) {
    TileStore<typename F::Sum> tile{};
    tile.acc = zeros;
    tile.row_begin = row;
    tile.col_begin = n;
    tile.rows = 1;
    tile.cols = static_cast<std::int32_t>(std::min<std::int64_t>(p.kernels->nr, end - n));
    tile.is_final = true;
    p.kernels->store(e, tile);
  }
}

}  // namespace

template <class F>
void write_zeros(const Product<F>& p, const Epilogue<typename F::Storage>& e, std::int64_t row,
                 std::int64_t begin, std::int64_t end) {
  typedef typename F::Storage S;
  for (const Plane<S>* out : {&e.d, &e.aux_out}) {
    if (out->data == nullptr) continue;
    S* at = out->data + row * out->row_stride + begin * out->col_stride;
    if (out->col_stride == 1 && e.stream_zeros) {
      p.kernels->stream_zeros(at, end - begin);
    } else if (out->col_stride == 1) {
      std::fill_n(at, end - begin, S(0));
    } else {
      for (std::int64_t j = 0; j < end - begin; ++j) at[j * out->col_stride] = S(0);
    }
  }
}

template <class F>
void place_columns(const Product<F>& p, std::int64_t begin, std::int64_t sums,
                   TileStore<typename F::Sum>* tile) {
  const Axis& axis = p.axes.n;
  const auto column = [&](std::int64_t i) { return axis.first + axis.offset(i); };
  // Where the tile whose first packed column is i begins to fill: with a cache line if possible.
  const auto edge = [&](std::int64_t i) {
    if (i == 0) return std::int64_t{0};
    if (i >= axis.size) return axis.extent;
    constexpr std::int64_t kLine = 64 / sizeof(typename F::Storage);
    return std::max(column(i - 1) + 1, column(i) / kLine * kLine);
  };
  const std::int64_t end = begin + sums;
  tile->col_begin = axis.fills_between ? edge(begin) : column(begin);
  const std::int64_t last = axis.fills_between ? edge(end) : column(end - 1) + 1;
  tile->cols = static_cast<std::int32_t>(last - tile->col_begin);
  if (tile->cols != sums) tile->columns = {axis.summed, axis.kept};
}

template <class F>
void fill_left_out(const Product<F>& p, const Epilogue<typename F::Storage>& e,
                   typename F::Sum* zeros) {
  const Axis &m_axis = p.axes.m, &n_axis = p.axes.n;
  std::fill_n(zeros, p.kernels->nr, typename F::Sum(0));
  const bool fill_dropped = p.args->out_fill == OutFill::kZero;
  // Where the epilogue of nothing is 0, empty is as good as dropped.
  const bool empty_is_zero = fill_dropped && e.empty_is_zero;
#pragma omp for schedule(static) nowait
  for (std::int64_t m = 0; m < m_axis.extent; ++m) {
    const Position row = position(m_axis, m);
    if (row == Position::kDropped || (row == Position::kEmpty && empty_is_zero)) {
      if (fill_dropped) write_zeros(p, e, m, 0, n_axis.extent);
      continue;
    }
    if (row == Position::kCompute && n_axis.fills_between) continue;
    const std::int64_t runs = n_axis.runs != nullptr ? n_axis.num_runs : 1;
    for (std::int64_t r = 0; r < runs; ++r) {
      const std::int64_t begin = n_axis.runs != nullptr ? n_axis.runs[r] : 0;
      const std::int64_t end = n_axis.runs != nullptr ? n_axis.runs[r + 1] : n_axis.extent;
      const Position here = std::max(row, position(n_axis, begin));
      if (here == Position::kEmpty && !empty_is_zero) {
        write_empty(p, e, zeros, m, begin, end);
      } else if (here != Position::kCompute && fill_dropped) {
        write_zeros(p, e, m, begin, end);
      }
    }
  }
}

#define DROPGEMM_INSTANTIATE(F)                                                              \
  template void place_columns<F>(const Product<F>&, std::int64_t, std::int64_t,              \
                                 TileStore<F::Sum>*);                                        \
  template void write_zeros<F>(const Product<F>&, const Epilogue<F::Storage>&, std::int64_t, \
                               std::int64_t, std::int64_t);                                  \
  template void fill_left_out<F>(const Product<F>&, const Epilogue<F::Storage>&, F::Sum*);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
