// How operands cross from Python: as an array (DLPack or buffer protocol, no copy), or as a tuple
// of an address and its layout, which costs a tenth of that and is what the framework layers pass.
// Every function here throws TypeError for an object of the wrong kind and ValueError for a wrong
// rank, saying operand, expected, got; shapes are checked by the core.
#pragma once

#include <cstdint>
#include <optional>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "dropgemm/mask.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm::python {

namespace nb = nanobind;

enum class Access { kRead, kWrite };

// Holds what keeps an array's memory alive; empty for a tuple, whose maker vouches for it.
using Owner = nb::ndarray<nb::ro>;

// array [rows, cols] | (address, dtype code, rows, cols, row stride, col stride)
struct Matrix {
  Owner owner;
  MatrixView view;
};
[[nodiscard]] Matrix to_matrix(const char* name, nb::handle object, Access access);

// array [size] | (address, dtype code, size, stride)
struct Vector {
  Owner owner;
  void* data = nullptr;
  std::int64_t size = 0;
  std::int64_t stride = 1;
  DType dtype = DType::kFloat32;
};
[[nodiscard]] Vector to_vector(const char* name, nb::handle object, Access access);

// float32 array [] | address; null for None.
struct FloatScalar {
  Owner owner;
  float* data = nullptr;
};
[[nodiscard]] FloatScalar to_float_scalar(const char* name, nb::handle object, Access access);

// int | int64 array []; a tuple (address,) names an int64 in memory.
struct Step {
  Owner owner;
  StepRef ref;
};
[[nodiscard]] Step to_step(const char* name, nb::handle object);

// int; a tuple (address,) names a uint64 in memory.
struct Seed {
  std::uint64_t value = 0;
  const std::uint64_t* device = nullptr;
};
[[nodiscard]] Seed to_seed(const char* name, nb::handle object);

// uint64 or int64 array [size], contiguous | (address, size); null for None.
struct Thresholds {
  Owner owner;
  const std::uint64_t* data = nullptr;
  std::int64_t size = 0;
};
[[nodiscard]] Thresholds to_thresholds(const char* name, nb::handle object);

// (bits, rows, cols, tile rows, tile cols, keep hint, transposed), where bits is an address or a
// contiguous array of uint32 or int32 with at least mask_words() elements. No value for None.
struct Mask {
  Owner owner;
  TileMaskView view;
};
[[nodiscard]] std::optional<Mask> to_mask(const char* name, nb::handle object);

// The words of a mask to be filled: an address or an array as in to_mask, writable.
struct MaskWords {
  Owner owner;
  std::uint32_t* data = nullptr;
};
[[nodiscard]] MaskWords to_mask_words(const char* name, nb::handle object, Access access,
                                      std::int64_t words);

// A whole mask to be filled, of sizes that make sense.
struct MaskTarget {
  MaskWords words;
  MutableTileMaskView view;
};
[[nodiscard]] MaskTarget to_mask_target(nb::handle bits, std::int64_t rows, std::int64_t cols,
                                        std::int64_t tile_rows, std::int64_t tile_cols);

// An address, or a contiguous, writable array of `size` elements of one byte.
struct Bytes {
  Owner owner;
  std::uint8_t* data = nullptr;
};
[[nodiscard]] Bytes to_bytes(const char* name, nb::handle object, std::int64_t size);

// None: the backend in use. An int is the handle of a stream, 0 the default one: the cuda backend.
[[nodiscard]] Context to_context(nb::handle stream);

// ValueError, TypeError or RuntimeError with the status's own text.
void raise_if_error(const Status& status);

}  // namespace dropgemm::python
