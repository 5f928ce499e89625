// Compaction on CPUs. Rows are kCols of the transposed matrix, so there are lists of kept elements,
// one a row, and there are tiles. Lists move by the words of their bits where rows are contiguous,
// by whole columns of a row group where columns are, and in squares of 32 x 32 otherwise.
// Everything is a copy, so the result is the same to the bit, whatever the instruction set and
// thread count.
#include "cpu/compact.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

#include "compact_room.h"
#include "cpu/compact_row.h"
#include "cpu/plan.h"
#include "cpu/threads.h"
#include "registry.h"

namespace dropgemm::cpu {
namespace {

// Waking another thread costs about as much as copying this many elements.
constexpr std::int64_t kElementsPerThread = 1 << 15;
// Columns whose bits are looked up together, once for all rows of a group.
constexpr std::int64_t kChunk = 2048;
// From this many rows of a group on, copying its columns one by one beats squares.
constexpr std::int64_t kTallGroup = 16;
// Where columns are contiguous, two threads shall not write to the same cache lines.
constexpr std::int64_t kRowGrain = 64;

// A strided side of the copy; `const T` for the one that is read.
template <class E>
struct Side {
  E* data;
  std::int64_t row_stride, col_stride;

  [[nodiscard]] E* at(std::int64_t i, std::int64_t j) const {
    return data + i * row_stride + j * col_stride;
  }
};

template <class E, class View>
Side<E> side(const View& view) {
  return {static_cast<E*>(view.data), view.row_stride, view.col_stride};
}

// Both sides and the mask, of which the words are looked at as they lie: `swapped` says that they
// describe the transposed matrix. X is const where the compact side C is written.
template <class X, class C>
struct Move {
  using T = std::remove_const_t<X>;
  static constexpr bool kGathers = std::is_const_v<X>;

  Side<X> x;
  Side<C> xc;
  std::int64_t rows, cols, size;
  TileMaskView bits;
  bool swapped;

  [[nodiscard]] AxisMask mask() const { return {&bits, swapped}; }
  [[nodiscard]] std::int64_t tile_rows() const { return mask().first_tile(); }
  [[nodiscard]] std::int64_t tile_cols() const { return mask().second_tile(); }
};

template <class T>
void clear(const Side<T>& out, std::int64_t i, std::int64_t j, std::int64_t rows,
           std::int64_t cols) {
  if (out.row_stride == 1) {
    for (std::int64_t b = 0; b < cols; ++b) std::fill_n(out.at(i, j + b), rows, T(0));
    return;
  }
  for (std::int64_t a = 0; a < rows; ++a) {
    if (out.col_stride == 1) {
      std::fill_n(out.at(i + a, j), cols, T(0));
    } else {
      for (std::int64_t b = 0; b < cols; ++b) *out.at(i + a, j + b) = T(0);
    }
  }
}

// ---- lists --------------------------------------------------------------------------------------

// The bits of `row` over columns [begin, begin + count), begin a multiple of 32: where they lie, or
// else put together in `words`.
template <class M>
const std::uint32_t* row_bits(const M& m, std::int64_t row, std::int64_t begin, std::int64_t count,
                              std::uint32_t* words) {
  if (!m.swapped && m.bits.tile_cols == 1) {
    return m.bits.bits + row / m.bits.tile_rows * mask_row_words(m.bits.cols, 1) + begin / 32;
  }
  for (std::int64_t b = 0; b < count; b += 32) {
    const auto width = static_cast<int>(std::min<std::int64_t>(32, count - b));
    words[b / 32] = m.mask().kept_word(row, begin + b, width);
  }
  return words;
}

template <class M>
std::int64_t move_neighbours(const M& m, const RowKernels<typename M::T>& kernels,
                             const std::uint32_t* bits, std::int64_t count, std::int64_t row,
                             std::int64_t col, std::int64_t kept) {
  if constexpr (M::kGathers) {
    return kernels.gather(bits, count, m.x.at(row, col), m.xc.at(row, kept), m.size - kept);
  } else {
    return kernels.scatter(bits, count, m.xc.at(row, kept), m.size - kept, m.x.at(row, col));
  }
}

// Rows [begin, end) that are contiguous on both sides.
template <class M>
void move_rows(const M& m, std::int64_t begin, std::int64_t end) {
  const auto kernels = row_kernels<typename M::T>();
  std::uint32_t words[kChunk / 32];
  for (std::int64_t row = begin; row < end;) {
    const std::int64_t next = std::min(end, (row / m.tile_rows() + 1) * m.tile_rows());
    std::int64_t kept = 0;
    for (std::int64_t j = 0; j < m.cols; j += kChunk) {
      const std::int64_t count = std::min(kChunk, m.cols - j);
      const std::uint32_t* const bits = row_bits(m, row, j, count, words);
      std::int64_t more = 0;
      for (std::int64_t i = row; i < next; ++i) {
        more = move_neighbours(m, kernels, bits, count, i, j, kept);
      }
      kept += more;
    }
    if constexpr (M::kGathers) clear(m.xc, row, kept, next - row, m.size - kept);
    row = next;
  }
}

// Rows [begin, end) where neighbours lie along columns: a column of a row group at a time.
template <class M>
void move_columns(const M& m, std::int64_t begin, std::int64_t end) {
  std::uint32_t words[kChunk / 32];
  for (std::int64_t row = begin; row < end;) {
    const std::int64_t next = std::min(end, (row / m.tile_rows() + 1) * m.tile_rows());
    std::int64_t kept = 0;
    for (std::int64_t j = 0; j < m.cols; j += kChunk) {
      const std::int64_t count = std::min(kChunk, m.cols - j);
      const std::uint32_t* const bits = row_bits(m, row, j, count, words);
      for (std::int64_t b = 0; b < count; ++b) {
        const bool keeps = (bits[b / 32] >> (b % 32) & 1U) != 0;
        if constexpr (M::kGathers) {
          if (keeps) std::copy_n(m.x.at(row, j + b), next - row, m.xc.at(row, kept));
        } else if (keeps) {
          std::copy_n(m.xc.at(row, kept), next - row, m.x.at(row, j + b));
        } else {
          clear(m.x, row, j + b, next - row, 1);
        }
        kept += static_cast<std::int64_t>(keeps);
      }
    }
    if constexpr (M::kGathers) clear(m.xc, row, kept, next - row, m.size - kept);
    row = next;
  }
}

template <class M>
void move_element(const M& m, std::int64_t row, std::int64_t col, std::int64_t place) {
  if constexpr (M::kGathers) {
    *m.xc.at(row, place) = *m.x.at(row, col);
  } else {
    *m.x.at(row, col) = *m.xc.at(row, place);
  }
}

// A square of at most 32 x 32 at (row, col), row by row; kept[i] elements of row + i have moved.
template <class M>
void move_square_by_rows(const M& m, const RowKernels<typename M::T>& kernels, std::int64_t row,
                         std::int64_t col, int rows, int cols, std::int64_t* kept) {
  const bool contiguous = m.x.col_stride == 1 && m.xc.col_stride == 1;
  std::uint32_t words[32];
  m.mask().kept_words(row, rows, col, cols, words);
  if constexpr (!M::kGathers) {
    if (!contiguous) clear(m.x, row, col, rows, cols);
  }
  for (int i = 0; i < rows; ++i) {
    if (contiguous) {
      kept[i] += move_neighbours(m, kernels, words + i, cols, row + i, col, kept[i]);
      continue;
    }
    for (std::uint32_t word = words[i]; word != 0; word &= word - 1) {
      move_element(m, row + i, col + __builtin_ctz(word), kept[i]++);
    }
  }
}

// The same, column by column.
template <class M>
void move_square_by_columns(const M& m, std::int64_t row, std::int64_t col, int rows, int cols,
                            std::int64_t* kept) {
  const AxisMask mask = {&m.bits, !m.swapped};
  std::uint32_t words[32];
  mask.kept_words(col, cols, row, rows, words);
  if constexpr (!M::kGathers) clear(m.x, row, col, rows, cols);
  for (int j = 0; j < cols; ++j) {
    for (std::uint32_t word = words[j]; word != 0; word &= word - 1) {
      const int i = __builtin_ctz(word);
      move_element(m, row + i, col + j, kept[i]++);
    }
  }
}

// Rows [begin, end) in squares, within which any stride finds its neighbours in the cache.
template <class M>
void move_squares(const M& m, std::int64_t begin, std::int64_t end) {
  const auto kernels = row_kernels<typename M::T>();
  const bool by_columns = std::abs(m.x.row_stride) < std::abs(m.x.col_stride);
  for (std::int64_t row = begin; row < end; row += 32) {
    const auto rows = static_cast<int>(std::min<std::int64_t>(32, end - row));
    std::int64_t kept[32] = {};
    for (std::int64_t col = 0; col < m.cols; col += 32) {
      const auto cols = static_cast<int>(std::min<std::int64_t>(32, m.cols - col));
      if (by_columns) {
        move_square_by_columns(m, row, col, rows, cols, kept);
      } else {
        move_square_by_rows(m, kernels, row, col, rows, cols, kept);
      }
    }
    if constexpr (M::kGathers) {
      const std::int64_t most = *std::max_element(kept, kept + rows);
      for (int i = 0; i < rows; ++i) clear(m.xc, row + i, kept[i], 1, most - kept[i]);
      clear(m.xc, row, most, rows, m.size - most);
    }
  }
}

template <class M>
void move_lists(const M& m, std::int32_t num_threads) {
  const std::int64_t parts = m.rows * std::max(m.cols, m.size) / kElementsPerThread;
  const bool bits_across = m.swapped && m.bits.tile_cols == 1;
  if (m.x.col_stride == 1 && m.xc.col_stride == 1 && !bits_across) {
    split(num_threads, m.rows, parts,
          [&](std::int64_t begin, std::int64_t end) { move_rows(m, begin, end); });
    return;
  }
  const bool by_columns =
      m.x.row_stride == 1 && m.xc.row_stride == 1 && m.tile_rows() >= kTallGroup;
  split(num_threads, ceil_div(m.rows, kRowGrain), parts,
        [&](std::int64_t first, std::int64_t last) {
          const std::int64_t begin = first * kRowGrain, end = std::min(m.rows, last * kRowGrain);
          by_columns ? move_columns(m, begin, end) : move_squares(m, begin, end);
        });
}

// ---- tiles --------------------------------------------------------------------------------------

// How many tiles tile rows [0, end) keep; `tiles` is a mask of tiles of one element.
std::int64_t count_tiles(const AxisMask& tiles, std::int64_t end, std::int64_t cols) {
  std::int64_t kept = 0;
  for (std::int64_t row = 0; row < end; row += 32) {
    const auto height = static_cast<int>(std::min<std::int64_t>(32, end - row));
    for (std::int64_t j = 0; j < cols; j += 32) {
      std::uint32_t words[32];
      tiles.kept_words(row, height, j, static_cast<int>(std::min<std::int64_t>(32, cols - j)),
                       words);
      for (int i = 0; i < height; ++i) kept += __builtin_popcount(words[i]);
    }
  }
  return kept;
}

template <class E, class T>
void copy(const Side<E>& from, const Side<T>& to, std::int64_t rows, std::int64_t cols) {
  if (from.col_stride == 1 && to.col_stride == 1) {
    for (std::int64_t i = 0; i < rows; ++i) std::copy_n(from.at(i, 0), cols, to.at(i, 0));
    return;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) *to.at(i, j) = *from.at(i, j);
  }
}

// Tile (row, col) of x, and where it is kept its place in xc.
template <class M>
void move_tile(const M& m, std::int64_t row, std::int64_t col, bool keeps, std::int64_t place) {
  const std::int64_t tall = m.tile_rows(), wide = m.tile_cols();
  const std::int64_t rows = std::min(tall, m.rows - row * tall);
  const std::int64_t cols = std::min(wide, m.cols - col * wide);
  Side<std::remove_pointer_t<decltype(m.x.data)>> x = m.x;
  x.data = m.x.at(row * tall, col * wide);
  if (!keeps) {
    if constexpr (!M::kGathers) clear(x, 0, 0, rows, cols);
    return;
  }
  Side<std::remove_pointer_t<decltype(m.xc.data)>> xc = m.xc;
  xc.data = m.xc.at(place * tall, 0);
  if constexpr (M::kGathers) {
    copy(x, xc, rows, cols);
    clear(xc, 0, cols, rows, wide - cols);
    clear(xc, rows, 0, tall - rows, wide);
  } else {
    copy(xc, x, rows, cols);
  }
}

template <class M>
void move_tiles(const M& m, std::int32_t num_threads) {
  const std::int64_t tile_rows = ceil_div(m.rows, m.tile_rows());
  const std::int64_t tile_cols = ceil_div(m.cols, m.tile_cols());
  TileMaskView single = m.bits;  // the same bits over tiles of one element
  single.rows = m.swapped ? tile_cols : tile_rows;
  single.cols = m.swapped ? tile_rows : tile_cols;
  single.tile_rows = single.tile_cols = 1;
  const AxisMask tiles = {&single, m.swapped};

  split(num_threads, tile_rows, m.rows * m.cols / kElementsPerThread,
        [&](std::int64_t begin, std::int64_t end) {
          std::int64_t place = count_tiles(tiles, begin, tile_cols);
          for (std::int64_t row = begin; row < end; ++row) {
            for (std::int64_t j = 0; j < tile_cols; j += 32) {
              const auto width = static_cast<int>(std::min<std::int64_t>(32, tile_cols - j));
              const std::uint32_t word = tiles.kept_word(row, j, width);
              for (int b = 0; b < width; ++b) {
                const bool keeps = (word >> b & 1U) != 0;
                move_tile(m, row, j + b, keeps, place);
                place += static_cast<std::int64_t>(keeps);
              }
            }
          }
        });
  if constexpr (M::kGathers) {
    const std::int64_t kept = count_tiles(tiles, tile_rows, tile_cols);
    clear(m.xc, kept * m.tile_rows(), 0, (m.size - kept) * m.tile_rows(), m.tile_cols());
  }
}

// -------------------------------------------------------------------------------------------------

template <class X, class C, class Args>
void run(const Args& args, std::int32_t num_threads) {
  const bool turn = args.axis == CompactAxis::kRows;
  const auto x = turn ? transposed(args.x) : args.x;
  const auto xc = turn ? transposed(args.xc) : args.xc;
  const TileMaskView mask = turn ? transposed(args.mask) : args.mask;
  const Move<X, C> m = {
      side<X>(x),     side<C>(xc),        x.rows,
      x.cols,         compact_size(args), mask.transposed ? transposed(mask) : mask,
      mask.transposed};
  args.axis == CompactAxis::kTiles ? move_tiles(m, num_threads) : move_lists(m, num_threads);
}

}  // namespace

std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error) {
  const Status room = check_room(*args);
  if (!room.ok()) return report(room, error);
  switch (args->x.dtype) {
    case DType::kFloat32:
      run<const float, float>(*args, ctx->num_threads);
      break;
    case DType::kFloat64:
      run<const double, double>(*args, ctx->num_threads);
      break;
    case DType::kBFloat16:
    case DType::kFloat16:  // 16 bits move alike
      run<const BFloat16, BFloat16>(*args, ctx->num_threads);
      break;
  }
  return 0;
}

std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error) {
  const Status room = check_room(*args);
  if (!room.ok()) return report(room, error);
  switch (args->x.dtype) {
    case DType::kFloat32:
      run<float, const float>(*args, ctx->num_threads);
      break;
    case DType::kFloat64:
      run<double, const double>(*args, ctx->num_threads);
      break;
    case DType::kBFloat16:
    case DType::kFloat16:
      run<BFloat16, const BFloat16>(*args, ctx->num_threads);
      break;
  }
  return 0;
}

}  // namespace dropgemm::cpu
