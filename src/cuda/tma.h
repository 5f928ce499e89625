// Tensor maps: what the tensor memory accelerator is told about an array and the boxes it copies.
#pragma once

#include <cstdint>

#include "cuda/layout.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"

namespace dropgemm::cuda {

// An array as the accelerator sees it: rows of contiguous elements.
struct TmaArray {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  bool rounds = false;  // float32 becomes tf32 on the way in
  std::int64_t contiguous = 0, rows = 0;
  std::int64_t row_stride = 0;  // in elements
};

// A CUtensorMap, passed to kernels by value.
struct alignas(64) TensorMap {
  std::uint64_t words[16] = {};
};

// Whether a tensor map can describe the array: pointer and stride in whole 16 bytes, rows that do
// not overlap, extents of 31 bits. Everything else has to be copied first, or goes another way.
[[nodiscard]] bool tma_takes(const TmaArray& array);

// For copies of boxes of this layout. The array's end clips: reads give 0, writes are left out.
// Errors: kUnsupported for a driver without tensor maps; kBackendError, with `operand` named, for
// an array that tma_takes() refuses.
Status make_tensor_map(const char* operand, const TmaArray& array, const TileLayout& layout,
                       TensorMap* map);

}  // namespace dropgemm::cuda
