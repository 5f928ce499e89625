// Conversions of buffers; what they accept is in buffers.h.
#include "buffers.h"

namespace dropgemm::python {

namespace {

Status to_dtype(const char* name, ffi::DataType type, DType* dtype) {
  switch (type) {
    case ffi::DataType::F32:
      *dtype = DType::kFloat32;
      return {};
    case ffi::DataType::F64:
      *dtype = DType::kFloat64;
      return {};
    case ffi::DataType::BF16:
      *dtype = DType::kBFloat16;
      return {};
    case ffi::DataType::F16:
      *dtype = DType::kFloat16;
      return {};
    default:
      return Status::invalid_type(name, "float32, float64, bfloat16 or float16",
                                  "XLA's type " + std::to_string(static_cast<int>(type)));
  }
}

Status check_rank(const char* name, const ffi::AnyBuffer& buffer, std::size_t rank) {
  if (buffer.dimensions().size() == rank) return {};
  return Status::invalid(name, "a " + std::to_string(rank) + "-D array",
                         std::to_string(buffer.dimensions().size()) + "-D");
}

Status check_words(const char* name, const ffi::AnyBuffer& buffer, std::int64_t words) {
  if (buffer.element_type() != ffi::DataType::U32) {
    return Status::invalid_type(name, "words of uint32", "another type");
  }
  const auto size = static_cast<std::int64_t>(buffer.element_count());
  if (size == words) return {};
  return Status::invalid(name, std::to_string(words) + " words", std::to_string(size));
}

// Numbers of 64 bits, each as two of 32.
Status to_halves(const char* name, const ffi::AnyBuffer& buffer, std::int64_t numbers,
                 const void** data) {
  DROPGEMM_RETURN_IF_ERROR(check_words(name, buffer, 2 * numbers));
  *data = buffer.untyped_data();
  return {};
}

Status check_layout(const char* name, Layout layout, std::size_t size) {
  if (layout.size() != size) {
    return Status::invalid(name, "a layout of " + std::to_string(size) + " numbers",
                           std::to_string(layout.size()));
  }
  // So few elements that neither they nor words overflow.
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 60;
  const bool countable = layout[0] >= 0 && layout[1] >= 0 && layout[0] <= kMaxElements &&
                         (layout[0] == 0 || layout[1] <= kMaxElements / layout[0]);
  if (countable && layout[2] > 0 && layout[3] > 0) return {};
  return Status::invalid(name, "at most 2^60 elements and tiles of at least 1",
                         std::to_string(layout[0]) + "x" + std::to_string(layout[1]) +
                             " with tiles of " + std::to_string(layout[2]) + "x" +
                             std::to_string(layout[3]));
}

}  // namespace

Status to_matrix(const char* name, const ffi::AnyBuffer& buffer, MatrixView* view) {
  DROPGEMM_RETURN_IF_ERROR(check_rank(name, buffer, 2));
  return to_stacked(name, buffer, view);
}

Status to_stacked(const char* name, const ffi::AnyBuffer& buffer, MatrixView* view) {
  const auto sizes = buffer.dimensions();
  if (sizes.size() < 2) return check_rank(name, buffer, 2);
  DROPGEMM_RETURN_IF_ERROR(to_dtype(name, buffer.element_type(), &view->dtype));
  view->data = buffer.untyped_data();
  view->cols = view->row_stride = sizes[sizes.size() - 1];
  view->rows = 1;
  for (std::size_t i = 0; i + 1 < sizes.size(); ++i) view->rows *= sizes[i];
  return {};
}

Status to_vector(const char* name, const ffi::AnyBuffer& buffer, DType dtype, std::int64_t size,
                 void** data) {
  DROPGEMM_RETURN_IF_ERROR(check_rank(name, buffer, 1));
  DType got = DType::kFloat32;
  DROPGEMM_RETURN_IF_ERROR(to_dtype(name, buffer.element_type(), &got));
  if (got != dtype) {
    return Status::invalid_type(name, std::string(dtype_name(dtype)) + " as a", dtype_name(got));
  }
  if (buffer.dimensions()[0] != size) {
    return Status::invalid(name, "[" + std::to_string(size) + "]",
                           "[" + std::to_string(buffer.dimensions()[0]) + "]");
  }
  *data = buffer.untyped_data();
  return {};
}

Status to_float_scalar(const char* name, const ffi::AnyBuffer& buffer, float** data) {
  DROPGEMM_RETURN_IF_ERROR(check_rank(name, buffer, 0));
  if (buffer.element_type() != ffi::DataType::F32) {
    return Status::invalid_type(name, "float32", "another type");
  }
  *data = static_cast<float*>(buffer.untyped_data());
  return {};
}

Status to_step(const ffi::AnyBuffer& buffer, StepRef* step) {
  DROPGEMM_RETURN_IF_ERROR(check_rank("step", buffer, 1));
  const void* data = nullptr;
  DROPGEMM_RETURN_IF_ERROR(to_halves("step", buffer, 1, &data));
  step->device = static_cast<const std::int64_t*>(data);
  return {};
}

Status to_thresholds(const ffi::AnyBuffer& buffer, PatternDraw* draw) {
  DROPGEMM_RETURN_IF_ERROR(check_rank("thresholds", buffer, 2));
  const void* data = nullptr;
  draw->periods = buffer.dimensions()[0];
  DROPGEMM_RETURN_IF_ERROR(to_halves("thresholds", buffer, draw->periods, &data));
  draw->thresholds = static_cast<const std::uint64_t*>(data);
  return {};
}

Status to_mask(const char* name, const ffi::AnyBuffer& bits, Layout layout, double keep_hint,
               TileMaskView* view) {
  DROPGEMM_RETURN_IF_ERROR(check_layout(name, layout, 5));
  const bool turned = layout[4] != 0;
  const std::int64_t words = turned ? mask_words(layout[1], layout[0], layout[3], layout[2])
                                    : mask_words(layout[0], layout[1], layout[2], layout[3]);
  DROPGEMM_RETURN_IF_ERROR(check_words(name, bits, words));
  *view = {static_cast<const std::uint32_t*>(bits.untyped_data()),
           layout[0],
           layout[1],
           layout[2],
           layout[3],
           keep_hint,
           turned};
  return {};
}

Status to_mask_target(const ffi::AnyBuffer& bits, Layout layout, MutableTileMaskView* view) {
  DROPGEMM_RETURN_IF_ERROR(check_layout("mask", layout, 4));
  DROPGEMM_RETURN_IF_ERROR(
      check_words("bits", bits, mask_words(layout[0], layout[1], layout[2], layout[3])));
  *view = {static_cast<std::uint32_t*>(bits.untyped_data()), layout[0], layout[1], layout[2],
           layout[3]};
  return {};
}

ffi::Error to_error(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return ffi::Error::Success();
    case StatusCode::kInvalidArgument:
    case StatusCode::kInvalidType:
      return {ffi::ErrorCode::kInvalidArgument, status.message()};
    case StatusCode::kUnsupported:
      return {ffi::ErrorCode::kUnimplemented, status.message()};
    default:
      return {ffi::ErrorCode::kInternal, status.message()};
  }
}

}  // namespace dropgemm::python
