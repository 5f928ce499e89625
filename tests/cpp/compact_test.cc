// Compaction on every backend and instruction set against lists made element by element, to the
// bit: dropped elements poisoned, outputs poisoned, memory around the views compared too.
// Bad input is compact_check_test.cc's.
#include "dropgemm/compact.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

// A matrix in memory that is larger than it and all poison at first.
template <class T>
class Grid {
 public:
  Grid(std::int64_t rows, std::int64_t cols, Layout layout) {
    view_ = {nullptr, rows, cols, cols, 1, dtype_of<T>::value};
    if (layout == Layout::kPadded) view_.row_stride = cols + 3;
    if (layout == Layout::kColMajor) view_.row_stride = 1, view_.col_stride = rows + 1;
    if (layout == Layout::kSpread) view_.row_stride = -2 * cols - 1, view_.col_stride = 2;
    const std::int64_t first = view_.row_stride < 0 ? -view_.row_stride * rows : 0;
    const std::int64_t across =
        layout == Layout::kColMajor ? (rows + 1) * cols : std::abs(view_.row_stride) * rows;
    memory_.assign(static_cast<std::size_t>(first + across + 2 * cols + 2), poison());
    first_ = static_cast<std::size_t>(first + 1);
  }
  // A NaN whose bits no arithmetic makes.
  static T poison() {
    T value;
    std::memset(&value, 0xFD, sizeof value);
    return value;
  }
  MatrixView view() {
    view_.data = memory_.data() + first_;
    return view_;
  }
  T& at(std::int64_t i, std::int64_t j) {
    return static_cast<T*>(view().data)[i * view_.row_stride + j * view_.col_stride];
  }
  // Every element of the view and whatever lies around it.
  [[nodiscard]] bool same_memory(const Grid& other) const {
    return std::memcmp(memory_.data(), other.memory_.data(), memory_.size() * sizeof(T)) == 0;
  }

 private:
  MatrixView view_;
  std::vector<T> memory_;
  std::size_t first_ = 0;
};

struct CompactCase {
  std::int64_t rows, cols;
  TileSize tile;
  CompactAxis axis;
  double keep = 0.5;
  bool transposed = false;
  Layout x_layout = Layout::kRowMajor, xc_layout = Layout::kRowMajor;
  std::int64_t spare = 0;  // room past what is kept
  std::uint64_t seed = 1;

  [[nodiscard]] std::string text() const {
    return std::to_string(rows) + "x" + std::to_string(cols) + " tile " +
           std::to_string(tile.rows) + "x" + std::to_string(tile.cols) + " axis " +
           std::to_string(static_cast<int>(axis)) + " keep " + std::to_string(keep) +
           (transposed ? " transposed" : "") + " layouts " +
           std::to_string(static_cast<int>(x_layout)) + ", " +
           std::to_string(static_cast<int>(xc_layout)) + " spare " + std::to_string(spare);
  }
};

// Where the elements of one row, column or tile come from, in order.
using Element = std::pair<std::int64_t, std::int64_t>;
using List = std::vector<Element>;

std::vector<List> kept_lists(const TileMaskView& mask, CompactAxis axis) {
  std::vector<List> lists;
  if (axis == CompactAxis::kTiles) {
    for (std::int64_t r = 0; r < ceil_div(mask.rows, mask.tile_rows); ++r) {
      for (std::int64_t c = 0; c < ceil_div(mask.cols, mask.tile_cols); ++c) {
        if (tile_kept(mask, r, c)) lists.push_back({{r * mask.tile_rows, c * mask.tile_cols}});
      }
    }
    return lists;
  }
  const bool of_rows = axis == CompactAxis::kCols;
  lists.resize(static_cast<std::size_t>(of_rows ? mask.rows : mask.cols));
  for (std::int64_t i = 0; i < mask.rows; ++i) {
    for (std::int64_t j = 0; j < mask.cols; ++j) {
      if (element_kept(mask, i, j)) {
        lists[static_cast<std::size_t>(of_rows ? i : j)].emplace_back(i, j);
      }
    }
  }
  return lists;
}

// Every element of xc: where it comes from in x, or {-1, -1}.
std::vector<std::vector<Element>> sources(const TileMaskView& mask, CompactAxis axis,
                                          const std::vector<List>& lists, std::int64_t xc_rows,
                                          std::int64_t xc_cols) {
  std::vector<std::vector<Element>> from(
      static_cast<std::size_t>(xc_rows),
      std::vector<Element>(static_cast<std::size_t>(xc_cols), Element{-1, -1}));
  for (std::size_t n = 0; n < lists.size(); ++n) {
    if (axis == CompactAxis::kTiles) {
      const auto [row, col] = lists[n][0];
      for (std::int64_t a = 0; a < std::min(mask.tile_rows, mask.rows - row); ++a) {
        for (std::int64_t b = 0; b < std::min(mask.tile_cols, mask.cols - col); ++b) {
          const auto p = static_cast<std::int64_t>(n) * mask.tile_rows + a;
          from[static_cast<std::size_t>(p)][static_cast<std::size_t>(b)] = {row + a, col + b};
        }
      }
      continue;
    }
    for (std::size_t q = 0; q < lists[n].size(); ++q) {
      (axis == CompactAxis::kCols ? from[n][q] : from[q][n]) = lists[n][q];
    }
  }
  return from;
}

template <class T>
void check_compaction(const Context& ctx, const CompactCase& c) {
  SCOPED_TRACE(c.text());
  std::mt19937_64 random(c.seed);
  const Mask owner(c.rows, c.cols, c.tile, c.keep, c.transposed, random);
  const TileMaskView& mask = *owner.view();
  const std::vector<List> lists = kept_lists(mask, c.axis);

  std::int64_t least = lists.empty() ? 0 : std::numeric_limits<std::int64_t>::max(), most = 0;
  for (const List& list : lists) {
    least = std::min(least, static_cast<std::int64_t>(list.size()));
    most = std::max(most, static_cast<std::int64_t>(list.size()));
  }
  if (c.axis == CompactAxis::kTiles) least = most = static_cast<std::int64_t>(lists.size());
  std::int64_t got_least = -1, got_most = -1;
  ASSERT_TRUE(kept_count(mask, c.axis, &got_least, &got_most).ok());
  EXPECT_EQ(got_least, least);
  EXPECT_EQ(got_most, most);

  const std::int64_t size = most + c.spare;
  const bool tiles = c.axis == CompactAxis::kTiles;
  const std::int64_t xc_rows = tiles                          ? size * c.tile.rows
                               : c.axis == CompactAxis::kRows ? size
                                                              : c.rows;
  const std::int64_t xc_cols = tiles ? c.tile.cols : c.axis == CompactAxis::kCols ? size : c.cols;
  Grid<T> x(c.rows, c.cols, c.x_layout), expanded(c.rows, c.cols, c.x_layout);
  Grid<T> xc(xc_rows, xc_cols, c.xc_layout), padded(xc_rows, xc_cols, c.xc_layout);
  Grid<T> want_x = x, want_xc = xc;

  // Kept elements are numbers, zeros of either sign and a NaN among them; dropped ones stay poison.
  std::uniform_int_distribution<int> draw(-5, 20);
  for (std::int64_t i = 0; i < c.rows; ++i) {
    for (std::int64_t j = 0; j < c.cols; ++j) {
      want_x.at(i, j) = T(0);
      if (!element_kept(mask, i, j)) continue;
      const int value = draw(random);
      x.at(i, j) = T(value == 0    ? -0.0F
                     : value == 20 ? std::numeric_limits<float>::quiet_NaN()
                                   : static_cast<float>(value) + static_cast<float>(i) / 8);
      want_x.at(i, j) = x.at(i, j);
    }
  }
  // What is no kept element is 0 when gathered, and poison that must not matter when scattered.
  const auto from = sources(mask, c.axis, lists, xc_rows, xc_cols);
  for (std::int64_t p = 0; p < xc_rows; ++p) {
    for (std::int64_t q = 0; q < xc_cols; ++q) {
      const auto [i, j] = from[static_cast<std::size_t>(p)][static_cast<std::size_t>(q)];
      want_xc.at(p, q) = i < 0 ? T(0) : x.at(i, j);
      if (i >= 0) padded.at(p, q) = x.at(i, j);
    }
  }

  Status status = compact(ctx, {x.view(), xc.view(), mask, c.axis});
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(xc.same_memory(want_xc)) << "compact";
  status = expand(ctx, {padded.view(), expanded.view(), mask, c.axis});
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(expanded.same_memory(want_x)) << "expand";
}

constexpr CompactAxis kAxes[] = {CompactAxis::kRows, CompactAxis::kCols, CompactAxis::kTiles};

class CompactTest : public GemmTest {
 protected:
  // Elements move as they are, whatever they are: the emulator takes one type at a time.
  void check_both(const CompactCase& c) {
    const bool all = GetParam().backend != kEmulated;
    const int turn = ++checked_ % 4;
    if (all || turn == 0) check_compaction<float>(ctx_, c);
    if (all || turn == 1) check_compaction<double>(ctx_, c);
    if (all || turn == 2) check_compaction<BFloat16>(ctx_, c);
    if (all || turn == 3) check_compaction<Float16>(ctx_, c);
  }
};

INSTANTIATE_TEST_SUITE_P(All, CompactTest, ::testing::ValuesIn(implementations()), name_of);

// Shapes x tiles x axes x orientations; layouts, keep rates and spare room take turns.
TEST_P(CompactTest, EveryElementGoesWhereTheListsSay) {
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1},  {5, 7},    {33, 65}, {64, 64},
                                                          {70, 9}, {3, 2100}, {129, 97}};
  const TileSize tiles[] = {{1, 1}, {1, 32}, {16, 1}, {3, 5}, {32, 32}, {128, 32}, {1, 500}};
  std::uint64_t seed = 0;
  for (const auto& [rows, cols] : shapes) {
    for (const TileSize& tile : tiles) {
      for (const CompactAxis axis : kAxes) {
        for (int variant = 0; variant < 4; ++variant) {
          ++seed;
          CompactCase c = {rows, cols, tile, axis};
          c.transposed = variant % 2 != 0;
          c.keep = seed % 5 == 0 ? 0.1 : 0.5;
          c.x_layout = static_cast<Layout>(seed % 4);
          c.xc_layout = static_cast<Layout>(variant < 2 ? seed % 4 : seed / 3 % 4);
          c.spare = seed % 3 == 0 ? 0 : static_cast<std::int64_t>(seed % 40);
          c.seed = seed;
          check_both(c);
        }
      }
    }
  }
}

TEST_P(CompactTest, AllDroppedAllKeptAndEmpty) {
  for (const CompactAxis axis : kAxes) {
    for (const double keep : {0.0, 1.0}) {
      for (const TileSize& tile : {TileSize{1, 1}, TileSize{8, 16}, TileSize{100, 100}}) {
        for (const auto& [rows, cols] : {std::pair{40, 66}, {0, 9}, {9, 0}, {0, 0}}) {
          for (const std::int64_t spare : {0, 4}) {
            CompactCase c = {rows, cols, tile, axis, keep};
            c.spare = spare;
            check_both(c);
            c.transposed = true;
            check_both(c);
          }
        }
      }
    }
  }
}

// Long rows are moved in pieces.
TEST_P(CompactTest, RowsOfManyWords) {
  for (const TileSize& tile : {TileSize{2, 1}, TileSize{4, 3}, TileSize{2, 900}}) {
    for (const CompactAxis axis : kAxes) {
      CompactCase c = {5, 9001, tile, axis};
      c.spare = 5;
      check_both(c);
      c = {9001, 5, {tile.cols, tile.rows}, axis};
      check_both(c);
      c.x_layout = c.xc_layout = Layout::kColMajor;
      check_both(c);
    }
  }
  // One row alone, which is shared out along itself.
  for (const bool transposed : {false, true}) {
    CompactCase c = {1, 40001, {1, 1}, CompactAxis::kCols};
    c.transposed = transposed, c.spare = 3;
    check_both(c);
    c = {60002, 1, {3, 1}, CompactAxis::kRows};
    c.transposed = transposed;
    check_both(c);
  }
}

// However the work is shared out, and large enough that it is.
TEST_P(CompactTest, AnyNumberOfThreads) {
  for (const int threads : {1, 2, 5}) {
    if (threads > 1 && GetParam().backend == kEmulated) break;
    ctx_.num_threads = threads;
    for (const CompactAxis axis : kAxes) {
      for (const TileSize& tile : {TileSize{1, 1}, TileSize{500, 1}, TileSize{64, 32}}) {
        CompactCase c = {500, 410, tile, axis};
        c.spare = 1;
        check_compaction<float>(ctx_, c);
        c.x_layout = c.xc_layout = Layout::kColMajor;
        check_compaction<float>(ctx_, c);
        c.xc_layout = Layout::kPadded;
        c.transposed = true;
        check_compaction<float>(ctx_, c);
      }
    }
  }
}

}  // namespace
}  // namespace dropgemm::testing
