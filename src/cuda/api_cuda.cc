// api.h over CUDA's runtime.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "cuda/api.h"

namespace dropgemm::cuda::api {

static_assert(static_cast<int>(kOutOfMemory) == cudaErrorMemoryAllocation);
static_assert(static_cast<int>(kDriverTooOld) == cudaErrorInsufficientDriver);
static_assert(static_cast<int>(kNoDevice) == cudaErrorNoDevice);
static_assert(static_cast<int>(kNoKernelImage) == cudaErrorNoKernelImageForDevice);
static_assert(static_cast<int>(kEccError) == cudaErrorECCUncorrectable);
static_assert(static_cast<int>(kPtxTooNew) == cudaErrorUnsupportedPtxVersion);
static_assert(static_cast<int>(kInvalidHandle) == cudaErrorInvalidResourceHandle);
static_assert(static_cast<int>(kIllegalAddress) == cudaErrorIllegalAddress);
static_assert(static_cast<int>(kLaunchOutOfResources) == cudaErrorLaunchOutOfResources);
static_assert(static_cast<int>(kCaptureUnsupported) == cudaErrorStreamCaptureUnsupported);

int runtime_version(int* version) { return cudaRuntimeGetVersion(version); }
int driver_version(int* version) { return cudaDriverGetVersion(version); }
int device_count(int* count) { return cudaGetDeviceCount(count); }
int get_device(int* device) { return cudaGetDevice(device); }
int set_device(int device) { return cudaSetDevice(device); }

int properties(int device, Properties* properties) {
  cudaDeviceProp all;
  const cudaError_t code = cudaGetDeviceProperties(&all, device);
  if (code != cudaSuccess) return code;
  properties->name = all.name;
  properties->arch = 10 * all.major + all.minor;
  properties->multiprocessors = all.multiProcessorCount;
  properties->shared_bytes = all.sharedMemPerBlockOptin;
  properties->memory_bytes = all.totalGlobalMem;
  return kSuccess;
}

int memory_of(const void* pointer, Memory* memory) {
  cudaPointerAttributes attributes;
  const cudaError_t code = cudaPointerGetAttributes(&attributes, pointer);
  if (code != cudaSuccess) return code;
  switch (attributes.type) {
    case cudaMemoryTypeHost:
      memory->kind = MemoryKind::kHost;
      break;
    case cudaMemoryTypeDevice:
      memory->kind = MemoryKind::kDevice;
      break;
    case cudaMemoryTypeManaged:
      memory->kind = MemoryKind::kManaged;
      break;
    default:
      memory->kind = MemoryKind::kUnregistered;
  }
  memory->device = attributes.device;
  return kSuccess;
}

int exchange_capture_mode(int* mode) {
  static_assert(kCaptureAllowsAll == cudaStreamCaptureModeRelaxed);
  auto exchanged = static_cast<cudaStreamCaptureMode>(*mode);
  const cudaError_t code = cudaThreadExchangeStreamCaptureMode(&exchanged);
  *mode = exchanged;
  return code;
}

namespace {

// A pool that keeps what calls give back: the default one returns it to the driver whenever
// somebody waits for the device, and the next call would map it anew.
cudaMemPool_t make_pool(int device) {
  std::uint64_t kept = std::uint64_t{1} << 30;
  cudaMemPoolProps properties = {};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  int mode = kCaptureAllowsAll;  // a stream may be captured as the first call is made
  exchange_capture_mode(&mode);
  if (cudaMemPoolCreate(&pool, &properties) != cudaSuccess) {
    pool = nullptr;
    static_cast<void>(cudaGetLastError());
  }
  if (pool != nullptr) {
    static_cast<void>(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept));
  }
  exchange_capture_mode(&mode);
  return pool;
}

// Of the current device, never destroyed; null: the default one has to do.
cudaMemPool_t workspace_pool() {
  static std::mutex mutex;
  static auto* const pools = new std::map<int, cudaMemPool_t>;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [place, is_new] = pools->try_emplace(device, nullptr);
  if (is_new) place->second = make_pool(device);
  return place->second;
}

}  // namespace

int allocate(void** memory, std::size_t bytes, void* stream) {
  const cudaMemPool_t pool = workspace_pool();
  const auto order = static_cast<cudaStream_t>(stream);
  return pool != nullptr ? cudaMallocFromPoolAsync(memory, bytes, pool, order)
                         : cudaMallocAsync(memory, bytes, order);
}
int release(void* memory, void* stream) {
  return cudaFreeAsync(memory, static_cast<cudaStream_t>(stream));
}
int fill_zero(void* memory, std::size_t bytes, void* stream) {
  return cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream));
}

namespace {

// The driver is not linked.
struct EncodeTiled {
  EncodeTiled() {
    constexpr unsigned kSince = 12000;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    void* entry = nullptr;
    code = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kSince,
                                            cudaEnableDefault, &found);
    if (code == cudaSuccess && found != cudaDriverEntryPointSuccess) code = kDriverTooOld;
    encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }
  int code = kSuccess;
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
};

}  // namespace

// The driver's errors are told apart no further: what it refuses is a mistake of this library's.
// Whole lines of 128 bytes come into the second-level cache, and no neighbours that were dropped.
int encode_tensor_map(const BoxCopies& copies, void* map) {
  static const EncodeTiled driver;
  if (driver.code != kSuccess) return driver.code;
  constexpr CUtensorMapDataType kElements[] = {CU_TENSOR_MAP_DATA_TYPE_UINT16,
                                               CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
                                               CU_TENSOR_MAP_DATA_TYPE_TFLOAT32};
  const cuuint64_t extents[] = {copies.contiguous, copies.rows};
  const cuuint64_t strides[] = {copies.row_bytes};
  const cuuint32_t box[] = {copies.box_contiguous, copies.box_rows};
  const cuuint32_t steps[] = {1, 1};
  const CUresult result = driver.encode(
      static_cast<CUtensorMap*>(map), kElements[static_cast<int>(copies.element)], 2,
      const_cast<void*>(copies.data), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      copies.swizzle_bytes == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? kSuccess : kInvalidValue;
}

int last_error() { return cudaGetLastError(); }
const char* error_name(int code) { return cudaGetErrorName(static_cast<cudaError_t>(code)); }
const char* error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

}  // namespace dropgemm::cuda::api
