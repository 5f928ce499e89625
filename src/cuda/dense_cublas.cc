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

  // Of cublasLt, which libcublas brings along. Its handle is cuBLAS's.
  int (*create_product)(void**, int, int) = nullptr;
  int (*set_product)(void*, int, const void*, std::size_t) = nullptr;
  int (*destroy_product)(void*) = nullptr;
  int (*create_layout)(void**, int, std::uint64_t, std::uint64_t, std::int64_t) = nullptr;
  int (*destroy_layout)(void*) = nullptr;
  int (*create_preference)(void**) = nullptr;
  int (*set_preference)(void*, int, const void*, std::size_t) = nullptr;
  int (*destroy_preference)(void*) = nullptr;
  int (*find_algorithms)(Handle, void*, void*, void*, void*, void*, void*, int, void*,
                         int*) = nullptr;
  int (*multiply)(Handle, void*, const void*, const void*, void*, const void*, void*, const void*,
                  const void*, void*, void*, void*, const void*, void*, std::size_t,
                  void*) = nullptr;

  [[nodiscard]] bool complete() const {
    return create != nullptr && set_stream != nullptr && set_workspace != nullptr &&
           set_math_mode != nullptr && gemm != nullptr;
  }
  [[nodiscard]] bool has_epilogues() const {
    return create_product != nullptr && set_product != nullptr && destroy_product != nullptr &&
           create_layout != nullptr && destroy_layout != nullptr && create_preference != nullptr &&
           set_preference != nullptr && destroy_preference != nullptr &&
           find_algorithms != nullptr && multiply != nullptr;
  }
};

// cudaDataType, cublasComputeType_t, cublasMath_t, cublasGemmAlgo_t.
constexpr int kReal32 = 0, kReal64 = 1, kReal16 = 2, kReal16B = 14;
constexpr int kCompute32 = 68, kCompute64 = 70, kComputeTf32 = 77;
constexpr int kKeepsFloat32Sums = 16;  // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
constexpr int kDefaultAlgorithm = -1;
// Attributes of cublasLtMatmulDesc_t and of cublasLtMatmulPreference_t, cublasLtEpilogue_t, and
// cublasLtReductionScheme_t.
constexpr int kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8;
constexpr int kMostWorkspace = 1, kReductions = 3, kLeastAlignmentOfA = 5;  // then B, C, D
constexpr std::uint32_t kAddsBias = 4;
constexpr std::uint32_t kSumsInPlace = 1, kSumsAsComputed = 2;

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
  find("cublasLtMatmulDescCreate", &cublas.create_product);
  find("cublasLtMatmulDescSetAttribute", &cublas.set_product);
  find("cublasLtMatmulDescDestroy", &cublas.destroy_product);
  find("cublasLtMatrixLayoutCreate", &cublas.create_layout);
  find("cublasLtMatrixLayoutDestroy", &cublas.destroy_layout);
  find("cublasLtMatmulPreferenceCreate", &cublas.create_preference);
  find("cublasLtMatmulPreferenceSetAttribute", &cublas.set_preference);
  find("cublasLtMatmulPreferenceDestroy", &cublas.destroy_preference);
  find("cublasLtMatmulAlgoGetHeuristic", &cublas.find_algorithms);
  find("cublasLtMatmul", &cublas.multiply);
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

int compute_type(const DenseCall& call) {
  if (call.dtype == DType::kFloat64) return kCompute64;
  return call.dtype == DType::kFloat32 && call.rounds ? kComputeTf32 : kCompute32;
}

// A factor of the type that sums are of.
class Factor {
 public:
  Factor(const DenseCall& call, double value)
      : is_double_(call.dtype == DType::kFloat64), wide_(value),
        narrow_(static_cast<float>(value)) {}
  [[nodiscard]] const void* at() const {
    return is_double_ ? static_cast<const void*>(&wide_) : &narrow_;
  }

 private:
  bool is_double_;
  double wide_;
  float narrow_;
};

// The most bytes, up to 256, that an address and the steps between columns are multiples of.
std::uint32_t alignment_of(const void* data, std::int32_t ld, DType dtype) {
  const std::uintptr_t bits =
      reinterpret_cast<std::uintptr_t>(data) |
      static_cast<std::uintptr_t>(ld) * static_cast<std::uintptr_t>(dtype_size(dtype)) | 256U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

// One product with an epilogue, described to cublasLt. Goes on until the first call that fails.
class EpilogueCall {
 public:
  EpilogueCall(const Cublas& library, const DenseCall& call) : library_(library), call_(call) {
    const int type = data_type(call.dtype);
    const int scale_type = call.dtype == DType::kFloat64 ? kReal64 : kReal32;
    check(library.create_product(&product_, compute_type(call), scale_type));
    set_product(kTransA, std::int32_t{call.trans_a});
    set_product(kTransB, std::int32_t{call.trans_b});
    if (call.bias != nullptr) {
      set_product(kEpilogue, kAddsBias);
      set_product(kBiasPointer, reinterpret_cast<std::uintptr_t>(call.bias));
    }
    const auto layout = [&](void** made, std::int32_t rows, std::int32_t cols, std::int32_t ld) {
      if (status_ == 0) {
        check(library.create_layout(made, type, static_cast<std::uint64_t>(rows),
                                    static_cast<std::uint64_t>(cols), ld));
      }
    };
    layout(&a_, call.trans_a ? call.k : call.m, call.trans_a ? call.m : call.k, call.lda);
    layout(&b_, call.trans_b ? call.n : call.k, call.trans_b ? call.k : call.n, call.ldb);
    layout(&c_, call.m, call.n, call.addend != nullptr ? call.ld_addend : call.ldc);
    layout(&d_, call.m, call.n, call.ldc);
  }
  ~EpilogueCall() {
    for (void* each : {a_, b_, c_, d_}) {
      if (each != nullptr) library_.destroy_layout(each);
    }
    if (preference_ != nullptr) library_.destroy_preference(preference_);
    if (product_ != nullptr) library_.destroy_product(product_);
  }
  EpilogueCall(const EpilogueCall&) = delete;
  EpilogueCall& operator=(const EpilogueCall&) = delete;

  int run(Handle handle, void* workspace, std::size_t bytes, void* stream) {
    struct Found {  // cublasLtMatmulHeuristicResult_t
      std::uint64_t algorithm[8];
      std::size_t workspace_bytes;
      int status;
      float waves;
      int reserved[4];
    };
    const void* const c = call_.addend != nullptr ? call_.addend : call_.c;
    prefer(c, bytes);
    if (status_ != 0) return status_;
    Found found = {};
    int count = 0;
    check(
        library_.find_algorithms(handle, product_, a_, b_, c_, d_, preference_, 1, &found, &count));
    if (status_ == 0 && count == 0) status_ = kNotSupported;
    if (status_ != 0) return status_;
    const Factor alpha(call_, call_.alpha), beta(call_, call_.addend != nullptr ? 1 : 0);
    return library_.multiply(handle, product_, alpha.at(), call_.a, a_, call_.b, b_, beta.at(), c,
                             c_, call_.c, d_, found.algorithm, workspace, bytes, stream);
  }

 private:
  static constexpr int kNotSupported = 15;  // CUBLAS_STATUS_NOT_SUPPORTED

  void check(int status) {
    if (status_ == 0) status_ = status;
  }
  template <class T>
  void set_product(int attribute, const T& value) {
    if (status_ == 0) check(library_.set_product(product_, attribute, &value, sizeof value));
  }
  template <class T>
  void set_preference(int attribute, const T& value) {
    if (status_ == 0) check(library_.set_preference(preference_, attribute, &value, sizeof value));
  }
  void prefer(const void* c, std::size_t bytes) {
    if (status_ == 0) check(library_.create_preference(&preference_));
    set_preference(kMostWorkspace, std::uint64_t{bytes});
    set_preference(kReductions, kSumsInPlace | kSumsAsComputed);
    const std::uint32_t alignments[] = {
        alignment_of(call_.a, call_.lda, call_.dtype),
        alignment_of(call_.b, call_.ldb, call_.dtype),
        alignment_of(c, call_.addend != nullptr ? call_.ld_addend : call_.ldc, call_.dtype),
        alignment_of(call_.c, call_.ldc, call_.dtype)};
    for (int i = 0; i < 4; ++i) set_preference(kLeastAlignmentOfA + i, alignments[i]);
  }

  const Cublas& library_;
  const DenseCall& call_;
  int status_ = 0;
  void *product_ = nullptr, *preference_ = nullptr;
  void *a_ = nullptr, *b_ = nullptr, *c_ = nullptr, *d_ = nullptr;
};

int multiply_plain(const Cublas& library, Handle handle, const DenseCall& call, void* workspace,
                   std::size_t bytes, void* stream) {
  if (const int status = library.set_stream(handle, stream); status != 0) return status;
  if (const int status = library.set_workspace(handle, workspace, bytes); status != 0) {
    return status;
  }
  const Factor alpha(call, call.alpha), beta(call, 0);
  const int type = data_type(call.dtype);
  return library.gemm(handle, call.trans_a ? 1 : 0, call.trans_b ? 1 : 0, call.m, call.n, call.k,
                      alpha.at(), call.a, type, call.lda, call.b, type, call.ldb, beta.at(), call.c,
                      type, call.ldc, compute_type(call), kDefaultAlgorithm);
}

}  // namespace

bool has_dense_library() { return cublas().complete(); }
bool has_dense_epilogues() { return cublas().complete() && cublas().has_epilogues(); }

std::size_t dense_workspace_bytes(std::int32_t arch) {
  return std::size_t{arch >= 90 ? 32U : 4U} << 20;
}

Status multiply_dense(const DenseCall& call, void* workspace, std::size_t bytes, void* stream) {
  const Cublas& library = cublas();
  if (!library.complete()) return {StatusCode::kUnsupported, "cuda: no cuBLAS is found"};
  Handle handle = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_handle(library, &handle));
  if (call.is_plain()) {
    return check_cublas("cublasGemmEx",
                        multiply_plain(library, handle, call, workspace, bytes, stream));
  }
  if (!library.has_epilogues()) return {StatusCode::kUnsupported, "cuda: no cublasLt is found"};
  return check_cublas("cublasLtMatmul",
                      EpilogueCall(library, call).run(handle, workspace, bytes, stream));
}

}  // namespace dropgemm::cuda
