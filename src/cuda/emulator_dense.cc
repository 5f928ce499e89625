// dense.h without cuBLAS: naive, and there only where a test asks for it.
#include "cuda/dense.h"
#include "cuda/emulator_api.h"
#include "cuda/number.h"

namespace dropgemm::cuda {
namespace {

template <class E>
void multiply(const DenseCall& call) {
  using Sum = typename Number<E>::Sum;
  const auto at = [](const void* data, bool transposed, std::int32_t ld, std::int64_t i,
                     std::int64_t j) {
    return Number<E>::load(static_cast<const E*>(data)[transposed ? i * ld + j : i + j * ld]);
  };
  for (std::int32_t i = 0; i < call.m; ++i) {
    for (std::int32_t j = 0; j < call.n; ++j) {
      Sum sum = 0;
      for (std::int32_t k = 0; k < call.k; ++k) {
        sum += at(call.a, call.trans_a, call.lda, i, k) * at(call.b, call.trans_b, call.ldb, k, j);
      }
      sum *= static_cast<Sum>(call.alpha);
      if (call.addend != nullptr) sum += at(call.addend, false, call.ld_addend, i, j);
      if (call.bias != nullptr) sum += at(call.bias, false, 0, i, 0);
      static_cast<E*>(call.c)[i + std::int64_t{j} * call.ldc] = Number<E>::store(sum);
    }
  }
}

}  // namespace

bool has_dense_library() { return emulator::machine().has_dense_library; }
bool has_dense_epilogues() { return emulator::machine().has_dense_epilogues; }

std::size_t dense_workspace_bytes(std::int32_t /*arch*/) { return 1 << 10; }

Status multiply_dense(const DenseCall& call, void* /*workspace*/, std::size_t /*bytes*/,
                      void* /*stream*/) {
  switch (call.dtype) {
    case DType::kFloat32:
      multiply<float>(call);
      break;
    case DType::kFloat64:
      multiply<double>(call);
      break;
    case DType::kBFloat16:
      multiply<BFloat16>(call);
      break;
    case DType::kFloat16:
      multiply<Float16>(call);
      break;
  }
  ++emulator::machine().dense_calls;
  return {};
}

}  // namespace dropgemm::cuda
