// Admission: shapes, tiles and keep_hints in, a path out.
#include "cpu/plan.h"

#include <algorithm>

#include "admission.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int64_t kGranuleM = 8;
constexpr std::int64_t kGranuleN = 32;
constexpr std::int64_t kGranuleK = 8;

// What a mask costs, fitted to measurements (README.md, break-even): in multiply-adds for each
// element that is treated so, but for the lists, whose cost is a share of the dense product's.
constexpr double kWalkLists = 0.02;
constexpr double kPickLane = 20;       // packed from among neighbours in a line
constexpr double kSpreadColumn = 20;   // of D, written between columns that are dropped
constexpr double kSelectElement = 10;  // while packing, by bits of single elements
constexpr double kSelectTile = 30;     // packed, then zeroed
constexpr double kSelectD = 10;
constexpr std::int64_t kShortRun = 16;  // narrower tiles leave irregular columns

bool is_vector(const AxisMask& m, std::int64_t first_extent, std::int64_t second_extent) {
  return m.mask == nullptr || m.first_tile() >= first_extent || m.second_tile() >= second_extent;
}

double select_cost(const TileMaskView& mask) {
  return mask.tile_cols == 1 ? kSelectElement : kSelectTile;
}

// Time over the dense product's, where nothing is skipped. An element of A takes part in N
// multiply-adds, one of B in M, and one of D is the sum of K.
double time_selecting(const GemmArgs& args, const GemmShape& s) {
  const bool selects = !args.dropped_are_zero;
  double time = 1.0;
  if (selects && args.a_mask != nullptr)
    time += select_cost(*args.a_mask) / static_cast<double>(s.n);
  if (selects && args.b_mask != nullptr)
    time += select_cost(*args.b_mask) / static_cast<double>(s.m);
  if (args.d_mask != nullptr) time += kSelectD / static_cast<double>(s.k);
  return time;
}

// The same, where what is dropped is skipped; the units are those of M and N.
double time_skipping(const GemmArgs& args, const GemmShape& s, double work, bool compacts,
                     std::int64_t unit_m, std::int64_t unit_n) {
  double time = work + kWalkLists;
  if (!compacts) return time;
  if (unit_m < std::min(kShortRun, s.m) && args.trans_a) {
    time += kPickLane / static_cast<double>(s.n);
  }
  if (unit_n < std::min(kShortRun, s.n)) {
    time += kSpreadColumn / static_cast<double>(s.k);
    if (!args.trans_b) time += kPickLane / static_cast<double>(s.m);
  }
  return time;
}

double keep_hint(const TileMaskView* mask) { return mask != nullptr ? mask->keep_hint : 1.0; }

// Single-element tiles whose bits lie along the second axis: two words, shifted together.
std::uint32_t bits_along_row(const TileMaskView& mask, std::int64_t row, std::int64_t col,
                             int count) {
  const std::int64_t words = mask_row_words(mask.cols, 1);
  const std::uint32_t* line = mask.bits + row / mask.tile_rows * words;
  const std::int64_t word = col / 32;
  const int shift = static_cast<int>(col % 32);
  std::uint64_t both = line[word];
  if (word + 1 < words) both |= std::uint64_t{line[word + 1]} << 32;
  const std::uint64_t all = (std::uint64_t{1} << count) - 1;
  return static_cast<std::uint32_t>(both >> shift & all);
}

// Bit c of word r becomes bit r of word c, by exchanging blocks of 16, 8, 4, 2 and 1.
void transpose_bits(std::uint32_t* square) {
  std::uint32_t low = 0x0000FFFF;
  for (int step = 16; step != 0; step >>= 1, low ^= low << step) {
    for (int r = 0; r < 32; r = ((r | step) + 1) & ~step) {
      const std::uint32_t swap = (square[r] >> step ^ square[r | step]) & low;
      square[r] ^= swap << step;
      square[r | step] ^= swap;
    }
  }
}

}  // namespace

std::uint32_t AxisMask::kept_word(std::int64_t i, std::int64_t j, int count) const {
  if (mask == nullptr) return static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
  if (!swapped && !mask->transposed && mask->tile_cols == 1) {
    return bits_along_row(*mask, i, j, count);
  }
  std::uint64_t word = 0;
  for (int b = 0; b < count;) {  // one look at a tile, however many of its columns
    const std::int64_t next = ((j + b) / second_tile() + 1) * second_tile() - j;
    const int end = static_cast<int>(std::min<std::int64_t>(next, count));
    if (kept(i, j + b)) word |= (std::uint64_t{1} << end) - (std::uint64_t{1} << b);
    b = end;
  }
  return static_cast<std::uint32_t>(word);
}

void AxisMask::kept_words(std::int64_t i, int rows, std::int64_t j, int count,
                          std::uint32_t* words) const {
  // Single elements whose bits lie along the first axis: read 32 at a time, then transpose.
  if (mask != nullptr && swapped && !mask->transposed && mask->tile_cols == 1 && rows > 1) {
    std::uint32_t square[32] = {};
    for (int b = 0; b < count; ++b) square[b] = bits_along_row(*mask, j + b, i, rows);
    transpose_bits(square);
    std::copy_n(square, rows, words);
    return;
  }
  for (int r = 0; r < rows; ++r) words[r] = kept_word(i + r, j, count);
}

AxisMask a_axis_mask(const GemmArgs& args) { return {args.a_mask, args.trans_a}; }
AxisMask b_axis_mask(const GemmArgs& args) { return {args.b_mask, !args.trans_b}; }
AxisMask d_axis_mask(const GemmArgs& args) { return {args.d_mask, false}; }

GemmPlan make_plan(const GemmArgs& args) {
  const GemmShape s = gemm_shape(args);
  const AxisMask a = a_axis_mask(args), b = b_axis_mask(args), d = d_axis_mask(args);
  Unit m(s.m), n(s.n), k(s.k);
  if (a.mask != nullptr) m.touch(a.first_tile()), k.touch(a.second_tile());
  if (b.mask != nullptr) n.touch(b.first_tile()), k.touch(b.second_tile());
  if (d.mask != nullptr) m.touch(d.first_tile()), n.touch(d.second_tile());

  GemmPlan plan;
  plan.unit_m = m.size();
  plan.unit_n = n.size();
  plan.unit_k = k.size();
  plan.work = keep_hint(args.a_mask) * keep_hint(args.b_mask) * keep_hint(args.d_mask);
  const bool compacts = is_vector(a, s.m, s.k) && is_vector(b, s.n, s.k) && is_vector(d, s.m, s.n);
  const bool skips = compacts || (m.fits(kGranuleM) && n.fits(kGranuleN) && k.fits(kGranuleK));
  if (s.m == 0 || s.n == 0 || s.k == 0) {
    plan.path = GemmPath::kNone;
    plan.work = 0.0;
    return plan;
  }
  if (a.mask == nullptr && b.mask == nullptr && d.mask == nullptr) {
    plan.path = GemmPath::kDense;
    return plan;
  }
  const double selecting = time_selecting(args, s);
  plan.time = time_skipping(args, s, plan.work, compacts, plan.unit_m, plan.unit_n);
  // A hint of 1 says nothing.
  const bool pays = plan.time <= selecting && plan.work <= kHardlyDropped;
  if (skips && (pays || plan.work == 1.0)) {
    plan.path = compacts ? GemmPath::kCompact : GemmPath::kPruned;
  } else {
    plan.path = GemmPath::kSelect;
    plan.work = 1.0;
    plan.time = selecting;
  }
  return plan;
}

}  // namespace dropgemm::cpu
