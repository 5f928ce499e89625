// Dense products by cuBLAS, where its library can be opened at run time: those without masks, or
// whose masks were applied to copies, and whose epilogue is one factor, or that, an addend and a
// bias. Nothing links it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dropgemm/matrix.h"
#include "dropgemm/status.h"

namespace dropgemm::cuda {

// Column-major, as BLAS has it: c [m, n] = alpha op(a) [m, k] op(b) [k, n] + addend [m, n] + bias
// [m], which is added to every column.
struct DenseCall {
  DType dtype = DType::kFloat32;
  bool rounds = false;  // float32 operands may become tf32
  bool trans_a = false, trans_b = false;
  std::int32_t m = 0, n = 0, k = 0;
  double alpha = 1;
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  std::int32_t lda = 0, ldb = 0, ldc = 0;
  const void* addend = nullptr;  // or none
  const void* bias = nullptr;
  std::int32_t ld_addend = 0;

  [[nodiscard]] bool is_plain() const { return addend == nullptr && bias == nullptr; }
};

// Looked for once in the life of the process.
[[nodiscard]] bool has_dense_library();
// Whether it takes addends and biases: cublasLt.
[[nodiscard]] bool has_dense_epilogues();
// What the library wants to work with on a chip, by its manual.
[[nodiscard]] std::size_t dense_workspace_bytes(std::int32_t arch);
// On a stream of the current device. The first call of a thread makes a handle, which is no part of
// a graph that is captured meanwhile. Errors: kBackendError with the library's status.
Status multiply_dense(const DenseCall& call, void* workspace, std::size_t bytes, void* stream);

}  // namespace dropgemm::cuda
