// The grow-only buffer behind calls that bring no workspace.
#include "cpu/workspace.h"

#include <cstdlib>

namespace dropgemm::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Buffer {
  void* data = nullptr;
  std::size_t bytes = 0;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data); }
};

}  // namespace

void* thread_workspace(std::size_t bytes) {
  static thread_local Buffer buffer;
  if (bytes > buffer.bytes || buffer.data == nullptr) {
    const std::size_t rounded = (bytes / kHugePage + 1) * kHugePage;
    std::free(buffer.data);
    buffer.data = std::aligned_alloc(kHugePage, rounded);
    buffer.bytes = buffer.data != nullptr ? rounded : 0;
  }
  return buffer.data;
}

}  // namespace dropgemm::cpu
