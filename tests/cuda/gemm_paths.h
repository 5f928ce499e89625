// Products that take each way through the CUDA backend, for one chip after another: the config that
// they get, and their results against the reference.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/backend.h"
#include "cuda/config.h"
#include "gemm_case.h"

namespace dropgemm::testing {

struct PathCase {
  std::string config;  // what to_string() begins with, after the family and the dtype
  GemmCase product;
};

// The config of a case, of which no memory is looked at.
template <class T>
std::string config_of(const cuda::Device& device, const GemmCase& c) {
  alignas(16) static const char memory[16] = {};
  static const std::vector<std::uint32_t> bits(1 << 12, ~0U);
  GemmArgs args;
  args.trans_a = c.trans_a, args.trans_b = c.trans_b, args.deterministic = c.deterministic;
  const auto array = [&](std::int64_t rows, std::int64_t cols) {
    return MatrixView{const_cast<char*>(memory), rows, cols, cols, 1, dtype_of<T>::value};
  };
  args.a = c.trans_a ? array(c.k, c.m) : array(c.m, c.k);
  args.b = c.trans_b ? array(c.n, c.k) : array(c.k, c.n);
  args.d = array(c.m, c.n);
  TileMaskView masks[3];
  const auto mask = [&](int which, const TileSize& tile, std::int64_t rows, std::int64_t cols) {
    if (tile.rows == 0) return static_cast<const TileMaskView*>(nullptr);
    masks[which] = {bits.data(), rows, cols, tile.rows, tile.cols, c.keep};
    return static_cast<const TileMaskView*>(&masks[which]);
  };
  args.a_mask = mask(0, c.a_tile, args.a.rows, args.a.cols);
  args.b_mask = mask(1, c.b_tile, args.b.rows, args.b.cols);
  args.d_mask = mask(2, c.d_tile, c.m, c.n);
  return to_string(make_config(device, args));
}

// Extents are multiples of 8, so that operands can be loaded as they lie.
inline std::vector<PathCase> path_cases() {
  const auto product = [](std::int64_t m, std::int64_t n, std::int64_t k) {
    GemmCase c;
    c.m = m, c.n = n, c.k = k;
    return c;
  };
  std::vector<PathCase> all;
  GemmCase forward = product(264, 200, 136);
  forward.trans_b = true, forward.bias = true, forward.activation = Activation::kRelu;
  all.push_back({"dense whole", forward});
  forward.a_tile = forward.d_tile = {64, 32};
  all.push_back({"pruned rows", forward});
  forward.aux_out = true, forward.addend = true, forward.activation = Activation::kGeluErf;
  all.push_back({"pruned rows", forward});
  forward.keep = 0.1;  // some units keep nothing: act(bias) is owed
  all.push_back({"pruned rows", forward});
  forward.undefined_fill = true;
  all.push_back({"pruned rows", forward});
  GemmCase pattern = product(200, 264, 136);
  pattern.trans_b = true, pattern.b_tile = {32, 32, 3, 1}, pattern.bias = true;
  all.push_back({"pruned cols", pattern});
  pattern.trans_b = false, pattern.d_tile = {200, 32};
  all.push_back({"pruned cols", pattern});
  GemmCase weights = product(136, 200, 520);
  weights.trans_a = true, weights.a_tile = weights.b_tile = {128, 32}, weights.a_sum = true;
  all.push_back({"pruned depth", weights});
  weights.addend = true, weights.scale = -1.5, weights.d_tile = {136, 32};
  all.push_back({"pruned depth", weights});
  GemmCase rows = product(136, 200, 264);
  rows.a_tile = {136, 1, 2, 1}, rows.d_tile = {136, 1, 3, 0}, rows.keep = 1.0, rows.bias = true;
  all.push_back({"compact whole", rows});
  weights.d_tile = {}, weights.deterministic = true;
  all.push_back({"select whole", weights});  // too little to wait for turns
  weights.keep = 1.0, weights.a_tile = {128, 32, 2, 1}, weights.b_tile = {128, 32, 3, 0};
  all.push_back({"pruned depth", weights});
  weights.a_tile = weights.b_tile = {32, 32}, weights.k = 1032;  // more turns than are taken
  weights.keep = 0.5, all.push_back({"select whole", weights});
  GemmCase pairs = product(256, 264, 520);
  pairs.trans_a = true, pairs.deterministic = true;
  pairs.a_tile = pairs.b_tile = {64, 128}, pairs.d_tile = {128, 128}, pairs.bias = true;
  all.push_back({"pruned pairs", pairs});
  pairs.keep = 0.2, pairs.undefined_fill = true;
  all.push_back({"pruned pairs", pairs});
  GemmCase elements = product(136, 72, 200);
  elements.a_tile = elements.b_tile = elements.d_tile = {1, 1};
  all.push_back({"select whole", elements});
  GemmCase narrow = product(264, 10, 136);
  narrow.a_tile = {64, 32}, narrow.trans_b = true, narrow.bias = true;
  all.push_back({"pruned rows", narrow});
  return all;
}

// Every axis compacted or not, in tiles that follow one another; ends that 16 bytes do not reach,
// whole epilogues, axes of which nothing is kept.
inline std::vector<PathCase> compact_cases() {
  std::vector<PathCase> all;
  const auto add = [&](const GemmCase& c) { all.push_back({"compact whole", c}); };
  GemmCase c;
  c.m = 272, c.n = 296, c.k = 72, c.trans_b = true, c.bias = true, c.keep = 1.0;
  c.a_tile = {c.m, 1, 2, 1}, c.d_tile = {c.m, 1, 2, 0};  // forward and input gradient
  add(c);
  c.activation = Activation::kGeluErf, c.aux_out = c.addend = true, c.grad = Activation::kGeluTanh;
  add(c);
  c.n = 297;
  add(c);
  c.layout = Layout::kColMajor;
  add(c);
  c.layout = Layout::kSpread, c.undefined_fill = true;
  add(c);
  GemmCase w;  // weight gradient
  w.m = 280, w.n = 264, w.k = 64, w.trans_a = true, w.a_sum = true, w.addend = true, w.keep = 1.0;
  w.a_tile = {w.k, 1, 2, 1}, w.b_tile = {w.k, 1, 3, 2};
  add(w);
  w.d_tile = {w.m, 1, 2, 1}, w.bias = true;  // kept outputs of which nothing was multiplied
  add(w);
  w.d_tile = {1, w.n, 2, 0}, w.undefined_fill = true, w.aux_out = true;
  add(w);
  GemmCase runs = c;  // of kept and dropped positions, longer than a tile
  runs.layout = Layout::kRowMajor, runs.undefined_fill = false, runs.n = 600;
  runs.d_tile = {runs.m, 150, 2, 1};
  add(runs);
  for (int axis = 0; axis < 3; ++axis) {
    GemmCase none = w;
    none.d_tile = {}, none.undefined_fill = false, none.bias = true;
    none.a_tile = axis == 2 ? TileSize{1, none.m, 2, 0, 0, 0} : TileSize{none.k, 1, 2, 0, 0, 0};
    if (axis == 1) none.a_tile = {none.k, 1, 2, 0};
    none.b_tile = axis == 1 ? TileSize{none.k, 1, 2, 0, 0, 0} : TileSize{none.k, 1, 2, 0};
    add(none);
  }
  GemmCase tall;  // more positions than one block finds
  tall.m = 16500, tall.n = 8, tall.k = 8, tall.keep = 1.0, tall.a_tile = {1, tall.k, 5, 3};
  add(tall);
  return all;
}

template <class T>
void check_path(const cuda::Device& device, const std::string& family, const PathCase& path) {
  const bool tensor_cores = sizeof(T) == 2 || path.product.precision == Precision::kMedium;
  const std::string config = config_of<T>(device, path.product);
  if (tensor_cores) {
    const std::string start = family + " " + dtype_name(dtype_of<T>::value) + " " + path.config;
    EXPECT_EQ(config.substr(0, start.size()), start) << path.product.text();
  }
  Context ctx;
  ctx.backend = cuda::backend();
  check_against_reference<T>(ctx, path.product);
}

}  // namespace dropgemm::testing
