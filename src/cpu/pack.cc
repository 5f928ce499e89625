// Packing A and B into panels: what is gathered, which depth of it is needed, and masks of single
// elements zeroed in the fresh panels.
#include <algorithm>
#include <cstdlib>

#include "cpu/product.h"

namespace dropgemm::cpu {
namespace {

// Masks of single elements: zero what is dropped in freshly packed panels.
template <class F, class P = typename F::Packed>
void select_packed(const AxisMask& mask, std::int64_t lanes, std::int64_t lane_begin,
                   std::int64_t count, std::int64_t k0, std::int64_t k1,
                   void (*select)(P*, const std::uint32_t*, std::int32_t), P* out,
                   std::int64_t panel_stride) {
  for (std::int64_t i = 0; i < count; i += lanes) {
    P* panel = out + i / lanes * panel_stride;
    for (std::int64_t k = k0; k < k1; k += 32) {
      const int depth = static_cast<int>(std::min<std::int64_t>(32, k1 - k));
      std::uint32_t words[32] = {};
      const int used = static_cast<int>(std::min(lanes, count - i));
      mask.kept_words(lane_begin + i, used, k, depth, words);
      select(panel + (k - k0) / F::kDepths * lanes, words, depth);
    }
  }
}

// One operand on its way into panels: lanes are rows of op(A) or columns of op(B).
template <class F>
struct Operand {
  const typename F::Storage* source;
  std::int64_t lane_stride, depth_stride;
  const std::int32_t* lane_index;
  const Panels* panels;
  AxisMask mask;
  bool selects;  // single elements of freshly packed panels are zeroed
  void (*pack)(const PackArgs<F>&);
  void (*select)(typename F::Packed*, const std::uint32_t*, std::int32_t);
};

template <class F>
bool selects(const Product<F>& p, const TileMaskView* mask) {
  return p.plan.path == GemmPath::kSelect && mask != nullptr && !p.args->dropped_are_zero;
}

// The operand's mask as packing itself can apply it: single elements, their bits along the lines
// that packing follows. Null bits where they lie otherwise.
template <class F>
LineBits line_bits(const Operand<F>& x) {
  if (!x.selects || F::kDepths != 1) return {};
  const TileMaskView& view = *x.mask.mask;
  const bool along_lanes = std::abs(x.lane_stride) < std::abs(x.depth_stride);
  if (view.transposed || view.tile_cols != 1 || along_lanes != x.mask.swapped) return {};
  if (along_lanes && x.lane_stride != 1) return {};
  return {view.bits, mask_row_words(view.cols, 1), view.tile_rows};
}

// Where the view of what is kept begins.
template <class S>
const S* start(const ConstMatrixView& array, const Axis& lanes, std::int64_t lane_stride,
               const Axis& depth, std::int64_t depth_stride) {
  return static_cast<const S*>(array.data) + lanes.first * lane_stride + depth.first * depth_stride;
}

template <class F>
Operand<F> a_operand(const Product<F>& p) {
  const ConstMatrixView& a = p.args->a;
  const bool trans = p.args->trans_a;
  const std::int64_t lane_stride = trans ? a.col_stride : a.row_stride;
  const std::int64_t depth_stride = trans ? a.row_stride : a.col_stride;
  return {start<typename F::Storage>(a, p.axes.m, lane_stride, p.axes.k, depth_stride),
          lane_stride * p.axes.m.step,
          depth_stride * p.axes.k.step,
          p.axes.m.index,
          &p.m,
          a_axis_mask(*p.args),
          selects(p, p.args->a_mask),
          p.kernels->pack_a,
          p.kernels->select_a};
}

template <class F>
Operand<F> b_operand(const Product<F>& p) {
  const ConstMatrixView& b = p.args->b;
  const bool trans = p.args->trans_b;
  const std::int64_t lane_stride = trans ? b.row_stride : b.col_stride;
  const std::int64_t depth_stride = trans ? b.col_stride : b.row_stride;
  return {start<typename F::Storage>(b, p.axes.n, lane_stride, p.axes.k, depth_stride),
          lane_stride * p.axes.n.step,
          depth_stride * p.axes.k.step,
          p.axes.n.index,
          &p.n,
          b_axis_mask(*p.args),
          selects(p, p.args->b_mask),
          p.kernels->pack_b,
          p.kernels->select_b};
}

// Panels [first, last), one unit's, over depth [k0, k1), of which the segments are needed. They go
// to `out`, where depth k0 of panel `first` lies first.
template <class F>
void pack(const Product<F>& p, const Operand<F>& operand, std::int64_t first, std::int64_t last,
          std::int64_t k0, std::int64_t k1, std::int32_t num_segments, const Segment* segments,
          typename F::Packed* out, std::int64_t panel_stride) {
  PackArgs<F> x{};
  x.source = operand.source;
  x.lane_stride = operand.lane_stride;
  x.depth_stride = operand.depth_stride;
  x.lane_index = operand.lane_index;
  x.lane_begin = operand.panels->begin(first);
  x.count = operand.panels->width(first, last);
  x.depth_index = p.axes.k.index;
  x.segments = segments;
  x.num_segments = num_segments;
  x.depth_origin = k0;
  x.panel_stride = panel_stride;
  x.out = out;
  x.keep = line_bits(operand);
  operand.pack(x);
  if (operand.selects && x.keep.bits == nullptr) {
    select_packed<F>(operand.mask, operand.panels->lanes, x.lane_begin, x.count, k0, k1,
                     operand.select, out, panel_stride);
  }
}

// All of [k0, k1), where there is any.
std::int32_t whole_depth(std::int64_t k0, std::int64_t k1, Segment* out) {
  *out = {static_cast<std::int32_t>(k0), static_cast<std::int32_t>(k1 - k0)};
  return k1 > k0 ? 1 : 0;
}

}  // namespace

template <class F>
void pack_a(const Product<F>& p, std::int64_t block_first, std::int64_t first, std::int64_t last,
            typename Product<F>::Scratch& scratch) {
  for (std::int64_t m = first; m < last;) {
    const std::int64_t end = std::min(last, p.m.unit_end(m));
    const std::int32_t count =
        p.plan.path == GemmPath::kPruned
            ? p.units.a_segments(p.m.unit_of(m), scratch.words, scratch.segments)
            : whole_depth(0, p.k, scratch.segments);
    pack(p, a_operand(p), m, end, 0, p.k, count, scratch.segments,
         scratch.packed_a + (m - block_first) * p.a_stride(), p.a_stride());
    m = end;
  }
}

template <class F>
void pack_b(const Product<F>& p, std::int64_t strip_first, std::int64_t first, std::int64_t last,
            std::int64_t k0, std::int64_t k1, typename Product<F>::Scratch& scratch) {
  std::int32_t count = 0;
  if (p.plan.path == GemmPath::kPruned) {
    count = p.units.b_segments(p.n.unit_of(first), k0, k1, scratch.words, scratch.segments);
    for (std::int32_t s = 0; s < count; ++s) {
      scratch.segments[s].begin += static_cast<std::int32_t>(k0);
    }
  } else {
    count = whole_depth(k0, k1, scratch.segments);
  }
  pack(p, b_operand(p), first, last, k0, k1, count, scratch.segments,
       scratch.packed_b + (first - strip_first) * p.b_stride(), p.b_stride());
}

template <class F>
void pack_whole_b(const Product<F>& p, std::int64_t first, std::int64_t last,
                  typename F::Packed* packed) {
  Segment all;
  const std::int32_t count = whole_depth(0, p.k, &all);
  pack(p, b_operand(p), first, last, 0, p.k, count, &all, packed + first * p.whole_b_stride(),
       p.whole_b_stride());
}

#define DROPGEMM_INSTANTIATE(F)                                                        \
  template void pack_a<F>(const Product<F>&, std::int64_t, std::int64_t, std::int64_t, \
                          Product<F>::Scratch&);                                       \
  template void pack_b<F>(const Product<F>&, std::int64_t, std::int64_t, std::int64_t, \
                          std::int64_t, std::int64_t, Product<F>::Scratch&);           \
  template void pack_whole_b<F>(const Product<F>&, std::int64_t, std::int64_t, F::Packed*);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
