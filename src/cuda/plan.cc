// Admission: shapes, tiles and keep_hints in, a path and a shape of lists out.
#include "cuda/plan.h"

#include <algorithm>

#include "admission.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int64_t kGranule = 32;  // the least of every family of kernels
constexpr std::int64_t kTile = 128;

// What a mask costs, in multiply-adds for each element that is treated so, but for the lists, whose
// cost is a share of the dense product's. A model of a chip with 350 multiply-adds a byte, not yet
// measured: bfloat16 at 700 TFLOP/s beside 4 TB/s, and a third of that for adding to memory.
constexpr double kWalkLists = 0.02;
constexpr double kGather = 1.12;        // tiles of gathered granules, over the same FLOP in cuBLAS
constexpr double kCopyElement = 350;    // of an operand: read, selected or gathered, written, read
constexpr double kFinishElement = 875;  // of D: zeroed, read again as float32, written
constexpr double kAddElement = 500;     // of D, by each unit of K that keeps it
// Units of K that take turns, where sums are to be the same at every call: so many at most, and
// what could be multiplied in the time that one waits for the other.
constexpr std::int64_t kMostTurns = 32;
constexpr double kTurn = 1e9;

double keep_hint(const TileMaskView* mask) { return mask != nullptr ? mask->keep_hint : 1.0; }

// A product's masks and what follows from their shapes.
struct Masks {
  explicit Masks(const GemmArgs& args)
      : s(gemm_shape(args)), a(a_axis_mask(args)), b(b_axis_mask(args)), d(d_axis_mask(args)),
        m(s.m), n(s.n), k(s.k) {
    if (a.present()) m.touch(args.trans_a ? args.a_mask->tile_cols : args.a_mask->tile_rows);
    if (a.present()) k.touch(args.trans_a ? args.a_mask->tile_rows : args.a_mask->tile_cols);
    if (b.present()) n.touch(args.trans_b ? args.b_mask->tile_rows : args.b_mask->tile_cols);
    if (b.present()) k.touch(args.trans_b ? args.b_mask->tile_cols : args.b_mask->tile_rows);
    if (d.present()) m.touch(args.d_mask->tile_rows);
    if (d.present()) n.touch(args.d_mask->tile_cols);
    a_is_vector = is_vector(a, s.m, s.k);
    b_is_vector = is_vector(b, s.n, s.k);
    d_is_vector = is_vector(d, s.m, s.n);
  }
  static bool is_vector(const AxisMask& mask, std::int64_t first, std::int64_t second) {
    return !mask.present() || mask.first_tile() >= first || mask.second_tile() >= second;
  }
  [[nodiscard]] bool compacts() const { return a_is_vector && b_is_vector && d_is_vector; }
  [[nodiscard]] bool fit_granules() const {
    return m.fits(kGranule) && n.fits(kGranule) && k.fits(kGranule);
  }
  [[nodiscard]] bool fit_tiles() const { return fit_granules() && m.fits(kTile) && n.fits(kTile); }

  GemmShape s;
  AxisMask a, b, d;
  Unit m, n, k;
  bool a_is_vector, b_is_vector, d_is_vector;
};

// Time over the dense product's, where nothing is skipped. An element of A takes part in N
// multiply-adds, one of B in M, and one of D is the sum of K.
double time_selecting(const GemmArgs& args, const GemmShape& s) {
  double time = 1.0;
  if (args.dropped_are_zero) return time;
  if (args.a_mask != nullptr) time += kCopyElement / static_cast<double>(s.n);
  if (args.b_mask != nullptr) time += kCopyElement / static_cast<double>(s.m);
  return time;
}

double time_compacting(const GemmArgs& args, const GemmShape& s, double work) {
  // Lines are read whole, where not all of their elements are kept; what is kept is written.
  const auto copied = [](const TileMaskView* mask) { return (1 + keep_hint(mask)) / 2; };
  return kGather * work + kWalkLists +
         kCopyElement / static_cast<double>(s.n) * copied(args.a_mask) +
         kCopyElement / static_cast<double>(s.m) * copied(args.b_mask);
}

// How much of a tile the units of its owner fill, if no two of them keep the same. A mask of
// weights alone is taken for a pattern, where units do recur.
double fill_of(std::int64_t unit, std::int64_t extent) {
  const auto least = static_cast<double>(std::min(kTile, extent));
  return std::min(1.0, static_cast<double>(unit) / least);
}

double time_pruning(const GemmArgs& args, const Masks& masks, Lists lists, double work) {
  double time = kGather * work;
  if (lists == Lists::kRows && masks.a.present()) time /= fill_of(masks.m.size(), masks.s.m);
  if (lists == Lists::kCols && masks.d.present()) time /= fill_of(masks.n.size(), masks.s.n);
  if (lists == Lists::kDepth) {
    time += kFinishElement / static_cast<double>(masks.s.k) +
            kAddElement * work / static_cast<double>(masks.k.size());
    const GemmShape& s = masks.s;
    if (args.deterministic) {
      const auto products = static_cast<double>(s.m) * static_cast<double>(s.n);
      time += kTurn / (products * static_cast<double>(masks.k.size()));
    }
  }
  return time + kWalkLists;
}

// The shapes of lists that a product's masks allow, the cheapest of them.
struct Pruning {
  bool possible = false;
  Lists lists = Lists::kWhole;
  double time = 0;

  void offer(bool allowed, const GemmArgs& args, const Masks& masks, Lists shape, double work) {
    if (!allowed) return;
    const double expected = time_pruning(args, masks, shape, work);
    if (possible && time <= expected) return;
    *this = {true, shape, expected};
  }
};

Pruning prune(const GemmArgs& args, const Masks& masks, double work) {
  Pruning best;
  const bool fits = masks.fit_granules();
  const bool in_order = !args.deterministic || masks.s.k <= kMostTurns * masks.k.size();
  best.offer(fits && masks.b_is_vector, args, masks, Lists::kRows, work);
  best.offer(fits && masks.a_is_vector, args, masks, Lists::kCols, work);
  best.offer(fits && masks.d_is_vector && in_order, args, masks, Lists::kDepth, work);
  best.offer(masks.fit_tiles(), args, masks, Lists::kPairs, work);
  return best;
}

}  // namespace

Admission admit(const GemmArgs& args) {
  const Masks masks(args);
  const GemmShape& s = masks.s;
  Admission result;
  GemmPlan& plan = result.plan;
  plan.unit_m = masks.m.size();
  plan.unit_n = masks.n.size();
  plan.unit_k = masks.k.size();
  plan.work = keep_hint(args.a_mask) * keep_hint(args.b_mask) * keep_hint(args.d_mask);
  if (s.m == 0 || s.n == 0 || s.k == 0) {
    plan.path = GemmPath::kNone;
    plan.work = 0.0;
    return result;
  }
  if (!masks.a.present() && !masks.b.present() && !masks.d.present()) {
    plan.path = GemmPath::kDense;
    return result;
  }
  const double selecting = time_selecting(args, s);
  const Pruning pruning = prune(args, masks, plan.work);
  const bool skips = pruning.possible || masks.compacts();
  plan.time = pruning.possible ? pruning.time : time_compacting(args, s, plan.work);
  // A hint of 1 says nothing.
  const bool pays = plan.time <= selecting && plan.work <= kHardlyDropped;
  if (skips && (pays || plan.work == 1.0)) {
    plan.path = pruning.possible ? GemmPath::kPruned : GemmPath::kCompact;
    result.lists = pruning.lists;
  } else {
    plan.path = GemmPath::kSelect;
    plan.work = 1.0;
    plan.time = selecting;
  }
  return result;
}

}  // namespace dropgemm::cuda
