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
bool writes_between(const Product<F>& p, const Epilogue<typename F::Storage>& e) {
  const Axis& n = p.axes.n;
  return n.step > 1 && n.step <= kMaxStep && e.d.col_stride == 1 &&
         (e.aux_out.data == nullptr || e.aux_out.col_stride == 1) &&
         (!n.any_empty || e.empty_is_zero);
}

template <class F>
void fill_left_out(const Product<F>& p, const Epilogue<typename F::Storage>& e,
                   typename F::Sum* zeros) {
  const Axis &m_axis = p.axes.m, &n_axis = p.axes.n;
  std::fill_n(zeros, p.kernels->nr, typename F::Sum(0));
  const bool fill_dropped = p.args->out_fill == OutFill::kZero;
  // Where the epilogue of nothing is 0, empty is as good as dropped.
  const bool empty_is_zero = fill_dropped && e.empty_is_zero;
  // Columns that the tiles of computed rows write, zeros between them included.
  const bool between = writes_between(p, e);
  const std::int64_t first = n_axis.first - n_axis.first % n_axis.step;
  const std::int64_t last = std::min(n_axis.extent, first + n_axis.size * n_axis.step);
#pragma omp for schedule(static) nowait
  for (std::int64_t m = 0; m < m_axis.extent; ++m) {
    const Position row = position(m_axis, m);
    if (row == Position::kDropped || (row == Position::kEmpty && empty_is_zero)) {
      if (fill_dropped) write_zeros(p, e, m, 0, n_axis.extent);
      continue;
    }
    if (row == Position::kCompute && between) {
      if (fill_dropped && first > 0) write_zeros(p, e, m, 0, first);
      if (fill_dropped && last < n_axis.extent) write_zeros(p, e, m, last, n_axis.extent);
      continue;
    }
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
  template bool writes_between<F>(const Product<F>&, const Epilogue<F::Storage>&);           \
  template void write_zeros<F>(const Product<F>&, const Epilogue<F::Storage>&, std::int64_t, \
                               std::int64_t, std::int64_t);                                  \
  template void fill_left_out<F>(const Product<F>&, const Epilogue<F::Storage>&, F::Sum*);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
