// Products with a small dimension, over operands where they lie. Packing a large operand that meets
// few rows or columns costs more than multiplying it, so here it is read once and in place: as
// single elements that are broadcast (the left operand, any strides) or as vectors (the right one).
// Whichever of the two the layout asks for, the product is turned to it: D^T = B^T A^T.
#pragma once

#include <cstdint>

#include "cpu/kernel.h"
#include "cpu/product.h"

namespace dropgemm::cpu {

// Up to nr neighbouring lanes of the right operand: packed positions [begin, begin + count), which
// lie in the lanes from `lane` on of a tile that is read from element `offset` on.
struct Window {
  std::int64_t offset;
  std::int32_t begin, count, lane;
  std::int32_t width;  // which of DirectKernels::width
  bool gathers;        // what is kept does not lie side by side
  bool whole;          // every lane is kept, and they lie side by side in D too
};

template <class F>
struct DirectProduct {
  typedef typename F::Sum T;

  bool turned = false;        // the left operand is B, the right one A
  bool streams_left = false;  // which operand is cut into work items; the other meets each of them
  bool packs_left = false;    // a panel at a time, where all of the depth is one block
  bool packs_right = false;   // before all else

  struct Side {
    const T* source = nullptr;  // of the first kept position
    std::int64_t lane_stride = 0, depth_stride = 0;
    const Axis* axis = nullptr;
    std::int64_t unit = 0;  // kPruned: positions that share masks, else all
  } left, right;
  Panels rows;  // of the left operand
  Window* windows = nullptr;
  std::int64_t num_windows = 0;
  std::int64_t k_block = 0;
  std::int64_t items = 0;

  // Both operands lie along the depth, and few rows of the one meet the other's: dot products. The
  // left operand is A then, the right one B.
  bool dots = false;

  T* packed_right = nullptr;
  std::int64_t packed_stride = 0;  // elements from depth to depth

  // Scratch of one thread.
  struct Scratch {
    T* acc = nullptr;  // sums of a work item, [row panel][window][mr][nr], or of kTilesAtOnce tiles
    T* turned = nullptr;       // [nr][nr]
    T* packed_left = nullptr;  // [k][mr]
    DepthRun* runs = nullptr;  // [unit of the right operand][runs_per_unit]
    std::int32_t* num_runs = nullptr;
    Segment* segments = nullptr;   // [segments]
    DirectTile* sums = nullptr;    // [num_windows], into acc
    DirectTile* places = nullptr;  // [num_windows], into D
  };
  std::int64_t runs_per_unit = 0, segments = 0;
  std::byte* scratch_base = nullptr;
  std::size_t scratch_bytes = 0;
  [[nodiscard]] Scratch scratch_of(const Product<F>& product, int thread) const;
};

// Where sums need not outlive a few tiles, so many are kept.
constexpr std::int64_t kTilesAtOnce = 16;

// Whether these shapes and strides are such a product. Looks at no masks.
[[nodiscard]] bool has_small_dimension(const GemmArgs& args);

// The product, and its arrays laid out in `arena`, sized for keep = 1.
template <class F>
DirectProduct<F> make_direct(const Product<F>& product, Arena& arena);

// After read_masks(): where everything lies. False where packing is the better way: what is kept
// is too scattered to be read as vectors, or has to be selected element by element.
template <class F>
[[nodiscard]] bool place_operands(const Product<F>& product, DirectProduct<F>* direct);

// Called by every thread of a team: the product, by dot products or by any other way.
template <class F>
void run_dots(const Product<F>& product, const DirectProduct<F>& direct,
              const Epilogue<typename F::Storage>& epilogue, int thread);
template <class F>
void run_direct(const Product<F>& product, const DirectProduct<F>& direct,
                const Epilogue<typename F::Storage>& epilogue, int thread);

}  // namespace dropgemm::cpu
