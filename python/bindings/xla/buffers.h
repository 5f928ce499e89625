// How XLA's buffers become what the core takes: no copy, and every kind, rank and size checked here
// or by the core, since the caller of a foreign function may be anything that writes XLA programs.
// Values are never read: they may lie on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "dropgemm/mask.h"
#include "dropgemm/matrix.h"
#include "dropgemm/pattern.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"
#include "xla/ffi/api/ffi.h"

namespace dropgemm::python {

namespace ffi = xla::ffi;

using Layout = ffi::Span<const std::int64_t>;

// Arguments and results of handlers.
using Result = ffi::Result<ffi::AnyBuffer>;

// Functions that convert write what they find to their last argument.
[[nodiscard]] Status to_matrix(const char* name, const ffi::AnyBuffer& buffer, MatrixView* view);
// Tiles one under the other: [size, tile rows, tile cols] as [size * tile rows, tile cols], and a
// matrix as itself.
[[nodiscard]] Status to_stacked(const char* name, const ffi::AnyBuffer& buffer, MatrixView* view);
// [size], contiguous, of dtype.
[[nodiscard]] Status to_vector(const char* name, const ffi::AnyBuffer& buffer, DType dtype,
                               std::int64_t size, void** data);
// float32 [].
[[nodiscard]] Status to_float_scalar(const char* name, const ffi::AnyBuffer& buffer, float** data);
// uint32 [2], the halves of an int64, the low one first: JAX has none of its own unless told to.
[[nodiscard]] Status to_step(const ffi::AnyBuffer& buffer, StepRef* step);
// uint32 [periods, 2], likewise.
[[nodiscard]] Status to_thresholds(const ffi::AnyBuffer& buffer, PatternDraw* draw);

// layout: [rows, cols, tile rows, tile cols, transposed], of the mask as it is passed.
[[nodiscard]] Status to_mask(const char* name, const ffi::AnyBuffer& bits, Layout layout,
                             double keep_hint, TileMaskView* view);
// layout: [rows, cols, tile rows, tile cols].
[[nodiscard]] Status to_mask_target(const ffi::AnyBuffer& bits, Layout layout,
                                    MutableTileMaskView* view);

[[nodiscard]] ffi::Error to_error(const Status& status);

}  // namespace dropgemm::python
