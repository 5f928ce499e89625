// dense.h over cuBLAS, whose few functions and numbers, the same in versions 12 and 13, are written
// down here, since its headers need not be where this is built.
#include <dlfcn.h>

#include <map>
#include <string>

#include "cuda/api.h"
#include "cuda/dense.h"

namespace dropgemm::cuda {
namespace {

using Handle = void*;
struct Cublas {
  int (*create)(Handle*) = nullptr;
  int (*set_stream)(Handle, void*) = nullptr;
  int (*set_workspace)(Handle, void*, std::size_t) = nullptr;
  int (*set_math_mode)(Handle, int) = nullptr;
  int (*gemm)(Handle, int, int, int, int, int, const void*, const void*, int, int, const void*, int,
              int, const void*, void*, int, int, int, int) = nullptr;

  [[nodiscard]] bool complete() const {
    return create != nullptr && set_stream != nullptr && set_workspace != nullptr &&
           set_math_mode != nullptr && gemm != nullptr;
  }
};

// cudaDataType, cublasComputeType_t, cublasMath_t, cublasGemmAlgo_t.
constexpr int kReal32 = 0, kReal64 = 1, kReal16 = 2, kReal16B = 14;
constexpr int kCompute32 = 68, kCompute64 = 70, kComputeTf32 = 77;
constexpr int kKeepsFloat32Sums = 16;  // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
constexpr int kDefaultAlgorithm = -1;

Cublas open_cublas() {
  Cublas cublas;
  void* library = nullptr;
  for (const char* name : {"libcublas.so.13", "libcublas.so.12"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) return cublas;
  const auto find = [&](const char* name, auto* function) {
    *reinterpret_cast<void**>(function) = dlsym(library, name);
  };
  find("cublasCreate_v2", &cublas.create);
  find("cublasSetStream_v2", &cublas.set_stream);
  find("cublasSetWorkspace_v2", &cublas.set_workspace);
  find("cublasSetMathMode", &cublas.set_math_mode);
  find("cublasGemmEx", &cublas.gemm);
  return cublas;
}

const Cublas& cublas() {
  static const Cublas opened = open_cublas();
  return opened;
}

Status check_cublas(const char* what, int status) {
  if (status == 0) return {};
  return {StatusCode::kBackendError,
          std::string(what) + ": cuBLAS failed with status " + std::to_string(status)};
}

// While it lives, this thread may allocate even though it captures a stream, as making a handle
// does: XLA captures programs that have never run.
class AllowAllocations {
 public:
  AllowAllocations() { api::exchange_capture_mode(&mode_); }
  ~AllowAllocations() { api::exchange_capture_mode(&mode_); }
  AllowAllocations(const AllowAllocations&) = delete;
  AllowAllocations& operator=(const AllowAllocations&) = delete;

 private:
  int mode_ = api::kCaptureAllowsAll;
};

// This thread's, of the current device. Never destroyed: threads end after CUDA does.
Status find_handle(const Cublas& library, Handle* handle) {
  thread_local std::map<int, Handle> handles;
  int device = 0;
  api::get_device(&device);
  Handle& own = handles[device];
  if (own == nullptr) {
    const AllowAllocations allowed;
    DROPGEMM_RETURN_IF_ERROR(check_cublas("cublasCreate", library.create(&own)));
    DROPGEMM_RETURN_IF_ERROR(
        check_cublas("cublasSetMathMode", library.set_math_mode(own, kKeepsFloat32Sums)));
  }
  *handle = own;
  return {};
}

int data_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return kReal32;
    case DType::kFloat64:
      return kReal64;
    case DType::kBFloat16:
      return kReal16B;
    case DType::kFloat16:
      return kReal16;
  }
  return kReal32;
}

}  // namespace

bool has_dense_library() { return cublas().complete(); }

std::size_t dense_workspace_bytes(std::int32_t arch) {
  return std::size_t{arch >= 90 ? 32U : 4U} << 20;
}

Status multiply_dense(const DenseCall& call, void* workspace, std::size_t bytes, void* stream) {
  const Cublas& library = cublas();
  if (!library.complete()) return {StatusCode::kUnsupported, "cuda: no cuBLAS is found"};
  Handle handle = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_handle(library, &handle));
  DROPGEMM_RETURN_IF_ERROR(check_cublas("cublasSetStream", library.set_stream(handle, stream)));
  DROPGEMM_RETURN_IF_ERROR(
      check_cublas("cublasSetWorkspace", library.set_workspace(handle, workspace, bytes)));
  const bool is_double = call.dtype == DType::kFloat64;
  const double alpha = call.alpha, beta = 0;
  const auto narrow_alpha = static_cast<float>(alpha), narrow_beta = 0.0F;
  const void* const alpha_at = is_double ? static_cast<const void*>(&alpha) : &narrow_alpha;
  const void* const beta_at = is_double ? static_cast<const void*>(&beta) : &narrow_beta;
  const int type = data_type(call.dtype);
  const int compute = is_double                                      ? kCompute64
                      : call.dtype == DType::kFloat32 && call.rounds ? kComputeTf32
                                                                     : kCompute32;
  return check_cublas(
      "cublasGemmEx",
      library.gemm(handle, call.trans_a ? 1 : 0, call.trans_b ? 1 : 0, call.m, call.n, call.k,
                   alpha_at, call.a, type, call.lda, call.b, type, call.ldb, beta_at, call.c, type,
                   call.ldc, compute, kDefaultAlgorithm));
}

}  // namespace dropgemm::cuda
