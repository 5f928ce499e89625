// What benchmarks of the CUDA backend work with: device memory, time by events, graphs, cuBLAS.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

#include "dropgemm/gemm.h"
#include "dropgemm/status.h"

namespace dropgemm::bench {

Status cuda_status(const char* what, cudaError_t code);

// Device memory with a copy of host memory in it, or with zeros.
class DeviceArray {
 public:
  DeviceArray() = default;
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  Status allocate(std::size_t bytes, const void* host = nullptr);
  // With the `given` bytes at `host` again and again, at least one whole.
  Status repeat(std::size_t bytes, const void* host, std::size_t given);
  [[nodiscard]] void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

// Runs calls on a stream of its own and says how long the device took. The host is kept ahead: what
// precedes a call on the stream takes longer than launching it does.
class Stopwatch {
 public:
  Stopwatch() = default;
  ~Stopwatch();
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  // cold: the second-level cache is overwritten before each call. graph: the call is captured once
  // and replayed.
  Status start(bool cold, bool graph, std::function<Status()> call);
  Status time(double* seconds);
  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  Status open();  // the stream, before start()

 private:
  Status capture();

  cudaStream_t stream_ = nullptr;
  cudaEvent_t before_ = nullptr, after_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  bool cold_ = true;
  std::function<Status()> call_;
  DeviceArray flush_;
  std::size_t flush_bytes_ = 0;
};

// The dense product of cuBLAS, whose library is opened at run time.
class Cublas {
 public:
  ~Cublas();
  Status open(cudaStream_t stream);
  // Row-major operands of one dtype, sums of float32; no mask and no epilogue.
  Status gemm(const GemmArgs& args);

 private:
  void* library_ = nullptr;
  void* handle_ = nullptr;
};

}  // namespace dropgemm::bench
