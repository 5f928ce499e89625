// What becomes of sums: the epilogue of a product, and the tiles of D that it is applied to.
#include <cmath>

#include "cpu/product.h"

namespace dropgemm::cpu {
namespace {

// From these sizes of D on its zeros, which nobody reads, and all of it, of which nobody would
// find much in the cache, are written around the cache. A zero stored into the cache may have to
// fetch its line from another core's first; so may anything that a team writes where its other
// threads have been reading, and lines are slower to take from there than from memory.
constexpr std::int64_t kStreamZeros = 128 << 10;
constexpr std::int64_t kStream = 16 << 20;
constexpr std::int64_t kTeamStream = 64 << 10;

template <class S>
Plane<S> plane(const MatrixView& m) {
  return {static_cast<S*>(m.data), m.row_stride, m.col_stride};
}
template <class S>
Plane<const S> plane(const ConstMatrixView& m) {
  return {static_cast<const S*>(m.data), m.row_stride, m.col_stride};
}

template <class S>
void to_kept_rows(const Axis& m, Plane<S>* plane) {
  if (plane->data == nullptr) return;
  plane->data += m.first * plane->row_stride;
  plane->row_stride *= m.step;
}

}  // namespace

template <class F>
Epilogue<typename F::Storage> make_epilogue(const Product<F>& p) {
  typedef typename F::Storage S;
  typedef typename F::Sum T;
  const GemmArgs& args = *p.args;
  Epilogue<S> e{};
  e.d = plane<S>(args.d);
  e.aux_out = plane<S>(args.aux_out);
  e.addend = plane<S>(args.addend);
  e.grad_aux = plane<S>(args.grad_aux);
  e.bias = static_cast<const S*>(args.bias);
  e.bias_stride = args.bias_stride;
  e.scale = static_cast<T>(args.scale * (args.scale_device != nullptr ? *args.scale_device : 1.0F));
  e.out_scale = static_cast<T>(args.out_scale *
                               (args.out_scale_device != nullptr ? *args.out_scale_device : 1.0F));
  e.activation = static_cast<std::int32_t>(args.activation);
  e.grad_activation = static_cast<std::int32_t>(args.grad_activation);
  const std::int64_t bytes = args.d.rows * args.d.cols * static_cast<std::int64_t>(sizeof(S));
  e.stream_zeros = bytes >= (p.threads > 1 ? kTeamStream : kStreamZeros);
  e.stream = bytes >= (p.threads > 1 ? kTeamStream : kStream);
  // Factors that are infinite or NaN make NaN of 0, negative ones -0.
  const auto leaves_zero = [](T factor) { return factor * T(0) == T(0) && !std::signbit(factor); };
  e.empty_is_zero = e.bias == nullptr && e.addend.data == nullptr && e.grad_aux.data == nullptr &&
                    leaves_zero(e.scale) && leaves_zero(e.out_scale);
  return e;
}

template <class F>
Epilogue<typename F::Storage> of_kept_rows(const Product<F>& p,
                                           const Epilogue<typename F::Storage>& whole) {
  Epilogue<typename F::Storage> e = whole;
  e.stream = whole.stream && p.k <= p.k_block;  // else later depth adds to it
  to_kept_rows(p.axes.m, &e.d);
  to_kept_rows(p.axes.m, &e.aux_out);
  to_kept_rows(p.axes.m, &e.addend);
  to_kept_rows(p.axes.m, &e.grad_aux);
  return e;
}

template <class F>
TileStore<typename F::Sum> tile_at(const Product<F>& p, const typename F::Sum* sums, std::int64_t m,
                                   std::int64_t rows, std::int64_t n, std::int64_t cols) {
  TileStore<typename F::Sum> tile{};
  tile.acc = sums;
  tile.row_index = p.axes.m.index;
  tile.row_begin = m;
  tile.rows = static_cast<std::int32_t>(rows);
  place_columns(p, n, cols, &tile);
  tile.is_final = true;
  return tile;
}

template <class F>
void store_tile(const Product<F>& p, const Epilogue<typename F::Storage>& epilogue,
                TileStore<typename F::Sum> tile) {
  // Pruned units of D have been skipped and compacted positions are not there; the others select.
  std::uint32_t keep[32];
  const bool selects_d = p.plan.path == GemmPath::kSelect || p.plan.path == GemmPath::kNone;
  if (selects_d && p.args->d_mask != nullptr) {
    const AxisMask mask = d_axis_mask(*p.args);
    mask.kept_words(tile.row_begin, tile.rows, tile.col_begin, tile.cols, keep);
    tile.keep = keep;
  }
  p.kernels->store(epilogue, tile);
}

template <class F>
void zero_tile(const Product<F>& p, const Epilogue<typename F::Storage>& epilogue,
               std::int64_t m_panel, std::int64_t n_panel) {
  const std::int64_t m = p.m.begin(m_panel), n = p.n.begin(n_panel);
  for (std::int64_t i = m; i < m + p.m.width(m_panel, m_panel + 1); ++i) {
    write_zeros(p, epilogue, i, n, n + p.n.width(n_panel, n_panel + 1));
  }
}

#define DROPGEMM_INSTANTIATE(F)                                                                   \
  template Epilogue<F::Storage> make_epilogue<F>(const Product<F>&);                              \
  template Epilogue<F::Storage> of_kept_rows<F>(const Product<F>&, const Epilogue<F::Storage>&);  \
  template TileStore<F::Sum> tile_at<F>(const Product<F>&, const F::Sum*, std::int64_t,           \
                                        std::int64_t, std::int64_t, std::int64_t);                \
  template void store_tile<F>(const Product<F>&, const Epilogue<F::Storage>&, TileStore<F::Sum>); \
  template void zero_tile<F>(const Product<F>&, const Epilogue<F::Storage>&, std::int64_t,        \
                             std::int64_t);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
