// What the masks leave to do: which positions of an axis are kept (compaction), and which runs of
// depth each output unit walks (pruning). Made from the bits at every call; costs one visit to
// every unit, not to every element.
#pragma once

#include <cstdint>

#include "cpu/kernel.h"
#include "cpu/plan.h"
#include "cpu/workspace.h"

namespace dropgemm::cpu {

// Whether every bit of every mask is 1. Mostly answered by a mask's first words.
[[nodiscard]] bool drops_nothing(const GemmArgs& args);

// ---- compaction ------------------------------------------------------------------------------

// Why a position of M or N is, or is not, multiplied.
enum class Position : std::uint8_t {
  kCompute = 0,
  kEmpty = 1,    // kept in D, but its whole row of A (column of B) is dropped: act(bias)
  kDropped = 2,  // dropped in D: 0
};

// A dimension after compaction. Where the kept positions are first, first + step, ... (all of them,
// a run, every step-th) the index is null, and the axis is a strided view of the array. Without
// masks position and runs are null as well.
struct Axis {
  std::int64_t extent = 0;        // before
  std::int64_t size = 0;          // after
  std::int32_t* index = nullptr;  // [size] kept positions, ascending
  std::int64_t first = 0;         // 0 where there is an index
  std::int64_t step = 1;          // 1 where there is an index
  bool any_empty = false;         // some position is kEmpty
  Position* position = nullptr;   // [extent]
  std::int32_t* runs = nullptr;   // [num_runs + 1] where the position changes, extent at the end
  std::int64_t num_runs = 0;
  // Of N alone, where there are masks: bits of its positions, for the epilogue, and whether tiles
  // of computed rows write all columns, those between their own included.
  std::uint32_t* summed = nullptr;  // kCompute
  std::uint32_t* kept = nullptr;    // not kDropped
  bool fills_between = false;

  // Where the i-th kept position lies, counted from `first`.
  [[nodiscard]] std::int64_t offset(std::int64_t i) const {
    return index != nullptr ? index[i] : i * step;
  }
};

struct CompactAxes {
  Axis m, n, k;
  bool any_left_out = false;  // some element of D is not computed
};

// Room for the arrays above, for the worst case.
void layout_axes(const GemmArgs& args, const GemmPlan& plan, Arena& arena, CompactAxes* axes);
// Fills them; a plan that is not kCompact keeps everything.
void compact_axes(const GemmArgs& args, const GemmPlan& plan, CompactAxes* axes);

// ---- pruning ---------------------------------------------------------------------------------

// One bit per pair of units, rows padded to 64-bit words. Null words: all ones.
struct UnitBits {
  std::uint64_t* words = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  [[nodiscard]] std::int64_t row_words() const { return (cols + 63) / 64; }
  [[nodiscard]] const std::uint64_t* row(std::int64_t i) const {
    return words != nullptr ? words + i * row_words() : nullptr;
  }
  [[nodiscard]] bool get(std::int64_t i, std::int64_t j) const {
    return words == nullptr || (row(i)[j / 64] >> (j % 64) & 1U) != 0;
  }
};

struct PrunedUnits {
  UnitBits a;  // (M units, K units)
  UnitBits b;  // (N units, K units)
  UnitBits d;  // (M units, N units)
  std::int64_t unit_k = 0;
  std::int64_t extent_k = 0;

  // The depth that output unit (mu, nu) walks, clipped to [k0, k1) and counted from k0; returns
  // how many segments. Neighbouring kept units make one segment. Room: max_segments().
  std::int32_t segments(std::int64_t mu, std::int64_t nu, std::int64_t k0, std::int64_t k1,
                        Segment* out) const;
  // The depth of A's unit mu, or B's unit nu, that any kept output unit walks.
  std::int32_t a_segments(std::int64_t mu, std::uint64_t* scratch, Segment* out) const;
  std::int32_t b_segments(std::int64_t nu, std::int64_t k0, std::int64_t k1, std::uint64_t* scratch,
                          Segment* out) const;
  [[nodiscard]] std::int64_t max_segments() const { return a.cols / 2 + 1; }
  [[nodiscard]] std::int64_t scratch_words() const { return a.row_words(); }

 private:
  std::int32_t to_segments(const std::uint64_t* x, const std::uint64_t* y, std::int64_t k0,
                           std::int64_t k1, Segment* out) const;
};

void layout_units(const GemmArgs& args, const GemmPlan& plan, Arena& arena, PrunedUnits* units);
void fill_units(const GemmArgs& args, const GemmPlan& plan, PrunedUnits* units);

}  // namespace dropgemm::cpu
