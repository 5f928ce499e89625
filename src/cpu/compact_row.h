// Gathering and scattering neighbouring elements by the bits over them, 32 a word, lowest first;
// bits past the last element are 0.
#pragma once

#include <cstdint>

namespace dropgemm::cpu {

// `room` elements of xc are memory of the row, no fewer than there are bits set.
template <class T>
struct RowKernels {
  // Copies those of x[0, cols) whose bit is set to the front of xc; returns how many. Anything may
  // lie in the rest of the room then.
  std::int64_t (*gather)(const std::uint32_t* bits, std::int64_t cols, const T* x, T* xc,
                         std::int64_t room);
  // Writes x[0, cols): the next element of xc where a bit is set, else 0; returns how many it took.
  std::int64_t (*scatter)(const std::uint32_t* bits, std::int64_t cols, const T* xc,
                          std::int64_t room, T* x);
};

// Of the instruction set that the products use.
template <class T>
[[nodiscard]] RowKernels<T> row_kernels();

}  // namespace dropgemm::cpu
