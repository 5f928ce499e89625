// The grow-only buffer behind calls that bring no workspace.
#include "cpu/workspace.h"

#include <cstdlib>

namespace dropgemm::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Buffer {
  Memory memory;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(memory.data); }
};

}  // namespace

Memory thread_workspace(std::size_t bytes) {
  static thread_local Buffer buffer;
  Memory& memory = buffer.memory;
  if (bytes > memory.bytes) {
    const std::size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    std::free(memory.data);
    memory.data = std::aligned_alloc(kHugePage, rounded);
    memory.bytes = memory.data != nullptr ? rounded : 0;
  }
  return memory;
}

}  // namespace dropgemm::cpu
