// One product on its way through the cpu engine: its plan, its sizes, and the arrays it lays out
// in the workspace. product.cc lays out, pack.cc packs, gemm.cc runs, epilogue.cc and fill.cc write
// D.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernel.h"
#include "cpu/lists.h"
#include "cpu/plan.h"
#include "cpu/workspace.h"
#include "dropgemm/gemm.h"

namespace dropgemm::cpu {

// An axis cut into units that share masks, and units cut into panels of `lanes` positions. A
// panel never crosses a unit; the last one of a unit may be ragged.
struct Panels {
  std::int64_t size = 0;  // packed positions
  std::int64_t unit = 1;  // positions of a unit
  std::int64_t lanes = 1;

  [[nodiscard]] std::int64_t per_unit() const { return (unit + lanes - 1) / lanes; }
  [[nodiscard]] std::int64_t units() const { return (size + unit - 1) / unit; }
  [[nodiscard]] std::int64_t count() const {
    return size / unit * per_unit() + (size % unit + lanes - 1) / lanes;
  }
  [[nodiscard]] std::int64_t unit_of(std::int64_t panel) const { return panel / per_unit(); }
  [[nodiscard]] std::int64_t begin(std::int64_t panel) const {
    return unit_of(panel) * unit + panel % per_unit() * lanes;
  }
  // Positions of panels [first, last), all of one unit.
  [[nodiscard]] std::int64_t width(std::int64_t first, std::int64_t last) const {
    std::int64_t end = unit_of(first) * unit + ((last - 1) % per_unit() + 1) * lanes;
    const std::int64_t unit_end = (unit_of(first) + 1) * unit;
    if (end > unit_end) end = unit_end;
    if (end > size) end = size;
    return end - begin(first);
  }
  // The panel after the last one of this panel's unit.
  [[nodiscard]] std::int64_t unit_end(std::int64_t panel) const {
    const std::int64_t end = (unit_of(panel) + 1) * per_unit();
    return end < count() ? end : count();
  }
};

template <class F>
struct Product {
  typedef typename F::Storage Storage;
  typedef typename F::Packed Packed;
  typedef typename F::Sum Sum;

  const GemmArgs* args = nullptr;
  const KernelTable<F>* kernels = nullptr;
  GemmPlan plan;
  int threads = 1;

  CompactAxes axes;   // kCompact
  PrunedUnits units;  // kPruned
  Panels m, n;
  std::int64_t k = 0;  // packed depth

  // Blocking: rows of A packed at a time (in panels), columns of B per work item and those of them
  // that stay in the cache while A passes by (in panels), depth per pass.
  std::int64_t m_block = 0, n_block = 0, n_cached = 0, k_block = 0;
  std::int64_t strips = 1, slabs = 1;  // work items of a block of A: strips of B x slabs of A

  Packed* packed_a = nullptr;       // of the team, or of one thread after the other
  std::int64_t packed_a_words = 0;  // of the team, or of each thread
  bool own_a = false;               // every thread packs A for itself

  // Words of one lane over so much depth, and from one panel of such lanes to the next: a line more
  // than they take, else panels of a power of two would all lie in the same few sets of a cache.
  static std::int64_t words(std::int64_t depth) { return (depth + F::kDepths - 1) / F::kDepths; }
  static std::int64_t panel_stride(std::int64_t depth, std::int64_t lanes) {
    constexpr std::int64_t kLine = 64 / sizeof(Packed);
    return (words(depth) * lanes + kLine - 1) / kLine * kLine + kLine;
  }
  [[nodiscard]] std::int64_t a_stride() const { return panel_stride(k, kernels->mr); }
  [[nodiscard]] std::int64_t b_stride() const { return panel_stride(k_block, kernels->nr); }
  // Of a B that the caller had packed: all of the depth.
  [[nodiscard]] std::int64_t whole_b_stride() const { return panel_stride(k, kernels->nr); }

  // Scratch of one thread.
  struct Scratch {
    Packed* packed_a = nullptr;   // m_block panels of [words(k)][mr]
    Packed* packed_b = nullptr;   // n_block panels of [words(k_block)][nr]
    Sum* acc = nullptr;           // [mr][nr]
    Segment* segments = nullptr;  // [n_block + 1][max_segments]
    std::int32_t* counts = nullptr;
    std::uint64_t* words = nullptr;
    // The strip of B that packed_b holds: its first panel and depth, none at first.
    std::int64_t strip_panel = -1, strip_depth = -1;
  };
  std::byte* scratch_base = nullptr;
  std::size_t scratch_bytes = 0;
  [[nodiscard]] Scratch scratch_of(int thread) const;
  [[nodiscard]] std::int64_t max_segments() const {
    return plan.path == GemmPath::kPruned ? units.max_segments() : 1;
  }
};

// The product, and its arrays laid out in `arena`, sized for keep = 1.
template <class F>
Product<F> make_product(const GemmArgs& args, const GemmPlan& plan, int threads, Arena& arena);

// Reads the mask bits: compaction, unit bits; then cuts what is left into panels and blocks.
template <class F>
void read_masks(Product<F>& product);

// Packs panels [first, last) of A over the whole packed depth into packed_a, where panel
// `block_first` lies first.
template <class F>
void pack_a(const Product<F>& product, std::int64_t block_first, std::int64_t first,
            std::int64_t last, typename Product<F>::Scratch& scratch);

// Packs panels [first, last) of B, one unit's, over depth [k0, k1), into packed_b, where the
// strip's panel `strip_first` lies first.
template <class F>
void pack_b(const Product<F>& product, std::int64_t strip_first, std::int64_t first,
            std::int64_t last, std::int64_t k0, std::int64_t k1,
            typename Product<F>::Scratch& scratch);

// The same of all of the depth of a B without masks, into `packed`, where panel 0 lies first.
template <class F>
void pack_whole_b(const Product<F>& product, std::int64_t first, std::int64_t last,
                  typename F::Packed* packed);

// Writes what compaction leaves out of D: 0 where dropped, act(bias) where only A or B are.
// Called by every thread of a team.
template <class F>
void fill_left_out(const Product<F>& product, const Epilogue<typename F::Storage>& epilogue,
                   typename F::Sum* zeros);

// Which columns of D the tile of packed columns [begin, begin + sums) writes: its own, and those
// between them and the next tile's where tiles fill.
template <class F>
void place_columns(const Product<F>& product, std::int64_t begin, std::int64_t sums,
                   TileStore<typename F::Sum>* tile);

// Zeros in columns [begin, end) of one row, in D and in aux_out.
template <class F>
void write_zeros(const Product<F>& product, const Epilogue<typename F::Storage>& epilogue,
                 std::int64_t row, std::int64_t begin, std::int64_t end);

// The epilogue of all of D.
template <class F>
[[nodiscard]] Epilogue<typename F::Storage> make_epilogue(const Product<F>& product);
// The same of the rows that are kept, by packed positions.
template <class F>
[[nodiscard]] Epilogue<typename F::Storage> of_kept_rows(
    const Product<F>& product, const Epilogue<typename F::Storage>& whole);

// The tile of D at packed position (m, n), at most nr rows and columns, of final sums [rows][nr].
template <class F>
[[nodiscard]] TileStore<typename F::Sum> tile_at(const Product<F>& product,
                                                 const typename F::Sum* sums, std::int64_t m,
                                                 std::int64_t rows, std::int64_t n,
                                                 std::int64_t cols);
// Applies the epilogue of the kept rows to it.
template <class F>
void store_tile(const Product<F>& product, const Epilogue<typename F::Storage>& epilogue,
                TileStore<typename F::Sum> tile);

// Zeros in the tile of two panels, of units that D drops.
template <class F>
void zero_tile(const Product<F>& product, const Epilogue<typename F::Storage>& epilogue,
               std::int64_t m_panel, std::int64_t n_panel);

// args.a_sum. Called by every thread of a team.
template <class F>
void sum_rows_of_a(const GemmArgs& args);

}  // namespace dropgemm::cpu
