// The Hopper kernel: its tiles, its parameters, and the arithmetic that it shares with the emulator
// and the tests. The kernel itself is in kernel_sm90.cuh; README.md tells how it works.
#pragma once

#include <cstdint>

#include "cuda/config.h"
#include "cuda/layout.h"
#include "cuda/runtime.h"
#include "cuda/spread.h"
#include "cuda/tma.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

// A cluster of cluster_m x cluster_n blocks computes an item of tile_m x tile_n. Blocks of a row
// of the cluster share what they load of A, blocks of a column what they load of B.
struct Sm90Tile {
  std::int32_t tile_m, tile_n;
  std::int32_t granule_m, granule_n, granule_k;
  std::int32_t stages, buffers;  // of operands; of what is on its way out, for each group
  std::int32_t cluster_m, cluster_n;

  [[nodiscard]] constexpr std::int32_t block_m() const { return tile_m / cluster_m; }
  [[nodiscard]] constexpr std::int32_t block_n() const { return tile_n / cluster_n; }
};

enum class Sm90Shape : std::int32_t {
  kSquare = 0,  // 128x128: the least padding
  kWide = 1,    // 128x256: three quarters of its loads
  kPair = 2,    // two blocks of 256x128 that share A: a half, for granules of 64
};
constexpr std::int32_t kSm90Shapes = 3;

// Granules are of 32 along features and of 64 along a batch; a shared tile's are twice that. The
// batch is K where A is contiguous along M, as in the weight gradient, and M elsewhere. There sums
// leave as float32, twice to be added to memory, which is slower than the tensor cores: more
// buffers let them drain while the next tile is multiplied.
constexpr Sm90Tile sm90_tile(Sm90Shape shape, Major a_major) {
  const bool sums_batch = a_major == Major::kLine;
  switch (shape) {
    case Sm90Shape::kSquare:
      if (sums_batch) return {128, 128, 32, 32, 64, 5, 4, 1, 1};
      return {128, 128, 64, 32, 32, 6, 2, 1, 1};
    case Sm90Shape::kWide:
      if (sums_batch) return {128, 256, 32, 32, 64, 3, 5, 1, 1};
      return {128, 256, 64, 32, 32, 4, 2, 1, 1};
    case Sm90Shape::kPair:
      break;
  }
  if (sums_batch) return {256, 256, 64, 64, 64, 3, 5, 1, 2};
  return {256, 256, 128, 64, 64, 4, 2, 1, 2};
}

// tf32 has granules of 32 and K-major operands alone.
constexpr bool has_sm90_kernel(DType dtype, Major a_major, Major b_major, Sm90Shape shape) {
  if (dtype == DType::kFloat32) {
    return a_major == Major::kDepth && b_major == Major::kDepth && shape != Sm90Shape::kPair;
  }
  const bool reads = a_major == Major::kDepth || b_major == Major::kLine;
  return reads && (dtype == DType::kBFloat16 || dtype == DType::kFloat16);
}

constexpr std::int32_t sm90_tile_k(std::int32_t element_bytes) {
  return kSwizzleBytes / element_bytes;
}

// One operand of one block.
struct Sm90Operand {
  TileLayout layout;
  Major major;
  std::int32_t line_granule, depth_granule;
};
constexpr Sm90Operand sm90_a(const Sm90Tile& tile, Major major, std::int32_t element_bytes) {
  return {operand_layout(major, tile.block_m(), sm90_tile_k(element_bytes), tile.granule_m,
                         tile.granule_k, element_bytes),
          major, tile.granule_m, tile.granule_k};
}
constexpr Sm90Operand sm90_b(const Sm90Tile& tile, Major major, std::int32_t element_bytes) {
  return {operand_layout(major, tile.block_n(), sm90_tile_k(element_bytes), tile.granule_n,
                         tile.granule_k, element_bytes),
          major, tile.granule_n, tile.granule_k};
}
constexpr TileLayout sm90_d_layout(const Sm90Tile& tile, std::int32_t element_bytes) {
  return store_layout(tile.granule_m, tile.granule_n, element_bytes);
}

// Box i of a stage: where the array has it, given the ids of the stage's lines and depths, and
// where shared memory is to have it.
constexpr Box sm90_load_box(const Sm90Operand& operand, std::int32_t i, const std::int32_t* lines,
                            const std::int32_t* depths) {
  const Box box = operand.layout.box(i);
  const bool depth_major = operand.major == Major::kDepth;
  const std::int32_t line = depth_major ? box.row : box.contiguous;
  const std::int32_t depth = depth_major ? box.contiguous : box.row;
  const std::int32_t at_line =
      coordinate(lines[line / operand.line_granule], operand.line_granule, line);
  const std::int32_t at_depth =
      coordinate(depths[depth / operand.depth_granule], operand.depth_granule, depth);
  return {depth_major ? at_depth : at_line, depth_major ? at_line : at_depth, box.offset};
}

// Box i of the part of a block's tile of D that begins at (first_row, first_col). Negative where
// there is nothing to write.
constexpr Box sm90_store_box(const Sm90Tile& tile, std::int32_t element_bytes, std::int32_t i,
                             std::int32_t first_row, std::int32_t first_col,
                             const std::int32_t* m_ids, const std::int32_t* n_ids) {
  const Box box = sm90_d_layout(tile, element_bytes).box(i);
  const std::int32_t row = first_row + box.row, col = first_col + box.contiguous;
  return {coordinate(n_ids[col / tile.granule_n], tile.granule_n, col),
          coordinate(m_ids[row / tile.granule_m], tile.granule_m, row), box.offset};
}

// Zeros leave kSm90ZeroRows rows at a time, so that little shared memory holds them: box i of them
// in the block's tile of D. Negative where there is nothing to write.
constexpr std::int32_t kSm90ZeroRows = 16;
constexpr TileLayout sm90_zeros_layout(const Sm90Tile& tile, std::int32_t element_bytes) {
  const std::int32_t width = sm90_d_layout(tile, element_bytes).box_contiguous;
  return {tile.block_n(), tile.block_m(), width, kSm90ZeroRows, element_bytes};
}
constexpr Box sm90_zeros_box(const Sm90Tile& tile, std::int32_t element_bytes, std::int32_t i,
                             const std::int32_t* m_ids, const std::int32_t* n_ids) {
  const Box box = sm90_zeros_layout(tile, element_bytes).box(i);
  return {coordinate(n_ids[box.contiguous / tile.granule_n], tile.granule_n, box.contiguous),
          coordinate(m_ids[box.row / tile.granule_m], tile.granule_m, box.row), 0};
}

// Which block of those that share a tile loads its box i.
constexpr std::int32_t sm90_loader(std::int32_t i, std::int32_t boxes, std::int32_t sharers) {
  return i / (boxes / sharers);
}

// Two groups of 128 threads take turns of kStoreRows rows: the row of the block's tile at which
// turn `turn` of a group begins. wgmma gives a thread, of 16 rows of its warp and 8 columns, two
// neighbours in row lane / 4 and two in the row 8 below.
constexpr std::int32_t kSm90Consumers = 2;
constexpr std::int32_t kSm90Group = 128;
constexpr std::int32_t sm90_first_row(std::int32_t turn, std::int32_t group) {
  return (kSm90Consumers * turn + group) * kStoreRows;
}
constexpr std::int32_t sm90_thread_row(std::int32_t thread) {
  return thread / 32 * 16 + thread % 32 / 4;
}
constexpr std::int32_t sm90_thread_col(std::int32_t thread) { return thread % 4 * 2; }

// What a warp writes at a time where sums leave as elements.
constexpr std::int32_t kSm90SlabRows = 16, kSm90SlabCols = 64;

// How sums leave the kernel.
enum class Sm90Store : std::int32_t {
  kBoxes = 0,     // D through tensor maps: scale, bias, ReLU and its derivative
  kAddSums = 1,   // float32 sums added to the staging, through tensor maps
  kElements = 2,  // D by ordinary writes: the whole epilogue, any strides, compacted sums
};

template <class E>
struct Sm90Params {
  Product<E> product;
  Sm90Store store = Sm90Store::kElements;
  TensorMap a, b;
  TensorMap d;      // of D or of the staging; none for kElements
  TensorMap zeros;  // of D, for kBoxes
};

// Starts clusters of the kernel on the stream of the current device. One .cu file instantiates
// those of one dtype and pair of majors. Errors: as launch().
template <class E, Major kMajorA, Major kMajorB, Sm90Shape kShape>
Status launch_sm90(std::int32_t clusters, void* stream, const Sm90Params<E>& params);

#define DROPGEMM_INSTANTIATE_SM90(E, A, B, Shape)                                           \
  template Status launch_sm90<E, Major::A, Major::B, Sm90Shape::Shape>(std::int32_t, void*, \
                                                                       const Sm90Params<E>&)

// Makes a config one of this family, where the device, the operands and the units of what is kept
// allow it; leaves it as it is elsewhere. `config` brings dtype, path, lists, majors and copies;
// `computed` is the expected share of D that items cover, all taken together.
void choose_sm90(const Device& device, const GemmArgs& args, const GemmPlan& plan, double computed,
                 GemmConfig* config);

// `most_items` bounds the grid. E: BFloat16, Float16, float (which is rounded to tf32).
// Errors: as launch() and make_tensor_map().
template <class E>
Status run_sm90(const Device& device, const GemmConfig& config, const Product<E>& product,
                std::int64_t most_items, void* stream);

}  // namespace dropgemm::cuda
