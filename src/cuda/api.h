// Internal: the few calls of CUDA's runtime that host code makes. api_cuda.cc passes them on, the
// emulator answers them (emulator_api.cc), and runtime.cc makes sense of the answers for both.
// All return a cudaError_t as int.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace dropgemm::cuda::api {

// Those of cudaError_t that are told apart.
enum Code : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kDriverTooOld = 35,  // also where there is none
  kNoDevice = 100,
  kEccError = 214,
  kNoKernelImage = 209,
  kPtxTooNew = 222,
  kInvalidHandle = 400,
  kIllegalAddress = 700,
  kFirstBroken = 700,  // from here the device's context is lost, except for those of
  kLaunchOutOfResources = 701,
  kLastBroken = 721,
  kCaptureUnsupported = 900,
  kLastCapture = 908,
};

enum class MemoryKind : std::int32_t { kUnregistered = 0, kHost = 1, kDevice = 2, kManaged = 3 };

struct Memory {
  MemoryKind kind = MemoryKind::kUnregistered;
  std::int32_t device = 0;
};

struct Properties {
  std::string name;
  std::int32_t arch = 0;  // 10 * major + minor of the compute capability
  std::int32_t multiprocessors = 0;
  std::size_t shared_bytes = 0;  // the most that a block may ask for
  std::size_t memory_bytes = 0;
};

// Boxes of an array of rows, copied to and from swizzled shared memory (tma.h).
enum class BoxElement : std::int32_t { kWord16 = 0, kFloat32 = 1, kTf32 = 2 };

struct BoxCopies {
  const void* data = nullptr;
  BoxElement element = BoxElement::kWord16;
  std::uint64_t contiguous = 0, rows = 0;  // extents, in elements
  std::uint64_t row_bytes = 0;
  std::uint32_t box_contiguous = 0, box_rows = 0;
  std::uint32_t swizzle_bytes = 0;  // 64 or 128
};

int runtime_version(int* version);  // 13000 for 13.0
int driver_version(int* version);   // 0 where there is no driver
int device_count(int* count);
int properties(int device, Properties* properties);
int get_device(int* device);
int set_device(int device);
int memory_of(const void* pointer, Memory* memory);
// On a stream of the current device.
int allocate(void** memory, std::size_t bytes, void* stream);
int release(void* memory, void* stream);
int fill_zero(void* memory, std::size_t bytes, void* stream);
// Writes a CUtensorMap, 128 bytes. The driver's own, found at run time.
int encode_tensor_map(const BoxCopies& copies, void* map);
// What a thread may do while it captures a stream, exchanged with what it might before.
constexpr int kCaptureAllowsAll = 2;  // cudaStreamCaptureModeRelaxed
int exchange_capture_mode(int* mode);
// Forgets an error that was no fault of the context, and says what it was.
int last_error();
const char* error_name(int code);
const char* error_text(int code);

}  // namespace dropgemm::cuda::api
