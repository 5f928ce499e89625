// api.h without a GPU: memory is the program's own, errors come when a test asks for them.
#include "cuda/emulator_api.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "cuda/api.h"
#include "cuda/emulator.h"

namespace dropgemm::cuda {
namespace emulator {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr int kPoison = 0xFF;
constexpr int kRuntime = 13000;

struct Allocation {
  std::size_t bytes;
  std::int32_t device;
};

std::mutex mutex;
std::map<const char*, Allocation> allocations;
bool host_memory_refused = false;

int take_error() {
  const int error = machine().error;
  if (error < api::kFirstBroken) machine().error = api::kSuccess;
  return error;
}

}  // namespace

Machine& machine() {
  static Machine all = [] {
    Machine made;
    const char* const arch = std::getenv("DROPGEMM_EMULATED_ARCH");
    if (arch != nullptr) {
      made.archs.assign(made.archs.size(),
                        static_cast<std::int32_t>(std::strtol(arch, nullptr, 10)));
    }
    return made;
  }();
  return all;
}

void* device_malloc(std::int32_t device, std::size_t bytes) {
  const std::size_t rounded = (bytes / kAlignment + 1) * kAlignment;
  void* const memory = std::aligned_alloc(kAlignment, rounded);
  if (memory == nullptr) return nullptr;
  std::memset(memory, kPoison, rounded);
  const std::lock_guard<std::mutex> lock(mutex);
  allocations[static_cast<const char*>(memory)] = {rounded, device};
  return memory;
}

void device_free(void* memory) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    allocations.erase(static_cast<const char*>(memory));
  }
  std::free(memory);
}

void set_host_memory_refused(bool refused) { host_memory_refused = refused; }

int take_launch_error() { return take_error(); }

}  // namespace emulator

namespace api {

using emulator::machine;

int runtime_version(int* version) {
  *version = emulator::kRuntime;
  return kSuccess;
}

int driver_version(int* version) {
  *version = machine().driver;
  return kSuccess;
}

int device_count(int* count) {
  *count = static_cast<int>(machine().archs.size());
  return *count > 0 ? kSuccess : kNoDevice;
}

int properties(int device, Properties* properties) {
  properties->name = "emulated";
  properties->arch = machine().archs[static_cast<std::size_t>(device)];
  properties->multiprocessors = 4;
  properties->shared_bytes = std::size_t{163} << 10;
  properties->memory_bytes = machine().free_bytes;
  return kSuccess;
}

int get_device(int* device) {
  *device = machine().current;
  return kSuccess;
}

int set_device(int device) {
  machine().current = device;
  return kSuccess;
}

int memory_of(const void* pointer, Memory* memory) {
  if (machine().error >= kFirstBroken) return machine().error;
  const char* const address = static_cast<const char*>(pointer);
  const std::lock_guard<std::mutex> lock(emulator::mutex);
  auto after = emulator::allocations.upper_bound(address);
  if (after != emulator::allocations.begin()) {
    const auto& [begin, allocation] = *--after;
    if (address < begin + allocation.bytes) {
      *memory = {MemoryKind::kDevice, allocation.device};
      return kSuccess;
    }
  }
  if (!emulator::host_memory_refused) *memory = {MemoryKind::kDevice, 0};
  return kSuccess;
}

int allocate(void** memory, std::size_t bytes, void* /*stream*/) {
  const int error = emulator::take_error();
  if (error != kSuccess) return error;
  if (bytes > machine().free_bytes) return kOutOfMemory;
  *memory = emulator::device_malloc(machine().current, bytes);
  return *memory != nullptr ? kSuccess : kOutOfMemory;
}

int exchange_capture_mode(int* /*mode*/) { return kSuccess; }

int release(void* memory, void* /*stream*/) {
  emulator::device_free(memory);
  return kSuccess;
}

int fill_zero(void* memory, std::size_t bytes, void* /*stream*/) {
  std::memset(memory, 0, bytes);
  return emulator::take_error();
}

int encode_tensor_map(const BoxCopies& copies, void* map) {
  static_assert(sizeof copies <= 128);
  std::memcpy(map, &copies, sizeof copies);
  return kSuccess;
}

int last_error() {
  return emulator::machine().error >= kFirstBroken ? emulator::machine().error : kSuccess;
}
const char* error_name(int code) {
  switch (code) {
    case kOutOfMemory:
      return "cudaErrorMemoryAllocation";
    case kInvalidHandle:
      return "cudaErrorInvalidResourceHandle";
    case kIllegalAddress:
      return "cudaErrorIllegalAddress";
    default:
      return "cudaError";
  }
}
const char* error_text(int /*code*/) { return "emulated"; }

}  // namespace api
}  // namespace dropgemm::cuda
