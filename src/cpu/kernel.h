// What one instruction set gives the engine: a microkernel, packing, and the epilogue, for each
// format of numbers, as a table of plain functions over plain structs. Implementations come from
// the one template in kernel_impl.h, compiled once per ISA; such files must emit no weak symbols (a
// linker could keep their copy for everyone), so this header uses nothing of the standard
// library but fixed-width integers.
#pragma once

#include <cstdint>

#include "dropgemm/bfloat16.h"

namespace dropgemm::cpu {

// ---- formats ------------------------------------------------------------------------------------

// Two depths of one lane side by side, the first in the lower half: what instructions that multiply
// bfloat16 take.
struct BFloat16Pair {
  std::uint32_t bits;
};

// What numbers stored as S are summed and finished in.
template <class S>
struct SumOf {
  typedef S Type;
};
template <>
struct SumOf<BFloat16> {
  typedef float Type;
};

// How many depths a word of a panel holds.
template <class P>
constexpr int kDepthsOf = 1;
template <>
inline constexpr int kDepthsOf<BFloat16Pair> = 2;

template <class A, class B>
constexpr bool kSame = false;
template <class A>
inline constexpr bool kSame<A, A> = true;

// How the numbers of a product lie: S in operands and results, words of P in panels.
template <class S, class P>
struct Format {
  typedef S Storage;
  typedef P Packed;
  typedef typename SumOf<S>::Type Sum;
  static constexpr int kDepths = kDepthsOf<P>;
  // D holds the sums of a part of the depth without rounding them.
  static constexpr bool kExactPartials = sizeof(S) == sizeof(Sum);
  // Operands can be multiplied where they lie.
  static constexpr bool kReadsInPlace = kSame<S, P>;
};
typedef Format<float, float> F32;
typedef Format<double, double> F64;
typedef Format<BFloat16, float> BF16AsF32;  // for processors that do not multiply bfloat16
typedef Format<BFloat16, BFloat16Pair> BF16;
typedef Format<float, BFloat16Pair> F32AsBF16;

// Instantiates for every format.
#define DROPGEMM_FOR_EACH_FORMAT(instantiate) \
  instantiate(F32) instantiate(F64) instantiate(BF16AsF32) instantiate(BF16) instantiate(F32AsBF16)

// ---- packing, storing ---------------------------------------------------------------------------

// Elements up to this far apart are loaded and stored by whole vectors.
constexpr std::int32_t kMaxStep = 8;

// A run of packed depth: [begin, begin + length).
struct Segment {
  std::int32_t begin;
  std::int32_t length;
};

// A mask of single elements whose bits run along the lines of the array: bit i of row l / lines
// belongs to element i of line l. Null bits keep everything.
struct LineBits {
  const std::uint32_t* bits;
  std::int64_t words;  // of a row
  std::int64_t lines;  // of the array that share a row
};

// Gathers `count` positions of an operand's panel axis (rows of op(A), columns of op(B)) into
// panels of P (mr or nr) lanes: panel q, depth k, lane i in the word
// out[q * panel_stride + (k - depth_origin) / kDepths * P + i].
// Lanes past `count` hold unspecified finite-or-not values that no output uses. Where a word holds
// several depths, segments and depth_origin begin with whole words; what a segment leaves of its
// last word is 0.
template <class F>
struct PackArgs {
  const typename F::Storage* source;
  std::int64_t lane_stride;        // elements between neighbours along the panel axis
  std::int64_t depth_stride;       // elements between neighbours along K
  const std::int32_t* lane_index;  // packed position -> source position, ascending; null: itself
  std::int64_t lane_begin;         // first packed position
  std::int64_t count;
  const std::int32_t* depth_index;  // as lane_index, along K
  const Segment* segments;          // the depth that is needed, in packed positions
  std::int32_t num_segments;
  std::int64_t depth_origin;  // the packed depth that lies first in a panel
  typename F::Packed* out;    // panel 0
  std::int64_t panel_stride;
  // What it drops is packed as 0: of operands without indices, of formats with one depth a word,
  // and where lines run along the lanes only of neighbours.
  LineBits keep;
};

template <class T>
struct Plane {  // a strided [M, N] array of the epilogue, or null
  T* data;
  std::int64_t row_stride;
  std::int64_t col_stride;
};

// D = out_scale * act(scale * acc + addend + bias) * act'(grad_aux), gemm.h. Activation codes
// are those of gemm.h's enum. Arrays are of S.
template <class S>
struct Epilogue {
  Plane<S> d;
  Plane<S> aux_out;
  Plane<const S> addend;
  Plane<const S> grad_aux;
  const S* bias;
  std::int64_t bias_stride;
  typename SumOf<S>::Type scale;
  typename SumOf<S>::Type out_scale;
  std::int32_t activation;
  std::int32_t grad_activation;
  bool stream_zeros;   // D is so large that its zeros go around the cache,
  bool stream;         // or all of it
  bool empty_is_zero;  // the epilogue of a sum of nothing is 0
};

// Bits of D's columns; one word more than they take may be read.
struct ColumnBits {
  const std::uint32_t* summed;  // the column has a sum
  const std::uint32_t* kept;    // it is not 0 whatever its sum, or that of nothing
};

// One mr x nr tile on its way to D.
template <class T>
struct TileStore {
  const T* acc;                   // [mr][nr], and nr more that may be read
  const std::int32_t* row_index;  // packed -> D's row, null: itself
  std::int64_t row_begin;         // packed
  std::int32_t rows;
  std::int32_t cols;          // of D
  std::int64_t col_begin;     // of D
  ColumnBits columns;         // null: each of the tile's columns has a sum, and is kept
  const std::uint32_t* keep;  // bit j of word i: element (i, j) is kept; null: all are
  bool add_partial;           // D holds the sum over earlier depth
  bool is_final;              // false: only store the sum so far
};

// ---- operands where they lie --------------------------------------------------------------------

// A run of depth: `length` positions of the left operand from `left` on, and of the right one from
// `right` on. What lies from `ahead` on is asked for meanwhile.
struct DepthRun {
  std::int32_t left, right, ahead, length;
};

// One tile of a sweep along the right operand: where its vectors and its results begin.
struct DirectTile {
  std::int64_t right, out;
};

// out[i][j] = out_scale * (scale * (sum over the runs of left[i][k] * right[k][j])), for each tile:
// single elements of one operand times vectors of the other, neither of which needs packing.
template <class T>
struct DirectArgs {
  const T* const* rows;       // where the rows of the left operand begin
  const T* const* next_rows;  // as many that are asked for meanwhile, or null
  std::int64_t left_stride;   // elements between neighbours along the depth
  const T* right;
  std::int64_t right_stride;
  const DepthRun* runs;
  std::int32_t num_runs;
  const DirectTile* tiles;
  std::int32_t num_tiles;
  bool looks_ahead;  // in the right operand
  bool adds;         // out holds the sum over earlier depth
  bool around;       // out is written around the cache where the ISA can; in whole lines then
  T scale, out_scale;
  T* const* out;  // by row
};

// sums[i * few_stride + j * many_stride] = (few[i] times many[j] over the runs), of rows of both
// operands that lie along the depth: vectors times vectors.
constexpr int kDotsAhead = 4;
template <class T>
struct DotArgs {
  const T* const* few;
  const T* const* many;  // as many rows as there are, and kDotsAhead more that are asked for
  std::int32_t num_many;
  const Segment* runs;  // of depth, where it lies
  std::int32_t num_runs;
  T* sums;
  std::int64_t few_stride, many_stride;
  bool adds;  // to the sums over earlier depth
};

constexpr int kDirectWidths = 3;
constexpr int kMaxRows = 8;

template <class T>
struct DirectKernels {
  std::int32_t width[kDirectWidths];                                     // lanes: nr, and less
  void (*multiply[kDirectWidths][kMaxRows])(const DirectArgs<T>& args);  // [..][rows - 1], to mr
  void (*dots[kMaxRows])(const DotArgs<T>& args);                        // [few rows - 1], to mr
};

// ---- an LSTM's cell, of one row
// ------------------------------------------------------------------

// lstm.h; gates lie side by side, `units` of each.
template <class S>
struct LstmCell {
  const S *sums, *c_before;
  S *gates, *c, *h;
  std::int64_t units;
};
template <class S>
struct LstmCellGrad {
  const S *gates, *c_before, *c, *d_h;
  S *d_c, *d_gates;
  std::int64_t units;
};

// ---- an instruction set -------------------------------------------------------------------------

template <class F>
struct KernelTable {
  typedef typename F::Storage Storage;
  typedef typename F::Packed Packed;
  typedef typename F::Sum Sum;
  std::int32_t mr;
  std::int32_t nr;  // at most 32
  // acc[mr][nr] = sum over the segments of a[k][mr] x b[k][nr], both packed.
  void (*multiply)(const Segment* segments, std::int32_t count, const Packed* a, const Packed* b,
                   Sum* acc);
  // The same of the first mr / 2 rows alone.
  void (*multiply_half)(const Segment* segments, std::int32_t count, const Packed* a,
                        const Packed* b, Sum* acc);
  void (*pack_a)(const PackArgs<F>& args);  // P = mr
  void (*pack_b)(const PackArgs<F>& args);  // P = nr
  void (*store)(const Epilogue<Storage>& epilogue, const TileStore<Sum>& tile);
  // count zeros, around the cache where the ISA can and the memory is in whole lines.
  void (*stream_zeros)(Storage* out, std::int64_t count);
  // sums[i] += lines[i], lines[line_stride + i], ... of `count` lines, i in [0, width).
  void (*add_lines)(const Storage* lines, std::int64_t line_stride, std::int64_t count,
                    std::int64_t width, double* sums);
  // Zeroes lane i of depth k of a panel where bit k of words[i] is 0, k in [0, depth <= 32).
  void (*select_a)(Packed* panel, const std::uint32_t* words, std::int32_t depth);
  void (*select_b)(Packed* panel, const std::uint32_t* words, std::int32_t depth);
  void (*lstm_cell)(const LstmCell<Storage>& row);
  void (*lstm_cell_grad)(const LstmCellGrad<Storage>& row);
  DirectKernels<Sum> direct;
};

// Kernels of instructions that multiply bfloat16.
struct BFloat16Kernels {
  KernelTable<BF16> bf16;
  KernelTable<F32AsBF16> f32_as_bf16;
};

struct Isa {
  const char* name;  // begins with that of the instruction set that it extends
  KernelTable<F32> f32;
  KernelTable<F64> f64;
  KernelTable<BF16AsF32> bf16_as_f32;
  const BFloat16Kernels* pairs;  // null where there are no such instructions
};

}  // namespace dropgemm::cpu
