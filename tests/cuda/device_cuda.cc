#include "device_cuda.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <iostream>

#include "registry.h"

namespace dropgemm::testing {
namespace {

// The suites cannot go on without their memory.
void must(cudaError_t code) {
  if (code == cudaSuccess) return;
  std::cerr << "staging: " << cudaGetErrorName(code) << ": " << cudaGetErrorString(code) << "\n";
  std::exit(1);
}

}  // namespace

void* CudaDevice::allocate(std::size_t bytes) {
  void* memory = nullptr;
  must(cudaMalloc(&memory, bytes));
  return memory;
}
void CudaDevice::release(void* memory) { must(cudaFree(memory)); }
void CudaDevice::to_device(void* to, const void* from, std::size_t bytes) {
  must(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}
void CudaDevice::to_host(void* to, const void* from, std::size_t bytes) {
  must(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}
Status CudaDevice::synchronize() {
  const cudaError_t code = cudaDeviceSynchronize();
  if (code == cudaSuccess) return {};
  return {StatusCode::kBackendError, cudaGetErrorString(code)};
}
const Backend* CudaDevice::backend() {
  static const BackendLibrary library = open_backend_library(DROPGEMM_CUDA_LIBRARY_FILE);
  if (library.table == nullptr) {
    std::cerr << library.reason << "\n";
    return nullptr;
  }
  return call_backend(library.table->available).ok() ? library.table : nullptr;
}

}  // namespace dropgemm::testing
