#include "every_backend.h"

#include <cstring>

#include "cuda/backend.h"
#include "cuda/emulator_api.h"
#include "staged.h"

#if defined(DROPGEMM_TEST_CUDA)
#include "device_cuda.h"
#endif

namespace dropgemm {
namespace {

struct EmulatedDevice {
  // Memory of the host is not the device's while a call lasts.
  struct Scope {
    Scope() { cuda::emulator::set_host_memory_refused(true); }
    ~Scope() { cuda::emulator::set_host_memory_refused(false); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };
  static void* allocate(std::size_t bytes) { return cuda::emulator::device_malloc(0, bytes); }
  static void release(void* memory) { cuda::emulator::device_free(memory); }
  static void to_device(void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
  }
  static void to_host(void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
  }
  static Status synchronize() { return {}; }
  static const Backend* backend() { return cuda::backend(); }
};

bool has_gpu() {
#if defined(DROPGEMM_TEST_CUDA)
  return testing::CudaDevice::backend() != nullptr;
#else
  return false;
#endif
}

}  // namespace

std::vector<std::string> cuda_backends() {
  std::vector<std::string> names = {kEmulated};
  if (has_gpu()) names.emplace_back(kCuda);
  return names;
}

std::vector<std::string> every_backend() {
  std::vector<std::string> names = cuda_backends();
  names.insert(names.begin(), {"reference", "cpu"});
  return names;
}

Status find_tested(const std::string& name, const Backend** backend) {
  if (name == kEmulated) {
    *backend = testing::StagedBackend<EmulatedDevice>::table();
    return {};
  }
#if defined(DROPGEMM_TEST_CUDA)
  if (name == kCuda && has_gpu()) {
    *backend = testing::StagedBackend<testing::CudaDevice>::table();
    return {};
  }
#endif
  return find_backend(name, backend);
}

}  // namespace dropgemm
