// launch_sm90 without a GPU. The tensor memory accelerator and wgmma have no fibres here: blocks of
// a cluster take their steps in turn, and what is executed is the arithmetic of the kernel: which
// items a cluster walks, which boxes its blocks ask for and share, where each lands in shared
// memory, how sums are handed to threads, and which boxes leave. Copies swizzle addresses as the
// hardware does; products read through TileLayout::offset().
#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "cuda/api.h"
#include "cuda/kernel_sm90.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int32_t kGroup = 128;  // threads

// Copies of boxes between an array and shared memory, as a tensor map describes them.
class Copies {
 public:
  explicit Copies(const TensorMap& map) { std::memcpy(&copies_, map.words, sizeof copies_); }

  // `box` is where the array has the box, and where `tile`, in shared memory, has it.
  void load(const Box& box, char* tile) const {
    each(box, [&](std::size_t place, const char* element) {
      std::memset(tile + place, 0, size());
      if (element != nullptr) std::memcpy(tile + place, element, size());
      if (copies_.element == api::BoxElement::kTf32) round(tile + place);
    });
  }
  void store(const Box& box, const char* tile, bool adds) const {
    each(box, [&](std::size_t place, char* element) {
      if (element == nullptr) return;
      if (!adds) {
        std::memcpy(element, tile + place, size());
        return;
      }
      float sum, more;
      std::memcpy(&sum, element, sizeof sum);
      std::memcpy(&more, tile + place, sizeof more);
      sum += more;
      std::memcpy(element, &sum, sizeof sum);
    });
  }

 private:
  [[nodiscard]] std::size_t size() const {
    return copies_.element == api::BoxElement::kWord16 ? 2 : 4;
  }
  // tf32 keeps 10 bits after the point.
  static void round(char* place) {
    std::uint32_t word;
    std::memcpy(&word, place, sizeof word);
    if ((word & 0x7F800000U) == 0x7F800000U) return;
    word = (word + 0x1000U) & ~0x1FFFU;
    std::memcpy(place, &word, sizeof word);
  }
  // Calls with each element's byte of shared memory and its place in the array, or null outside.
  template <class Copy>
  void each(const Box& box, const Copy& copy) const {
    const std::uint64_t units = copies_.swizzle_bytes / 16 - 1;
    const std::uint64_t first = static_cast<std::uint64_t>(box.offset) * size();
    for (std::uint32_t i = 0; i < copies_.box_rows * copies_.box_contiguous; ++i) {
      const std::uint64_t byte = first + std::uint64_t{i} * size();
      const std::int64_t row = box.row + std::int64_t{i / copies_.box_contiguous};
      const std::int64_t at = box.contiguous + std::int64_t{i % copies_.box_contiguous};
      const bool inside = row >= 0 && at >= 0 && row < static_cast<std::int64_t>(copies_.rows) &&
                          at < static_cast<std::int64_t>(copies_.contiguous);
      char* const element = inside ? static_cast<char*>(const_cast<void*>(copies_.data)) +
                                         static_cast<std::uint64_t>(row) * copies_.row_bytes +
                                         static_cast<std::uint64_t>(at) * size()
                                   : nullptr;
      copy(byte ^ (byte >> 7 & units) << 4, element);
    }
  }

  api::BoxCopies copies_;
};

// Shared memory of unknown contents.
std::vector<char> make_tile(const TileLayout& layout) {
  return std::vector<char>(static_cast<std::size_t>(layout.bytes()), '\xFF');
}

// Plain rows of what lies swizzled: [line][depth].
template <class E>
std::vector<float> unpack(const Sm90Operand& operand, const std::vector<char>& tile) {
  const bool depth_major = operand.major == Major::kDepth;
  const TileLayout& layout = operand.layout;
  const std::int32_t lines = depth_major ? layout.rows : layout.contiguous;
  const std::int32_t depth = depth_major ? layout.contiguous : layout.rows;
  std::vector<float> values;
  for (std::int32_t line = 0; line < lines; ++line) {
    for (std::int32_t k = 0; k < depth; ++k) {
      const std::int32_t at = depth_major ? layout.offset(k, line) : layout.offset(line, k);
      E element;
      std::memcpy(&element, tile.data() + static_cast<std::size_t>(at) * sizeof(E), sizeof(E));
      values.push_back(Number<E>::load(element));
    }
  }
  return values;
}

template <class E>
class EmulatedCluster {
 public:
  EmulatedCluster(const Sm90Params<E>& params, const Sm90Tile& tile, Major a_major, Major b_major)
      : params_(params), tile_(tile), a_(sm90_a(tile, a_major, sizeof(E))),
        b_(sm90_b(tile, b_major, sizeof(E))), a_copies_(params.a), b_copies_(params.b),
        d_copies_(params.d), factors_(params.product.epilogue.factors()) {}

  void run(const WorkItem& item) {
    std::vector<std::vector<float>> sums(
        static_cast<std::size_t>(blocks()),
        std::vector<float>(static_cast<std::size_t>(tile_.block_m() * tile_.block_n())));
    const std::int32_t ids = sm90_tile_k(sizeof(E)) / tile_.granule_k;
    for (std::int32_t step = 0; step < item.k_count; ++step) {
      add_step(item, params_.product.lists.k_ids + item.k_begin + step * ids, &sums);
    }
    for (std::int32_t block = 0; block < blocks(); ++block) {
      write(sums[static_cast<std::size_t>(block)], m_ids(item, block % tile_.cluster_m),
            n_ids(item, block / tile_.cluster_m), item.k_count);
    }
  }

 private:
  [[nodiscard]] std::int32_t blocks() const { return tile_.cluster_m * tile_.cluster_n; }
  [[nodiscard]] const std::int32_t* m_ids(const WorkItem& item, std::int32_t part) const {
    return params_.product.lists.m_ids + item.m_begin + part * tile_.block_m() / tile_.granule_m;
  }
  [[nodiscard]] const std::int32_t* n_ids(const WorkItem& item, std::int32_t part) const {
    return params_.product.lists.n_ids + item.n_begin + part * tile_.block_n() / tile_.granule_n;
  }

  // The share of a tile's boxes that one of its sharers loads.
  static void load(const Copies& copies, const Sm90Operand& operand, const std::int32_t* lines,
                   const std::int32_t* depths, std::int32_t sharers, std::int32_t part,
                   std::vector<char>* tile) {
    const std::int32_t boxes = operand.layout.boxes();
    for (std::int32_t i = 0; i < boxes; ++i) {
      if (sm90_loader(i, boxes, sharers) != part) continue;
      copies.load(sm90_load_box(operand, i, lines, depths), tile->data());
    }
  }

  void add_step(const WorkItem& item, const std::int32_t* depths,
                std::vector<std::vector<float>>* sums) const {
    for (std::int32_t m = 0; m < tile_.cluster_m; ++m) {
      for (std::int32_t n = 0; n < tile_.cluster_n; ++n) {
        std::vector<char> a = make_tile(a_.layout), b = make_tile(b_.layout);
        for (std::int32_t part = 0; part < tile_.cluster_n; ++part) {
          load(a_copies_, a_, m_ids(item, m), depths, tile_.cluster_n, part, &a);
        }
        for (std::int32_t part = 0; part < tile_.cluster_m; ++part) {
          load(b_copies_, b_, n_ids(item, n), depths, tile_.cluster_m, part, &b);
        }
        const std::int32_t block = m + n * tile_.cluster_m;
        multiply(unpack<E>(a_, a), unpack<E>(b_, b), &(*sums)[static_cast<std::size_t>(block)]);
      }
    }
  }

  void multiply(const std::vector<float>& a, const std::vector<float>& b,
                std::vector<float>* sums) const {
    const auto depth = static_cast<std::size_t>(sm90_tile_k(sizeof(E)));
    const auto cols = static_cast<std::size_t>(tile_.block_n());
    for (std::size_t i = 0; i < sums->size(); ++i) {
      const float* const x = a.data() + i / cols * depth;
      const float* const y = b.data() + i % cols * depth;
      float sum = (*sums)[i];
      for (std::size_t k = 0; k < depth; ++k) sum += x[k] * y[k];
      (*sums)[i] = sum;
    }
  }

  void write(const std::vector<float>& sums, const std::int32_t* m_ids, const std::int32_t* n_ids,
             std::int32_t k_count) {
    const bool dropped = k_count == kDropped;
    const Epilogue<E>& epilogue = params_.product.epilogue;
    const auto raw = [](float sum, std::int32_t /*col*/) { return sum; };
    const auto finished = [&](float sum, std::int32_t col) {
      if (dropped) return 0.0F;
      float z = factors_.scale * sum;
      if (epilogue.bias != nullptr && col >= 0 && col < params_.product.n) {
        z += Number<E>::load(epilogue.bias[col * epilogue.bias_stride]);
      }
      return factors_.out_scale * activate(epilogue.activation, z);
    };
    switch (params_.store) {
      case Sm90Store::kBoxes:
        if (!dropped || epilogue.fills) write_boxes<E>(sums, m_ids, n_ids, false, finished);
        return;
      case Sm90Store::kSums:
        return write_boxes<float>(sums, m_ids, n_ids, false, raw);
      case Sm90Store::kAddSums:
        if (k_count > 0) write_boxes<float>(sums, m_ids, n_ids, true, raw);
        return;
      case Sm90Store::kElements:
        return write_elements(sums, m_ids, n_ids, dropped);
    }
  }

  template <class Out, class Finish>
  void write_boxes(const std::vector<float>& sums, const std::int32_t* m_ids,
                   const std::int32_t* n_ids, bool adds, const Finish& finish) {
    const TileLayout layout = sm90_d_layout(tile_, sizeof(Out));
    for (std::int32_t turn = 0; turn < tile_.block_m() / kGroup; ++turn) {
      for (std::int32_t group = 0; group < kSm90Consumers; ++group) {
        const std::int32_t first_row = sm90_first_row(turn, group);
        for (std::int32_t col = 0; col < tile_.block_n(); col += layout.contiguous) {
          std::vector<char> buffer = make_tile(layout);
          for (std::int32_t thread = 0; thread < kGroup; ++thread) {
            put<Out>(sums, n_ids, thread, first_row, col, finish, &buffer);
          }
          for (std::int32_t i = 0; i < layout.boxes(); ++i) {
            const Box box = sm90_store_box(tile_, sizeof(Out), i, first_row, col, m_ids, n_ids);
            if (box.row >= 0 && box.contiguous >= 0) d_copies_.store(box, buffer.data(), adds);
          }
        }
      }
    }
  }

  // What one thread holds of a part of D.
  template <class Out, class Finish>
  void put(const std::vector<float>& sums, const std::int32_t* n_ids, std::int32_t thread,
           std::int32_t first_row, std::int32_t first_col, const Finish& finish,
           std::vector<char>* buffer) const {
    const TileLayout layout = sm90_d_layout(tile_, sizeof(Out));
    for (std::int32_t i = 0; i < layout.contiguous / 2; ++i) {  // 8 columns, 2 rows, 2 neighbours
      const std::int32_t col = i / 4 * 8 + sm90_thread_col(thread) + i % 2;
      const std::int32_t row = sm90_thread_row(thread) + i / 2 % 2 * 8;
      const std::int32_t id = n_ids[(first_col + col) / tile_.granule_n];
      const std::int32_t at = (first_row + row) * tile_.block_n() + first_col + col;
      const float sum = sums[static_cast<std::size_t>(at)];
      const Out value =
          Number<Out>::store(finish(sum, coordinate(id, tile_.granule_n, first_col + col)));
      const std::int32_t place = layout.offset(col, row);
      std::memcpy(buffer->data() + static_cast<std::size_t>(place) * sizeof(Out), &value,
                  sizeof value);
    }
  }

  void write_elements(const std::vector<float>& sums, const std::int32_t* m_ids,
                      const std::int32_t* n_ids, bool dropped) const {
    for (std::int32_t i = 0; i < tile_.block_m() * tile_.block_n(); ++i) {
      const std::int32_t m = i / tile_.block_n(), n = i % tile_.block_n();
      const std::int32_t row = coordinate(m_ids[m / tile_.granule_m], tile_.granule_m, m);
      const std::int32_t col = coordinate(n_ids[n / tile_.granule_n], tile_.granule_n, n);
      if (row < 0 || col < 0 || row >= params_.product.m || col >= params_.product.n) continue;
      if (dropped) {
        params_.product.epilogue.store_zero(row, col);
      } else {
        params_.product.epilogue.store(factors_, sums[static_cast<std::size_t>(i)], row, col);
      }
    }
  }

  const Sm90Params<E>& params_;
  Sm90Tile tile_;
  Sm90Operand a_, b_;
  Copies a_copies_, b_copies_, d_copies_;
  typename Epilogue<E>::Factors factors_;
};

}  // namespace

template <class E, Major kMajorA, Major kMajorB, Sm90Shape kShape>
Status launch_sm90(std::int32_t clusters, void* /*stream*/, const Sm90Params<E>& params) {
  EmulatedCluster<E> cluster(params, sm90_tile(kShape, kMajorA), kMajorA, kMajorB);
  const WorkLists& lists = params.product.lists;
  for (std::int32_t i = 0; i < clusters; ++i) {
    for (std::int32_t round = 0;; ++round) {
      const std::int32_t item = item_of_round(round, i, clusters);
      if (item >= *lists.num_items) break;
      cluster.run(lists.items[item]);
    }
  }
  return {};
}

DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kDepth, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kDepth, kPair);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kLine, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kLine, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kLine, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kPair);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kPair);
DROPGEMM_INSTANTIATE_SM90(float, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(float, kDepth, kDepth, kWide);

}  // namespace dropgemm::cuda
