// The front end of compaction: counts what a mask keeps, checks every operand by name, then hands
// over to a backend.
#include "dropgemm/compact.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "compact_room.h"
#include "dropgemm/backend.h"
#include "operands.h"
#include "registry.h"

namespace dropgemm {
namespace {

// The least and the most of what has been seen, 0 before anything was.
class Range {
 public:
  void see(std::int64_t value) {
    least_ = seen_ ? std::min(least_, value) : value;
    most_ = std::max(most_, value);
    seen_ = true;
  }
  [[nodiscard]] std::int64_t least() const { return least_; }
  [[nodiscard]] std::int64_t most() const { return most_; }

 private:
  std::int64_t least_ = 0, most_ = 0;
  bool seen_ = false;
};

// 32 counters side by side: bit k of each is a bit of planes_[k].
class BitCounters {
 public:
  void add(std::uint32_t word) {
    for (std::uint32_t* plane = planes_; word != 0; ++plane) {
      const std::uint32_t carry = *plane & word;
      *plane ^= word;
      word = carry;
    }
  }
  [[nodiscard]] std::int64_t count(int bit) const {
    std::int64_t sum = 0;
    for (int k = 0; k < 63; ++k) sum |= static_cast<std::int64_t>(planes_[k] >> bit & 1U) << k;
    return sum;
  }

 private:
  std::uint32_t planes_[63] = {};
};

// Tiles of a mask as its words lie: `rows` lines of `row_words` words.
struct Lines {
  const std::uint32_t* bits;
  std::int64_t rows, cols, row_words;
};

Lines lines_of(const TileMaskView& mask) {
  const TileMaskView base = mask.transposed ? transposed(mask) : mask;
  return {base.bits, ceil_div(base.rows, base.tile_rows), ceil_div(base.cols, base.tile_cols),
          mask_row_words(base.cols, base.tile_cols)};
}

// A bit after the last column would be counted, and moved to where there is no memory.
Status check_padding(const Lines& lines) {
  const std::int64_t used = lines.cols % 32;
  if (used == 0) return {};
  for (std::int64_t i = 1; i <= lines.rows; ++i) {
    if (lines.bits[i * lines.row_words - 1] >> used == 0) continue;
    return Status::invalid("mask", "padding bits of 0",
                           "a 1 after the last tile of row " + std::to_string(i - 1) + " of tiles");
  }
  return {};
}

// By arithmetic that compilers make vectors of: the x86-64 baseline has no popcnt.
std::uint32_t bits_set(std::uint32_t word) {
  word -= word >> 1 & 0x55555555U;
  word = (word & 0x33333333U) + (word >> 2 & 0x33333333U);
  word = (word + (word >> 4)) & 0x0F0F0F0FU;
  word += word >> 8;
  return (word + (word >> 16)) & 63U;
}

std::int64_t kept_tiles(const std::uint32_t* words, std::int64_t count) {
  std::int64_t kept = 0;
  for (std::int64_t w = 0; w < count; ++w) kept += bits_set(words[w]);
  return kept;
}

// The elements of `kept` tiles of `tile`, of which the last one may clip at `extent`.
std::int64_t elements(std::int64_t kept, bool keeps_last, std::int64_t extent, std::int64_t tile) {
  if (!keeps_last) return kept * tile;
  return (kept - 1) * tile + (extent - (extent - 1) / tile * tile);
}

// Lists that run along the lines of the bits.
Range count_along(const Lines& lines, std::int64_t extent, std::int64_t tile) {
  Range range;
  for (std::int64_t i = 0; i < lines.rows; ++i) {
    const std::uint32_t* const line = lines.bits + i * lines.row_words;
    const std::int64_t last = lines.cols - 1;
    const bool keeps_last = last >= 0 && (line[last / 32] >> (last % 32) & 1U) != 0;
    range.see(elements(kept_tiles(line, lines.row_words), keeps_last, extent, tile));
  }
  return range;
}

// Lists that run across them.
Range count_across(const Lines& lines, std::int64_t extent, std::int64_t tile) {
  Range range;
  for (std::int64_t w = 0; w < lines.row_words; ++w) {
    BitCounters counters;
    std::uint32_t word = 0;
    for (std::int64_t i = 0; i < lines.rows; ++i) {
      word = lines.bits[i * lines.row_words + w];
      counters.add(word);
    }
    const int width = static_cast<int>(std::min<std::int64_t>(32, lines.cols - w * 32));
    for (int b = 0; b < width; ++b) {
      range.see(elements(counters.count(b), (word >> b & 1U) != 0, extent, tile));
    }
  }
  return range;
}

Status check_axis(CompactAxis axis) {
  const auto code = static_cast<std::int32_t>(axis);
  if (code >= 0 && code <= static_cast<std::int32_t>(CompactAxis::kTiles)) return {};
  return Status::invalid("axis", "rows, columns or tiles", "code " + std::to_string(code));
}

// The compact side, whose `size` is the caller's to choose.
Status check_compact_shape(const ConstMatrixView& xc, const ConstMatrixView& x,
                           const TileMaskView& mask, CompactAxis axis) {
  const auto refuse = [&](const std::string& expected) {
    return Status::invalid("xc", expected, size_text(xc.rows, xc.cols));
  };
  if (axis == CompactAxis::kCols && xc.rows != x.rows) {
    return refuse("[" + std::to_string(x.rows) + ", size], the rows of the mask");
  }
  if (axis == CompactAxis::kRows && xc.cols != x.cols) {
    return refuse("[size, " + std::to_string(x.cols) + "], the columns of the mask");
  }
  if (axis == CompactAxis::kTiles && (xc.cols != mask.tile_cols || xc.rows % mask.tile_rows != 0)) {
    return refuse("[size * " + std::to_string(mask.tile_rows) + ", " +
                  std::to_string(mask.tile_cols) + "], tiles of the mask");
  }
  return {};
}

template <class Args>
Status check_room(const Args& args, const char* name, const std::string& expected) {
  std::int64_t least = 0, most = 0;
  DROPGEMM_RETURN_IF_ERROR(kept_count(args.mask, args.axis, &least, &most));
  const std::int64_t size = compact_size(args);
  if (most <= size) return {};
  return Status::invalid(name, expected + std::to_string(most), std::to_string(size));
}

// `out` is the one of x and xc that is written.
Status check_operands(const ConstMatrixView& x, const ConstMatrixView& xc, const TileMaskView& mask,
                      CompactAxis axis, const char* out_name, const MatrixView& out,
                      const char* in_name, const ConstMatrixView& in) {
  DROPGEMM_RETURN_IF_ERROR(check_matrix(in_name, in));
  DROPGEMM_RETURN_IF_ERROR(check_output(out_name, out));
  DROPGEMM_RETURN_IF_ERROR(check_dtype("xc", xc.dtype, "x", x.dtype));
  DROPGEMM_RETURN_IF_ERROR(check_mask_of("mask", &mask, "x", x));
  DROPGEMM_RETURN_IF_ERROR(check_axis(axis));
  DROPGEMM_RETURN_IF_ERROR(check_compact_shape(xc, x, mask, axis));
  DROPGEMM_RETURN_IF_ERROR(check_disjoint(out_name, out, in_name, in));
  return check_disjoint(out_name, out, "mask", bits_view(&mask));
}

bool is_empty(const ConstMatrixView& m) { return m.rows == 0 || m.cols == 0; }

}  // namespace

Status check_room(const CompactArgs& args) { return check_room(args, "size", "at least "); }

Status check_room(const ExpandArgs& args) { return check_room(args, "xc", "a size of at least "); }

Status kept_count(const TileMaskView& mask, CompactAxis axis, std::int64_t* least,
                  std::int64_t* most) {
  DROPGEMM_RETURN_IF_ERROR(check_tile_mask("mask", mask));
  DROPGEMM_RETURN_IF_ERROR(check_axis(axis));
  if (least == nullptr || most == nullptr) {
    return Status::invalid(least == nullptr ? "least" : "most", "where to write a count",
                           "a null pointer");
  }
  const Lines lines = lines_of(mask);
  DROPGEMM_RETURN_IF_ERROR(check_padding(lines));
  if (axis == CompactAxis::kTiles) {
    *least = *most = kept_tiles(lines.bits, lines.rows * lines.row_words);
    return {};
  }
  const bool cols = axis == CompactAxis::kCols;
  const std::int64_t extent = cols ? mask.cols : mask.rows;
  const std::int64_t tile = cols ? mask.tile_cols : mask.tile_rows;
  const Range range = cols != mask.transposed ? count_along(lines, extent, tile)
                                              : count_across(lines, extent, tile);
  *least = range.least();
  *most = range.most();
  return {};
}

Status compact(const Context& ctx, const CompactArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(
      check_operands(args.x, args.xc, args.mask, args.axis, "xc", args.xc, "x", args.x));
  if (is_empty(args.x) && is_empty(args.xc)) return {};
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText error) { return backend->gather(&ctx, &args, error); });
}

Status expand(const Context& ctx, const ExpandArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(
      check_operands(args.x, args.xc, args.mask, args.axis, "x", args.x, "xc", args.xc));
  if (is_empty(args.x)) return {};
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText error) { return backend->scatter(&ctx, &args, error); });
}

}  // namespace dropgemm
