// A product of the Hopper kernel over lists that a test makes itself.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "cuda/kernel_sm90.h"

namespace dropgemm::cuda {
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// An axis of the product: which granules are kept, and their list in whole tiles.
struct Axis {
  std::int32_t extent, granule;
  std::vector<std::int32_t> kept, dropped;

  Axis(std::int32_t extent_, std::int32_t granule_, double rate, std::mt19937* rng)
      : extent(extent_), granule(granule_) {
    std::bernoulli_distribution keep(rate);
    for (std::int32_t id = 0; id * granule < extent; ++id) {
      (keep(*rng) || id == 1 ? kept : dropped).push_back(id);
    }
  }
  [[nodiscard]] bool keeps(std::int32_t i) const {
    for (const std::int32_t id : kept) {
      if (id == i / granule) return true;
    }
    return false;
  }
};

inline std::vector<std::int32_t> padded(std::vector<std::int32_t> ids, std::int32_t whole) {
  while (ids.size() % static_cast<std::size_t>(whole) != 0) ids.push_back(kPadding);
  return ids;
}

struct Sizes {
  std::int32_t m, n, k;
};

template <class E>
class Fixture {
 public:
  Fixture(GemmConfig config_, const Sizes& sizes, double rate = 0.6)
      : config(config_), m_axis(sizes.m, config.granule_m, rate, &rng_),
        n_axis(sizes.n, config.granule_n, rate, &rng_),
        k_axis(sizes.k, config.granule_k, rate, &rng_) {
    a_ = operand(config.a_major, m_axis, &product.a);
    b_ = operand(config.b_major, n_axis, &product.b);
    product.m = sizes.m;
    product.n = sizes.n;
    product.k = sizes.k;
    d_stride_ = (sizes.n + 15) / 8 * 8;
    d.assign(static_cast<std::size_t>(sizes.m * d_stride_), Number<E>::store(kNan));
    product.epilogue.d = {d.data(), d_stride_, 1};
    make_lists();
  }
  Fixture(const Fixture&) = delete;  // the product points into it
  Fixture& operator=(const Fixture&) = delete;

  Status run(std::int32_t multiprocessors = 3) {
    Device device;
    device.arch = 90;
    device.multiprocessors = multiprocessors;
    return run_sm90(device, config, product, num_items_, nullptr);
  }

  // The sum of (m, n) over what is kept.
  [[nodiscard]] float sum(std::int32_t m, std::int32_t n) const {
    float total = 0.0F;
    for (std::int32_t k = 0; k < product.k; ++k) {
      if (k_axis.keeps(k)) total += at(a_, config.a_major, m, k) * at(b_, config.b_major, n, k);
    }
    return total;
  }
  [[nodiscard]] bool keeps(std::int32_t m, std::int32_t n) const {
    return m_axis.keeps(m) && n_axis.keeps(n);
  }
  [[nodiscard]] float d_at(std::int32_t m, std::int32_t n) const {
    return Number<E>::load(d[static_cast<std::size_t>(m * d_stride_ + n)]);
  }
  [[nodiscard]] std::int32_t d_stride() const { return d_stride_; }

  // D is what `expected(m, n)` says, and nothing is written beyond its columns.
  template <class Expected>
  void expect_d(const Expected& expected) const {
    for (std::int32_t m = 0; m < product.m; ++m) {
      for (std::int32_t n = 0; n < product.n; ++n) {
        ASSERT_EQ(d_at(m, n), expected(m, n)) << "at (" << m << ", " << n << ")";
      }
      for (std::int32_t n = product.n; n < d_stride_; ++n) ASSERT_TRUE(std::isnan(d_at(m, n)));
    }
  }

  GemmConfig config;
  Axis m_axis, n_axis, k_axis;
  Product<E> product;
  std::vector<E> d;
  std::vector<WorkItem> items;

 private:
  struct Operand {
    std::vector<E> elements;
    std::int64_t stride = 0;
  };

  static std::size_t place(const Operand& operand, Major major, std::int32_t line, std::int32_t k) {
    const std::int64_t at =
        major == Major::kDepth ? line * operand.stride + k : k * operand.stride + line;
    return static_cast<std::size_t>(at);
  }
  static float at(const Operand& operand, Major major, std::int32_t line, std::int32_t k) {
    return Number<E>::load(operand.elements[place(operand, major, line, k)]);
  }

  Operand operand(Major major, const Axis& lines, Input<E>* input) {
    const bool depth_major = major == Major::kDepth;
    const std::int32_t contiguous = depth_major ? k_axis.extent : lines.extent;
    const std::int32_t rows = depth_major ? lines.extent : k_axis.extent;
    Operand made;
    made.stride = (contiguous + 7) / 8 * 8 + 8;
    made.elements.assign(static_cast<std::size_t>(rows * made.stride), Number<E>::store(kNan));
    std::uniform_int_distribution<int> value(-1, 1);
    for (std::int32_t line = 0; line < lines.extent; ++line) {
      for (std::int32_t k = 0; k < k_axis.extent; ++k) {
        if (!lines.keeps(line) || !k_axis.keeps(k)) continue;
        made.elements[place(made, major, line, k)] =
            Number<E>::store(static_cast<float>(value(rng_)));
      }
    }
    input->data = made.elements.data();
    input->line_stride = depth_major ? made.stride : 1;
    input->depth_stride = depth_major ? 1 : made.stride;
    return made;
  }

  // Kept rows: kept columns are computed, dropped ones zeroed. Dropped rows are zeroed.
  void make_lists() {
    const std::int32_t ms = config.tile_m / config.granule_m;
    const std::int32_t ns = config.tile_n / config.granule_n;
    const std::int32_t ks = config.tile_k / config.granule_k;
    k_ids_ = padded(k_axis.kept, ks);
    const auto steps = static_cast<std::int32_t>(k_ids_.size()) / ks;
    add_items(padded(m_axis.kept, ms), padded(n_axis.kept, ns), ms, ns, steps);
    add_items(padded(m_axis.kept, ms), padded(n_axis.dropped, ns), ms, ns, kDropped);
    std::vector<std::int32_t> all = n_axis.kept;
    all.insert(all.end(), n_axis.dropped.begin(), n_axis.dropped.end());
    add_items(padded(m_axis.dropped, ms), padded(all, ns), ms, ns, kDropped);
    num_items_ = static_cast<std::int32_t>(items.size());
    product.lists = {m_ids_.data(), n_ids_.data(), k_ids_.data(), items.data(), &num_items_};
  }
  void add_items(const std::vector<std::int32_t>& m, const std::vector<std::int32_t>& n,
                 std::int32_t ms, std::int32_t ns, std::int32_t k_count) {
    const auto m_first = static_cast<std::int32_t>(m_ids_.size());
    const auto n_first = static_cast<std::int32_t>(n_ids_.size());
    m_ids_.insert(m_ids_.end(), m.begin(), m.end());
    n_ids_.insert(n_ids_.end(), n.begin(), n.end());
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(m.size()); i += ms) {
      for (std::int32_t j = 0; j < static_cast<std::int32_t>(n.size()); j += ns) {
        items.push_back({m_first + i, n_first + j, 0, k_count});
      }
    }
  }

  std::mt19937 rng_{7};
  Operand a_, b_;
  std::vector<std::int32_t> m_ids_, n_ids_, k_ids_;
  std::int32_t num_items_ = 0;
  std::int64_t d_stride_ = 0;
};

inline GemmConfig config_of(DType dtype, Major a, Major b, Sm90Shape shape) {
  const Sm90Tile tile = sm90_tile(shape, a);
  GemmConfig config;
  config.family = Family::kSm90;
  config.dtype = dtype;
  config.tile_m = tile.tile_m;
  config.tile_n = tile.tile_n;
  config.tile_k = sm90_tile_k(static_cast<std::int32_t>(dtype_size(dtype)));
  config.granule_m = tile.granule_m;
  config.granule_n = tile.granule_n;
  config.granule_k = tile.granule_k;
  config.stages = tile.stages;
  config.cluster_m = tile.cluster_m;
  config.cluster_n = tile.cluster_n;
  config.a_major = a;
  config.b_major = b;
  return config;
}

}  // namespace dropgemm::cuda
