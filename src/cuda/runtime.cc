// What answers of CUDA's runtime mean, and the sentences for those that are failures.
#include "cuda/runtime.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

#include "cuda/api.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int64_t kBlocksPerMultiprocessor = 8;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string code_text(int code) {
  return std::string(api::error_name(code)) + " (" + api::error_text(code) + ")";
}

bool breaks_context(int code) {
  if (code == api::kEccError) return true;
  return code >= api::kFirstBroken && code <= api::kLastBroken &&
         code != api::kLaunchOutOfResources;
}

Status check_driver() {
  int driver = 0, runtime = 0;
  if (api::driver_version(&driver) != api::kSuccess || driver == 0) {
    return {StatusCode::kUnsupported, "no NVIDIA driver is installed"};
  }
  DROPGEMM_RETURN_IF_ERROR(check("cudaRuntimeGetVersion", api::runtime_version(&runtime)));
  // Minor versions of a major one are compatible both ways.
  if (driver / 1000 < runtime / 1000) {
    return {StatusCode::kUnsupported, "the NVIDIA driver is too old: expected one for CUDA " +
                                          version_text(runtime / 1000 * 1000) +
                                          " or newer, got one for CUDA " + version_text(driver)};
  }
  return {};
}

Status read_device(std::int32_t index, Device* device) {
  api::Properties properties;
  DROPGEMM_RETURN_IF_ERROR(check("cudaGetDeviceProperties", api::properties(index, &properties)));
  *device = {index,
             properties.arch,
             std::max(properties.multiprocessors, 1),
             properties.shared_bytes,
             properties.memory_bytes,
             properties.name};
  return {};
}

Status check_arch(const Device& device) {
  if (device.arch >= kLeastArch) return {};
  const auto text = [](std::int32_t arch) {
    return std::to_string(arch / 10) + "." + std::to_string(arch % 10);
  };
  return {StatusCode::kUnsupported, "device " + std::to_string(device.index) + " (" + device.name +
                                        "): expected compute capability " + text(kLeastArch) +
                                        " or newer, got " + text(device.arch)};
}

struct Machine {
  Machine() : status(read_machine(&devices)) {}
  std::vector<Device> devices;
  Status status;
};

// Never freed: calls may come while the process ends.
const Machine& machine() {
  static const Machine* const read_once = new Machine;
  return *read_once;
}

std::string place_of(const api::Memory& memory) {
  switch (memory.kind) {
    case api::MemoryKind::kDevice:
    case api::MemoryKind::kManaged:
      return "memory of device " + std::to_string(memory.device);
    case api::MemoryKind::kHost:
      return "pinned memory of the host";
    case api::MemoryKind::kUnregistered:
      break;
  }
  return "memory of the host";
}

bool is_device(const api::Memory& memory) {
  return memory.kind == api::MemoryKind::kDevice || memory.kind == api::MemoryKind::kManaged;
}

}  // namespace

Status check(const char* what, int code) {
  if (code == api::kSuccess) return {};
  const std::string text = code_text(code);
  if (breaks_context(code)) {
    return {StatusCode::kBackendError,
            "an earlier kernel of this process failed, " + text +
                ", and left its CUDA context unusable: what reported it was " + what};
  }
  if (code == api::kOutOfMemory) {
    return {StatusCode::kBackendError,
            std::string(what) + ": the device is out of memory, " + text};
  }
  if (code == api::kNoKernelImage || code == api::kPtxTooNew) {
    return {StatusCode::kUnsupported,
            std::string(what) + ": this build has no code for the device, " + text};
  }
  if (code == api::kInvalidHandle) {
    return Status::invalid("ctx.stream", "a stream of the device that the operands lie on", text);
  }
  if (code >= api::kCaptureUnsupported && code <= api::kLastCapture) {
    return {StatusCode::kBackendError,
            std::string(what) + ": not possible while a CUDA graph is captured, " + text};
  }
  return {StatusCode::kBackendError, std::string(what) + ": " + text};
}

Status check_launch(const char* kernel, int code) {
  if (code == api::kSuccess) return {};
  return check((std::string("kernel ") + kernel).c_str(), code);
}

Status read_machine(std::vector<Device>* devices) {
  DROPGEMM_RETURN_IF_ERROR(check_driver());
  int count = 0;
  const int code = api::device_count(&count);
  if (code == api::kNoDevice || (code == api::kSuccess && count == 0)) {
    return {StatusCode::kUnsupported, "no CUDA device is visible (is CUDA_VISIBLE_DEVICES empty?)"};
  }
  DROPGEMM_RETURN_IF_ERROR(check("cudaGetDeviceCount", code));
  Status last;
  bool any = false;
  for (int index = 0; index < count; ++index) {
    devices->emplace_back();
    DROPGEMM_RETURN_IF_ERROR(read_device(index, &devices->back()));
    last = check_arch(devices->back());
    any = any || last.ok();
  }
  return any ? Status() : last;
}

Status check_machine() { return machine().status; }

std::int32_t device_count() { return static_cast<std::int32_t>(machine().devices.size()); }

Status find_device(std::int32_t index, const Device** device) {
  const Machine& here = machine();
  DROPGEMM_RETURN_IF_ERROR(here.status);
  if (index < 0 || index >= static_cast<std::int32_t>(here.devices.size())) {
    return Status::invalid("device",
                           "one of the " + std::to_string(here.devices.size()) + " there are",
                           std::to_string(index));
  }
  *device = &here.devices[static_cast<std::size_t>(index)];
  return check_arch(**device);
}

Status find_device_of(std::initializer_list<Operand> operands, const Device** device) {
  const char* first = nullptr;
  std::int32_t index = -1;
  for (const Operand& operand : operands) {
    if (operand.data == nullptr) continue;
    api::Memory memory;
    DROPGEMM_RETURN_IF_ERROR(
        check("cudaPointerGetAttributes", api::memory_of(operand.data, &memory)));
    if (!is_device(memory)) {
      return Status::invalid(operand.name, "memory of a CUDA device", place_of(memory));
    }
    if (first != nullptr && memory.device != index) {
      return Status::invalid(operand.name,
                             "memory of device " + std::to_string(index) + " as " + first + " has",
                             place_of(memory));
    }
    if (first == nullptr) first = operand.name;
    index = memory.device;
  }
  if (first == nullptr) DROPGEMM_RETURN_IF_ERROR(check("cudaGetDevice", api::get_device(&index)));
  return find_device(index, device);
}

OnDevice::~OnDevice() {
  if (previous_ >= 0) static_cast<void>(api::set_device(previous_));
}

Status OnDevice::enter(const Device& device) {
  std::int32_t current = -1;
  DROPGEMM_RETURN_IF_ERROR(check("cudaGetDevice", api::get_device(&current)));
  // What somebody else's call has left behind is not to be taken for ours.
  static_cast<void>(api::last_error());
  if (current == device.index) return {};
  DROPGEMM_RETURN_IF_ERROR(check("cudaSetDevice", api::set_device(device.index)));
  previous_ = current;
  return {};
}

Workspace::~Workspace() {
  if (owned_) static_cast<void>(api::release(data_, stream_));
}

Status Workspace::take(const Context& ctx, std::size_t bytes) {
  if (ctx.workspace != nullptr) {
    if (ctx.workspace_bytes < bytes) {
      return Status::invalid("ctx.workspace", std::to_string(bytes) + " bytes",
                             std::to_string(ctx.workspace_bytes));
    }
    data_ = static_cast<char*>(ctx.workspace);
    return {};
  }
  if (bytes == 0) return {};
  void* memory = nullptr;
  const std::string what = "a workspace of " + std::to_string(bytes) + " bytes";
  DROPGEMM_RETURN_IF_ERROR(check(what.c_str(), api::allocate(&memory, bytes, ctx.stream)));
  data_ = static_cast<char*>(memory);
  stream_ = ctx.stream;
  owned_ = true;
  return {};
}

Status fill_zero(void* memory, std::size_t bytes, void* stream) {
  if (bytes == 0) return {};
  return check("cudaMemsetAsync", api::fill_zero(memory, bytes, stream));
}

std::int32_t grid_of(const Device& device, std::int64_t items, std::int64_t items_per_block) {
  const std::int64_t wanted = (items + items_per_block - 1) / items_per_block;
  const std::int64_t most = kBlocksPerMultiprocessor * device.multiprocessors;
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(wanted, 1, most));
}

}  // namespace dropgemm::cuda
