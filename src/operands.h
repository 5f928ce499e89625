// Internal: what the front ends check of their operands alike.
#pragma once

#include <cstdint>
#include <string>

#include "dropgemm/matrix.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {

[[nodiscard]] std::string size_text(std::int64_t rows, std::int64_t cols);  // "[3, 4]"

// "b: expected float32 as a has, got float64"
[[nodiscard]] Status check_dtype(const char* name, DType dtype, const char* of, DType expected);

// A mask describes its array as passed, before any transposition. Null is an absent mask.
[[nodiscard]] Status check_mask_of(const char* name, const TileMaskView* mask, const char* of,
                                   const ConstMatrixView& view);

// "out: expected memory of its own, got an overlap with a"; absent views overlap nothing.
[[nodiscard]] Status check_disjoint(const char* out_name, const MatrixView& out,
                                    const char* in_name, const ConstMatrixView& in);

// The memory of a checked mask's bits, in words of float32's size; absent for null.
[[nodiscard]] ConstMatrixView bits_view(const TileMaskView* mask);

}  // namespace dropgemm
