// What one instruction set gives the engine: a microkernel, packing, and the epilogue, for both
// dtypes, as a table of plain functions over plain structs. Implementations come from the one
// template in kernel_impl.h, compiled once per ISA; such files must emit no weak symbols (a
// linker could keep their copy for everyone), so this header uses nothing of the standard
// library but fixed-width integers.
#pragma once

#include <cstdint>

namespace dropgemm::cpu {

// Elements up to this far apart are loaded and stored by whole vectors.
constexpr std::int32_t kMaxStep = 8;

// A run of packed depth: [begin, begin + length).
struct Segment {
  std::int32_t begin;
  std::int32_t length;
};

// Gathers `count` positions of an operand's panel axis (rows of op(A), columns of op(B)) into
// panels of P (mr or nr) lanes: panel q, depth k, lane i at
// out[q * panel_stride + (k - depth_origin) * P + i].
// Lanes past `count` hold unspecified finite-or-not values that no output uses.
template <class T>
struct PackArgs {
  const T* source;
  std::int64_t lane_stride;        // elements between neighbours along the panel axis
  std::int64_t depth_stride;       // elements between neighbours along K
  const std::int32_t* lane_index;  // packed position -> source position, ascending; null: itself
  std::int64_t lane_begin;         // first packed position
  std::int64_t count;
  const std::int32_t* depth_index;  // as lane_index, along K
  const Segment* segments;          // the depth that is needed, in packed positions
  std::int32_t num_segments;
  std::int64_t depth_origin;  // the packed depth that lies first in a panel
  T* out;                     // panel 0
  std::int64_t panel_stride;
};

template <class T>
struct Plane {  // a strided [M, N] array of the epilogue, or null
  T* data;
  std::int64_t row_stride;
  std::int64_t col_stride;
};

// D = out_scale * act(scale * acc + addend + bias) * act'(grad_aux), gemm.h. Activation codes
// are those of gemm.h's enum.
template <class T>
struct Epilogue {
  Plane<T> d;
  Plane<T> aux_out;
  Plane<const T> addend;
  Plane<const T> grad_aux;
  const T* bias;
  std::int64_t bias_stride;
  T scale;
  T out_scale;
  std::int32_t activation;
  std::int32_t grad_activation;
  // Where above 1: columns of D and aux_out lie this far apart, and what lies between them is to be
  // 0; so many of those zeros precede a column in its period.
  std::int32_t step;
  std::int32_t before;
  bool stream_zeros;   // D is so large that its zeros go around the cache,
  bool stream;         // or all of it
  bool empty_is_zero;  // the epilogue of a sum of nothing is 0
};

// One mr x nr tile on its way to D.
template <class T>
struct TileStore {
  const T* acc;                   // [mr][nr]
  const std::int32_t* row_index;  // packed -> D's row, null: itself
  const std::int32_t* col_index;
  std::int64_t row_begin;  // packed
  std::int64_t col_begin;
  std::int32_t rows;
  std::int32_t cols;
  std::int32_t span;          // where step > 1: elements of a row, columns and zeros, that are its
  const std::uint32_t* keep;  // bit j of word i: element (i, j) is kept; null: all are
  bool add_partial;           // D holds the sum over earlier depth
  bool is_final;              // false: only store the sum so far
};

template <class T>
struct KernelTable {
  std::int32_t mr;
  std::int32_t nr;  // at most 32
  // acc[mr][nr] = sum over the segments of a[k][mr] x b[k][nr], both packed.
  void (*multiply)(const Segment* segments, std::int32_t count, const T* a, const T* b, T* acc);
  void (*pack_a)(const PackArgs<T>& args);  // P = mr
  void (*pack_b)(const PackArgs<T>& args);  // P = nr
  void (*store)(const Epilogue<T>& epilogue, const TileStore<T>& tile);
  // count zeros, around the cache where the ISA can and the memory is in whole lines.
  void (*stream_zeros)(T* out, std::int64_t count);
  // sums[i] += lines[i], lines[line_stride + i], ... of `count` lines, i in [0, width).
  void (*add_lines)(const T* lines, std::int64_t line_stride, std::int64_t count,
                    std::int64_t width, double* sums);
  // Zeroes lane i of depth k of a panel where bit k of words[i] is 0, k in [0, depth <= 32).
  void (*select_a)(T* panel, const std::uint32_t* words, std::int32_t depth);
  void (*select_b)(T* panel, const std::uint32_t* words, std::int32_t depth);
};

struct Isa {
  const char* name;
  KernelTable<float> f32;
  KernelTable<double> f64;
};

}  // namespace dropgemm::cpu
