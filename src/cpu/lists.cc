// Compaction indices and depth segments, from mask bits.
#include "cpu/lists.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace dropgemm::cpu {
namespace {

// A mask that is one tile along one of its axes keeps or drops whole positions of the other: of
// the first axis where this is true (a mask of one tile included), else of the second.
bool varies_along_first(const AxisMask& mask, std::int64_t second_extent) {
  return mask.second_tile() >= second_extent;
}

void layout_axis(std::int64_t extent, bool masked, Arena& arena, Axis* axis) {
  axis->extent = extent;
  axis->size = extent;
  if (!masked) return;
  axis->index = arena.take<std::int32_t>(extent);
  axis->position = arena.take<Position>(extent);
  axis->runs = arena.take<std::int32_t>(extent + 1);
}

// Marks what `mask`, one line of tiles along `axis`, drops of it, unless it is marked as more.
void mark(const AxisMask& mask, bool first, Position where, Axis& axis) {
  const TileMaskView& view = *mask.mask;
  // A line along the stored columns is a row of bits; along the stored rows, each row has one.
  const bool is_row = (first == mask.swapped) != view.transposed;
  const std::int64_t tile = first ? mask.first_tile() : mask.second_tile();
  for (std::int64_t t = 0, begin = 0; begin < axis.extent; ++t) {
    const bool kept = ((is_row ? view.bits[t / 32] >> (t % 32) : view.bits[t]) & 1U) != 0;
    const std::int64_t end = tile < axis.extent - begin ? begin + tile : axis.extent;
    for (std::int64_t i = begin; i < end && !kept; ++i) {
      axis.position[i] = std::max(axis.position[i], where);
    }
    begin = end;
  }
}

void apply(const AxisMask& mask, Axis& first, Axis& second, Position where) {
  if (mask.mask == nullptr) return;
  const bool along_first = varies_along_first(mask, second.extent);
  mark(mask, along_first, where, along_first ? first : second);
}

// Runs shorter than this on average are not worth visits of their own.
constexpr std::int64_t kShortRun = 16;

// Bits [begin, end).
void set_bits(std::uint32_t* words, std::int64_t begin, std::int64_t end) {
  while (begin < end) {
    const std::int64_t stop = std::min(end, (begin / 32 + 1) * 32);
    const std::uint64_t bits = (std::uint64_t{1} << (stop - begin)) - 1;
    words[begin / 32] |= static_cast<std::uint32_t>(bits << (begin % 32));
    begin = stop;
  }
}

void mark_bits(Axis& axis) {
  if (axis.summed == nullptr) return;
  std::fill_n(axis.summed, axis.extent / 32 + 2, 0);
  std::fill_n(axis.kept, axis.extent / 32 + 2, 0);
  for (std::int64_t r = 0; r < axis.num_runs; ++r) {
    const std::int32_t begin = axis.runs[r], end = axis.runs[r + 1];
    if (axis.position[begin] == Position::kCompute) set_bits(axis.summed, begin, end);
    if (axis.position[begin] != Position::kDropped) set_bits(axis.kept, begin, end);
  }
  axis.fills_between = axis.size > 0 && axis.num_runs * kShortRun > axis.extent;
}

// Where the run of one position that begins at `begin` ends; eight at a time.
std::int64_t run_end(const Position* position, std::int64_t begin, std::int64_t extent) {
  std::uint64_t same = 0, next = 0;
  std::memset(&same, static_cast<int>(position[begin]), sizeof(same));
  std::int64_t end = begin + 1;
  for (; end + 8 <= extent; end += 8) {
    std::memcpy(&next, position + end, sizeof(next));
    if (next != same) break;
  }
  while (end < extent && position[end] == position[begin]) ++end;
  return end;
}

void gather(Axis& axis) {
  if (axis.index == nullptr) return;
  const Position* const position = axis.position;
  std::int32_t *const index = axis.index, *const runs = axis.runs;
  std::int64_t size = 0, num_runs = 0;
  for (std::int64_t i = 0; i < axis.extent;) {
    const std::int64_t end = run_end(position, i, axis.extent);
    runs[num_runs++] = static_cast<std::int32_t>(i);
    axis.any_empty |= position[i] == Position::kEmpty;
    if (position[i] == Position::kCompute) {
      std::iota(index + size, index + size + (end - i), static_cast<std::int32_t>(i));
      size += end - i;
    }
    i = end;
  }
  runs[num_runs] = static_cast<std::int32_t>(axis.extent);
  axis.num_runs = num_runs;
  axis.size = size;
  const std::int32_t step = size > 1 ? index[1] - index[0] : 1;
  std::int64_t regular = std::min<std::int64_t>(size, 1);
  while (regular < size && index[regular] - index[regular - 1] == step) ++regular;
  if (regular < size) return;
  axis.first = size > 0 ? index[0] : 0;
  axis.step = step;
  axis.index = nullptr;
}

void layout_bits(std::int64_t rows, std::int64_t cols, bool masked, Arena& arena, UnitBits* bits) {
  bits->rows = rows;
  bits->cols = cols;
  if (masked) bits->words = arena.take<std::uint64_t>(rows * bits->row_words());
}

// Units of `unit` positions in a tile; all of them where there is one tile, whose size need not be
// a multiple then.
std::int64_t units_of_tile(std::int64_t tile, std::int64_t unit, std::int64_t units) {
  return std::min(ceil_div(tile, unit), units);
}

void fill_bits(const AxisMask& mask, std::int64_t unit_first, std::int64_t unit_second,
               UnitBits* bits) {
  if (mask.mask == nullptr) return;
  const TileMaskView& view = *mask.mask;
  const std::int64_t rows_of_tile = units_of_tile(mask.first_tile(), unit_first, bits->rows);
  const std::int64_t cols_of_tile = units_of_tile(mask.second_tile(), unit_second, bits->cols);
  const bool swapped = mask.swapped != view.transposed;  // the first axis runs along a row of bits
  const std::int64_t words = view.transposed ? mask_row_words(view.rows, view.tile_rows)
                                             : mask_row_words(view.cols, view.tile_cols);
  std::fill_n(bits->words, bits->rows * bits->row_words(), std::uint64_t{0});
  for (std::int64_t i = 0; i < bits->rows; ++i) {
    std::uint64_t* row = bits->words + i * bits->row_words();
    const std::int64_t first = i / rows_of_tile;
    for (std::int64_t j = 0, second = 0; j < bits->cols; ++second) {
      const std::uint32_t word = swapped ? view.bits[second * words + first / 32] >> (first % 32)
                                         : view.bits[first * words + second / 32] >> (second % 32);
      for (const std::int64_t end = std::min(j + cols_of_tile, bits->cols); j < end; ++j) {
        row[j / 64] |= std::uint64_t{word & 1U} << (j % 64);
      }
    }
  }
}

std::int64_t units_of(std::int64_t extent, std::int64_t unit) {
  return unit == 0 ? 0 : (extent + unit - 1) / unit;
}

bool keeps_everything(const TileMaskView& mask) {
  std::int64_t rows = ceil_div(mask.rows, mask.tile_rows);
  std::int64_t cols = ceil_div(mask.cols, mask.tile_cols);
  if (mask.transposed) std::swap(rows, cols);
  if (cols == 0) return true;
  const std::int64_t words = (cols + 31) / 32;
  const std::uint32_t last = ~std::uint32_t{0} >> (words * 32 - cols);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::uint32_t* row = mask.bits + i * words;
    for (std::int64_t w = 0; w + 1 < words; ++w) {
      if (~row[w] != 0) return false;
    }
    if ((~row[words - 1] & last) != 0) return false;
  }
  return true;
}

}  // namespace

bool drops_nothing(const GemmArgs& args) {
  for (const TileMaskView* mask : {args.a_mask, args.b_mask, args.d_mask}) {
    if (mask != nullptr && !keeps_everything(*mask)) return false;
  }
  return true;
}

void layout_axes(const GemmArgs& args, const GemmPlan& plan, Arena& arena, CompactAxes* axes) {
  const GemmShape s = gemm_shape(args);
  const bool compact = plan.path == GemmPath::kCompact;
  layout_axis(s.m, compact && (args.a_mask != nullptr || args.d_mask != nullptr), arena, &axes->m);
  const bool masks_n = compact && (args.b_mask != nullptr || args.d_mask != nullptr);
  layout_axis(s.n, masks_n, arena, &axes->n);
  if (masks_n) {  // over no memory as well, where the arena measures
    axes->n.summed = arena.take<std::uint32_t>(s.n / 32 + 2);
    axes->n.kept = arena.take<std::uint32_t>(s.n / 32 + 2);
  }
  layout_axis(s.k, compact && (args.a_mask != nullptr || args.b_mask != nullptr), arena, &axes->k);
}

void compact_axes(const GemmArgs& args, const GemmPlan& plan, CompactAxes* axes) {
  if (plan.path != GemmPath::kCompact) return;
  for (Axis* axis : {&axes->m, &axes->n, &axes->k}) {
    if (axis->position != nullptr) {
      std::fill_n(axis->position, axis->extent, Position::kCompute);
    }
  }
  apply(a_axis_mask(args), axes->m, axes->k, Position::kEmpty);
  apply(b_axis_mask(args), axes->n, axes->k, Position::kEmpty);
  apply(d_axis_mask(args), axes->m, axes->n, Position::kDropped);
  for (Axis* axis : {&axes->m, &axes->n, &axes->k}) gather(*axis);
  mark_bits(axes->n);
  axes->any_left_out = axes->m.size < axes->m.extent || axes->n.size < axes->n.extent;
}

void layout_units(const GemmArgs& args, const GemmPlan& plan, Arena& arena, PrunedUnits* units) {
  if (plan.path != GemmPath::kPruned) return;
  const GemmShape s = gemm_shape(args);
  const std::int64_t m = units_of(s.m, plan.unit_m), n = units_of(s.n, plan.unit_n);
  const std::int64_t k = units_of(s.k, plan.unit_k);
  layout_bits(m, k, args.a_mask != nullptr, arena, &units->a);
  layout_bits(n, k, args.b_mask != nullptr, arena, &units->b);
  layout_bits(m, n, args.d_mask != nullptr, arena, &units->d);
  units->unit_k = plan.unit_k;
  units->extent_k = s.k;
}

void fill_units(const GemmArgs& args, const GemmPlan& plan, PrunedUnits* units) {
  if (plan.path != GemmPath::kPruned) return;
  fill_bits(a_axis_mask(args), plan.unit_m, plan.unit_k, &units->a);
  fill_bits(b_axis_mask(args), plan.unit_n, plan.unit_k, &units->b);
  fill_bits(d_axis_mask(args), plan.unit_m, plan.unit_n, &units->d);
}

std::int32_t PrunedUnits::to_segments(const std::uint64_t* x, const std::uint64_t* y,
                                      std::int64_t k0, std::int64_t k1, Segment* out) const {
  std::int32_t count = 0;
  std::int64_t end_of_last = -1;
  for (std::int64_t w = 0; w < a.row_words(); ++w) {
    std::uint64_t word = ~std::uint64_t{0};
    if (x != nullptr) word &= x[w];
    if (y != nullptr) word &= y[w];
    const std::int64_t left = a.cols - w * 64;
    if (left < 64) word &= (std::uint64_t{1} << left) - 1;
    for (; word != 0; word &= word - 1) {
      const std::int64_t unit = w * 64 + __builtin_ctzll(word);
      const std::int64_t begin = std::max(unit * unit_k, k0);
      const std::int64_t end = std::min({(unit + 1) * unit_k, extent_k, k1});
      if (begin >= end) continue;
      if (begin == end_of_last) {
        out[count - 1].length += static_cast<std::int32_t>(end - begin);
      } else {
        out[count++] = {static_cast<std::int32_t>(begin - k0),
                        static_cast<std::int32_t>(end - begin)};
      }
      end_of_last = end;
    }
  }
  return count;
}

std::int32_t PrunedUnits::segments(std::int64_t mu, std::int64_t nu, std::int64_t k0,
                                   std::int64_t k1, Segment* out) const {
  return to_segments(a.row(mu), b.row(nu), k0, k1, out);
}

std::int32_t PrunedUnits::a_segments(std::int64_t mu, std::uint64_t* scratch, Segment* out) const {
  if (b.words == nullptr) return to_segments(a.row(mu), nullptr, 0, extent_k, out);
  std::fill_n(scratch, scratch_words(), std::uint64_t{0});
  for (std::int64_t nu = 0; nu < b.rows; ++nu) {
    if (!d.get(mu, nu)) continue;
    for (std::int64_t w = 0; w < scratch_words(); ++w) scratch[w] |= b.row(nu)[w];
  }
  return to_segments(a.row(mu), scratch, 0, extent_k, out);
}

std::int32_t PrunedUnits::b_segments(std::int64_t nu, std::int64_t k0, std::int64_t k1,
                                     std::uint64_t* scratch, Segment* out) const {
  if (a.words == nullptr) return to_segments(nullptr, b.row(nu), k0, k1, out);
  std::fill_n(scratch, scratch_words(), std::uint64_t{0});
  for (std::int64_t mu = 0; mu < a.rows; ++mu) {
    if (!d.get(mu, nu)) continue;
    for (std::int64_t w = 0; w < scratch_words(); ++w) scratch[w] |= a.row(mu)[w];
  }
  return to_segments(scratch, b.row(nu), k0, k1, out);
}

}  // namespace dropgemm::cpu
