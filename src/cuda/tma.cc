// Which arrays the tensor memory accelerator takes, and what it is told of them.
#include "cuda/tma.h"

#include <limits>

#include "cuda/api.h"
#include "cuda/runtime.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int64_t kAlignment = 16;
constexpr std::int64_t kMostStride = std::int64_t{1} << 40;  // in bytes

api::BoxElement element_of(const TmaArray& array) {
  if (dtype_size(array.dtype) == 2) return api::BoxElement::kWord16;
  return array.rounds ? api::BoxElement::kTf32 : api::BoxElement::kFloat32;
}

// A single row may have any stride, which then says nothing.
std::int64_t row_bytes(const TmaArray& array) {
  const auto size = static_cast<std::int64_t>(dtype_size(array.dtype));
  if (array.rows > 1) return array.row_stride * size;
  return (array.contiguous * size + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

bool tma_takes(const TmaArray& array) {
  constexpr std::int64_t kMostExtent = std::numeric_limits<std::int32_t>::max();
  const auto size = static_cast<std::int64_t>(dtype_size(array.dtype));
  if (size != 2 && size != 4) return false;
  if (array.contiguous < 1 || array.contiguous > kMostExtent) return false;
  if (array.rows < 1 || array.rows > kMostExtent) return false;
  if (array.rows > 1 && array.row_stride < array.contiguous) return false;
  const std::int64_t stride = row_bytes(array);
  return reinterpret_cast<std::uintptr_t>(array.data) % kAlignment == 0 &&
         stride % kAlignment == 0 && stride < kMostStride;
}

Status make_tensor_map(const char* operand, const TmaArray& array, const TileLayout& layout,
                       TensorMap* map) {
  if (!tma_takes(array)) {
    return {StatusCode::kBackendError,
            std::string(operand) + ": expected rows of whole 16 bytes, got rows of " +
                std::to_string(row_bytes(array)) + " bytes from " +
                std::to_string(reinterpret_cast<std::uintptr_t>(array.data) % kAlignment) +
                " bytes past an address of such"};
  }
  api::BoxCopies copies;
  copies.data = array.data;
  copies.element = element_of(array);
  copies.contiguous = static_cast<std::uint64_t>(array.contiguous);
  copies.rows = static_cast<std::uint64_t>(array.rows);
  copies.row_bytes = static_cast<std::uint64_t>(row_bytes(array));
  copies.box_contiguous = static_cast<std::uint32_t>(layout.box_contiguous);
  copies.box_rows = static_cast<std::uint32_t>(layout.box_rows);
  copies.swizzle_bytes = static_cast<std::uint32_t>(layout.swizzle());
  return check("cuTensorMapEncodeTiled", api::encode_tensor_map(copies, map->words));
}

}  // namespace dropgemm::cuda
