// Internal: what a backend whose bits lie on the host checks before it writes.
#pragma once

#include <cstdint>

#include "dropgemm/compact.h"

namespace dropgemm {

// How many elements or tiles the compact side of CompactArgs or ExpandArgs has room for.
template <class Args>
[[nodiscard]] std::int64_t compact_size(const Args& args) {
  switch (args.axis) {
    case CompactAxis::kRows:
      return args.xc.rows;
    case CompactAxis::kCols:
      return args.xc.cols;
    case CompactAxis::kTiles:
      return args.xc.rows / args.mask.tile_rows;
  }
  return 0;
}

// kInvalidArgument where the mask keeps more than there is room for: nothing is lost silently.
// It names what a caller chooses, the size of a new xc or xc itself.
[[nodiscard]] Status check_room(const CompactArgs& args);
[[nodiscard]] Status check_room(const ExpandArgs& args);

}  // namespace dropgemm
