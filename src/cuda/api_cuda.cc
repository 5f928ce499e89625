// api.h over CUDA's runtime.
#include <cuda_runtime_api.h>

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

int allocate(void** memory, std::size_t bytes, void* stream) {
  return cudaMallocAsync(memory, bytes, static_cast<cudaStream_t>(stream));
}
int release(void* memory, void* stream) {
  return cudaFreeAsync(memory, static_cast<cudaStream_t>(stream));
}
int fill_zero(void* memory, std::size_t bytes, void* stream) {
  return cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream));
}

int last_error() { return cudaGetLastError(); }
const char* error_name(int code) { return cudaGetErrorName(static_cast<cudaError_t>(code)); }
const char* error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

}  // namespace dropgemm::cuda::api
