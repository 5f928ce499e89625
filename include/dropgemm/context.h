// Where and how a call runs: backend, stream, threads, and the workspace it may use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dropgemm {

struct Backend;  // backend.h

struct Context {
  const Backend* backend = nullptr;  // null: current_backend()
  void* stream = nullptr;            // the caller's stream (CUDA); CPU backends ignore it
  std::int32_t num_threads = 0;      // at most; 0: what the threading runtime offers
  // Scratch memory, at least as many bytes as *_workspace_bytes() says of this context and these
  // arguments (less is an error), 64-byte aligned. Null: the call uses this thread's own grow-only
  // buffer, freed when the thread ends.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

}  // namespace dropgemm
