// Sizes and layout of one product in the workspace.
#include "cpu/product.h"

#include <algorithm>
#include <cstdlib>

#include "cpu/isa.h"

namespace dropgemm::cpu {
namespace {

// Cache budgets in bytes: a thread's packed B stays in its L2 with a panel of A beside it, and
// packed A stays in L3.
constexpr std::int64_t kPackedB = 448 << 10;
constexpr std::int64_t kPackedA = 16 << 20;
constexpr std::int64_t kDepthBytes = 16 << 10;  // of one lane: 4096 float32
constexpr std::int64_t kMaxPanelsB = 64;
constexpr std::int64_t kPanelsApart = 4;  // packed together, though one alone stays in the L2
constexpr std::int64_t kItemsPerThread = 6;

// In teams of at most so many every thread packs A for itself: waiting for one another, and lines
// that another core wrote last, cost more than packing twice.
constexpr int kOwnA = 4;

std::int64_t whole(std::int64_t x) { return std::max<std::int64_t>(x, 1); }

template <class F>
typename Product<F>::Scratch lay_out_scratch(const Product<F>& p, std::int64_t n_block,
                                             std::int64_t k_block, Arena& arena) {
  typename Product<F>::Scratch s;
  const std::int64_t nr = p.kernels->nr, mr = p.kernels->mr;
  s.packed_b = arena.take<typename F::Packed>(n_block * p.panel_stride(k_block, nr));
  s.acc = arena.take<typename F::Sum>((mr + 1) * nr);
  s.segments = arena.take<Segment>((n_block + 1) * p.max_segments());
  s.counts = arena.take<std::int32_t>(n_block);
  s.words = arena.take<std::uint64_t>(p.units.scratch_words() + 1);
  return s;
}

// Whether neighbours in memory are columns of op(B).
bool lines_along_columns(const GemmArgs& args) {
  const std::int64_t rows = std::abs(args.b.row_stride), cols = std::abs(args.b.col_stride);
  return args.trans_b ? rows < cols : cols < rows;
}

// Strips enough for every thread, as many for each and all of one width where that can be.
std::int64_t even_strips(std::int64_t panels, std::int64_t threads) {
  std::int64_t strips = kItemsPerThread * threads;
  while (strips < panels && panels % strips != 0) strips += threads;
  return std::min(strips, panels);
}

// Blocks for a product of this many packed rows, columns and depth.
template <class F>
void choose_blocks(Product<F>& p) {
  const std::int64_t bytes = sizeof(typename F::Packed);
  // D must not round what another pass over the depth adds to.
  p.k_block = F::kExactPartials ? std::min(p.k, kDepthBytes / bytes * F::kDepths) : p.k;
  const std::int64_t fits =
      std::clamp<std::int64_t>(kPackedB / (p.b_stride() * bytes), 1, kMaxPanelsB);
  const std::int64_t panels = whole(p.n.count());
  // Single panels of a dense B would be read by two lines of every row, far apart from each other.
  const bool apart = fits == 1 && p.plan.path == GemmPath::kDense && lines_along_columns(*p.args);
  const std::int64_t widest = apart ? kPanelsApart : fits;
  p.strips = (panels + widest - 1) / widest;
  p.slabs = 1;
  // Many strips: as many for every thread. Few: the longer axis is cut more finely, so that threads
  // finish together; where that is the rows of A, every thread packs every strip for itself.
  if (p.strips >= 2 * p.threads) {
    p.strips = std::min(panels, (p.strips + p.threads - 1) / p.threads * p.threads);
  } else if (p.own_a && p.m.size < p.n.size) {
    p.strips = even_strips(panels, p.threads);
  } else if (p.threads > 1) {
    p.slabs = (kItemsPerThread * p.threads + p.strips - 1) / p.strips;
  }
  p.n_block = (panels + p.strips - 1) / p.strips;
  const std::int64_t parts = (p.n_block + fits - 1) / fits;
  p.n_cached = (p.n_block + parts - 1) / parts;
  const std::int64_t rows = kPackedA / (p.a_stride() * bytes);
  p.m_block = std::min(whole(p.m.count()), whole(rows));
}

}  // namespace

template <class F>
typename Product<F>::Scratch Product<F>::scratch_of(int thread) const {
  Arena arena({scratch_base + static_cast<std::size_t>(thread) * scratch_bytes, scratch_bytes});
  Scratch s = lay_out_scratch(*this, n_block, k_block, arena);
  s.packed_a = packed_a + (own_a ? thread * packed_a_words : 0);
  return s;
}

template <class F>
Product<F> make_product(const GemmArgs& args, const GemmPlan& plan, int threads, Arena& arena) {
  Product<F> p;
  p.args = &args;
  p.kernels = &kernels<F>();
  p.plan = plan;
  p.threads = threads;
  layout_axes(args, p.plan, arena, &p.axes);
  layout_units(args, p.plan, arena, &p.units);

  const GemmShape s = gemm_shape(args);
  const bool pruned = p.plan.path == GemmPath::kPruned;
  p.m = {s.m, whole(pruned ? p.plan.unit_m : s.m), p.kernels->mr};
  p.n = {s.n, whole(pruned ? p.plan.unit_n : s.n), p.kernels->nr};
  p.k = s.k;
  p.own_a = threads <= kOwnA;
  choose_blocks(p);
  p.packed_a_words = p.m_block * p.a_stride();
  p.packed_a = arena.take<typename F::Packed>(p.packed_a_words * (p.own_a ? threads : 1));
  // Fewer columns of B at a time take less room, and less depth may take more columns.
  Arena measure({});
  lay_out_scratch(p, kMaxPanelsB, 0, measure);
  const std::int64_t word = sizeof(typename F::Packed);
  const std::int64_t most = kPackedB + kPanelsApart * p.b_stride() * word;
  p.scratch_bytes = measure.bytes() + static_cast<std::size_t>(most);
  p.scratch_bytes = (p.scratch_bytes + 4095) / 4096 * 4096;
  p.scratch_base = arena.take<std::byte>(static_cast<std::int64_t>(p.scratch_bytes) * threads);
  return p;
}

template <class F>
void read_masks(Product<F>& p) {
  compact_axes(*p.args, p.plan, &p.axes);
  fill_units(*p.args, p.plan, &p.units);
  if (p.plan.path == GemmPath::kCompact) {
    p.m = {p.axes.m.size, whole(p.axes.m.size), p.kernels->mr};
    p.n = {p.axes.n.size, whole(p.axes.n.size), p.kernels->nr};
    p.k = p.axes.k.size;
    choose_blocks(p);
    p.m_block = std::min(whole(p.m.count()), whole(p.packed_a_words / p.a_stride()));
  }
}

#define DROPGEMM_INSTANTIATE(F)                                                       \
  template struct Product<F>;                                                         \
  template Product<F> make_product<F>(const GemmArgs&, const GemmPlan&, int, Arena&); \
  template void read_masks<F>(Product<F>&);
DROPGEMM_FOR_EACH_FORMAT(DROPGEMM_INSTANTIATE)

}  // namespace dropgemm::cpu
