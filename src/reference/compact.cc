// The definition of compaction: one walk over the kept elements says where each one goes.
// Slow on purpose; every other backend is compared with it to the bit.
#include <algorithm>
#include <cstdint>

#include "compact_room.h"
#include "reference/reference.h"
#include "registry.h"

namespace dropgemm::reference {
namespace {

// Calls move(i, j, p, q) for every kept element x[i, j] and its place xc[p, q].
template <class Move>
void for_each_kept(const TileMaskView& mask, CompactAxis axis, const Move& move) {
  if (axis == CompactAxis::kRows) {
    for (std::int64_t j = 0; j < mask.cols; ++j) {
      std::int64_t p = 0;
      for (std::int64_t i = 0; i < mask.rows; ++i) {
        if (element_kept(mask, i, j)) move(i, j, p++, j);
      }
    }
  } else if (axis == CompactAxis::kCols) {
    for (std::int64_t i = 0; i < mask.rows; ++i) {
      std::int64_t q = 0;
      for (std::int64_t j = 0; j < mask.cols; ++j) {
        if (element_kept(mask, i, j)) move(i, j, i, q++);
      }
    }
  } else {
    std::int64_t tile = 0;
    for (std::int64_t i = 0; i < mask.rows; i += mask.tile_rows) {
      for (std::int64_t j = 0; j < mask.cols; j += mask.tile_cols) {
        if (!element_kept(mask, i, j)) continue;
        for (std::int64_t a = 0; a < std::min(mask.tile_rows, mask.rows - i); ++a) {
          for (std::int64_t b = 0; b < std::min(mask.tile_cols, mask.cols - j); ++b) {
            move(i + a, j + b, tile * mask.tile_rows + a, b);
          }
        }
        ++tile;
      }
    }
  }
}

template <class T, class View>
auto& at(const View& m, std::int64_t i, std::int64_t j) {
  return static_cast<T*>(m.data)[i * m.row_stride + j * m.col_stride];
}

template <class T>
void clear(const MatrixView& m) {
  for (std::int64_t i = 0; i < m.rows; ++i) {
    for (std::int64_t j = 0; j < m.cols; ++j) at<T>(m, i, j) = T(0);
  }
}

template <class T>
void run(const CompactArgs& args) {
  clear<T>(args.xc);
  for_each_kept(args.mask, args.axis, [&](auto i, auto j, auto p, auto q) {
    at<T>(args.xc, p, q) = at<const T>(args.x, i, j);
  });
}

template <class T>
void run(const ExpandArgs& args) {
  clear<T>(args.x);
  for_each_kept(args.mask, args.axis, [&](auto i, auto j, auto p, auto q) {
    at<T>(args.x, i, j) = at<const T>(args.xc, p, q);
  });
}

template <class Args>
std::int32_t check_and_run(const Args& args, ErrorText error) {
  const Status room = check_room(args);
  if (!room.ok()) return report(room, error);
  switch (args.x.dtype) {
    case DType::kFloat32:
      run<float>(args);
      break;
    case DType::kFloat64:
      run<double>(args);
      break;
    case DType::kBFloat16:
      run<BFloat16>(args);
      break;
    case DType::kFloat16:
      run<Float16>(args);
      break;
  }
  return 0;
}

}  // namespace

std::int32_t gather(const Context* /*ctx*/, const CompactArgs* args, ErrorText error) {
  return check_and_run(*args, error);
}

std::int32_t scatter(const Context* /*ctx*/, const ExpandArgs* args, ErrorText error) {
  return check_and_run(*args, error);
}

}  // namespace dropgemm::reference
