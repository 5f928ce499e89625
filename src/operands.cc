// Checks of matrices beside one another and of masks over them. A matrix alone is matrix.cc's.
#include "operands.h"

namespace dropgemm {

std::string size_text(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

Status check_dtype(const char* name, DType dtype, const char* of, DType expected) {
  if (dtype == expected) return {};
  return Status::invalid_type(name, std::string(dtype_name(expected)) + " as " + of + " has",
                              dtype_name(dtype));
}

Status check_mask_of(const char* name, const TileMaskView* mask, const char* of,
                     const ConstMatrixView& view) {
  if (mask == nullptr) return {};
  DROPGEMM_RETURN_IF_ERROR(check_tile_mask(name, *mask));
  if (mask->rows == view.rows && mask->cols == view.cols) return {};
  return Status::invalid(
      name,
      std::string("shape ") + size_text(view.rows, view.cols) + " as " + of + " has, as passed",
      size_text(mask->rows, mask->cols));
}

Status check_disjoint(const char* out_name, const MatrixView& out, const char* in_name,
                      const ConstMatrixView& in) {
  if (out.data == nullptr || !in.present() || !may_overlap(out, in)) return {};
  return Status::invalid(out_name, "memory of its own", std::string("an overlap with ") + in_name);
}

ConstMatrixView bits_view(const TileMaskView* mask) {
  if (mask == nullptr) return {};
  const bool turned = mask->transposed;
  const std::int64_t words =
      turned ? mask_words(mask->cols, mask->rows, mask->tile_cols, mask->tile_rows)
             : mask_words(mask->rows, mask->cols, mask->tile_rows, mask->tile_cols);
  return {mask->bits, 1, words, 0, 1, DType::kFloat32};
}

}  // namespace dropgemm
