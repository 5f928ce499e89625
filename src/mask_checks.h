// Internal: what every front end that fills a mask checks alike.
#pragma once

#include <cstdint>
#include <string>

#include "dropgemm/mask.h"
#include "dropgemm/philox.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {

inline Status check_range(const char* name, std::int64_t value, std::int64_t limit) {
  if (value >= 0 && value <= limit) return {};
  return Status::invalid(name, "a number in [0, " + std::to_string(limit) + "]",
                         std::to_string(value));
}

// A step that lives on a device is the backend's to clamp.
inline Status check_step(const StepRef& step) {
  return step.device != nullptr ? Status() : check_range("step", step.value, kMaxStep);
}

inline Status check_mask(const MutableTileMaskView& mask) {
  TileMaskView view;
  view.bits = mask.bits;
  view.rows = mask.rows;
  view.cols = mask.cols;
  view.tile_rows = mask.tile_rows;
  view.tile_cols = mask.tile_cols;
  return check_tile_mask("mask", view);
}

inline bool is_empty(const MutableTileMaskView& mask) { return mask.rows == 0 || mask.cols == 0; }

}  // namespace dropgemm
