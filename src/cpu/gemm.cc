// The packed GEMM of the cpu backend, after BLIS (Van Zee and van de Geijn, 2015): A is packed
// once for all threads, or by each for itself in a small team; each thread packs a strip of B that
// stays in its cache, and a microkernel multiplies panels. Masks come in at three places only: axes
// are compacted, output units walk lists of depth segments, or packing and storing select elements.
#include "cpu/gemm.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <type_traits>

#include "cpu/direct.h"
#include "cpu/isa.h"
#include "cpu/product.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"
#include "registry.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace dropgemm::cpu {
namespace {

// Below this many multiply-adds a second thread costs more than it brings; an element that is read
// or written takes as long as so many of them.
constexpr double kSerialWork = 1.1e6;
constexpr double kElementWork = 4;

int this_thread() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// ---- multiplication -----------------------------------------------------------------------------

// A work item: panels [m_first, m_last) of the packed block of A against panels
// [n_first, n_last) of B.
struct Item {
  std::int64_t m_first, m_last, n_first, n_last;
};

// Where part `part` of `parts` of [first, last) begins.
std::int64_t share(std::int64_t first, std::int64_t last, std::int64_t part, std::int64_t parts) {
  return first + (last - first) * part / parts;
}

// What counts[] of a unit says where it is not multiplied in this pass over the depth.
constexpr std::int32_t kLeave = -1;  // nothing to write
constexpr std::int32_t kZeros = -2;

// The lists of the strip's units for A's unit `mu`: counts[unit - first unit], segments behind
// row 0 (which packing uses).
template <class F>
void list_strip(const Product<F>& p, const Epilogue<typename F::Storage>& epilogue, std::int64_t mu,
                const Item& item, std::int64_t k0, std::int64_t k1,
                typename Product<F>::Scratch& scratch) {
  const bool last_pass = k1 == p.k, only_pass = last_pass && k0 == 0;
  const bool fills = last_pass && p.args->out_fill == OutFill::kZero;
  const std::int64_t first = p.n.unit_of(item.n_first), last = p.n.unit_of(item.n_last - 1);
  for (std::int64_t nu = first; nu <= last; ++nu) {
    Segment* out = scratch.segments + (nu - first + 1) * p.max_segments();
    std::int32_t& count = scratch.counts[nu - first];
    if (p.plan.path != GemmPath::kPruned) {
      *out = {0, static_cast<std::int32_t>(k1 - k0)};
      count = k1 > k0 ? 1 : 0;
    } else if (!p.units.d.get(mu, nu)) {
      count = fills ? kZeros : kLeave;
    } else {
      count = p.units.segments(mu, nu, k0, k1, out);
      if (count == 0 && only_pass && epilogue.empty_is_zero) count = kZeros;
    }
  }
}

// Asks for the lines of an array of the epilogue that a tile's elements lie in. Inlined, since GCC
// takes a function that only prefetches for one without effect, and leaves its calls out.
template <int kWrite, class A, class T>
[[gnu::always_inline]] inline void prefetch_lines(const Plane<A>& plane, const TileStore<T>& tile) {
  if (plane.data == nullptr || plane.col_stride != 1) return;
  constexpr std::int64_t kLine = 64 / sizeof(A);
  for (std::int32_t i = 0; i < tile.rows; ++i) {
    const std::int64_t m =
        tile.row_index != nullptr ? tile.row_index[tile.row_begin + i] : tile.row_begin + i;
    A* row = plane.data + m * plane.row_stride + tile.col_begin;
    const auto past =
        static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(row) % 64 / sizeof(A));
    // The first element, then the first of each later line.
    for (std::int64_t j = 0; j < tile.cols; j += kLine - (j + past) % kLine) {
      __builtin_prefetch(row + j, kWrite);
    }
  }
}

// What a tile reads on its way to D, and where it goes if through the cache.
template <class S, class T>
[[gnu::always_inline]] inline void prefetch_tile(const Epilogue<S>& e, const TileStore<T>& tile) {
  if (!e.stream) prefetch_lines<1>(e.d, tile);
  prefetch_lines<0>(e.grad_aux, tile);
  prefetch_lines<0>(e.addend, tile);
}

// One mr x nr tile over depth [k0, k1).
template <class F>
void multiply_tile(const Product<F>& p, const Epilogue<typename F::Storage>& epilogue,
                   const typename F::Packed* a, const typename F::Packed* b, std::int64_t m_panel,
                   std::int64_t n_panel, std::int32_t count, const Segment* segments,
                   std::int64_t k0, std::int64_t k1, typename F::Sum* acc) {
  auto tile = tile_at(p, acc, p.m.begin(m_panel), p.m.width(m_panel, m_panel + 1),
                      p.n.begin(n_panel), p.n.width(n_panel, n_panel + 1));
  tile.add_partial = k0 > 0;
  tile.is_final = k1 == p.k;
  prefetch_tile(epilogue, tile);
  const auto multiply =
      2 * tile.rows <= p.kernels->mr ? p.kernels->multiply_half : p.kernels->multiply;
  multiply(segments, count, a, b, acc);
  store_tile(p, epilogue, tile);
}

// A panel of B from depth k0 on, as it was packed: for this item, or beforehand.
template <class F>
const typename F::Packed* b_panel(const Product<F>& p, const typename Product<F>::Scratch& scratch,
                                  std::int64_t panel, std::int64_t k0) {
  if (p.args->b_packed == nullptr) {
    return scratch.packed_b + (panel - scratch.strip_panel) * p.b_stride();
  }
  return static_cast<const typename F::Packed*>(p.args->b_packed) + panel * p.whole_b_stride() +
         p.words(k0) * p.kernels->nr;
}

// One pass over the depth: part of an item, whose B stays in the cache while A passes by.
template <class F>
void multiply_part(const Product<F>& p, const Epilogue<typename F::Storage>& epilogue,
                   std::int64_t block_first, const Item& part, std::int64_t k0, std::int64_t k1,
                   typename Product<F>::Scratch& scratch) {
  const std::int64_t first_unit = p.n.unit_of(part.n_first);
  std::int64_t listed = -1;
  for (std::int64_t m = part.m_first; m < part.m_last; ++m) {
    const std::int64_t mu = p.m.unit_of(m);
    if (mu != listed) list_strip(p, epilogue, mu, part, k0, k1, scratch);
    listed = mu;
    const auto* a =
        scratch.packed_a + (m - block_first) * p.a_stride() + p.words(k0) * p.kernels->mr;
    for (std::int64_t n = part.n_first; n < part.n_last; ++n) {
      const std::int64_t unit = p.n.unit_of(n) - first_unit;
      const std::int32_t count = scratch.counts[unit];
      if (count == kZeros) zero_tile(p, epilogue, m, n);
      if (count < 0) continue;
      multiply_tile(p, epilogue, a, b_panel(p, scratch, n, k0), m, n, count,
                    scratch.segments + (unit + 1) * p.max_segments(), k0, k1, scratch.acc);
    }
  }
}

template <class F>
void run_item(const Product<F>& p, const Epilogue<typename F::Storage>& epilogue,
              std::int64_t block_first, const Item& item, typename Product<F>::Scratch& scratch) {
  for (std::int64_t k0 = 0; k0 == 0 || k0 < p.k; k0 += p.k_block) {
    const std::int64_t k1 = std::min(p.k, k0 + p.k_block);
    const bool packed = p.args->b_packed != nullptr ||
                        (scratch.strip_panel == item.n_first && scratch.strip_depth == k0);
    if (!packed) {
      for (std::int64_t n = item.n_first; n < item.n_last;) {
        const std::int64_t end = std::min(item.n_last, p.n.unit_end(n));
        pack_b(p, item.n_first, n, end, k0, k1, scratch);
        n = end;
      }
      scratch.strip_panel = item.n_first;
      scratch.strip_depth = k0;
    }
    for (std::int64_t n = item.n_first; n < item.n_last; n += p.n_cached) {
      const Item part = {item.m_first, item.m_last, n, std::min(item.n_last, n + p.n_cached)};
      multiply_part(p, epilogue, block_first, part, k0, k1, scratch);
    }
    if (p.k == 0) break;
  }
}

// ---- the whole product ------------------------------------------------------------------------

// What every thread of the team runs. Work is dealt dynamically, but each element of D is
// computed by one thread in one order: the bits do not depend on the number of threads.
template <class F>
void run_team(const Product<F>& p, const DirectProduct<F>* direct,
              const Epilogue<typename F::Storage>& whole) {
  typename Product<F>::Scratch scratch = p.scratch_of(this_thread());
  if (p.args->a_sum != nullptr) sum_rows_of_a<F>(*p.args);
  if (p.axes.any_left_out) fill_left_out(p, whole, scratch.acc);
  const auto epilogue = of_kept_rows(p, whole);
  if (direct != nullptr) return run_direct(p, *direct, epilogue, this_thread());
  // A tile that crosses what is left out adds later depth to what it stored there, which no other
  // thread's filling may replace meanwhile.
  if (p.axes.any_left_out && p.k > p.k_block) {
#pragma omp barrier
  }

  if (p.n.count() == 0) return;

  constexpr std::int64_t kPanelsAtOnce = 4;
  for (std::int64_t first = 0; first < p.m.count(); first += p.m_block) {
    const std::int64_t last = std::min(p.m.count(), first + p.m_block);
    if (p.own_a) {
      pack_a(p, first, first, last, scratch);
    } else {
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t m = first; m < last; m += kPanelsAtOnce) {
        pack_a(p, first, m, std::min(last, m + kPanelsAtOnce), scratch);
      }
    }
    const std::int64_t slabs = std::min(last - first, p.slabs);
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < p.strips * slabs; ++i) {
      const std::int64_t slab = i % slabs, strip = i / slabs;
      const Item item = {share(first, last, slab, slabs), share(first, last, slab + 1, slabs),
                         share(0, p.n.count(), strip, p.strips),
                         share(0, p.n.count(), strip + 1, p.strips)};
      run_item(p, epilogue, first, item, scratch);
    }
  }
}

int threads_for(const Context& ctx, const GemmArgs& args, const GemmPlan& plan) {
  const GemmShape s = gemm_shape(args);
  const auto m = static_cast<double>(s.m), n = static_cast<double>(s.n);
  const auto k = static_cast<double>(s.k);
  const double work = plan.work * (m * n * k + kElementWork * (m * k + k * n + m * n));
  return work < kSerialWork ? 1 : thread_count(ctx.num_threads);
}

template <class F>
void run(Product<F>& p, DirectProduct<F>& direct) {
  read_masks(p);
  const bool is_direct = place_operands(p, &direct);
  const auto epilogue = make_epilogue(p);
  const auto run_thread = [&] {
    run_team(p, is_direct ? &direct : nullptr, epilogue);
    // Stores around the cache are not ordered by what the caller does next.
    if (epilogue.stream_zeros) std::atomic_thread_fence(std::memory_order_seq_cst);
  };
  if (p.threads == 1 && !in_parallel_region()) {
    run_thread();
  } else {
#pragma omp parallel num_threads(p.threads)
    run_thread();
  }
}

// Runs the product in the caller's workspace, or in this thread's, which grows to what it takes.
template <class F>
Status run_in_workspace(const Context& ctx, const GemmArgs& args, const GemmPlan& plan,
                        int threads) {
  const bool given = ctx.workspace != nullptr;
  Arena arena(given ? Memory{ctx.workspace, ctx.workspace_bytes} : thread_workspace(0));
  Product<F> p = make_product<F>(args, plan, threads, arena);
  DirectProduct<F> direct = make_direct(p, arena);
  if (arena.fits()) {
    run(p, direct);
    return {};
  }
  const std::string needed = std::to_string(arena.bytes()) + " bytes";
  if (given) return Status::invalid("ctx.workspace", needed, std::to_string(ctx.workspace_bytes));
  if (thread_workspace(arena.bytes()).data == nullptr) {
    return {StatusCode::kBackendError, "gemm: no memory for " + needed + " of workspace"};
  }
  return run_in_workspace<F>(ctx, args, plan, threads);
}

// Calls run(Format) with the one that the numbers of these arguments have here.
template <class Run>
void with_format(const GemmArgs& args, const Run& run) {
  const bool pairs = isa_multiplies_bfloat16();
  switch (args.a.dtype) {
    case DType::kFloat32:
      if (args.precision == Precision::kMedium && pairs) return run(F32AsBF16{});
      return run(F32{});
    case DType::kFloat64:
      return run(F64{});
    case DType::kBFloat16:
      if (pairs) return run(BF16{});
      return run(BF16AsF32{});
    case DType::kFloat16:
      return;  // refused before
  }
}

// ---- a B that is packed beforehand --------------------------------------------------------------

// Calls run(Product) with what packing all of B takes.
template <class Run>
void with_packing(const GemmArgs& args, const Run& run) {
  GemmArgs packing;
  packing.b = args.b;
  packing.trans_b = args.trans_b;
  packing.precision = args.precision;
  const std::int64_t k = args.trans_b ? args.b.cols : args.b.rows;
  packing.a = {nullptr, 0, k, k, 1, args.b.dtype};
  GemmPlan plan;
  plan.path = GemmPath::kDense;
  with_format(packing, [&](auto format) {
    Arena nothing({});
    run(make_product<decltype(format)>(packing, plan, 1, nothing));
  });
}

Status refuse_float16(const char* name, DType dtype) {
  if (dtype != DType::kFloat16) return {};
  return {StatusCode::kUnsupported,
          std::string(name) +
              ": expected float32, float64 or bfloat16 on the cpu backend, got float16"};
}

}  // namespace

std::int32_t gemm_packed_bytes(const Context* /*ctx*/, const GemmArgs* args, std::size_t* bytes,
                               ErrorText error) {
  const Status status = refuse_float16("b", args->b.dtype);
  if (!status.ok()) return report(status, error);
  with_packing(*args, [&](const auto& p) {
    const auto words = static_cast<std::size_t>(p.n.count() * p.whole_b_stride());
    *bytes = words * sizeof(*p.packed_a);
  });
  return 0;
}

std::int32_t gemm_pack(const Context* ctx, const GemmArgs* args, void* packed, ErrorText error) {
  const Status status = refuse_float16("b", args->b.dtype);
  if (!status.ok()) return report(status, error);
  with_packing(*args, [&](const auto& p) {
    // Panels that are packed together read longer pieces of B's lines.
    constexpr std::int64_t kPanelsAtOnce = 4, kWordsPerThread = 1 << 14;
    const std::int64_t panels = p.n.count(), steps = (panels + kPanelsAtOnce - 1) / kPanelsAtOnce;
    split(ctx->num_threads, steps, panels * p.whole_b_stride() / kWordsPerThread,
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
              pack_whole_b(p, i * kPanelsAtOnce, std::min(panels, (i + 1) * kPanelsAtOnce),
                           static_cast<std::decay_t<decltype(*p.packed_a)>*>(packed));
            }
          });
  });
  return 0;
}

std::int32_t gemm_plan(const Context* /*ctx*/, const GemmArgs* args, GemmPlan* plan) {
  *plan = make_plan(*args);
  return 0;
}

std::int32_t gemm_workspace_bytes(const Context* ctx, const GemmArgs* args, std::size_t* bytes) {
  const GemmPlan plan = make_plan(*args);
  Arena measure({});
  with_format(*args, [&](auto format) {
    make_direct(
        make_product<decltype(format)>(*args, plan, threads_for(*ctx, *args, plan), measure),
        measure);
  });
  *bytes = measure.bytes();
  return 0;
}

std::int32_t gemm(const Context* ctx, const GemmArgs* args, ErrorText error) {
  Status status = refuse_float16("a", args->a.dtype);
  if (!status.ok()) return report(status, error);
  GemmPlan plan = make_plan(*args);
  const int threads = threads_for(*ctx, *args, plan);
  // Masks without a zero are as good as none, whatever the hints. That takes no more workspace.
  GemmArgs unmasked;
  if (plan.path != GemmPath::kDense && drops_nothing(*args)) {
    unmasked = *args;
    unmasked.a_mask = unmasked.b_mask = unmasked.d_mask = nullptr;
    args = &unmasked;
    plan = make_plan(unmasked);
  }
  with_format(*args, [&](auto format) {
    status = run_in_workspace<decltype(format)>(*ctx, *args, plan, threads);
  });
  return report(status, error);
}

}  // namespace dropgemm::cpu
