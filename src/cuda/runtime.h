// Devices, memory and errors, in this library's words. Host code asks here, never CUDA itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "dropgemm/context.h"
#include "dropgemm/status.h"

namespace dropgemm::cuda {

constexpr std::int32_t kLeastArch = 80;  // Ampere

struct Device {
  std::int32_t index = 0;
  std::int32_t arch = 0;  // 90 for compute capability 9.0
  std::int32_t multiprocessors = 1;
  std::size_t shared_bytes = 0;  // the most that a block may ask for
  std::size_t memory_bytes = 0;
  std::string name;
};

// One of a call's arrays; null ones are absent.
struct Operand {
  const char* name;
  const void* data;
};

// The machine's devices, and whether it can run anything at all.
// Errors: kUnsupported, which says what is missing: a driver, a newer one, a device, a newer one.
Status read_machine(std::vector<Device>* devices);

// The same, read once in the life of the process.
Status check_machine();

// 0 on a machine that can run nothing.
[[nodiscard]] std::int32_t device_count();

// What is known of a device.
// Errors: kUnsupported for a device older than kLeastArch.
Status find_device(std::int32_t index, const Device** device);

// The device that all operands lie on, which need not be the current one.
// Errors: kInvalidArgument for memory that is not a device's, or another device's than the first's;
// kBackendError where an earlier kernel has left the context unusable.
Status find_device_of(std::initializer_list<Operand> operands, const Device** device);

// Makes a device the current one until the end of the scope.
class OnDevice {
 public:
  OnDevice() = default;
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  Status enter(const Device& device);

 private:
  std::int32_t previous_ = -1;  // -1: nothing to restore
};

// Scratch memory of a call: what the context brings, or memory that is allocated and freed in
// stream order, which a CUDA graph captures along with the kernels.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  // Of the current device. Errors: kInvalidArgument for a context that brings too little,
  // kBackendError where the device has no memory left.
  Status take(const Context& ctx, std::size_t bytes);
  [[nodiscard]] char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  void* stream_ = nullptr;
  bool owned_ = false;
};

// Zeros on a stream of the current device.
Status fill_zero(void* memory, std::size_t bytes, void* stream);

// The Status of a cudaError_t of a call of the runtime, or of a kernel's launch.
Status check(const char* what, int code);
Status check_launch(const char* kernel, int code);

// Blocks of a fixed grid: enough for `items` at `items_per_block`, at most what keeps the device
// busy; a kernel strides over the rest.
[[nodiscard]] std::int32_t grid_of(const Device& device, std::int64_t items,
                                   std::int64_t items_per_block);

}  // namespace dropgemm::cuda
