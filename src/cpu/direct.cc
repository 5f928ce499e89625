// Products with a small dimension: which operand is read where, and the loops over them.
#include "cpu/direct.h"

#include <algorithm>

namespace dropgemm::cpu {
namespace {

// Up to so many rows, columns or depths a product is read in place.
constexpr std::int64_t kSmallM = 64;
constexpr std::int64_t kSmallN = 32;
constexpr std::int64_t kSmallK = 64;

// Depth at a time: vectors of so many rows of the right operand stay in the nearest caches while
// the rows of the left one meet them, and what is packed of the right one stays in the next.
constexpr std::int64_t kDepthInPlace = 64;
constexpr std::int64_t kDepthPacked = 1024;
constexpr std::int64_t kSums = 256 << 10;  // bytes of the sums of a work item
constexpr std::int64_t kWindowsPerItem = 32;
constexpr std::int64_t kRowsPerItem = 128;

// Up to so many rows of one operand meet the other's as dot products, where there is depth enough
// for each to outweigh the last sum, over a vector's lanes; a block of depth of theirs stays in the
// nearest cache. Runs of depth should be longer than vectors.
constexpr std::int64_t kDotsM = 8;
constexpr std::int64_t kDotsN = 12;
constexpr std::int64_t kDotsDepth = 48;
constexpr std::int64_t kDotsBytes = 16 << 10;
constexpr std::int64_t kDotsRun = 16;
constexpr std::int64_t kDotsPanels = 16;  // of an item, at most

// Lanes that are read and not kept cost as much as those that are.
constexpr double kMostScattered = 1.25;

// ---- admission ----------------------------------------------------------------------------------

struct Strides {
  std::int64_t m, k;  // of A
  std::int64_t n, l;  // of B: along its columns, along the depth
};

Strides strides_of(const GemmArgs& args) {
  const ConstMatrixView &a = args.a, &b = args.b;
  return {args.trans_a ? a.col_stride : a.row_stride, args.trans_a ? a.row_stride : a.col_stride,
          args.trans_b ? b.row_stride : b.col_stride, args.trans_b ? b.col_stride : b.row_stride};
}

// Which operand is read where.
struct Way {
  bool any = false, turned = false, streams_left = false;
};

Way way_of(const GemmArgs& args) {
  const GemmShape s = gemm_shape(args);
  const Strides strides = strides_of(args);
  // Numbers that are multiplied as they are stored.
  const bool plain = args.a.dtype == DType::kFloat64 ||
                     (args.a.dtype == DType::kFloat32 && args.precision == Precision::kHighest);
  if (!plain || args.b_packed != nullptr || s.m == 0 || s.n == 0 || s.k == 0) return {};
  if (s.m <= kSmallM && s.m <= s.n) {
    if (strides.n == 1) return {true, false, false};
    if (strides.l == 1) return {true, true, true};
  } else if (s.n <= kSmallN) {
    if (strides.k == 1) return {true, false, true};
    if (strides.m == 1) return {true, true, false};
  } else if (s.k <= kSmallK) {
    return {true, false, true};
  }
  return {};
}

}  // namespace

bool has_small_dimension(const GemmArgs& args) { return way_of(args).any; }

// ---- layout -------------------------------------------------------------------------------------

namespace {

std::int64_t up(std::int64_t x, std::int64_t y) { return (x + y - 1) / y; }

std::int64_t most_windows(std::int64_t extent, std::int64_t nr) { return 2 * up(extent, nr) + 2; }

template <class F>
typename DirectProduct<F>::Scratch lay_out(const Product<F>& p, const DirectProduct<F>& d,
                                           Arena& arena) {
  const std::int64_t mr = p.kernels->mr, nr = p.kernels->nr;
  const std::int64_t units = up(d.right.axis->extent, d.right.unit);
  const std::int64_t windows = most_windows(d.right.axis->extent, nr);
  typedef typename F::Sum T;
  typename DirectProduct<F>::Scratch s;
  // A work item has at least one unit of what is streamed, and all of the other.
  s.acc = arena.take<T>(kSums / static_cast<std::int64_t>(sizeof(T)) + kSmallM * mr * nr + nr);
  s.turned = arena.take<T>(nr * nr + nr);
  if (d.packs_left) s.packed_left = arena.take<T>(p.k * mr);
  s.runs = arena.take<DepthRun>(units * d.runs_per_unit);
  s.num_runs = arena.take<std::int32_t>(units);
  s.segments = arena.take<Segment>(d.segments);
  s.sums = arena.take<DirectTile>(windows);
  s.places = arena.take<DirectTile>(windows);
  return s;
}

template <class F>
typename DirectProduct<F>::Side side(const ConstMatrixView& array, const Axis& lanes,
                                     std::int64_t lane_stride, const Axis& depth,
                                     std::int64_t depth_stride, std::int64_t unit) {
  typedef typename F::Sum T;
  const T* source =
      static_cast<const T*>(array.data) + lanes.first * lane_stride + depth.first * depth_stride;
  return {source, lane_stride * lanes.step, depth_stride * depth.step, &lanes, unit};
}

template <class F>
void point_sides(const Product<F>& p, DirectProduct<F>* d) {
  const Strides s = strides_of(*p.args);
  const CompactAxes& x = p.axes;
  const bool pruned = p.plan.path == GemmPath::kPruned;
  d->left = side<F>(p.args->a, x.m, s.m, x.k, s.k, pruned ? p.plan.unit_m : x.m.extent);
  d->right = side<F>(p.args->b, x.n, s.n, x.k, s.l, pruned ? p.plan.unit_n : x.n.extent);
  if (d->turned) std::swap(d->left, d->right);
}

// Of a block of depth, for each unit.
template <class F>
std::int64_t most_runs(const Product<F>& p, std::int64_t k_block) {
  if (p.plan.path == GemmPath::kPruned) return k_block / p.plan.unit_k + 2;
  return p.plan.path == GemmPath::kCompact ? k_block : 1;
}

bool reads_vectors_in_place(std::int64_t lane_stride, std::int64_t extent, std::int64_t nr) {
  return lane_stride == 1 && extent >= nr;
}

}  // namespace

template <class F>
typename DirectProduct<F>::Scratch DirectProduct<F>::scratch_of(const Product<F>& p,
                                                                int thread) const {
  Arena arena({scratch_base + static_cast<std::size_t>(thread) * scratch_bytes, scratch_bytes});
  return lay_out(p, *this, arena);
}

template <class F>
DirectProduct<F> make_direct(const Product<F>& p, Arena& arena) {
  DirectProduct<F> d;
  const Way way = way_of(*p.args);
  if (!F::kReadsInPlace || !way.any) return d;
  const GemmShape s = gemm_shape(*p.args);
  const Strides strides = strides_of(*p.args);
  const std::int64_t nr = p.kernels->nr;
  const std::int64_t lanes = way.turned ? s.m : s.n;
  d.turned = way.turned;
  d.streams_left = way.streams_left;
  point_sides(p, &d);
  const std::int64_t depth_of_left = d.turned ? strides.l : strides.k;
  d.packs_left = d.streams_left && depth_of_left != 1 && s.k <= kSmallK;
  d.packs_right = !reads_vectors_in_place(d.turned ? strides.m : strides.n, lanes, nr);
  d.k_block = std::min(s.k, 2 * (d.streams_left ? kDepthPacked : kDepthInPlace));
  d.runs_per_unit = most_runs(p, d.k_block);
  d.segments = std::max(d.runs_per_unit, most_runs(p, s.k));
  d.windows = arena.take<Window>(most_windows(lanes, nr));
  if (d.streams_left) d.packed_right = arena.take<typename F::Sum>(up(lanes, nr) * nr * s.k);
  Arena measure({});
  lay_out(p, d, measure);
  d.scratch_bytes = (measure.bytes() + 4095) / 4096 * 4096;
  d.scratch_base = arena.take<std::byte>(static_cast<std::int64_t>(d.scratch_bytes) * p.threads);
  return d;
}

// ---- placing ------------------------------------------------------------------------------------

namespace {

// The narrowest kernel of at least so many lanes.
template <class T>
std::int32_t width_for(const DirectKernels<T>& kernels, std::int64_t lanes) {
  std::int32_t which = 0;
  while (which + 1 < kDirectWidths && kernels.width[which + 1] >= lanes) ++which;
  return which;
}

// Windows over what is kept of the right operand where it lies; lanes between are computed and
// thrown away. False where there are too many of those.
template <class F>
bool cut_windows_in_place(const Product<F>& p, DirectProduct<F>* d) {
  const Axis& axis = *d->right.axis;
  const auto& kernels = p.kernels->direct;
  const std::int64_t nr = p.kernels->nr, reach = axis.extent - axis.first;
  const std::int64_t most = most_windows(axis.extent, nr);
  std::int64_t lanes = 0;
  d->num_windows = 0;
  for (std::int64_t i = 0; i < axis.size;) {
    if (d->num_windows == most) return false;
    const std::int64_t begin = axis.offset(i);
    std::int64_t end = i + 1;
    while (end < axis.size && axis.offset(end) < begin + nr) ++end;
    const std::int64_t span = axis.offset(end - 1) + 1 - begin;
    const std::int32_t width = width_for(kernels, span);
    // What is read ends with the row, whatever is kept of it.
    const std::int64_t offset = std::min(begin, reach - kernels.width[width]);
    d->windows[d->num_windows++] = {offset,
                                    static_cast<std::int32_t>(i),
                                    static_cast<std::int32_t>(end - i),
                                    static_cast<std::int32_t>(begin - offset),
                                    width,
                                    span != end - i,
                                    kernels.width[width] == end - i};
    lanes += kernels.width[width];
    i = end;
  }
  return static_cast<double>(lanes) <= kMostScattered * static_cast<double>(axis.size) + nr;
}

template <class F>
void cut_packed_windows(const Product<F>& p, DirectProduct<F>* d) {
  const std::int64_t nr = p.kernels->nr, size = d->right.axis->size;
  d->num_windows = 0;
  d->packed_stride = nr;
  for (std::int64_t i = 0; i < size; i += nr) {
    const std::int64_t count = std::min(nr, size - i);
    const std::int32_t width = width_for(p.kernels->direct, count);
    const Axis& axis = *d->right.axis;
    const bool whole = p.kernels->direct.width[width] == count &&
                       axis.offset(i + count - 1) - axis.offset(i) == count - 1;
    d->windows[d->num_windows++] = {
        i * p.k, static_cast<std::int32_t>(i), static_cast<std::int32_t>(count), 0, width, false,
        whole};
  }
  // So few lanes as the left operand's panels have are packed into one of those.
  const Window& first = d->windows[0];
  if (size <= p.kernels->mr && p.kernels->direct.width[first.width] <= p.kernels->mr) {
    d->packed_stride = p.kernels->mr;
  }
}

// Enough work items for the threads to finish together, each with neighbours to stream.
template <class F>
void cut_items(const Product<F>& p, DirectProduct<F>* d) {
  const std::int64_t mr = p.kernels->mr, nr = p.kernels->nr;
  const std::int64_t other =
      std::max<std::int64_t>(1, d->streams_left ? d->num_windows : d->rows.count());
  const std::int64_t tile = mr * nr * static_cast<std::int64_t>(sizeof(typename F::Sum));
  const bool keeps_sums = d->turned || p.k > d->k_block;
  std::int64_t most = keeps_sums ? std::max<std::int64_t>(1, kSums / (tile * other)) : 1 << 20;
  std::int64_t streamed = d->num_windows;
  if (d->streams_left) {
    // Whole units: those of a turned product are as many columns of D as are stored together.
    const std::int64_t per_unit = d->turned ? d->rows.per_unit() : 1;
    streamed = up(d->rows.count(), per_unit);
    most = std::min(most / per_unit, kRowsPerItem / (per_unit * mr));
  } else {
    most = std::min(most, kWindowsPerItem);
  }
  const std::int64_t fair = streamed / (4 * p.threads);
  d->items = up(streamed, std::clamp<std::int64_t>(fair, 1, std::max<std::int64_t>(most, 1)));
}

}  // namespace

// Whether these are dot products, and how they are dealt out.
template <class F>
bool place_dots(const Product<F>& p, DirectProduct<F>* d) {
  const Strides s = strides_of(*p.args);
  const Axis& depth = p.axes.k;
  const bool few_m = p.m.size <= kDotsM && p.m.size <= p.n.size;
  const Panels &few = few_m ? p.m : p.n, &many = few_m ? p.n : p.m;
  if (s.k != 1 || s.l != 1 || depth.step != 1) return false;
  if (few.size > (few_m ? kDotsM : kDotsN) || few.size * kDotsDepth > p.k) return false;
  if (few.unit < few.size) return false;
  if (depth.index != nullptr && depth.num_runs / 2 + 1 > depth.size / kDotsRun) return false;
  d->turned = false;
  point_sides(p, d);
  d->streams_left = !few_m;
  const std::int64_t element = sizeof(typename F::Sum);
  d->k_block = std::min(p.k, kDotsBytes / (element * few.size) / kDotsRun * kDotsRun);
  d->items =
      up(many.count(), std::clamp<std::int64_t>(many.count() / (4 * p.threads), 1, kDotsPanels));
  return true;
}

template <class F>
bool place_operands(const Product<F>& p, DirectProduct<F>* d) {
  if (!F::kReadsInPlace || !way_of(*p.args).any || p.m.size == 0 || p.n.size == 0 || p.k == 0)
    return false;
  const bool masked = p.args->a_mask != nullptr || p.args->b_mask != nullptr;
  if (p.plan.path == GemmPath::kSelect && masked && !p.args->dropped_are_zero) return false;
  d->dots = place_dots(p, d);
  if (d->dots) return true;
  point_sides(p, d);
  const std::int64_t mr = p.kernels->mr, nr = p.kernels->nr;
  const bool pruned = p.plan.path == GemmPath::kPruned;
  const Panels &left = d->turned ? p.n : p.m, &right = d->turned ? p.m : p.n;
  // Windows do not cross units.
  if (pruned && right.unit < right.size && right.unit % nr != 0) return false;
  if (!d->packs_right && !cut_windows_in_place(p, d)) d->packs_right = true;
  if (d->packs_right && !d->streams_left) return false;
  if (d->packs_right) cut_packed_windows(p, d);

  d->rows = {left.size, d->turned ? nr : left.unit, mr};
  // Panels as high as each other.
  if (!d->streams_left) d->rows.lanes = up(d->rows.unit, up(d->rows.unit, mr));
  const std::int64_t block = d->streams_left ? kDepthPacked : kDepthInPlace;
  d->k_block = p.k <= 2 * block ? p.k : block;
  cut_items(p, d);
  return true;
}

#define DROPGEMM_INSTANTIATE(F)                                        \
  template struct DirectProduct<F>;                                    \
  template DirectProduct<F> make_direct<F>(const Product<F>&, Arena&); \
  template bool place_operands<F>(const Product<F>&, DirectProduct<F>*);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
