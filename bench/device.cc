#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <utility>

namespace dropgemm::bench {
namespace {

constexpr std::size_t kFlushCaches = 4;  // times the second-level cache

// The part of cuBLAS's interface that is used here, whose header not every toolkit has.
constexpr int kNoTranspose = 0, kTranspose = 1;
constexpr int kFloat32 = 0, kFloat16 = 2, kBFloat16 = 14;  // cudaDataType
constexpr int kSumFloat32 = 68, kSumFastTf32 = 77;         // cublasComputeType_t
constexpr int kDefaultAlgorithm = -1;                      // cublasGemmAlgo_t
using Create = int (*)(void**);
using Destroy = int (*)(void*);
using SetStream = int (*)(void*, cudaStream_t);
using GemmEx = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int,
                       const void*, int, int, const void*, void*, int, int, int, int);

int type_of(DType dtype) {
  if (dtype == DType::kBFloat16) return kBFloat16;
  return dtype == DType::kFloat16 ? kFloat16 : kFloat32;
}

Status cublas_status(int code) {
  if (code == 0) return {};
  return {StatusCode::kBackendError, "cuBLAS: status " + std::to_string(code)};
}

}  // namespace

Status cuda_status(const char* what, cudaError_t code) {
  if (code == cudaSuccess) return {};
  return {StatusCode::kBackendError, std::string(what) + ": " + cudaGetErrorString(code)};
}

Status DeviceArray::allocate(std::size_t bytes, const void* host) {
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaMalloc", cudaMalloc(&data_, bytes)));
  if (host == nullptr) return cuda_status("cudaMemset", cudaMemset(data_, 0, bytes));
  return cuda_status("cudaMemcpy", cudaMemcpy(data_, host, bytes, cudaMemcpyHostToDevice));
}

Status DeviceArray::repeat(std::size_t bytes, const void* host, std::size_t given) {
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaMalloc", cudaMalloc(&data_, bytes)));
  char* const out = static_cast<char*>(data_);
  std::size_t filled = std::min(bytes, given);
  DROPGEMM_RETURN_IF_ERROR(
      cuda_status("cudaMemcpy", cudaMemcpy(out, host, filled, cudaMemcpyHostToDevice)));
  for (; filled < bytes; filled += std::min(filled, bytes - filled)) {
    const std::size_t more = std::min(filled, bytes - filled);
    DROPGEMM_RETURN_IF_ERROR(
        cuda_status("cudaMemcpy", cudaMemcpy(out + filled, out, more, cudaMemcpyDeviceToDevice)));
  }
  return {};
}

Stopwatch::~Stopwatch() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  if (before_ != nullptr) cudaEventDestroy(before_);
  if (after_ != nullptr) cudaEventDestroy(after_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

Status Stopwatch::open() {
  DROPGEMM_RETURN_IF_ERROR(
      cuda_status("cudaStreamCreate", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)));
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaEventCreate", cudaEventCreate(&before_)));
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaEventCreate", cudaEventCreate(&after_)));
  int device = 0, cache = 0;
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaGetDevice", cudaGetDevice(&device)));
  DROPGEMM_RETURN_IF_ERROR(cuda_status(
      "cudaDeviceGetAttribute", cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device)));
  flush_bytes_ = kFlushCaches * static_cast<std::size_t>(cache);
  return flush_.allocate(flush_bytes_);
}

Status Stopwatch::start(bool cold, bool graph, std::function<Status()> call) {
  cold_ = cold;
  call_ = std::move(call);
  DROPGEMM_RETURN_IF_ERROR(call_());  // loads modules, and shows what the call refuses
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaStreamSynchronize", cudaStreamSynchronize(stream_)));
  return graph ? capture() : Status();
}

Status Stopwatch::capture() {
  DROPGEMM_RETURN_IF_ERROR(cuda_status(
      "cudaStreamBeginCapture", cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal)));
  const Status called = call_();
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &captured);
  DROPGEMM_RETURN_IF_ERROR(called);
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaStreamEndCapture", ended));
  const cudaError_t made = cudaGraphInstantiate(&graph_, captured, 0);
  cudaGraphDestroy(captured);
  return cuda_status("cudaGraphInstantiate", made);
}

Status Stopwatch::time(double* seconds) {
  // Overwriting takes longer than a launch does; a warm cache has its copy of nothing to wait for.
  const std::size_t bytes = cold_ ? flush_bytes_ : flush_bytes_ / kFlushCaches / 8;
  DROPGEMM_RETURN_IF_ERROR(
      cuda_status("cudaMemsetAsync", cudaMemsetAsync(flush_.data(), 0, bytes, stream_)));
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaEventRecord", cudaEventRecord(before_, stream_)));
  DROPGEMM_RETURN_IF_ERROR(graph_ != nullptr
                               ? cuda_status("cudaGraphLaunch", cudaGraphLaunch(graph_, stream_))
                               : call_());
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaEventRecord", cudaEventRecord(after_, stream_)));
  DROPGEMM_RETURN_IF_ERROR(cuda_status("cudaEventSynchronize", cudaEventSynchronize(after_)));
  float milliseconds = 0;
  DROPGEMM_RETURN_IF_ERROR(
      cuda_status("cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, before_, after_)));
  *seconds = 1e-3 * static_cast<double>(milliseconds);
  return {};
}

Cublas::~Cublas() {
  if (handle_ != nullptr) reinterpret_cast<Destroy>(dlsym(library_, "cublasDestroy_v2"))(handle_);
}

Status Cublas::open(cudaStream_t stream) {
  for (const char* name : {"libcublas.so.13", "libcublas.so.12"}) {
    if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library_ == nullptr) return {StatusCode::kUnsupported, dlerror()};
  DROPGEMM_RETURN_IF_ERROR(
      cublas_status(reinterpret_cast<Create>(dlsym(library_, "cublasCreate_v2"))(&handle_)));
  return cublas_status(
      reinterpret_cast<SetStream>(dlsym(library_, "cublasSetStream_v2"))(handle_, stream));
}

// cuBLAS is column-major: it computes D^T = B^T A^T.
Status Cublas::gemm(const GemmArgs& args) {
  const GemmShape shape = gemm_shape(args);
  const float one = 1, zero = 0;
  const int type = type_of(args.d.dtype);
  const int sums = args.d.dtype == DType::kFloat32 && args.precision == Precision::kMedium
                       ? kSumFastTf32
                       : kSumFloat32;
  const auto gemm_ex = reinterpret_cast<GemmEx>(dlsym(library_, "cublasGemmEx"));
  return cublas_status(gemm_ex(handle_, args.trans_b ? kTranspose : kNoTranspose,
                               args.trans_a ? kTranspose : kNoTranspose, static_cast<int>(shape.n),
                               static_cast<int>(shape.m), static_cast<int>(shape.k), &one,
                               args.b.data, type, static_cast<int>(args.b.row_stride), args.a.data,
                               type, static_cast<int>(args.a.row_stride), &zero, args.d.data, type,
                               static_cast<int>(args.d.row_stride), sums, kDefaultAlgorithm));
}

}  // namespace dropgemm::bench
