// Work lists (work.h), built on the device from the bits of masks: no bit is read back, and room
// and grids are for everything kept, so that a CUDA graph can capture it.
//
// One axis of the product owns the lists. Units of it (neighbours that no mask tells apart) with
// equal bits are one class, whose granules fill tiles together and share one list along each of the
// other two axes, x and y:
//
//            owner  x  y  a class's items
//   kRows    M      N  K  its M tiles by N tiles: kept ones, kept but empty ones, dropped ones
//   kCols    N      M  K  the same, M and N exchanged
//   kDepth   K      M  N  kept M tiles by kept N tiles, over the class's own depth
//
// kWhole is one list of everything along each axis; kPairs has a list of depth for each output
// tile. Where sums of kDepth have to be the same at every call each unit has its items to itself,
// and they take turns. Bits are compacted by ballot and popc, a warp a line.
#pragma once

#include <cstdint>

#include "cuda/arena.h"
#include "cuda/axis_mask.h"
#include "cuda/config.h"
#include "cuda/device.h"
#include "cuda/runtime.h"
#include "cuda/work.h"
#include "dropgemm/status.h"

namespace dropgemm::cuda {

// Granules and tiles of one axis.
struct ListAxis {
  std::int32_t extent = 0;   // in elements
  std::int32_t granule = 1;  // in elements
  std::int32_t ids = 1;      // granules of a tile

  [[nodiscard]] DROPGEMM_DEVICE std::int32_t granules() const {
    return (extent + granule - 1) / granule;
  }
  // Of whole tiles that `count` granules fill, in tiles and in granules.
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t tiles(std::int32_t count) const {
    return (count + ids - 1) / ids;
  }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t padded(std::int32_t count) const {
    return tiles(count) * ids;
  }
};

// Which positions of an axis a unit of the owner keeps.
struct AxisBits {
  AxisMask pair;    // of (owner, this axis)
  AxisMask vector;  // of (this axis, anything): the mask that is as wide as the owner

  [[nodiscard]] DROPGEMM_DEVICE bool kept(std::int32_t owner, std::int32_t position) const {
    return pair.kept(owner, position) && vector.kept(position, 0);
  }
};

// What is known of a unit, and of its class where the unit represents it.
struct ListRecord {
  std::uint32_t hash;                       // of its bits
  std::int32_t x_computed, x_kept, y_kept;  // granules
  std::int32_t representative;              // the first unit of the class
  std::int32_t before;                      // granules of the class in earlier units
  std::int32_t granules;                    // of the whole class
  std::int32_t steps;                       // k_count of its items
  std::int32_t items[3];                    // computed, empty, dropped
  std::int32_t item_begin[3];
  std::int32_t owner_begin;
};

struct ListParams {
  Lists kind = Lists::kWhole;
  ListAxis owner, x, y;
  std::int32_t units = 1, unit_granules = 0;
  AxisBits x_computed, x_kept, y_kept;
  AxisMask d;                             // of kPairs: (M, N)
  bool lists_zeros = false;               // dropped tiles become items
  std::int32_t turns = 1;                 // of kDepth: 1, or one a unit
  const std::int32_t* lengths = nullptr;  // of kWhole: M, N, K, where the device alone knows them

  std::uint32_t* bits = nullptr;  // [units][x_words + x_words + y_words]: computed and kept, kept
  ListRecord* records = nullptr;  // [units]
  std::int32_t *owner_ids = nullptr, *x_ids = nullptr, *y_ids = nullptr;
  WorkItem* items = nullptr;
  std::int32_t* num_items = nullptr;  // [turns]

  // Room for the items of one turn.
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t turn_items() const {
    return x.tiles(x.granules()) * y.tiles(y.granules());
  }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t x_words() const { return (x.granules() + 31) / 32; }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t y_words() const { return (y.granules() + 31) / 32; }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t row_words() const { return 2 * x_words() + y_words(); }
  // Ids of one class along x (up to three lists, each of whole tiles) and y.
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t x_stride() const { return x.granules() + 3 * x.ids; }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t y_stride() const { return y.padded(y.granules()); }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t unit_size(std::int32_t unit) const {
    const std::int32_t left = owner.granules() - unit * unit_granules;
    return left < unit_granules ? left : unit_granules;
  }
};

// The lists that a config names, their arrays laid out in the arena.
[[nodiscard]] ListParams plan_lists(const GemmConfig& config, const GemmArgs& args, Arena* arena);
// Those of whole axes of these extents, at most, in the config's granules.
[[nodiscard]] ListParams plan_whole_lists(const GemmConfig& config, std::int32_t m, std::int32_t n,
                                          std::int32_t k, const std::int32_t* lengths,
                                          Arena* arena);
// Whether the ids of a product's lists can be counted in 32 bits, and kept.
[[nodiscard]] bool lists_fit(const GemmConfig& config, const GemmArgs& args);

Status build_lists(const Device& device, const ListParams& params, void* stream);
[[nodiscard]] WorkLists work_lists(const ListParams& params, std::int32_t turn = 0);
// The most items that a turn can have, for the size of a grid.
[[nodiscard]] std::int64_t most_items(const ListParams& params);

// Place `i` of rows x cols tiles: bands of columns, so that tiles which run at the same time share
// what they load.
struct TilePlace {
  std::int32_t row, col;
};
[[nodiscard]] DROPGEMM_DEVICE TilePlace place_of_tile(std::int32_t i, std::int32_t rows,
                                                      std::int32_t cols) {
  constexpr std::int32_t kBand = 8;
  const std::int32_t band = i / (kBand * rows), at = i % (kBand * rows);
  const std::int32_t left = cols - band * kBand, width = left < kBand ? left : kBand;
  return {at / width, band * kBand + at % width};
}

// Of items, by their steps; a thread of a block has one.
constexpr std::int32_t kListBuckets = 256;
constexpr std::size_t kListPlacesShared = (2 * kListBuckets + 1) * sizeof(std::int32_t);

// --- Kernels (lists.cuh), in this order -----------------------------------------------------

// The bits of each unit along x and y, and a hash of them. A warp a unit.
struct ListBitsKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_bits";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};
// Which units have equal bits, among kChunk neighbours. A warp a unit.
struct ListClassesKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_classes";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kChunk = 1024;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};
// In place of both, for kPairs: the list of each output tile. A warp a tile.
struct ListPairsKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_pairs";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};
// Where each class's items and granules go: items by falling k_count. One block.
struct ListPlacesKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_places";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};
// Ids and items. A block a unit.
struct ListFillKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_fill";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};
// All of these in one block, for few units.
struct ListOnceKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_once";
  static constexpr std::int32_t kThreads = 1024;
  static constexpr std::int32_t kMostUnits = 64;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};
// All of kWhole.
struct ListWholeKernel {
  using Params = ListParams;
  static constexpr const char* kName = "list_whole";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

}  // namespace dropgemm::cuda
